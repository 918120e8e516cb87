//! One unit for each session, online and offline, at every moment.

use outlive_actors::clock::Clock as _;
use outlive_actors::model::counter::Counter;
use outlive_actors::model::packet::Inbound;
use outlive_actors::model::quota::QuotaLimits;
use outlive_actors::model::refusal::Refusal;
use outlive_actors::observe::Gauge;
use outlive_actors::system::SystemObservation;

use crate::client::{Client, Setup, kept, transient};
use crate::world::{World, run};

async fn used(world: &World, units: u64) {
    world
        .until(&format!("{units} units are used"), |seen| {
            seen.quota.used == units
        })
        .await;
}

#[test]
fn a_session_holds_exactly_one_unit_from_its_beginning_to_its_end() {
    run(async {
        let mut world = World::start().await;
        let first = world.connect("kept", kept()).await;
        let other = world.connect("transient", transient()).await;
        assert_eq!(world.observe().quota.used, 2);
        let taken = world.connect("kept", kept()).await;
        assert!(taken.fence() > first.fence());
        assert_eq!(world.observe().quota.used, 2, "takeover");
        other.hang_up();
        used(&world, 1).await;
        taken.hang_up();
        world.passivate(0).await;
        assert_eq!(world.observe().quota.used, 1, "offline");
        let resumed = world.connect("kept", kept()).await;
        assert_eq!(world.observe().quota.used, 1, "resumed");
        resumed.hang_up();
        world.restart().await;
        assert_eq!(world.observe().quota.used, 1, "restarted");
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
        assert_eq!(world.observe().quota.used, 1, "clean start");
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
        assert_eq!(world.observe().quota.used, 1, "after a crash");
        world.clock.advance_millis(4_000_000);
        world.restart().await;
        assert_eq!(world.observe().quota.used, 0, "expired while down");
        assert!(!world.ask("crashing", kept()).attached().await);
        world.stop().await;
    });
}

#[test]
fn at_the_limit_newcomers_are_refused_and_those_who_are_in_get_back_in() {
    run(async {
        let mut world = World::start_with(|config| config.quota.sessions_max = 2).await;
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
        assert_eq!((seen.quota.used, seen.quota.refused.sessions), (2, 2));
        assert_eq!(seen.quota.high_water.units, 2);

        two.hang_up();
        used(&world, 1).await;
        let three = world.connect("three", kept()).await;
        let system = world.system();
        system.quota().set(QuotaLimits::of(1)).await.unwrap();
        world
            .until("the limit is lowered", |seen| seen.quota.limit == 1)
            .await;
        assert_eq!(world.observe().quota.used, 2, "nobody is thrown out");
        three.hang_up();
        world.connect("three", kept()).await;
        let discard = system.end_session("three".into(), Refusal::Administrative, true);
        assert!(discard.await);
        used(&world, 1).await;
        let answer = world.ask("four", kept()).answer().await;
        assert_eq!(answer, Err(Refusal::SessionQuota), "at the lowered limit");
        system.quota().set(QuotaLimits::of(0)).await.unwrap();
        world
            .until("the limit is lifted", |seen| seen.quota.limit == 0)
            .await;
        world.connect("four", kept()).await;
        world.config.quota.sessions_max = 1;
        world.restart().await;
        assert_eq!(world.observe().quota.used, 2, "adopted above the limit");
        assert!(world.ask("four", kept()).attached().await);
        world.stop().await;
    });
}

#[test]
fn a_storm_of_connects_never_exceeds_the_limit() {
    run(async {
        let mut world = World::start_with(|config| config.quota.sessions_max = 50).await;
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
        assert_eq!((accepted, seen.quota.used), (50, 50));
        assert_eq!(
            (seen.quota.high_water.units, seen.quota.refused.sessions),
            (50, 150)
        );
        world.stop().await;
    });
}

