//! Session actors that die: rebuilt from what is recorded, nothing promised is lost, nobody else notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use outlive_actors::model::counter::Counter;
use outlive_actors::model::effect::Effect;
use outlive_actors::model::ids::ClientId;
use outlive_actors::model::packet::Routed;
use outlive_actors::model::refusal::Refusal;
use outlive_actors::observe::Gauge;
use outlive_actors::supervise::PANICS_MAX;
use outlive_actors::system::SystemObservation;

use crate::client::{Client, Setup, kept, transient};
use crate::world::{World, run};

/// What a session was promised, as far as it is beyond doubt.
#[derive(Default)]
struct Promised {
    /// The session exists.
    begun: bool,
    /// Subscriptions and their QoS.
    filters: BTreeMap<String, u8>,
    /// Acknowledged publications to `news`.
    published: Vec<String>,
}

impl Promised {
    async fn subscribe(&mut self, me: &mut Client, filter: &str, qos: u8) -> Result<(), Refusal> {
        self.filters.remove(filter);
        let id = me.begin_subscribe(filter, qos);
        me.subscribed(id).await?;
        self.filters.insert(filter.to_owned(), qos);
        Ok(())
    }

    async fn publish(&mut self, me: &mut Client, text: String, qos: u8) -> Result<(), Refusal> {
        me.publish("news", &text, qos).await?;
        self.published.push(text);
        Ok(())
    }
}

/// Everything that a session does in its life, once.
async fn live(world: &World, id: &str, promised: &mut Promised) -> Result<(), Refusal> {
    let own = format!("{id}/+");
    let mut me = world.ask(id, kept());
    me.answer().await?;
    promised.begun = true;
    promised.subscribe(&mut me, &own, 1).await?;
    promised.subscribe(&mut me, "b", 2).await?;
    promised.publish(&mut me, format!("{id} 1"), 1).await?;
    promised.publish(&mut me, format!("{id} 2"), 2).await?;
    me.publish(&format!("{id}/1"), "for myself", 1).await?;
    me.take().await?;
    me.publish("b", "for myself", 2).await?;
    me.take().await?;
    promised.subscribe(&mut me, "b", 0).await?;
    promised.filters.remove(&own);
    me.unsubscribe(&own).await?;
    promised.subscribe(&mut me, &own, 2).await?;
    me.hang_up();
    let mut me = world.ask(id, kept());
    me.answer().await?;
    promised.publish(&mut me, format!("{id} 3"), 1).await?;
    *promised = Promised {
        published: std::mem::take(&mut promised.published),
        ..Promised::default()
    };
    let clean_start = true;
    let mut anew = world.ask(
        id,
        Setup {
            clean_start,
            ..kept()
        },
    );
    anew.answer().await?;
    promised.begun = true;
    promised.subscribe(&mut anew, "b", 1).await
}

/// A new connection finds all that was promised; then the session ends.
async fn check(world: &World, id: &str, promised: &Promised, neighbour: &mut Client) {
    let used = world.observe().quota.used;
    let mut me = world.ask(id, kept());
    let present = me.attached().await;
    assert!(present || !promised.begun, "{id} is lost");
    for (filter, qos) in &promised.filters {
        let topic = filter.replace('+', "x");
        let text = format!("{id} {topic}");
        let routed = neighbour.publish(&topic, &text, (*qos).max(1)).await;
        assert_eq!(routed.map(|_| ()), Ok(()), "{id} {filter}");
        me.take_until(&text).await;
    }
    for text in &promised.published {
        neighbour.take_until(text).await;
    }
    let now = world.observe().quota.used;
    assert!(
        now == used || (!present && now == used + 1),
        "{id}: permits"
    );
    world.connect(id, transient()).await.hang_up();
    assert_eq!(me.closed().await, Refusal::TakenOver);
}

