//! Sessions without an actor: what they cost, what is done for them, how they come back and how they end.

use std::cell::Cell;
use std::collections::VecDeque;

use outlive_actors::model::counter::Counter;
use outlive_actors::model::ids::ClientId;
use outlive_actors::model::message::Will;
use outlive_actors::model::packet::{Inbound, Routed};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::observe::Gauge;
use outlive_actors::store::SnapshotStore;

use crate::client::{Setup, kept, publication, transient};
use crate::gate::Gate;
use crate::world::{PASSIVATE_AFTER_MILLIS, World, is_message, run};

#[test]
fn a_message_for_a_passive_session_waits_in_the_journal_until_it_comes_back() {
    run(async {
        let mut world = World::start().await;
        let mut sleeper = world.connect("sleeper", kept()).await;
        sleeper.subscribe("news", 1).await;
        sleeper.hang_up();
        world.passivate(0).await;
        let mut publisher = world.connect("publisher", transient()).await;
        let routed = publisher.publish("news", "good morning", 1).await;
        assert_eq!(routed, Ok(Routed::Matched));
        assert_eq!(world.gauge(Gauge::SessionActors), 1, "the publisher's");
        assert_eq!(world.gauge(Gauge::SessionsOffline), 1);

        let mut sleeper = world.ask("sleeper", kept());
        assert!(sleeper.attached().await, "resumed");
        assert_eq!(sleeper.take().await, Ok("good morning".to_owned()));
        assert_eq!(world.counter(Counter::SessionRehydrated), 1);
        assert_eq!(world.gauge(Gauge::Subscriptions), 1);
        assert_eq!(world.gauge(Gauge::SessionsOffline), 0);
        publisher
            .publish("news", "and good night", 2)
            .await
            .expect("published");
        assert_eq!(sleeper.take().await, Ok("and good night".to_owned()));
        world.stop().await;
    });
}

#[test]
fn will_delay_and_expiry_come_due_while_a_session_is_passive() {
    run(async {
        let mut world = World::start().await;
        let mut watcher = world.connect("watcher", transient()).await;
        watcher.subscribe("wills", 1).await;
        let will = publication(
            "wills",
            "it died",
            1,
            outlive_actors::model::ids::PacketId::FIRST,
            watcher.number(),
        );
        let Inbound::Publish { message, .. } = will else {
            unreachable!("a publication")
        };
        let mut mortal = world
            .connect(
                "mortal",
                Setup {
                    expiry_seconds: 120,
                    will: Some(Box::new(Will {
                        message,
                        delay_seconds: 60,
                        expiry_seconds: None,
                    })),
                    ..kept()
                },
            )
            .await;
        mortal.subscribe("news", 1).await;
        mortal.hang_up();
        world.passivate(1).await;
        assert_eq!(world.counter(Counter::WillPublished), 0);
        world.clock.advance_millis(60_000 - PASSIVATE_AFTER_MILLIS);
        assert_eq!(watcher.take().await, Ok("it died".to_owned()));
        assert_eq!(world.counter(Counter::SessionExpired), 0);
        world.clock.advance_millis(PASSIVATE_AFTER_MILLIS);
        world.passivate(1).await;
        world.clock.advance_millis(60_000);
        world
            .until("it expired and left nothing", |seen| {
                seen.shards.counter(Counter::SessionExpired) == 1
                    && seen.quota.used == 1
                    && seen.route_filters == 1
                    && seen.shards.gauge(Gauge::SessionsOffline) == 0
            })
            .await;
        assert_eq!(world.counter(Counter::WillPublished), 1, "once");
        world.stop().await;
    });
}

#[test]
fn of_connects_that_race_for_a_sleeping_session_the_last_one_holds_it() {
    run(async {
        let mut world = World::start().await;
        world.connect("sleeper", kept()).await.hang_up();
        world.passivate(0).await;
        let mut earlier = world.ask("sleeper", kept());
        let mut intruder = world.ask(
            "sleeper",
            Setup {
                principal: "mallory",
                ..kept()
            },
        );
        let mut later = world.ask("sleeper", kept());
        assert!(later.attached().await);
        assert_eq!(earlier.closed().await, Refusal::TakenOver);
        assert_eq!(intruder.answer().await, Err(Refusal::NotAuthorized));
        assert_eq!(world.counter(Counter::SessionRehydrated), 1, "read once");
        assert_eq!(world.observe().quota.used, 1);
        later.subscribe("news", 1).await;
        world.stop().await;
    });
}

