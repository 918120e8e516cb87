use super::*;

const DAY: u64 = 86_400_000;
const ONCE: Timestamp = Timestamp(1_700_000_000_000);

/// A machine, and the broker's time after it started there for the first time.
fn begin() -> (ManualClock, BrokerClock) {
    let machine = ManualClock::new(ONCE);
    let broker = BrokerClock::resume(Arc::new(machine.clone()), None, Timestamp(0));
    (machine, broker)
}

/// The broker stamped and died; this is the next start.
fn again(machine: &ManualClock, stamped: Stamp) -> BrokerClock {
    BrokerClock::resume(Arc::new(machine.clone()), Some(stamped), stamped.at)
}

fn stamp(broker: &BrokerClock) -> Stamp {
    Stamp {
        at: broker.now(),
        boot: broker.boot().unwrap(),
    }
}

#[test]
fn nobody_sets_the_time_of_a_broker_that_runs() {
    let (machine, broker) = begin();
    for wall in [ONCE.0 + 3 * DAY, ONCE.0 - 3 * DAY, 0, u64::MAX] {
        let before = broker.now();
        machine.set(Timestamp(wall));
        assert_eq!(broker.now(), before);
        machine.advance_millis(1000);
        assert_eq!(broker.now(), Timestamp(before.0 + 1000));
    }
}

#[test]
fn within_one_boot_the_time_goes_on_from_the_last_stamp() {
    for wall in [ONCE.0 - DAY, ONCE.0, ONCE.0 + 30 * DAY] {
        let (machine, broker) = begin();
        machine.advance_millis(10_000);
        let stamped = stamp(&broker);
        machine.advance_millis(5_000);
        machine.set(Timestamp(wall));
        let next = again(&machine, stamped);
        assert!(next.goes_on());
        assert_eq!(next.now(), Timestamp(ONCE.0 + 15_000));
        assert_eq!(next.wall(), Timestamp(wall));
    }
}

#[test]
fn in_another_boot_the_wall_clock_counts_and_nothing_is_before_the_last_stamp() {
    for (wall, expected) in [(ONCE.0 - DAY, ONCE.0), (ONCE.0 + DAY, ONCE.0 + DAY)] {
        let (machine, broker) = begin();
        let stamped = stamp(&broker);
        machine.reboot();
        machine.set(Timestamp(wall));
        let next = again(&machine, stamped);
        assert!(!next.goes_on());
        assert_eq!(next.now(), Timestamp(expected));
        machine.advance_millis(7);
        assert_eq!(next.now(), Timestamp(expected + 7));
    }
}

#[test]
fn what_is_no_stamp_of_this_boot_is_none() {
    let machine = ManualClock::new(ONCE);
    let started = |stamp| BrokerClock::resume(Arc::new(machine.clone()), stamp, Timestamp(5));
    assert!(!started(None).goes_on());
    let boot = BootTime {
        boot: 9,
        millis: u64::MAX,
    };
    let strange = started(Some(Stamp {
        at: Timestamp(u64::MAX),
        boot,
    }));
    assert!(!strange.goes_on());
    assert_eq!(strange.now(), ONCE);
}

#[test]
fn this_machine_names_its_boot_and_counts_from_it() {
    let (one, other) = (SystemClock::new(), SystemClock::new());
    let (before, after) = (one.boot().unwrap(), other.boot().unwrap());
    assert_eq!(before.boot, after.boot, "the same for each process");
    assert!(before.millis <= after.millis);
}