#[test]
fn a_session_whose_actor_dies_at_any_effect_is_rebuilt_and_its_neighbours_go_on() {
    run(async {
        let mut world = World::start_with(|config| config.shards = 1).await;
        let mut neighbour = world.connect("neighbour", kept()).await;
        neighbour.subscribe("news", 2).await;
        let mut twin = world.connect("twin", kept()).await;
        twin.subscribe("b", 2).await;
        twin.hang_up();
        let mut deaths = 0;
        for nth in 0.. {
            let id = format!("victim-{nth}");
            let performed = Arc::new(AtomicU64::new(0));
            let (victim, count) = (ClientId::from(id.as_str()), Arc::clone(&performed));
            world.system().inject(Arc::new(move |client_id, effect| {
                if *client_id == victim && count.fetch_add(1, Ordering::SeqCst) == nth {
                    panic!("injected before {effect:?}");
                }
            }));
            let mut promised = Promised::default();
            let lived = live(&world, &id, &mut promised).await;
            assert!(
                matches!(lived, Ok(()) | Err(Refusal::Internal)),
                "{lived:?}"
            );
            world.system().inject(Arc::new(|_, _| {}));
            check(&world, &id, &promised, &mut neighbour).await;
            if performed.load(Ordering::SeqCst) <= nth {
                break;
            }
            deaths += 1;
            world
                .until("the victim is gone, the others are there", |seen| {
                    seen.quota.used == 2
                        && seen.shards.restarts == deaths
                        && seen.route_filters == 2
                })
                .await;
            let routed = neighbour.publish("b", &format!("{nth}"), 1).await;
            assert_eq!(routed, Ok(Routed::Matched), "{id} took the twin's route");
        }
        assert!(deaths > 60, "{deaths} deaths are not the whole life");
        let mut twin = world.connect("twin", kept()).await;
        twin.take_until(&format!("{}", deaths - 1)).await;
        world.connect("twin", transient()).await.hang_up();
        world.connect("neighbour", transient()).await.hang_up();
        world
            .until("nothing is left", |seen| {
                seen.quota.used == 0
                    && seen.route_filters == 0
                    && [
                        Gauge::SessionsOnline,
                        Gauge::SessionsOffline,
                        Gauge::SessionActors,
                        Gauge::Subscriptions,
                        Gauge::Quarantined,
                    ]
                    .iter()
                    .all(|gauge| seen.shards.gauge(*gauge) == 0)
            })
            .await;
        world.stop().await;
    });
}

#[test]
fn a_session_that_keeps_panicking_is_quarantined_and_can_be_discarded() {
    run(async {
        let mut world = World::start_with(|config| config.shards = 1).await;
        let mut neighbour = world.connect("neighbour", kept()).await;
        neighbour.subscribe("news", 1).await;
        world.system().inject(Arc::new(|client_id, effect| {
            if client_id.as_str() == "victim" && matches!(effect, Effect::Listen(true)) {
                panic!("injected");
            }
        }));
        for death in 1..=u64::from(PANICS_MAX) + 1 {
            let mut victim = world.ask("victim", kept());
            assert_eq!(victim.closed().await, Refusal::Internal);
            world
                .until("it was noticed", |seen| seen.shards.restarts == death)
                .await;
        }
        world
            .until("quarantined", |seen| {
                seen.shards.gauge(Gauge::Quarantined) == 1
            })
            .await;
        let mut victim = world.ask("victim", kept());
        assert_eq!(victim.answer().await, Err(Refusal::Internal));
        assert_eq!(
            world.observe().shards.restarts,
            u64::from(PANICS_MAX) + 1,
            "no actor was tried"
        );
        neighbour
            .publish("news", "still here", 1)
            .await
            .expect("published");
        assert_eq!(neighbour.take().await, Ok("still here".to_owned()));
        assert_eq!(world.observe().quota.used, 2);

        let discard = |id: &str| {
            let id = ClientId::from(id);
            world
                .system()
                .end_session(id, Refusal::Administrative, true)
        };
        assert!(discard("victim").await);
        world
            .until("the operator freed it", |seen| {
                seen.quota.used == 1 && seen.shards.gauge(Gauge::Quarantined) == 0
            })
            .await;
        assert!(!discard("victim").await);
        world.stop().await;
    });
}

/// It is reclaimed as any other, whether its actor died as its client came or when it had been there for a while.
#[test]
fn a_quarantined_session_expires() {
    for attached in [false, true] {
        run(quarantined_session_expires(attached));
    }
}

