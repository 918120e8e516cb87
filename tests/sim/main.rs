//! The simulation: sessions, clients, journal and faults on one thread, drawn from a seed, and an oracle.
//!
//! `SIM_SEEDS=20000 cargo test --test sim` runs more seeds, `SIM_SEED=7 cargo test --test sim` one of them with its
//! story. A seed that fails prints its story and becomes a named test in `regressions.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "all of this is test code: it may fail loudly, tells its story, and looks at a few of many kinds"
)]

mod acks;
mod answers;
mod client;
mod clocks;
mod ending;
mod faults;
mod fights;
mod fold;
mod groups;
mod inbox;
mod journal;
mod network;
mod oracle;
mod perform;
mod quarantine;
mod regressions;
mod rng;
mod seen;
mod steps;
mod units;
mod wills;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use seen::{Seen, Tally};
use world::World;

/// Seeds that a plain test run tries.
const SEEDS: u64 = 300;
/// Steps with faults of one run.
const STEPS: u32 = 3000;

/// One run from its seed to its end.
fn run(world: &mut World) {
    for _ in 0..STEPS {
        world.step();
        world.check();
    }
    let t = std::mem::take(&mut world.oracle.tally);
    world.settle();
    world.oracle.tally = t;
    world.wind_up();
}

/// Runs a seed again for its story.
fn tell(seed: u64) -> bool {
    let mut world = World::new(seed, true);
    let done = catch_unwind(AssertUnwindSafe(|| run(&mut world))).is_ok();
    for line in world.trace.take().unwrap_or_default() {
        println!("{line}");
    }
    println!("seed {seed}: replay with SIM_SEED={seed} cargo test --test sim");
    done
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn sessions_keep_their_promises_whatever_happens() {
    // 5.0: [MQTT-4.6.0-5], [MQTT-4.6.0-6].
    // 3.1.1: [MQTT-4.6.0-5], [MQTT-4.6.0-6].
    if let Some(seed) = number("SIM_SEED") {
        assert!(tell(seed), "seed {seed} fails");
        return;
    }
    let first = number("SIM_FIRST").unwrap_or(1);
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        let mut world = World::new(seed, false);
        if catch_unwind(AssertUnwindSafe(|| run(&mut world))).is_err() {
            tell(seed);
            panic!("seed {seed} fails");
        }
        tally.add(&world.oracle.tally);
    }
    for what in Seen::ALL {
        let times = tally.of(what);
        println!("{what:?}: {times}");
        assert!(times > 0 || seeds < SEEDS, "no seed brings about {what:?}");
    }
}
