//! Packets on their way from connections to sessions and in them: how many bytes they take, of one connection and of all.
//!
//! Owns: both bounds, and who waits until all together take less. Does not know: packets, sockets, sessions.
//!
//! Invariants:
//! - what a [`Load`] counts for is given back when it is dropped, wherever that is;
//! - once all loads together reach what they may take, nobody has room until they fall below half of it; then all who wait are
//!   woken.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// The packets of one connection that may be under way to its session and in it; above, it stops reading.
pub const INBOUND_PACKETS_MAX: u32 = 1024;

/// The bytes that packets of one connection under way may take; from there on it stops reading. The packet that reaches
/// it is taken, however large it is.
pub const INBOUND_BYTES_MAX: u32 = 1024 * 1024;

/// So many packets, and the bytes that they take in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// How many.
    pub packets: u32,
    /// Their bytes, about.
    pub bytes: u32,
}

/// What the packets of all connections may take together.
#[derive(Debug)]
pub struct Intake {
    bytes_max: u64,
    bytes: AtomicU64,
    /// There was no more room, and half is not free yet. Changed with `waiting` locked.
    is_full: AtomicBool,
    /// Grows by 2 whenever those who waited are woken, and is odd.
    round: AtomicU16,
    waiting: Mutex<Vec<Waker>>,
}

impl Intake {
    /// Nothing under way; `bytes_max` is what all packets may take, not counting the ones that reach it.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            round: AtomicU16::new(1),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// What all packets under way take.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether more packets may come.
    pub fn has_room(&self) -> bool {
        !self.is_full.load(Ordering::SeqCst)
    }

    /// Packets are under way from here on.
    pub fn load(self: &Arc<Self>, credit: Credit) -> Load {
        let bytes = u64::from(credit.bytes);
        let before = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        if before + bytes >= self.bytes_max && self.has_room() {
            let _locked = self.waiting.lock();
            // If it fell below half already, nobody would open it again.
            let is_full = self.bytes.load(Ordering::SeqCst) >= self.half();
            self.is_full.store(is_full, Ordering::SeqCst);
        }
        Load {
            credit,
            intake: Some(Arc::clone(self)),
        }
    }

    /// Wakes `waker` when there is room. `asked` is what this gave to the same task before, if anything: a task that waits
    /// already is not woken twice. `None`: there is room by now.
    pub fn wait(&self, asked: Option<NonZeroU16>, waker: &Waker) -> Option<NonZeroU16> {
        let mut waiting = self.waiting.lock();
        let round = NonZeroU16::new(self.round.load(Ordering::SeqCst));
        if asked.is_some() && asked == round {
            return asked;
        }
        if self.has_room() {
            return None;
        }
        waiting.push(waker.clone());
        round
    }

    /// Whether a task that was given `asked` still waits.
    pub fn is_awaited(&self, asked: NonZeroU16) -> bool {
        self.round.load(Ordering::SeqCst) == asked.get()
    }

    fn half(&self) -> u64 {
        self.bytes_max.div_ceil(2)
    }

    fn give_back(&self, bytes: u32) {
        let bytes = u64::from(bytes);
        let before = self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if before < self.half() || before - bytes >= self.half() {
            return;
        }
        let woken = {
            let mut waiting = self.waiting.lock();
            self.is_full.store(false, Ordering::SeqCst);
            if waiting.is_empty() {
                return;
            }
            self.round.fetch_add(2, Ordering::SeqCst);
            std::mem::take(&mut *waiting)
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Packets under way, for what they count.
#[derive(Debug, Default)]
pub struct Load {
    credit: Credit,
    intake: Option<Arc<Intake>>,
}

impl Load {
    /// Of no packets.
    pub const NONE: Self = Self {
        credit: Credit {
            packets: 0,
            bytes: 0,
        },
        intake: None,
    };

    /// Of so many packets that nobody counts together with those of others.
    pub fn uncounted(packets: u32) -> Self {
        Self {
            credit: Credit { packets, bytes: 0 },
            intake: None,
        }
    }

    /// What they count for.
    pub fn credit(&self) -> Credit {
        self.credit
    }

    /// Whether these are no packets.
    pub fn is_empty(&self) -> bool {
        self.credit.packets == 0
    }

    /// Takes another one of the same connection in.
    pub fn absorb(&mut self, mut other: Self) {
        let more = std::mem::take(&mut other.credit);
        self.credit.packets = self.credit.packets.saturating_add(more.packets);
        self.credit.bytes = self.credit.bytes.saturating_add(more.bytes);
        if self.intake.is_none() {
            self.intake = other.intake.take();
        }
    }

    /// The packets were dealt with: what their connection may send instead.
    pub fn dealt_with(self) -> Credit {
        self.credit
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(intake) = &self.intake
            && self.credit.bytes > 0
        {
            intake.give_back(self.credit.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn of(bytes: u32) -> Credit {
        Credit { packets: 1, bytes }
    }

    #[test]
    fn who_waits_is_woken_once_when_half_is_free() {
        let intake = Arc::new(Intake::new(100));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let (first, second, third) = (
            intake.load(of(40)),
            intake.load(of(30)),
            intake.load(of(40)),
        );
        assert!(!intake.has_room());
        let asked = intake.wait(None, &waker);
        assert!(asked.is_some());
        assert_eq!(intake.wait(asked, &waker), asked, "it waits already");
        drop(first);
        assert!(
            !intake.has_room(),
            "for nobody, or those who wait would never have a turn"
        );
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "not yet worth it");
        assert_eq!(second.dealt_with(), of(30));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(intake.has_room());
        // The same task waits again: that it was woken meanwhile shows.
        let fourth = intake.load(of(200));
        assert_ne!(intake.wait(asked, &waker), asked);
        drop((third, fourth));
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
        assert_eq!(intake.wait(None, &waker), None);
        assert_eq!(intake.bytes(), 0);
    }

    #[test]
    fn what_is_absorbed_is_given_back_once() {
        let intake = Arc::new(Intake::new(100));
        let mut all = Load::default();
        assert!(all.is_empty());
        all.absorb(intake.load(of(40)));
        all.absorb(Load::uncounted(1));
        all.absorb(intake.load(of(40)));
        assert_eq!(intake.bytes(), 80);
        let credit = all.dealt_with();
        assert_eq!((credit.packets, credit.bytes, intake.bytes()), (3, 80, 0));
    }
}
