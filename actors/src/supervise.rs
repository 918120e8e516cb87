//! Noticing that a session's or group's actor is gone though what it ran is not over.
//!
//! actix does not catch panics: tokio does, the actor's task ends, its address goes dead and nobody is told. So every
//! such actor carries a [`Sentinel`]; when the actor is dropped without having dismissed it, the shard hears of it,
//! closes the connection, rebuilds the session or group from snapshot and journal, counts, and quarantines what keeps
//! panicking.

pub mod vitals;

use std::rc::Rc;

use actix::{Message as ActixMessage, Recipient};

use crate::model::ids::{ClientId, GroupNumber, Timestamp};
use crate::model::routes::Slot;

/// Panics of one session within [`PANIC_WINDOW_MILLIS`] after which it is not rebuilt any more.
pub const PANICS_MAX: u32 = 5;

/// The time in milliseconds within which panics of one session are counted together.
pub const PANIC_WINDOW_MILLIS: u64 = 60_000;

/// Sentinel -> shard: an actor is gone though what it ran is not over.
#[derive(Debug)]
pub struct Died<W> {
    /// Its slot.
    pub slot: Slot,
    /// Whose it was.
    pub whose: W,
}

/// A session's actor is gone.
pub type SessionDied = Died<ClientId>;

/// A group's actor is gone.
pub type GroupDied = Died<GroupNumber>;

impl<W: 'static> ActixMessage for Died<W> {
    type Result = ();
}

/// Tells the shard if its actor dies.
#[derive(Debug)]
pub struct Sentinel<W: Clone + Send + 'static = ClientId> {
    /// `None` once it is dismissed.
    alarm: Option<Rc<Recipient<Died<W>>>>,
    slot: Slot,
    whose: W,
}

impl<W: Clone + Send + 'static> Sentinel<W> {
    /// Watches over the actor in `slot`.
    pub fn new(shard: Rc<Recipient<Died<W>>>, slot: Slot, whose: W) -> Self {
        Self {
            alarm: Some(shard),
            slot,
            whose,
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
        shard.do_send(Died {
            slot: self.slot,
            whose: self.whose.clone(),
        });
        true
    }
}

impl<W: Clone + Send + 'static> Drop for Sentinel<W> {
    fn drop(&mut self) {
        self.alarm();
    }
}

/// Panics of one session's or group's actor.
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

    use actix::Message as ActixMessage;
    use parking_lot::RwLock;

    use crate::model::effect::Effect;
    use crate::model::group::GroupEffect;
    use crate::model::ids::ClientId;
    use crate::model::topic::Filter;

    /// To an actor: panic.
    #[derive(Clone, Copy, Debug)]
    pub struct Die;

    impl Die {
        /// Does so.
        #[expect(clippy::panic, reason = "this is what was asked for")]
        pub(crate) fn now(self) {
            panic!("injected");
        }
    }

    impl ActixMessage for Die {
        type Result = ();
    }

    /// Called before an effect is performed; may panic.
    pub type Fault = Arc<dyn Fn(&ClientId, &Effect) + Send + Sync>;

    /// As [`Fault`], for groups.
    pub type GroupFault = Arc<dyn Fn(&Filter, &GroupEffect) + Send + Sync>;

    /// What happens to sessions and groups before they perform an effect: nothing, unless a test says otherwise.
    #[derive(Default)]
    pub struct Faults {
        sessions: RwLock<Option<Fault>>,
        groups: RwLock<Option<GroupFault>>,
    }

    impl Faults {
        /// From now on `fault` is called before every effect.
        pub fn inject(&self, fault: Fault) {
            *self.sessions.write() = Some(fault);
        }

        /// From now on `fault` is called before every effect of a group.
        pub fn inject_group(&self, fault: GroupFault) {
            *self.groups.write() = Some(fault);
        }

        /// From now on nothing happens.
        pub fn clear(&self) {
            *self.sessions.write() = None;
            *self.groups.write() = None;
        }

        /// An effect is about to be performed.
        pub(crate) fn before(&self, client_id: &ClientId, effect: &Effect) {
            let fault = self.sessions.read().clone();
            if let Some(fault) = fault {
                fault(client_id, effect);
            }
        }

        /// An effect of a group is about to be performed.
        pub(crate) fn before_group(&self, filter: &Filter, effect: &GroupEffect) {
            let fault = self.groups.read().clone();
            if let Some(fault) = fault {
                fault(filter, effect);
            }
        }
    }

    impl fmt::Debug for Faults {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Faults").finish_non_exhaustive()
        }
    }
}