async fn quarantined_session_expires(attached: bool) {
    let mut world = World::start_with(|config| config.shards = 1).await;
    world.connect("victim", kept()).await.hang_up();
    let shorter = Setup {
        expiry_seconds: kept().expiry_seconds - 100,
        ..kept()
    };
    let kept_seconds = kept().expiry_seconds;
    let seconds = if attached {
        shorter.expiry_seconds
    } else {
        kept_seconds
    };
    // It says when all that is due before is dealt with.
    let sooner = Setup {
        expiry_seconds: seconds - 1,
        ..kept()
    };
    world.connect("other", sooner).await.hang_up();
    let injected = Arc::new(AtomicBool::new(true));
    let die = Arc::clone(&injected);
    world.system().inject(Arc::new(move |client_id, effect| {
        let fatal = match effect {
            Effect::Listen(on) => *on && !attached,
            Effect::Subscribe { .. } => attached,
            _ => false,
        };
        if fatal && client_id.as_str() == "victim" && die.load(Ordering::SeqCst) {
            panic!("injected");
        }
    }));
    for death in 1..=u64::from(PANICS_MAX) + 1 {
        let mut victim = world.ask("victim", kept());
        if attached {
            assert_eq!(victim.answer().await, Ok(true));
            // The last that was asked for counts, though the session is online as before.
            victim = world.ask("victim", shorter.clone());
            assert_eq!(victim.answer().await, Ok(true));
            victim.begin_subscribe("t", 1);
        }
        assert_eq!(victim.closed().await, Refusal::Internal);
        let noticed = |seen: &SystemObservation| seen.shards.restarts == death;
        world.until("it was noticed", noticed).await;
    }
    let quarantined = |seen: &SystemObservation| seen.shards.gauge(Gauge::Quarantined);
    world
        .until("quarantined", |seen| quarantined(seen) == 1)
        .await;
    injected.store(false, Ordering::SeqCst);
    world.clock.advance_millis(u64::from(seconds - 1) * 1000);
    world
        .until("the other one expires", |seen| seen.quota.used == 1)
        .await;
    assert_eq!(quarantined(&world.observe()), 1, "not before");
    let refused = world.ask("victim", kept()).answer().await;
    assert_eq!(refused, Err(Refusal::Internal));
    world.clock.advance_millis(1000);
    let is_gone = |seen: &SystemObservation| quarantined(seen) == 0 && seen.quota.used == 0;
    world.until("it is gone", is_gone).await;
    assert_eq!(world.counter(Counter::SessionExpired), 2);
    world.stop().await;
}

#[test]
fn a_newcomer_in_the_mailbox_of_a_dying_actor_is_answered() {
    run(async {
        let mut world = World::start().await;
        let first = world.connect("victim", kept()).await;
        world.system().inject(Arc::new(|_, effect| {
            if matches!(effect, Effect::SwitchConnection { .. }) {
                panic!("injected");
            }
        }));
        let mut crowd: Vec<_> = (0..3).map(|_| world.ask("victim", kept())).collect();
        for newcomer in &mut crowd {
            assert_eq!(newcomer.closed().await, Refusal::Internal);
        }
        let mut first = first;
        assert_eq!(first.closed().await, Refusal::Internal);
        world
            .until("it is counted as offline", |seen| {
                seen.shards.gauge(Gauge::SessionsOnline) == 0
                    && seen.shards.gauge(Gauge::SessionsOffline) == 1
            })
            .await;
        world.stop().await;
    });
}

#[test]
fn a_rebuilt_session_has_what_was_on_its_way_to_the_journal_when_its_actor_died() {
    run(async {
        let mut world = World::start().await;
        let mut publisher = world.connect("publisher", transient()).await;
        let mut victim = world.connect("victim", kept()).await;
        victim.subscribe("a", 1).await;
        world.files.limit_space(Some(0));
        victim.begin_subscribe("b", 1);
        world
            .until("the subscription waits for the disk", |seen| {
                seen.appender.waiting > 0
            })
            .await;
        world.system().inject(Arc::new(|client_id, effect| {
            if client_id.as_str() == "victim" && matches!(effect, Effect::Publish { .. }) {
                panic!("injected");
            }
        }));
        victim.begin_publish("nobody", "", 0);
        assert_eq!(victim.closed().await, Refusal::Internal);
        let mut victim = world.ask("victim", kept());
        world.files.limit_space(None);
        assert!(victim.attached().await);
        for topic in ["a", "b"] {
            let routed = publisher.publish(topic, topic, 1).await;
            assert_eq!(routed, Ok(Routed::Matched));
            assert_eq!(victim.take().await, Ok(topic.to_owned()));
        }
        world.stop().await;
    });
}
