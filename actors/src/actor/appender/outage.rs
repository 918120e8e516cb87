//! Whether the journal fails, as an operator is told: once when that begins, once when it is over.
//!
//! Owns: when it is over. Does not know: why it fails, logs.
//!
//! Invariant: that small batches fit where larger ones do not ends nothing. It is over when as many bytes were written as
//! the largest failed batch had, and none failed in between: then the disk has the room that it lacked.

/// What failed, and what was written since.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Message bytes of the largest batch that failed; `None` while nothing fails.
    failed_bytes: Option<usize>,
    /// Message bytes written since the last failure.
    written_bytes: usize,
}

impl Outage {
    /// Whether it lasts.
    pub(super) fn lasts(&self) -> bool {
        self.failed_bytes.is_some()
    }

    /// A batch of so many message bytes failed; whether that is news.
    pub(super) fn failed(&mut self, bytes: usize) -> bool {
        self.written_bytes = 0;
        self.failed_bytes
            .replace(self.failed_bytes.unwrap_or(0).max(bytes))
            .is_none()
    }

    /// A batch with messages of so many bytes was written; whether it is over now.
    pub(super) fn wrote(&mut self, bytes: usize) -> bool {
        self.written_bytes += bytes;
        self.failed_bytes
            .take_if(|failed| *failed <= self.written_bytes)
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_that_fit_between_large_ones_that_do_not_end_nothing() {
        let mut outage = Outage::default();
        assert!(!outage.wrote(1_000));
        assert!(outage.failed(500));
        for _ in 0..10 {
            assert!(!outage.wrote(300));
            assert!(
                !outage.failed(400),
                "what was written before does not count"
            );
        }
        assert!(outage.lasts());
        assert!(!outage.wrote(300));
        assert!(outage.wrote(200));
        assert!(!outage.lasts());
        assert!(outage.failed(10));
        assert!(outage.wrote(10));
    }
}