#[test]
fn principals_and_listeners_have_limits_of_their_own_that_survive_a_restart() {
    run(async {
        let mut world = World::start_with(|config| {
            config.quota = QuotaLimits {
                principal_sessions_max: 1,
                principals: [("big".into(), 2)].into(),
                listeners: [("public".into(), 1)].into(),
                ..QuotaLimits::default()
            };
        })
        .await;
        let of = |principal, listener| Setup {
            principal,
            listener,
            ..kept()
        };
        world.connect("a", of("small", "")).await.hang_up();
        world.connect("b", of("big", "public")).await.hang_up();
        for restarted in [false, true] {
            if restarted {
                world.restart().await;
            }
            let answer = world.ask("c", of("small", "")).answer().await;
            assert_eq!(answer, Err(Refusal::PrincipalQuota));
            let answer = world.ask("c", of("big", "public")).answer().await;
            assert_eq!(answer, Err(Refusal::ListenerQuota));
            // Whoever is known gets back in, wherever it comes from.
            assert!(world.ask("a", of("small", "public")).attached().await);
            let refused = world.observe().quota.refused;
            assert_eq!((refused.principal, refused.listener), (1, 1));
        }
        world.connect("c", of("big", "")).await;
        let answer = world.ask("d", of("big", "")).answer().await;
        assert_eq!(answer, Err(Refusal::PrincipalQuota));
        // A clean start goes on with the unit of the listener where the session began.
        let clean_start = true;
        let clean = Setup {
            clean_start,
            ..of("small", "public")
        };
        assert!(!world.ask("a", clean).attached().await);
        let answer = world.ask("e", of("", "public")).answer().await;
        assert_eq!(answer, Err(Refusal::ListenerQuota));
        world.stop().await;
    });
}

#[test]
fn an_expired_session_is_no_way_past_a_limit_for_its_next_owner() {
    run(async {
        let mut world = World::start_with(|config| {
            config.quota.principals = [("full".into(), 1)].into();
        })
        .await;
        let of = |principal| Setup {
            principal,
            ..kept()
        };
        world.connect("one", of("full")).await;
        world.connect("two", of("other")).await.hang_up();
        world.passivate(1).await;
        world.clock.advance_millis(3_600_000);
        let answer = world.ask("two", of("full")).answer().await;
        assert_eq!(answer, Err(Refusal::PrincipalQuota));
        used(&world, 1).await;
        world.stop().await;
    });
}

#[test]
fn the_high_water_mark_and_its_time_survive_restart_and_crash() {
    run(async {
        let mut world = World::start().await;
        let since = world.clock.now();
        let crowd = [
            world.connect("one", transient()).await,
            world.connect("two", transient()).await,
        ];
        world.clock.advance_millis(1_000);
        // The registry looks once a second, and whenever it is told of limits.
        let limits = world.system().quota().limits();
        world.system().quota().set(limits).await.unwrap();
        crowd.into_iter().for_each(Client::hang_up);
        used(&world, 0).await;
        // Durable behind the mark.
        world.connect("marker", kept()).await;
        for round in 0..2 {
            if round == 0 {
                world.crash(1).await;
            } else {
                world.restart().await;
            }
            let mark = world.observe().quota.high_water;
            assert_eq!((mark.units, mark.at), (2, since), "round {round}");
        }
        world.stop().await;
    });
}

#[test]
fn a_census_tells_who_is_there_and_what_comes_free_when() {
    run(async {
        let mut world = World::start().await;
        let _online = world.connect("app-1", transient()).await;
        let for_seconds = |expiry_seconds| Setup {
            expiry_seconds,
            ..kept()
        };
        for (id, seconds) in [("meter-1", 3_600), ("meter-2", 3_601), ("door-1", 86_400)] {
            world.connect(id, for_seconds(seconds)).await.hang_up();
        }
        world.passivate(1).await;
        let back = world.connect("door-1", for_seconds(86_400)).await;
        let online = |seen: &SystemObservation| seen.shards.gauge(Gauge::SessionsOnline);
        world.until("it is back", |seen| online(seen) == 2).await;
        back.hang_up();
        world.passivate(1).await;
        for restarted in [false, true] {
            if restarted {
                world.restart().await;
            }
            let census = world.system().quota().census().await;
            assert_eq!(census.online, u64::from(!restarted));
            assert_eq!((census.offline, census.never_resumed), (3, 2));
            // The passivations took time; door-1 left after the first of them.
            assert_eq!(census.free_within, [2, 3]);
            let top: Vec<_> = census
                .top(1)
                .into_iter()
                .map(|(name, _)| name.text)
                .collect();
            assert_eq!(top, ["meter-"]);
        }
        world.stop().await;
    });
}
