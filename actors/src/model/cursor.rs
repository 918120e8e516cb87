//! A kept session's place in the journal, and the seam between catching up and being live.
//!
//! Invariants:
//! - every matching record below `next` was handed out; every matching one in `next..covered` waits in `inbox`;
//! - `live` says that records handed over as they are committed follow `covered` without a gap;
//! - the inbox is bounded: what does not fit is read again from the journal later.
//!
//! The seam: while a read is under way, what is committed meanwhile is put aside. If the page reaches the journal's
//! authoritative end, the records put aside at or above that end follow it without a gap, and the reader is live; those
//! below it were in the page. If too much came, it is forgotten and the next read covers it.

use std::collections::VecDeque;

use super::ids::Offset;
use super::record::{Page, Record};

/// Message bytes at which an inbox takes no further record: what waits is in the journal, and need not be in memory.
const INBOX_BYTES_MAX: usize = 1 << 20;

/// A reader's place.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    next: Offset,
    covered: Offset,
    inbox: Inbox,
    aside: Inbox,
    aside_overflowed: bool,
    reading: bool,
    read_id: ReadId,
    live: bool,
}

/// Records in memory, in offset order.
#[derive(Clone, Debug, Default)]
struct Inbox {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Inbox {
    const EMPTY: Self = Self {
        records: VecDeque::new(),
        bytes: 0,
    };

    /// Whether one more record may come in: a large one may, if it comes first.
    fn has_room(&self, records_max: usize) -> bool {
        self.records.len() < records_max && self.bytes < INBOX_BYTES_MAX
    }

    /// Whether half of it is free.
    fn is_half_empty(&self, records_max: usize) -> bool {
        self.records.len() * 2 <= records_max && self.bytes * 2 <= INBOX_BYTES_MAX
    }

    fn push(&mut self, record: Record) {
        self.bytes += record.message.size_bytes();
        self.records.push_back(record);
    }

    fn pop(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.bytes -= record.message.size_bytes();
        Some(record)
    }
}

/// Tells the answer to the current read from that to one that was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadId(u32);

impl Cursor {
    /// A reader at the beginning that reads nothing.
    pub const UNUSED: Self = Self {
        next: Offset(0),
        covered: Offset(0),
        inbox: Inbox::EMPTY,
        aside: Inbox::EMPTY,
        aside_overflowed: false,
        reading: false,
        read_id: ReadId(0),
        live: false,
    };

    /// A reader at `next` that reads nothing yet.
    pub fn new(next: Offset) -> Self {
        Self {
            next,
            covered: next,
            ..Self::default()
        }
    }

    /// The first offset that is not yet handed out.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// The first offset that is not yet read.
    pub fn covered(&self) -> Offset {
        self.covered
    }

    /// How many records are read and not handed out.
    pub fn waiting(&self) -> usize {
        self.inbox.records.len()
    }

    /// Whether the record at `offset`, if it matches, was handed out.
    pub fn has_passed(&self, offset: Offset) -> bool {
        offset < self.next || (self.is_drained() && offset < self.covered)
    }

    /// Whether committed records reach this reader without a read.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether nothing waits in memory.
    pub fn is_drained(&self) -> bool {
        self.inbox.records.is_empty()
    }

    /// Where the next read must start, if one is due: the reader is behind, has room and no read is under way.
    pub fn wants_read(&self, inbox_max: usize) -> Option<Offset> {
        (!self.live && !self.reading && self.inbox.is_half_empty(inbox_max)).then_some(self.covered)
    }

    /// A read from [`Self::wants_read`] was begun.
    pub fn begin_read(&mut self) -> ReadId {
        self.read_id.0 = self.read_id.0.wrapping_add(1);
        self.reading = true;
        self.aside = Inbox::default();
        self.aside_overflowed = false;
        self.read_id
    }

    /// The read under way is of no use any more: it does not know a new subscription.
    pub fn abandon_read(&mut self) {
        self.reading = false;
        self.read_id.0 = self.read_id.0.wrapping_add(1);
    }

    /// A read came back. Gives how many holes of the journal the reader stepped over by it.
    pub fn page(&mut self, read_id: ReadId, page: Page) -> u32 {
        if read_id != self.read_id || !std::mem::take(&mut self.reading) {
            return 0;
        }
        for record in page.records {
            if record.offset >= self.covered {
                self.inbox.push(record);
            }
        }
        self.covered = self.covered.max(page.next);
        if page.next >= page.end && !self.aside_overflowed {
            self.live = true;
            for record in std::mem::take(&mut self.aside).records {
                if record.offset >= self.covered {
                    self.covered = record.offset.next();
                    self.inbox.push(record);
                }
            }
        } else {
            self.aside = Inbox::default();
        }
        page.holes
    }

    /// A record was committed. Gives whether the reader fell out of the live end by it.
    pub fn committed(&mut self, record: Record, inbox_max: usize) -> bool {
        if self.live {
            if record.offset < self.covered {
                return false;
            }
            if self.inbox.has_room(inbox_max) {
                self.covered = record.offset.next();
                self.inbox.push(record);
                return false;
            }
            self.live = false;
            self.covered = record.offset;
            return true;
        }
        if self.reading && !self.aside_overflowed {
            if self.aside.has_room(inbox_max) {
                self.aside.push(record);
            } else {
                self.aside = Inbox::default();
                self.aside_overflowed = true;
            }
        }
        false
    }

    /// The record that is handed out next.
    pub fn first(&self) -> Option<&Record> {
        self.inbox.records.front()
    }