#[test]
fn a_thousand_sleepers_cost_a_publication_one_record_and_a_resume_reads_its_own() {
    const SLEEPERS: u64 = 1_000;
    run(async {
        let mut world = World::start_with(|config| config.segment_bytes = 8 << 10).await;
        let mut sleepers = Vec::new();
        for number in 0..SLEEPERS {
            let mut sleeper = world.connect(&format!("sleeper-{number}"), kept()).await;
            sleeper.begin_subscribe("broadcast", 1);
            let id = sleeper.begin_subscribe(&format!("own/{number}"), 1);
            sleepers.push((sleeper, id));
        }
        for (mut sleeper, id) in sleepers {
            sleeper.subscribed(id).await.expect("subscribed");
            sleeper.hang_up();
        }
        world.passivate(0).await;
        let mut publisher = world.connect("publisher", transient()).await;
        publisher
            .publish("broadcast", "to all", 1)
            .await
            .expect("published");
        // Older segments may go at any moment.
        let recorded = world.recorded().into_iter();
        let cost: Vec<_> = recorded.skip_while(|entry| !is_message(entry)).collect();
        assert_eq!(cost.len(), 1, "{cost:?}");
        assert_eq!(world.gauge(Gauge::SessionActors), 1);
        for number in 0..SLEEPERS / 2 {
            publisher.begin_publish(&format!("own/{number}"), "to one", 1);
        }
        publisher
            .publish("own/7", "to me", 1)
            .await
            .expect("published");

        let before = world.observe().journal;
        let mut awake = world.connect("sleeper-7", kept()).await;
        assert_eq!(
            awake.take_until("to me").await,
            ["to all", "to one", "to me"]
        );
        let after = world.observe().journal;
        let matched = after.records_matched - before.records_matched;
        assert_eq!(matched, 3);
        assert_eq!(
            after.records_read - before.records_read,
            matched,
            "{after:?}"
        );
        assert_eq!(world.counter(Counter::SessionRehydrated), 1);
        world.stop().await;
    });
}

#[test]
fn a_drain_ends_when_every_session_has_recorded_where_it_is() {
    run(async {
        let mut world = World::start().await;
        let mut clients = Vec::new();
        for number in 0..20 {
            let mut client = world.connect(&format!("client-{number}"), kept()).await;
            client.subscribe("news", 1).await;
            clients.push(client);
        }
        clients[0].begin_publish("news", "last words", 1);
        world.stop().await;
        for client in &mut clients {
            assert_eq!(client.closed().await, Refusal::ShuttingDown);
        }
        let detached = Cell::new(0);
        world
            .store
            .sessions(&mut |snapshot| {
                assert!(snapshot.detached_at.is_some(), "{snapshot:?}");
                detached.set(detached.get() + 1);
            })
            .expect("readable");
        assert_eq!(detached.get(), 20);
    });
}

#[test]
fn an_operator_ends_connections_and_sessions_asleep_or_not() {
    run(async {
        let mut world = World::start().await;
        let end = |id: &str, discard| {
            let id = ClientId::from(id);
            world
                .system()
                .end_session(id, Refusal::Administrative, discard)
        };
        assert!(!end("nobody", true).await);
        let mut awake = world.connect("awake", kept()).await;
        awake.subscribe("news", 1).await;
        assert!(end("awake", false).await);
        assert_eq!(awake.closed().await, Refusal::Administrative);
        world.passivate(0).await;
        assert_eq!(world.observe().quota.used, 1, "the session stays");
        assert!(!end("awake", false).await, "it has no connection");
        assert!(end("awake", true).await);
        world
            .until("it is gone", |seen| {
                seen.quota.used == 0 && seen.route_filters == 0
            })
            .await;
        let mut anew = world.ask("awake", kept());
        assert!(!anew.attached().await, "a first connection");
        assert!(end("awake", true).await);
        assert_eq!(anew.closed().await, Refusal::Administrative);
        world
            .until("it is gone again", |seen| seen.quota.used == 0)
            .await;
        world.stop().await;
    });
}

#[test]
fn a_session_whose_snapshot_is_damaged_is_refused_and_the_others_are_not() {
    run(async {
        let mut world = World::start().await;
        let damaged = world.connect("damaged", kept()).await;
        let number = damaged.number();
        damaged.hang_up();
        world.connect("sound", kept()).await.hang_up();
        world.passivate(0).await;
        world
            .until("checkpointed", |seen| {
                seen.checkpoint.covers == seen.journal.end && seen.checkpoint.dirty_sessions == 0
            })
            .await;
        assert!(world.store.damage(number, |bytes| bytes[9] ^= 0x40));
        for _ in 0..2 {
            let answer = world.ask("damaged", kept()).answer().await;
            assert_eq!(answer, Err(Refusal::Internal));
        }
        assert!(world.ask("sound", kept()).attached().await);
        assert_eq!(world.observe().quota.used, 2, "it still holds its unit");
        assert!(world.store.damage(number, |bytes| bytes[9] ^= 0x40));
        assert!(world.ask("damaged", kept()).attached().await, "healed");
        world.stop().await;
    });
}

