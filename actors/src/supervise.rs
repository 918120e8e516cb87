//! Noticing that a session actor is gone though its session is not over.
//!
//! actix does not catch panics: tokio does, the actor's task ends, its address goes dead and nobody is told. So every
//! session actor carries a [`Sentinel`]; when the actor is dropped without having dismissed it, the shard hears of it,
//! closes the connection, rebuilds the session from snapshot and journal, counts, and quarantines a session that keeps
//! panicking.

use std::rc::Rc;

use actix::{Message as ActixMessage, Recipient};

use crate::model::ids::{ClientId, Timestamp};
use crate::model::routes::Slot;

/// Panics of one session within [`PANIC_WINDOW_MILLIS`] after which it is not rebuilt any more.
pub const PANICS_MAX: u32 = 5;

/// The time in milliseconds within which panics of one session are counted together.
pub const PANIC_WINDOW_MILLIS: u64 = 60_000;

/// Session's sentinel -> shard: the actor is gone though its session is not over.
#[derive(Debug, ActixMessage)]
#[rtype(result = "()")]
pub struct SessionDied {
    /// Its slot.
    pub slot: Slot,
    /// Whose it was.
    pub client_id: ClientId,
}

/// Tells the shard if its actor dies.
#[derive(Debug)]
pub struct Sentinel {
    /// `None` once it is dismissed.
    alarm: Option<Rc<Recipient<SessionDied>>>,
    slot: Slot,
    client_id: ClientId,
}

impl Sentinel {
    /// Watches over the actor in `slot`.
    pub fn new(shard: Rc<Recipient<SessionDied>>, slot: Slot, client_id: ClientId) -> Self {
        Self {
            alarm: Some(shard),
            slot,
            client_id,
        }
    }

    /// The slot of the actor.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The actor stops in good order.
    pub fn dismiss(&mut self) {
        self.alarm = None;
    }

    /// Whether the actor was told to stop.
    pub fn is_dismissed(&self) -> bool {
        self.alarm.is_none()
    }

    /// The actor dies: tells the shard, once. Gives whether it did, that is, whether the actor was not dismissed.
    pub fn alarm(&mut self) -> bool {
        let Some(shard) = self.alarm.take() else {
            return false;
        };
        shard.do_send(SessionDied {
            slot: self.slot,
            client_id: self.client_id.clone(),
        });
        true
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.alarm();
    }
}

/// Panics of one session's actor.
#[derive(Clone, Copy, Debug)]
pub struct Panics {
    count: u32,
    /// The first that counts.
    since: Timestamp,
}

impl Panics {
    /// None yet, at `now`.
    pub fn none(now: Timestamp) -> Self {
        Self {
            count: 0,
            since: now,
        }
    }

    /// Counts one; gives how many there were within [`PANIC_WINDOW_MILLIS`]. Above [`PANICS_MAX`] the session is not
    /// rebuilt.
    pub fn count(&mut self, now: Timestamp) -> u32 {
        if now.millis_since(self.since) > PANIC_WINDOW_MILLIS {
            *self = Self::none(now);
        }
        self.count += 1;
        self.count
    }

    /// Lets the session be rebuilt once more.
    pub fn forgive_one(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

/// Where tests let session actors die.
#[cfg(feature = "testing")]
pub mod faults {
    use std::fmt;
    use std::sync::Arc;

    use parking_lot::RwLock;

    use crate::model::effect::Effect;
    use crate::model::ids::ClientId;

    /// Called before an effect is performed; may panic.
    pub type Fault = Arc<dyn Fn(&ClientId, &Effect) + Send + Sync>;

    /// What happens to sessions before they perform an effect: nothing, unless a test says otherwise.
    #[derive(Default)]
    pub struct Faults(RwLock<Option<Fault>>);

    impl Faults {
        /// From now on `fault` is called before every effect.
        pub fn inject(&self, fault: Fault) {
            *self.0.write() = Some(fault);
        }

        /// From now on nothing happens.
        pub fn clear(&self) {
            *self.0.write() = None;
        }

        /// An effect is about to be performed.
        pub(crate) fn before(&self, client_id: &ClientId, effect: &Effect) {
            let fault = self.0.read().clone();
            if let Some(fault) = fault {
                fault(client_id, effect);
            }
        }
    }

    impl fmt::Debug for Faults {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Faults").finish_non_exhaustive()
        }
    }
}
