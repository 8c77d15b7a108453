//! Room kept back on the disk, so that deletion still works when the disk is full.
//!
//! SQLite writes before it frees: without this a full disk could be emptied only by hand.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tawny_model::ByteSize;

/// A file that holds nothing but room.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    size: ByteSize,
    is_held: bool,
}

impl Reserve {
    /// The reserve beside the store at `path`; not yet filled.
    pub(super) fn new(path: &Path, size: ByteSize) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".reserve");
        Self {
            path: name.into(),
            size,
            is_held: false,
        }
    }

    /// Takes the room, where there is enough of it; else tries again the next time.
    pub(super) fn fill(&mut self) {
        if self.is_held || self.size.as_bytes() == 0 {
            return;
        }
        let has_all =
            fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == self.size.as_bytes());
        self.is_held = has_all || self.write().is_ok();
        if !self.is_held {
            self.remove();
        }
    }

    fn write(&self) -> io::Result<()> {
        // Noise, for a file system that compresses would make nothing of zeros. Source of the step: Marsaglia,
        // "Xorshift RNGs", 2003.
        const BLOCK_BYTES: usize = 256 << 10;
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        while block.len() < BLOCK_BYTES {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            block.extend_from_slice(&noise.to_le_bytes());
        }
        let mut file = File::create(&self.path)?;
        let mut left = self.size.as_bytes();
        while left > 0 {
            let n = usize::try_from(left)
                .unwrap_or(BLOCK_BYTES)
                .min(BLOCK_BYTES);
            file.write_all(&block[..n])?;
            left -= n as u64;
        }
        file.sync_all()
    }

    /// Gives the room up; false when there was none.
    pub(super) fn spend(&mut self) -> bool {
        let was_held = std::mem::take(&mut self.is_held);
        if was_held {
            self.remove();
        }
        was_held
    }

    fn remove(&self) {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), error = %source, "cannot remove the reserve");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_takes_room_gives_it_up_once_and_takes_it_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs.db");
        let file = directory.path().join("logs.db.reserve");
        let mut reserve = Reserve::new(&path, ByteSize(200_001));
        assert!(!reserve.spend(), "not filled yet");
        for _ in 0..2 {
            reserve.fill();
            assert_eq!(fs::metadata(&file).unwrap().len(), 200_001);
            assert!(reserve.spend());
            assert!(!file.exists());
            assert!(!reserve.spend());
        }
        // One that a killed process left half written is written anew.
        fs::write(&file, "half").unwrap();
        reserve.fill();
        assert_eq!(fs::metadata(&file).unwrap().len(), 200_001);
    }

    #[test]
    fn reserve_of_nothing_makes_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(&directory.path().join("logs.db"), ByteSize(0));
        reserve.fill();
        assert!(!reserve.spend());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