#[test]
fn of_the_connections_that_wait_for_a_sleeper_while_the_store_is_away_few_stay() {
    run(async {
        let mut world = World::start().await;
        let sleeper = world.connect("sleeper", kept()).await;
        let number = sleeper.number();
        sleeper.hang_up();
        world.passivate(0).await;
        world
            .until("checkpointed", |seen| {
                seen.checkpoint.covers == seen.journal.end && seen.checkpoint.dirty_sessions == 0
            })
            .await;
        let away = Gate::closed();
        let (store, at_gate) = (world.store.clone(), away.clone());
        let holds = std::thread::spawn(move || store.damage(number, |_| at_gate.pass()));
        away.reached().await;

        // Strangers are not many, and keep nobody out.
        let stranger = |principal| Setup {
            principal,
            ..kept()
        };
        let names = ["a", "b", "c", "d"];
        let mut strangers: VecDeque<_> = names
            .iter()
            .map(|name| world.ask("sleeper", stranger(name)))
            .collect();
        let answer = world.ask("sleeper", stranger("e")).answer().await;
        assert_eq!(answer, Err(Refusal::Busy));
        let mut waits = world.ask("sleeper", kept());
        let mut first = strangers.pop_front().expect("four of them");
        assert_eq!(first.answer().await, Err(Refusal::Busy));
        for n in 3..=52 {
            let next = world.ask("sleeper", kept());
            let refused = waits.answer().await;
            assert_eq!(refused, Err(Refusal::TakeoverRate), "it came before");
            assert_eq!(world.counter(Counter::ResumeRefused), n);
            waits = next;
        }

        away.open();
        assert!(holds.join().expect("nobody panics with it"));
        assert!(waits.attached().await, "resumed");
        for mut stranger in strangers {
            assert_eq!(stranger.answer().await, Err(Refusal::NotAuthorized));
        }
        world.stop().await;
    });
}

#[test]
fn an_expiry_that_fails_because_the_store_does_is_tried_again() {
    run(async {
        let mut world = World::start().await;
        let mortal = world.connect("mortal", kept()).await;
        let number = mortal.number();
        mortal.hang_up();
        world.passivate(0).await;
        world
            .until("checkpointed", |seen| {
                seen.checkpoint.covers == seen.journal.end && seen.checkpoint.dirty_sessions == 0
            })
            .await;
        assert!(world.store.damage(number, |bytes| bytes[9] ^= 0x40));
        world.clock.advance_millis(3_600_000);
        // The answer to this connect comes after the failed attempt, or is one itself.
        let answer = world.ask("mortal", kept()).answer().await;
        assert_eq!(answer, Err(Refusal::Internal));
        assert!(world.store.damage(number, |bytes| bytes[9] ^= 0x40));
        world.clock.advance_millis(60_000);
        world
            .until("it expired after all", |seen| {
                seen.shards.counter(Counter::SessionExpired) == 1 && seen.quota.used == 0
            })
            .await;
        world.stop().await;
    });
}

#[test]
fn a_session_can_be_observed_awake_and_asleep() {
    run(async {
        let mut world = World::start().await;
        let mut reader = world.connect("reader", kept()).await;
        reader.subscribe("news", 1).await;
        let mut publisher = world.connect("publisher", transient()).await;
        publisher.publish("news", "unread", 1).await.expect("live");
        reader.delivery().await.expect("it is not acknowledged");
        let awake = world.system().observe_session("reader".into()).await;
        let awake = awake.expect("it is there");
        assert!(awake.has_actor && awake.attached && awake.kept && awake.live);
        assert_eq!((awake.subscriptions, awake.unsettled), (1, 1));
        assert_eq!(awake.expires_at, None);

        reader.hang_up();
        world.passivate(1).await;
        let asleep = world.system().observe_session("reader".into()).await;
        let asleep = asleep.expect("it is there");
        assert!(!asleep.has_actor && !asleep.attached && asleep.kept);
        assert_eq!((asleep.subscriptions, asleep.unsettled), (1, 1));
        assert_eq!((asleep.number, asleep.fence), (awake.number, awake.fence));
        assert!(asleep.expires_at.is_some() && asleep.next >= awake.next);

        let nobody = world.system().observe_session("nobody".into()).await;
        assert_eq!(nobody, None);
        world.stop().await;
    });
}
