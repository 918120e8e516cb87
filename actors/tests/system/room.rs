//! Room for newcomers under the policy `evict-longest-offline`.

use outlive_actors::model::counter::Counter;
use outlive_actors::model::quota::{QuotaLimits, QuotaPolicy};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;

use crate::client::{Setup, kept, transient};
use crate::world::{World, run};

async fn evicting(sessions_max: u64, limits: QuotaLimits) -> World {
    World::start_with(|config| {
        config.quota = QuotaLimits {
            sessions_max,
            policy: QuotaPolicy::EvictLongestOffline,
            ..limits
        };
    })
    .await
}

/// What the broker knows a client of a tenant by.
fn id(tenant: &str, own: &str) -> String {
    let tenant = Tenant::new(tenant).expect("a name");
    tenant.client_id(own).as_str().to_owned()
}

/// A kept session whose client is gone from one second after the last one on.
async fn leave(world: &World, id: &str, setup: Setup) {
    let online = world
        .observe()
        .shards
        .gauge(outlive_actors::observe::Gauge::SessionsOnline);
    world.connect(id, setup).await.hang_up();
    world
        .until("it is gone", |seen| {
            seen.shards
                .gauge(outlive_actors::observe::Gauge::SessionsOnline)
                == online
        })
        .await;
    world.clock.advance_millis(1_000);
}

#[test]
fn who_has_been_offline_longest_makes_room_and_nobody_else() {
    run(async {
        let mut world = evicting(4, QuotaLimits::default()).await;
        let online = world.connect("online", kept()).await;
        for id in ["one", "two", "three"] {
            leave(&world, id, kept()).await;
        }
        world.passivate(1).await;
        // Back and gone again: it was not offline longest any more.
        leave(&world, "one", kept()).await;
        world.connect("new", kept()).await;
        let seen = world.observe();
        assert_eq!((seen.quota.used, seen.quota.high_water.units), (4, 4));
        assert_eq!(world.counter(Counter::SessionEvicted), 1);
        assert!(world.system().observe_session("two".into()).await.is_none());
        for id in ["one", "three"] {
            assert!(world.ask(id, kept()).attached().await, "{id} is there");
        }
        // Everybody is online: a newcomer is refused, as without the policy.
        let answer = world.ask("newer", kept()).answer().await;
        assert_eq!(answer, Err(Refusal::SessionQuota));
        drop(online);
        world.stop().await;
    });
}

#[test]
fn a_crowd_of_newcomers_evicts_one_each_and_never_exceeds_the_limit() {
    run(async {
        let mut world = evicting(40, QuotaLimits::default()).await;
        for number in 0..40 {
            leave(&world, &format!("old-{number}"), kept()).await;
        }
        let mut crowd: Vec<_> = (0..60)
            .map(|number| world.ask(&format!("new-{number}"), transient()))
            .collect();
        let mut accepted = 0;
        for client in &mut crowd {
            match client.answer().await {
                Ok(_) => accepted += 1,
                Err(refusal) => assert_eq!(refusal, Refusal::SessionQuota),
            }
        }
        let seen = world.observe();
        assert_eq!((accepted, seen.quota.used), (40, 40));
        assert_eq!(
            (seen.quota.high_water.units, seen.quota.refused.sessions),
            (40, 20)
        );
        assert_eq!(world.counter(Counter::SessionEvicted), 40);
        world.stop().await;
    });
}

#[test]
fn a_principal_at_its_limit_evicts_its_own_sessions_only() {
    run(async {
        let principals = [("full".into(), 1)].into();
        let mut world = evicting(
            0,
            QuotaLimits {
                principals,
                ..QuotaLimits::default()
            },
        )
        .await;
        let of = |principal| Setup {
            principal,
            ..kept()
        };
        leave(&world, "foreign", of("other")).await;
        leave(&world, "own", of("full")).await;
        world.connect("new", of("full")).await.hang_up();
        assert!(world.system().observe_session("own".into()).await.is_none());
        assert!(
            world
                .system()
                .observe_session("foreign".into())
                .await
                .is_some()
        );
        world.stop().await;
    });
}

#[test]
fn a_limit_below_the_use_evicts_nobody() {
    run(async {
        let mut world = evicting(2, QuotaLimits::default()).await;
        for id in ["one", "two"] {
            leave(&world, id, kept()).await;
        }
        let mut limits = world.system().quota().limits();
        limits.sessions_max = 1;
        world.system().quota().set(limits).await.unwrap();
        let answer = world.ask("new", kept()).answer().await;
        assert_eq!(answer, Err(Refusal::SessionQuota));
        assert_eq!(world.counter(Counter::SessionEvicted), 0);
        world.stop().await;
    });
}

#[test]
fn at_the_total_a_tenant_makes_room_among_its_own_sessions_or_is_refused() {
    run(async {
        let mut world = evicting(4, QuotaLimits::default()).await;
        let (older, old, own) = (id("a", "1"), id("a", "2"), id("b", "1"));
        for known in [&older, &old, &own] {
            leave(&world, known, kept()).await;
        }
        let _online = world.connect(&id("c", "1"), kept()).await;
        // The oldest are those of "a", but who makes room for "b" is its own.
        let _new = world.connect(&id("b", "2"), kept()).await;
        let is_there = async |known: &String| {
            let system = world.system();
            system
                .observe_session(known.as_str().into())
                .await
                .is_some()
        };
        assert!(!is_there(&own).await && is_there(&older).await && is_there(&old).await);
        // Nobody of "b" and "c" is away any more, and nobody of "d" was ever here.
        for tenant in ["b", "c", "d"] {
            let answer = world.ask(&id(tenant, "3"), kept()).answer().await;
            assert_eq!(answer, Err(Refusal::SessionQuota), "{tenant}");
        }
        world.connect(&id("a", "3"), kept()).await.hang_up();
        assert!(!is_there(&older).await && is_there(&old).await);
        assert_eq!(world.counter(Counter::SessionEvicted), 2);
        world.stop().await;
    });
}

#[test]
fn the_unit_of_who_was_evicted_is_for_the_newcomer_and_for_nobody_who_asks_in_between() {
    run(async {
        let mut world = evicting(40, QuotaLimits::default()).await;
        for number in 0..40 {
            leave(&world, &id("a", &format!("old-{number}")), kept()).await;
        }
        let mut crowd = Vec::new();
        for number in 0..40 {
            crowd.push((
                "a",
                world.ask(&id("a", &format!("new-{number}")), transient()),
            ));
            for other in 0..25 {
                let other = id("b", &format!("{number}-{other}"));
                crowd.push(("b", world.ask(&other, transient())));
            }
            tokio::task::yield_now().await;
        }
        for (tenant, client) in &mut crowd {
            let expected = match *tenant {
                "a" => Ok(false),
                _ => Err(Refusal::SessionQuota),
            };
            assert_eq!(client.answer().await, expected, "{tenant}");
        }
        assert_eq!(world.counter(Counter::SessionEvicted), 40);
        assert_eq!(world.observe().quota.high_water.units, 40);
        world.stop().await;
    });
}
