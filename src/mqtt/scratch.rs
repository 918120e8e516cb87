//! The read buffer that all connections of a thread share, so that none has its own while idle.

use std::cell::RefCell;

/// The most that one read takes.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the buffer. Not for use inside `body` again; then a fresh one is made.
pub(super) fn with<T>(body: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with(|cell| {
        let mut scratch = cell.take();
        scratch.resize(SCRATCH_BYTES, 0);
        let result = body(&mut scratch);
        cell.replace(scratch);
        result
    })
}
