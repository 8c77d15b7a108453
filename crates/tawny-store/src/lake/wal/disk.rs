//! What the log asks of the file system. A trait, so that tests can let each step fail.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// A directory that holds the log.
pub(crate) trait Disk: fmt::Debug + Send {
    /// Creates a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file to cut it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations and removals in the directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file that is written from front to back.
pub(crate) trait DiskFile: fmt::Debug + Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything in the file durable. After an error nothing is known of what was appended, and a later success
    /// says nothing about it: the system may have dropped the pages it could not write.
    fn sync(&mut self) -> io::Result<()>;

    fn truncate(&mut self, len_bytes: u64) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options().append(true).create_new(true).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::options().append(true).open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(source),
            _ => Ok(()),
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// The file system of somebody else: what is to change it does nothing.
#[derive(Debug)]
pub(super) struct UntouchedDisk;

impl Disk for UntouchedDisk {
    fn create(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Self))
    }

    fn open(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Self))
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for UntouchedDisk {
    fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _len_bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.set_len(len_bytes)
    }
}
