//! What must be on the disk before something else relies on it: directories that a power cut does not take away, and room.
//!
//! Owns: making them. Does not know: what is in them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Makes a directory and those above it that are missing, and syncs each one in which a directory was made: what is
/// confirmed in a directory is lost with its name.
///
/// # Errors
/// What the system says.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    make(directory, &mut sync)
}

/// Lets a file take `bytes` on the disk, at least; makes it if need be. What it holds counts for nothing.
///
/// # Errors
/// What the system says; `StorageFull` if there is no room. Then it may have taken a part.
pub fn occupy(file: &Path, bytes: u64) -> io::Result<()> {
    // What is there already is kept: given up even for a moment, it might not come back.
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => {
            // Zeros take the room where the file system cannot allocate without writing.
            let zeros = vec![0; 1 << 16];
            let mut at = 0;
            while at < bytes {
                file.write_all_at(&zeros, at)?;
                at += 1 << 16;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn make(directory: &Path, sync: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if !parent.is_dir() {
        make(parent, sync)?;
    }
    match fs::create_dir(directory) {
        Ok(()) => sync(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {
            // The start that made it may have been cut short. A parent that may not be opened was not made by us.
            sync(parent).ok();
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_in_which_one_was_made_is_synced() {
        let temporary = tempfile::tempdir().unwrap();
        let path = |names: &str| temporary.path().join(names);
        let made = |directory: &str| {
            let mut synced = Vec::new();
            make(&path(directory), &mut |parent| {
                assert!(parent.is_dir());
                synced.push(parent.to_owned());
                Ok(())
            })
            .unwrap();
            assert!(path(directory).is_dir());
            synced
        };
        let here = temporary.path().to_owned();
        assert_eq!(made("a/b/c"), [here.clone(), path("a"), path("a/b")]);
        assert_eq!(made("a/b/c"), [path("a/b")]);
        assert_eq!(made("a/d"), [path("a")]);
        make_directory(&path("e/f")).unwrap();
        assert!(path("e/f").is_dir());
        // It was there: that the one above it cannot be synced is no reason not to use it.
        make(&path("a"), &mut |_| {
            Err(io::ErrorKind::PermissionDenied.into())
        })
        .unwrap();
        assert!(make(&path("g"), &mut |_| Err(io::ErrorKind::Other.into())).is_err());
        fs::write(path("file"), "").unwrap();
        assert!(make_directory(&path("file")).is_err());
    }
}
