//! Two clients with one client id.

use outlive_actors::model::counter::Counter;
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;

use crate::client::{Setup, kept};
use crate::world::{World, run};

#[test]
fn twenty_takeovers_in_a_row_are_free_and_the_next_ones_take_turns() {
    run(async {
        let mut world = World::start().await;
        let mut holder = world.connect("id", kept()).await;
        for _ in 0..20 {
            let next = world.connect("id", kept()).await;
            assert_eq!(holder.closed().await, Refusal::TakenOver);
            holder = next;
        }
        assert_eq!(world.counter(Counter::TakeoverDelayed), 0);

        let mut waiting = world.ask("id", kept());
        world
            .until("it waits", |seen| {
                seen.shards.counter(Counter::TakeoverDelayed) == 1
            })
            .await;
        // A stranger does not get into its way, who comes behind it takes its place.
        let stranger = Setup {
            principal: "stranger",
            ..kept()
        };
        let answer = world.ask("id", stranger.clone()).answer().await;
        assert_eq!(answer, Err(Refusal::NotAuthorized));
        let mut last = world.ask("id", kept());
        assert_eq!(waiting.answer().await, Err(Refusal::TakeoverRate));
        // Nor does a stranger wait or make others wait.
        let answer = world.ask("other", stranger).answer().await;
        assert!(answer.is_ok());
        world.clock.advance_millis(1_000);
        assert!(last.attached().await);
        assert_eq!(holder.closed().await, Refusal::TakenOver);

        // Peace for a while, and everything is free again.
        world.clock.advance_millis(60_000);
        for _ in 0..20 {
            let next = world.connect("id", kept()).await;
            assert_eq!(last.closed().await, Refusal::TakenOver);
            last = next;
        }
        assert_eq!(world.counter(Counter::TakeoverDelayed), 2);
        world.stop().await;
    });
}

#[test]
fn strangers_cannot_start_a_fight() {
    run(async {
        let mut world = World::start().await;
        let stranger = Setup {
            principal: "stranger",
            ..kept()
        };
        // Nor can they if both are charged to one tenant.
        let of_tenant = Tenant::new("t").unwrap().client_id("id");
        for id in ["id", of_tenant.as_str()] {
            let mut holder = world.connect(id, kept()).await;
            for _ in 0..50 {
                let answer = world.ask(id, stranger.clone()).answer().await;
                assert_eq!(answer, Err(Refusal::NotAuthorized));
            }
            world.connect(id, kept()).await;
            assert_eq!(holder.closed().await, Refusal::TakenOver);
        }
        world.stop().await;
    });
}

#[test]
fn a_drain_answers_who_waits() {
    run(async {
        let mut world = World::start().await;
        let mut holders = Vec::new();
        for _ in 0..21 {
            holders.push(world.connect("id", kept()).await);
        }
        let mut waiting = world.ask("id", kept());
        world
            .until("it waits", |seen| {
                seen.shards.counter(Counter::TakeoverDelayed) == 1
            })
            .await;
        world.stop().await;
        assert_eq!(waiting.answer().await, Err(Refusal::ShuttingDown));
    });
}
