//! Deadlines under clocks that are wrong.

use outlive_actors::clock::Clock as _;
use outlive_actors::model::ids::Timestamp;

use crate::client::kept;
use crate::world::{World, run};

const DAY: u64 = 86_400_000;

/// A broker with a session that is away.
async fn with_a_sleeper() -> World {
    let mut world = World::start().await;
    let mut sleeper = world.connect("sleeper", kept()).await;
    sleeper.subscribe("t", 1).await;
    sleeper.hang_up();
    world.passivate(0).await;
    world.restart().await;
    world
}

#[test]
fn a_clock_that_is_set_while_the_broker_is_down_ends_no_session_and_keeps_none() {
    run(async {
        for days in [-5_i64, 0, 5] {
            let mut world = with_a_sleeper().await;
            world.stop().await;
            let set = world
                .clock
                .now()
                .0
                .saturating_add_signed(days * DAY.cast_signed());
            world.clock.set(Timestamp(set));
            world.boot().await;
            assert_eq!(world.observe().quota.used, 1, "{days} days off");
            assert_eq!(
                world.observe().clock_ahead_millis,
                -days * DAY.cast_signed()
            );
            world
                .clock
                .advance_millis(u64::from(kept().expiry_seconds) * 1000);
            world
                .until("it expires when its time is over", |seen| {
                    seen.quota.used == 0
                })
                .await;
            world.stop().await;
        }
    });
}

/// The first start of a boot with a clock that is a day behind, which is set right while the broker runs; and the next start.
#[test]
fn a_clock_that_is_set_after_the_start_ends_no_session_at_the_next() {
    run(async {
        let mut world = with_a_sleeper().await;
        world.clock.set(Timestamp(world.clock.now().0 + DAY));
        for seed in 0..2 {
            world.crash(seed).await;
            assert_eq!(world.observe().quota.used, 1);
            assert_eq!(world.observe().expired_while_down, 0);
        }
        let mut sleeper = world.ask("sleeper", kept());
        assert!(sleeper.attached().await, "resumed");
        sleeper.hang_up();
        world.stop().await;
    });
}

#[test]
fn after_a_boot_of_the_machine_its_wall_clock_counts_and_what_it_ends_is_counted() {
    run(async {
        let mut world = with_a_sleeper().await;
        world.stop().await;
        world.clock.reboot();
        world.clock.set(Timestamp(world.clock.now().0 + DAY));
        world.boot().await;
        assert_eq!(world.observe().expired_while_down, 1);
        world
            .until("its end is recorded", |seen| seen.quota.used == 0)
            .await;
        world.stop().await;
    });
}
