//! The machine's clocks, which somebody sets and which begin anew, and the broker's time, which is to go on through all of it.

use std::sync::Arc;

use outlive_actors::clock::{BrokerClock, Clock as _, ManualClock};
use outlive_actors::model::entry::Entry;
use outlive_actors::model::ids::{Stamp, Timestamp};

use crate::rng::Rng;

const DAY: u64 = 86_400_000;

#[derive(Debug)]
pub(crate) struct Clocks {
    /// What time it is, whatever any clock shows.
    truly: Timestamp,
    machine: ManualClock,
    broker: BrokerClock,
}

impl Clocks {
    /// The first start of a broker, at a machine whose clock is right.
    pub(crate) fn new(truly: Timestamp) -> Self {
        let machine = ManualClock::new(truly);
        let broker = BrokerClock::resume(Arc::new(machine.clone()), None, Timestamp(0));
        Self {
            truly,
            machine,
            broker,
        }
    }

    /// Time goes by until it is `truly`; sometimes somebody sets the clock of the machine.
    pub(crate) fn go_to(&mut self, truly: Timestamp, rng: &mut Rng) {
        self.machine.advance_millis(truly.millis_since(self.truly));
        self.truly = truly;
        if rng.permille(20) {
            self.machine.set(Timestamp(rng.between(0, 20_000 * DAY)));
        }
    }

    /// The time as the broker knows it.
    pub(crate) fn now(&self) -> Timestamp {
        self.broker.now()
    }

    /// What the broker records when it stamps that it lives.
    pub(crate) fn stamp(&self) -> Entry {
        Entry::Liveness {
            at: self.broker.now(),
            boot: self.broker.boot(),
        }
    }

    /// The broker starts again, with what it had stamped last. Before, the machine may have begun anew; then somebody has set its
    /// clock right, as the broker has nothing else to go by.
    pub(crate) fn start(&mut self, stamp: Option<Stamp>, alive_at: Timestamp, rng: &mut Rng) {
        if rng.permille(200) {
            self.machine.reboot();
            self.machine.set(self.truly);
        }
        let machine = Arc::new(self.machine.clone());
        self.broker = BrokerClock::resume(machine, stamp, alive_at);
        assert_eq!(
            self.broker.now(),
            self.truly,
            "sessions end early, or live too long"
        );
    }
}
