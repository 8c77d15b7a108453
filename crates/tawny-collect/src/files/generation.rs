//! One file of a stream: a generation of its log, told apart by inode, and by content where inodes do not say.

use std::{
    fs::{File, Metadata},
    io,
    num::NonZeroU64,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::UNIX_EPOCH,
};

use super::{layout::LogName, lines::Content};

/// Identity of a file as long as it exists. Inode numbers are used again soon, so the time of birth is part of it where
/// the file system keeps one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    /// `None` where the file system keeps none.
    birth_ns: Option<NonZeroU64>,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let birth = metadata
            .created()
            .ok()
            .and_then(|birth| birth.duration_since(UNIX_EPOCH).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            birth_ns: birth
                .and_then(|birth| NonZeroU64::new(u64::try_from(birth.as_nanos()).ok()?)),
        }
    }

    /// Whether an equal id means the same file even after the file was closed.
    pub(super) fn outlives_file(self) -> bool {
        self.birth_ns.is_some()
    }
}

/// A log file as a directory listing shows it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) name: LogName,
    pub(super) file_name: Box<str>,
    pub(super) id: FileId,
    pub(super) len_bytes: u64,
    pub(super) is_symlink: bool,
}

/// A file that is still to be read, wholly or in part.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) listed: Listed,
    /// Held open as long as there may be something to read, so that deletion takes nothing away.
    pub(super) content: Option<Content>,
    /// The last listing had a name for it.
    pub(super) is_linked: bool,
}

/// A file that was read to its end, remembered as long as it is listed so that it is not taken for a new one.
#[derive(Debug)]
pub(super) struct Done {
    stem: Box<str>,
    id: FileId,
    head: Option<Box<[u8]>>,
    pub(super) is_listed: bool,
}

impl Done {
    pub(super) fn new(mut generation: Generation) -> Self {
        Self {
            head: generation.content.as_mut().and_then(head),
            stem: generation.listed.name.stem,
            id: generation.listed.id,
            is_listed: true,
        }
    }

    /// Whether the listed file is this one, or its compressed copy. `listed_head` reads the file's head.
    pub(super) fn is(
        &mut self,
        listed: &Listed,
        listed_head: impl FnOnce() -> Option<Box<[u8]>>,
    ) -> bool {
        let stem = &listed.name.stem;
        let is_same = if self.stem.is_empty() || stem.is_empty() {
            (self.id == listed.id && self.id.outlives_file())
                || (!stem.is_empty() && self.head.is_some() && self.head == listed_head())
        } else {
            self.stem == *stem
        };
        if is_same {
            self.stem.clone_from(stem);
        }
        is_same
    }
}

impl Generation {
    pub(super) fn new(listed: Listed) -> Self {
        Self {
            listed,
            content: None,
            is_linked: true,
        }
    }

    /// Whether the listed file is the very file.
    pub(super) fn is_file(&self, listed: &Listed) -> bool {
        // An open file keeps its inode number; a closed one is believed if it could not have been replaced.
        self.listed.id == listed.id
            && (self.content.is_some()
                || listed.id.outlives_file()
                || self.listed.name == listed.name)
    }

    /// Whether the listed file is a copy of this one under another inode: the compressed one.
    pub(super) fn is_copy(
        &mut self,
        listed: &Listed,
        listed_head: impl FnOnce() -> Option<Box<[u8]>>,
    ) -> bool {
        let (known, stem) = (&self.listed.name.stem, &listed.name.stem);
        if stem.is_empty() {
            return false;
        }
        if !known.is_empty() {
            return known == stem;
        }
        // It was renamed and compressed between two listings.
        !self.is_linked
            && self
                .content
                .as_mut()
                .and_then(head)
                .is_some_and(|head| Some(head) == listed_head())
    }

    /// Opens the file if it is not open.
    ///
    /// # Errors
    /// `NotFound` when the file is gone, or its name belongs to another one by now.
    pub(super) fn open(&mut self, directory: &Path) -> io::Result<&mut Content> {
        if self.content.is_none() {
            self.content = Some(open(directory, &self.listed)?);
        }
        self.content
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn open(directory: &Path, listed: &Listed) -> io::Result<Content> {
    let file = File::open(directory.join(&*listed.file_name))?;
    if FileId::of(&file.metadata()?) != listed.id {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Content::new(file, listed.name.is_gz))
}

/// Longest head compared.
const HEAD_BYTES: usize = 256;

/// The first line, or its first bytes: two generations of a stream never share it, as each line has its own time.
/// `None` while the line is not whole, for then it may still change.
pub(super) fn head(content: &mut Content) -> Option<Box<[u8]>> {
    let mut buf = [0; HEAD_BYTES];
    let mut n_filled = 0;
    while n_filled < HEAD_BYTES {
        match content.read_at(&mut buf[n_filled..], n_filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(n) => n_filled += n,
        }
    }
    match memchr::memchr(b'\n', &buf[..n_filled]) {
        Some(newline) => Some(buf[..newline].into()),
        None => (n_filled == HEAD_BYTES).then(|| buf.into()),
    }
}

/// [`head`] of a file that is not open.
pub(super) fn head_of_listed(directory: &Path, listed: &Listed) -> Option<Box<[u8]>> {
    head(&mut open(directory, listed).ok()?)
}

/// Whether the file holds gzip data, whatever it is called: a copy being made, to be left alone.
pub(super) fn is_gzip(directory: &Path, listed: &Listed) -> bool {
    let mut magic = [0; 2];
    let read = File::open(directory.join(&*listed.file_name))
        .and_then(|file| std::os::unix::fs::FileExt::read_at(&file, &mut magic, 0));
    // RFC 1952, 2.3.1.
    !matches!(read, Ok(2)) || magic == [0x1f, 0x8b]
}