    /// Hands out the next record.
    pub fn pop(&mut self) -> Option<Record> {
        let record = self.inbox.pop()?;
        self.next = record.offset.next();
        Some(record)
    }

    /// Nothing that matches lies below `end`, as far as a live and drained reader is concerned: it moves there, so that
    /// it pins nothing.
    pub fn advance(&mut self, end: Offset) {
        if self.inbox.records.is_empty() {
            self.next = self.next.max(self.covered);
            if self.live && end > self.covered {
                self.covered = end;
                self.next = end;
            }
        }
    }

    /// Forgets what is in memory: the connection is gone. What was not handed out is read again.
    pub fn park(&mut self) {
        let read_id = ReadId(self.read_id.0.wrapping_add(1));
        *self = Self {
            read_id,
            ..Self::new(self.next)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::{SessionNumber, Timestamp};
    use super::super::message::{Message, MessageParts, QoS};
    use super::*;
    use std::sync::Arc;

    fn record(offset: u64) -> Record {
        sized(offset, 0)
    }

    fn sized(offset: u64, payload_bytes: usize) -> Record {
        let message = Message::new(MessageParts {
            topic: "t",
            payload: &vec![0; payload_bytes],
            properties: b"",
            qos: QoS::AtLeastOnce,
            retain: false,
            published_at: Timestamp(0),
            expires_at: None,
            publisher: SessionNumber(0),
        });
        Record {
            offset: Offset(offset),
            message: Arc::new(message),
        }
    }

    fn drain(cursor: &mut Cursor) -> Vec<u64> {
        std::iter::from_fn(|| cursor.pop())
            .map(|record| record.offset.0)
            .collect()
    }

    fn page(offsets: &[u64], next: u64, end: u64) -> Page {
        Page {
            records: offsets.iter().copied().map(record).collect(),
            next: Offset(next),
            end: Offset(end),
            holes: 0,
        }
    }

    #[test]
    fn records_committed_during_the_last_read_are_neither_lost_nor_doubled() {
        let mut cursor = Cursor::new(Offset(10));
        let read = cursor.begin_read();
        for offset in [12, 13, 14] {
            cursor.committed(record(offset), 100);
        }
        cursor.page(read, page(&[10, 12, 13], 14, 14));
        assert!(cursor.is_live());
        cursor.committed(record(13), 100); // a late hand-over of what the page held
        cursor.committed(record(15), 100);
        assert_eq!(drain(&mut cursor), [10, 12, 13, 14, 15]);
    }

    #[test]
    fn a_reader_that_overflows_reads_the_gap_again() {
        let mut cursor = Cursor::new(Offset(0));
        let read = cursor.begin_read();
        cursor.page(read, page(&[], 1, 1));
        assert!(!cursor.committed(record(1), 2));
        assert!(!cursor.committed(record(2), 2));
        assert!(
            cursor.committed(record(3), 2),
            "it fell out of the live end"
        );
        assert!(!cursor.committed(record(4), 2));
        assert_eq!(drain(&mut cursor), [1, 2]);
        assert_eq!(cursor.wants_read(2), Some(Offset(3)));
        let read = cursor.begin_read();
        cursor.page(read, page(&[3, 4], 5, 5));
        assert_eq!(drain(&mut cursor), [3, 4]);
    }

    #[test]
    fn too_much_put_aside_makes_another_read_not_a_gap() {
        let mut cursor = Cursor::new(Offset(0));
        let read = cursor.begin_read();
        for offset in 5..9 {
            cursor.committed(record(offset), 2);
        }
        cursor.page(read, page(&[], 5, 5));
        assert!(!cursor.is_live());
        assert_eq!(cursor.wants_read(2), Some(Offset(5)));
    }

    #[test]
    fn a_read_that_does_not_know_a_new_subscription_is_not_taken() {
        let mut cursor = Cursor::new(Offset(0));
        let read = cursor.begin_read();
        cursor.abandon_read();
        cursor.page(read, page(&[1], 9, 9));
        assert_eq!(cursor.wants_read(2), Some(Offset(0)));
    }

    #[test]
    fn a_parked_reader_keeps_what_it_did_not_hand_out() {
        let mut cursor = Cursor::new(Offset(0));
        let read = cursor.begin_read();
        cursor.page(read, page(&[1, 2], 3, 3));
        cursor.pop();
        cursor.park();
        assert_eq!(cursor.next(), Offset(2));
        cursor.page(read, page(&[7], 8, 8)); // an answer to a read of the connection before
        assert!(cursor.is_drained());
    }

    #[test]
    fn a_live_and_drained_reader_pins_nothing() {
        let mut cursor = Cursor::new(Offset(0));
        let read = cursor.begin_read();
        cursor.page(read, page(&[1], 3, 3));
        cursor.advance(Offset(9));
        assert_eq!(cursor.next(), Offset(0), "a record waits");
        drain(&mut cursor);
        cursor.advance(Offset(9));
        assert_eq!(cursor.next(), Offset(9));
    }

    #[test]
    fn large_records_wait_in_the_journal_not_in_memory() {
        let mut cursor = Cursor::new(Offset(0));
        let read = cursor.begin_read();
        cursor.page(read, page(&[], 1, 1));
        assert!(
            !cursor.committed(sized(1, 2 * INBOX_BYTES_MAX), 100),
            "the first one fits"
        );
        assert!(cursor.committed(sized(2, 1), 100), "the next one does not");
        assert_eq!(cursor.wants_read(100), None);
        assert_eq!(drain(&mut cursor), [1]);
        assert_eq!(cursor.wants_read(100), Some(Offset(2)));
    }
}
