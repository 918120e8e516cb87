//! The file system as the journal sees it: one flat directory of append-mostly files.
//!
//! Owns: the operations that the journal needs, and their real implementation. Does not know: what the bytes mean. The
//! double for crash tests is [`super::memory`].

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::durable::{make_directory, occupy};

/// The name of the file that keeps a second process out.
pub(super) const LOCK_NAME: &str = "lock";

/// One directory.
pub trait Files: Send + Sync + Debug {
    /// The names in the directory, ascending.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new, empty file; one of that name is emptied.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// An existing file.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Creates a file that occupies `bytes` on the disk.
    ///
    /// # Errors
    /// What the system says; `StorageFull` if there is no room.
    fn reserve(&self, name: &str, bytes: u64) -> io::Result<()>;

    /// Removes a file. Who has it open can still read it.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations and removals durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_directory(&self) -> io::Result<()>;

    /// The path of a file, for messages.
    fn path(&self, name: &str) -> String;
}

/// One open file. All access is positional, so it is shared by writer and readers.
pub trait File: Send + Sync + Debug {
    /// The length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `at`.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` beyond the end.
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `at`. After an error any part may have been written.
    ///
    /// # Errors
    /// What the system says.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Cuts the file to `bytes`.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system says; then nobody knows what is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the real file system, locked against other processes.
#[derive(Debug)]
pub struct DiskFiles {
    directory: PathBuf,
    handle: fs::File,
    /// Held, not used: the lock goes with it.
    _lock: fs::File,
}

impl DiskFiles {
    /// Opens `directory`, creating it durably if need be.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` if another process has it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        let lock = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK_NAME))?;
        lock.try_lock()?;
        let handle = fs::File::open(directory)?;
        // Before anything is confirmed in it: neither the names in it nor its own may be lost.
        handle.sync_all()?;
        Ok(Self {
            directory: directory.to_owned(),
            handle,
            _lock: lock,
        })
    }
}

impl Files for DiskFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(self.directory.join(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(self.directory.join(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn reserve(&self, name: &str, bytes: u64) -> io::Result<()> {
        occupy(&self.directory.join(name), bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
