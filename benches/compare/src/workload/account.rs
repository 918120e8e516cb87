//! The books: which message is on its way, which arrived, and which did what it should not.
//!
//! Knows publishers and subscribers by number; knows no connection.

use crate::outcome::Faults;
use crate::packet::Account;

/// A publisher's messages on their way: a message is done when each of its readers got it.
#[derive(Debug)]
struct Sent {
    /// Deliveries still missing, by sequence modulo the window.
    missing: Vec<u32>,
    next: u64,
    undone: u32,
}

/// All books of a workload.
#[derive(Debug)]
pub(crate) struct Books {
    sent: Vec<Sent>,
    window: u32,
    readers_each: u32,
    /// Last sequence seen plus one, by subscriber and publisher; empty if order does not matter.
    last: Vec<u64>,
    ordered: bool,
    /// What went wrong so far.
    pub(crate) faults: Faults,
    /// Deliveries so far.
    pub(crate) delivered: u64,
}

impl Books {
    /// Books for so many publishers, each with at most `window` messages not yet delivered to all of `readers_each`.
    pub(crate) fn new(
        publishers: usize,
        subscribers: usize,
        window: u32,
        readers_each: u32,
        ordered: bool,
    ) -> Self {
        let sent = || Sent {
            missing: vec![0; window.next_power_of_two() as usize],
            next: 0,
            undone: 0,
        };
        Self {
            sent: (0..publishers).map(|_| sent()).collect(),
            window,
            readers_each,
            last: vec![0; if ordered { publishers * subscribers } else { 0 }],
            ordered,
            faults: Faults::default(),
            delivered: 0,
        }
    }

    /// The sequence of the publisher's next message, if it may send one now.
    pub(crate) fn next(&self, publisher: usize) -> Option<u64> {
        let sent = &self.sent[publisher];
        // The slot is still taken if one message lags far behind the others.
        let free = sent.missing[Self::slot(sent, sent.next)] == 0;
        (sent.undone < self.window && free).then_some(sent.next)
    }

    /// Notes that the next message goes out.
    pub(crate) fn send(&mut self, publisher: usize) {
        let readers = self.readers_each;
        let sent = &mut self.sent[publisher];
        let slot = Self::slot(sent, sent.next);
        sent.missing[slot] = readers;
        sent.next += 1;
        sent.undone += 1;
    }

    /// Notes an arrival.
    pub(crate) fn arrived(&mut self, subscriber: usize, account: Account) {
        let publisher = account.publisher as usize;
        let publishers = self.sent.len();
        let Some(sent) = self.sent.get_mut(publisher) else {
            self.faults.foreign += 1;
            return;
        };
        let slots = sent.missing.len() as u64;
        if account.sequence >= sent.next {
            self.faults.foreign += 1;
            return;
        }
        let slot = Self::slot(sent, account.sequence);
        if sent.next - account.sequence > slots || sent.missing[slot] == 0 {
            self.faults.doubled += 1;
            return;
        }
        if self.ordered {
            let last = &mut self.last[subscriber * publishers + publisher];
            if account.sequence < *last {
                // With one reader it was missing until now, so it is late; with many it may be either.
                self.faults.reordered += 1;
                if self.readers_each > 1 {
                    return;
                }
            }
            *last = (*last).max(account.sequence + 1);
        }
        self.delivered += 1;
        sent.missing[slot] -= 1;
        if sent.missing[slot] == 0 {
            sent.undone -= 1;
        }
    }

    /// Whether everything sent has arrived.
    pub(crate) fn settled(&self) -> bool {
        self.sent.iter().all(|sent| sent.undone == 0)
    }

    /// Counts what never arrived as lost.
    pub(crate) fn close(&mut self) {
        let missing = self.sent.iter().flat_map(|sent| &sent.missing);
        self.faults.lost += missing.map(|count| u64::from(*count)).sum::<u64>();
    }

    fn slot(sent: &Sent, sequence: u64) -> usize {
        let mask = sent.missing.len() as u64 - 1;
        usize::try_from(sequence & mask).expect("below the length of a vector")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(readers: u32) -> Books {
        let mut books = Books::new(1, readers as usize, 4, readers, true);
        for _ in 0..3 {
            books.send(0);
        }
        books
    }

    fn number(sequence: u64) -> Account {
        Account {
            publisher: 0,
            sequence,
            nanos: 0,
        }
    }

    #[test]
    fn what_arrives_once_and_in_order_is_no_fault() {
        let mut books = books(1);
        (0..3).for_each(|sequence| books.arrived(0, number(sequence)));
        books.close();
        assert!(books.faults.none() && books.settled());
    }

    #[test]
    fn a_second_arrival_is_doubled() {
        let mut books = books(1);
        books.arrived(0, number(0));
        books.arrived(0, number(0));
        assert_eq!(books.faults.doubled, 1);
    }

    #[test]
    fn a_late_arrival_is_reordered_and_a_missing_one_lost() {
        let mut books = books(1);
        books.arrived(0, number(1));
        books.arrived(0, number(0));
        books.close();
        assert_eq!((books.faults.reordered, books.faults.lost), (1, 1));
    }

    #[test]
    fn a_message_is_done_when_every_reader_has_it() {
        let mut books = books(2);
        (0..3).for_each(|sequence| books.arrived(0, number(sequence)));
        assert!(!books.settled());
        (0..3).for_each(|sequence| books.arrived(1, number(sequence)));
        assert!(books.settled() && books.faults.none());
    }

    #[test]
    fn a_message_that_was_never_sent_is_foreign() {
        let mut books = books(1);
        books.arrived(0, number(3));
        assert_eq!(books.faults.foreign, 1);
    }

    #[test]
    fn a_full_window_stops_the_publisher() {
        let mut books = books(1);
        books.send(0);
        assert_eq!(books.next(0), None);
        books.arrived(0, number(0));
        assert_eq!(books.next(0), Some(4));
    }
}
