//! Room on the disk that the store has for itself when nobody has any left.
//!
//! Owns: a file that takes that room, and how much it takes. Does not know: what the room is needed for.
//!
//! Invariant: after a reserve was given up, it comes back as soon as the disk has room, and nothing that could be done
//! without is begun before.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::durable;

/// What the reserve takes while the disk has room.
pub(super) const RESERVE_BYTES: u64 = 4 << 20;

/// Less is no reserve: opening a store again takes so much at most.
pub(super) const RESERVE_BYTES_MIN: u64 = RESERVE_BYTES / 8;

/// What the system counts blocks of a file in.
const BLOCK_BYTES: u64 = 512;

/// Where the room is.
pub(super) trait Room: Send + Sync {
    /// Takes room for `bytes` in all, that which is taken already included.
    ///
    /// # Errors
    /// What the system says; then what was taken before stays so.
    fn take(&self, bytes: u64) -> io::Result<()>;

    /// Gives all of it back.
    ///
    /// # Errors
    /// What the system says.
    fn give_back(&self) -> io::Result<()>;
}

/// A file that takes room.
#[derive(Debug)]
pub(super) struct RoomFile(pub(super) PathBuf);

impl RoomFile {
    /// What it takes; less than its length if somebody copied it and left out what is empty.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |file| file.len().min(file.blocks() * BLOCK_BYTES))
    }
}

impl Room for RoomFile {
    fn take(&self, bytes: u64) -> io::Result<()> {
        let before = self.bytes();
        durable::occupy(&self.0, bytes).inspect_err(|_| {
            // What it got on the way would be missing elsewhere.
            let file = fs::File::options().write(true).open(&self.0);
            file.and_then(|file| file.set_len(before)).ok();
        })
    }

    fn give_back(&self) -> io::Result<()> {
        fs::remove_file(&self.0)
    }
}

/// Room that can be given up.
pub(super) struct Reserve {
    room: Box<dyn Room>,
    bytes: u64,
}

impl Reserve {
    /// A reserve of which `bytes` are there.
    pub(super) fn new(room: Box<dyn Room>, bytes: u64) -> Self {
        Self { room, bytes }
    }

    /// Makes it as large as `most`, or as the disk lets it be.
    ///
    /// # Errors
    /// What the system says, if it stays smaller than [`RESERVE_BYTES_MIN`].
    pub(super) fn fill(&mut self, most: u64) -> io::Result<()> {
        let mut wanted = most;
        while wanted > self.bytes {
            match self.room.take(wanted) {
                Ok(()) => self.bytes = wanted,
                Err(error) if wanted <= RESERVE_BYTES_MIN => return Err(error),
                Err(_) => wanted /= 2,
            }
        }
        Ok(())
    }

    /// Gives it up; how much there was of it.
    pub(super) fn give_up(&mut self) -> u64 {
        if self.bytes == 0 || self.room.give_back().is_err() {
            return 0;
        }
        tracing::warn!("disk full: the store's reserve is given up for sessions and checkpoints");
        std::mem::take(&mut self.bytes)
    }
}

/// Whether the disk has no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_room_that_it_is_told_to_and_gives_all_of_it_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserve");
        let file = || RoomFile(path.clone());
        let mut reserve = Reserve::new(Box::new(file()), file().bytes());
        assert_eq!(reserve.give_up(), 0);
        reserve.fill(RESERVE_BYTES_MIN).unwrap();
        reserve.fill(RESERVE_BYTES).unwrap();
        reserve.fill(RESERVE_BYTES_MIN).unwrap();
        assert_eq!(file().bytes(), RESERVE_BYTES);
        assert_eq!(reserve.give_up(), RESERVE_BYTES);
        assert!(!path.exists());
        assert_eq!(reserve.give_up(), 0);
        fs::File::create(&path)
            .unwrap()
            .set_len(RESERVE_BYTES)
            .unwrap();
        assert_eq!(file().bytes(), 0, "it takes nothing");
    }
}
