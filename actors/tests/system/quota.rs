//! One unit for each session, online and offline, at every moment.

use outlive_actors::model::counter::Counter;
use outlive_actors::model::packet::Inbound;
use outlive_actors::model::refusal::Refusal;

use crate::client::{Setup, kept, transient};
use crate::world::{World, run};

async fn used(world: &World, units: u64) {
    world
        .until(&format!("{units} units are used"), |seen| {
            seen.quota_used == units
        })
        .await;
}

#[test]
fn a_session_holds_exactly_one_unit_from_its_beginning_to_its_end() {
    run(async {
        let mut world = World::start().await;
        let first = world.connect("kept", kept()).await;
        let other = world.connect("transient", transient()).await;
        assert_eq!(world.observe().quota_used, 2);
        let taken = world.connect("kept", kept()).await;
        assert!(taken.fence() > first.fence());
        assert_eq!(world.observe().quota_used, 2, "takeover");
        other.hang_up();
        used(&world, 1).await;
        taken.hang_up();
        world.passivate(0).await;
        assert_eq!(world.observe().quota_used, 1, "offline");
        let resumed = world.connect("kept", kept()).await;
        assert_eq!(world.observe().quota_used, 1, "resumed");
        resumed.hang_up();
        world.restart().await;
        assert_eq!(world.observe().quota_used, 1, "restarted");
        let clean_start = true;
        let clean = world
            .connect(
                "kept",
                Setup {
                    clean_start,
                    ..kept()
                },
            )
            .await;
        assert_eq!(world.observe().quota_used, 1, "clean start");
        clean.send(Inbound::Disconnect {
            with_will: false,
            expiry_seconds: Some(0),
        });
        used(&world, 0).await;

        world.connect("expiring", kept()).await.hang_up();
        world.passivate(0).await;
        world.clock.advance_millis(3_600_000);
        used(&world, 0).await;
        assert_eq!(world.counter(Counter::SessionExpired), 1);

        world.connect("crashing", kept()).await;
        world.connect("vanishing", transient()).await;
        world.crash(1).await;
        assert_eq!(world.observe().quota_used, 1, "after a crash");
        world.clock.advance_millis(4_000_000);
        world.restart().await;
        assert_eq!(world.observe().quota_used, 0, "expired while down");
        assert!(!world.ask("crashing", kept()).attached().await);
        world.stop().await;
    });
}

#[test]
fn at_the_limit_newcomers_are_refused_and_those_who_are_in_get_back_in() {
    run(async {
        let mut world = World::start_with(|config| config.sessions_max = 2).await;
        world.connect("one", kept()).await.hang_up();
        let two = world.connect("two", transient()).await;
        world.passivate(1).await;
        for setup in [kept(), transient()] {
            let answer = world.ask("three", setup).answer().await;
            assert_eq!(answer, Err(Refusal::SessionQuota));
        }
        let one = world.connect("one", kept()).await;
        let clean_start = true;
        let again = world
            .connect(
                "one",
                Setup {
                    clean_start,
                    ..kept()
                },
            )
            .await;
        assert!(again.fence() > one.fence());
        let seen = world.observe();
        assert_eq!((seen.quota_used, seen.quota_refused), (2, 2));
        assert_eq!(seen.quota_high_water, 2);

        two.hang_up();
        used(&world, 1).await;
        let three = world.connect("three", kept()).await;
        let system = world.system();
        system.set_quota(1);
        world
            .until("the limit is lowered", |seen| seen.quota_limit == 1)
            .await;
        assert_eq!(world.observe().quota_used, 2, "nobody is thrown out");
        three.hang_up();
        world.connect("three", kept()).await;
        let discard = system.end_session("three".into(), Refusal::Administrative, true);
        assert!(discard.await);
        used(&world, 1).await;
        let answer = world.ask("four", kept()).answer().await;
        assert_eq!(answer, Err(Refusal::SessionQuota), "at the lowered limit");
        system.set_quota(0);
        world
            .until("the limit is lifted", |seen| seen.quota_limit == 0)
            .await;
        world.connect("four", kept()).await;
        world.config.sessions_max = 1;
        world.restart().await;
        assert_eq!(world.observe().quota_used, 2, "adopted above the limit");
        assert!(world.ask("four", kept()).attached().await);
        world.stop().await;
    });
}

#[test]
fn a_storm_of_connects_never_exceeds_the_limit() {
    run(async {
        let mut world = World::start_with(|config| config.sessions_max = 50).await;
        let mut crowd: Vec<_> = (0..200)
            .map(|number| world.ask(&format!("client-{number}"), transient()))
            .collect();
        let mut accepted = 0;
        for client in &mut crowd {
            match client.answer().await {
                Ok(_) => accepted += 1,
                Err(refusal) => assert_eq!(refusal, Refusal::SessionQuota),
            }
        }
        let seen = world.observe();
        assert_eq!((accepted, seen.quota_used), (50, 50));
        assert_eq!((seen.quota_high_water, seen.quota_refused), (50, 150));
        world.stop().await;
    });
}
