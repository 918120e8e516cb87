//! Groups whose actor dies, whose members' actors die, that are given up, and that outlive the power: nothing is lost, and
//! QoS 2 comes once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outlive_actors::model::effect::Effect;
use outlive_actors::model::group::GroupEffect;
use outlive_actors::model::ids::{ClientId, PacketId};
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{Inbound, Outbound};
use outlive_actors::model::topic::Filter;
use outlive_actors::observe::{Gauge, GroupObservation};
use outlive_actors::supervise::PANICS_MAX;

use crate::client::{kept, text, transient};
use crate::world::{PATIENCE, World, run};

/// QoS of the publications that each group gets, in order.
const QOS: [u8; 6] = [1, 2, 1, 2, 2, 1];

/// One group's life with two members that come back.
struct Story {
    name: String,
    filter: String,
    members: [Member; 2],
    /// What was acknowledged to the publisher.
    acknowledged: RefCell<BTreeSet<String>>,
    /// How often each message came.
    took: RefCell<BTreeMap<String, u32>>,
}

/// What a member's client remembers.
struct Member {
    id: String,
    begun: RefCell<BTreeSet<PacketId>>,
}

impl Story {
    fn new(name: String) -> Self {
        let member = |id| Member {
            id: format!("{name}-{id}"),
            begun: RefCell::default(),
        };
        Self {
            filter: format!("$share/{name}/{name}/+"),
            members: ["a", "b"].map(member),
            acknowledged: RefCell::default(),
            took: RefCell::default(),
            name,
        }
    }

    /// Serves the members until `chapter` is over.
    async fn meanwhile(&self, world: &World, chapter: impl Future<Output = ()>) {
        let [a, b] = &self.members;
        tokio::select! {
            () = chapter => {}
            () = serve(world, a, self) => {}
            () = serve(world, b, self) => {}
        }
    }

    async fn publish(&self, world: &World) {
        let ready = |seen: &GroupObservation| {
            seen.standing.members == 2 && seen.standing.durable_from.is_some()
        };
        until_group(world, &self.filter, ready).await;
        let name = &self.name;
        let mut publisher = world.connect(&format!("{name}-p"), transient()).await;
        for (number, qos) in QOS.iter().enumerate() {
            let topic = format!("{name}/{number}");
            let routed = publisher.publish(&topic, &number.to_string(), *qos).await;
            assert!(routed.is_ok(), "{name}: {routed:?}");
            self.acknowledged.borrow_mut().insert(number.to_string());
        }
        publisher.hang_up();
    }

    /// Waits until all that was acknowledged came, and all that came is settled.
    async fn settle(&self, world: &World) {
        let name = &self.name;
        let came = async || {
            let took = self.took.borrow();
            let mut acknowledged = self.acknowledged.borrow().clone();
            acknowledged.retain(|text| !took.contains_key(text));
            acknowledged.is_empty()
        };
        until(came, || {
            format!("{name}: something misses: {:?}", self.took)
        })
        .await;
        let quiet = |seen: &GroupObservation| seen.leases == 0 && seen.waiting == 0;
        until_group(world, &self.filter, quiet).await;
        for member in &self.members {
            let id = ClientId::from(member.id.as_str());
            let settled = async || {
                let seen = world.system().observe_session(id.clone()).await;
                seen.is_some_and(|seen| seen.unsettled == 0)
            };
            until(settled, || format!("{id} settles nothing")).await;
        }
    }

    /// Ends the members' sessions, and with them the group.
    async fn end(&self, world: &World) {
        for member in &self.members {
            loop {
                let mut client = world.ask(&member.id, transient());
                if client.answer().await.is_ok() {
                    break client.hang_up();
                }
            }
        }
        world
            .until("the group is gone", |seen| {
                seen.group_names == 0 && seen.shards.gauge(Gauge::Groups) == 0
            })
            .await;
    }

    /// What is acknowledged came, and what has QoS 2 once.
    fn check(&self) {
        let took = self.took.borrow();
        for text in self.acknowledged.borrow().iter() {
            assert!(took.contains_key(text), "{}: {took:?}", self.name);
        }
        for (number, qos) in QOS.iter().enumerate() {
            let times = took.get(&number.to_string()).copied().unwrap_or(0);
            assert!(
                *qos < 2 || times <= 1,
                "{}: {number} of {took:?}",
                self.name
            );
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until(is_so: impl AsyncFn() -> bool, why: impl Fn() -> String) {
    let fact = async {
        while !is_so().await {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, fact).await;
    assert!(came.is_ok(), "{}", why());
}

/// A member as a client is one: it comes back whenever its connection ends, subscribes anew, and counts no QoS 2 delivery
/// twice that the broker sends it twice.
async fn serve(world: &World, member: &Member, story: &Story) {
    loop {
        let mut client = world.ask(&member.id, kept());
        match client.answer().await {
            Ok(true) => {}
            Ok(false) => member.begun.borrow_mut().clear(),
            Err(_) => continue,
        }
        client.begin_subscribe(&story.filter, 2);
        loop {
            match client.packet().await {
                Outbound::Publish(delivery) => {
                    let packet_id = delivery.packet_id.expect("nothing has QoS 0");
                    let twice = delivery.qos == QoS::ExactlyOnce
                        && !member.begun.borrow_mut().insert(packet_id);
                    if !twice {
                        *story.took.borrow_mut().entry(text(&delivery)).or_default() += 1;
                    }
                    let failed = false;
                    client.send(match delivery.qos {
                        QoS::ExactlyOnce => Inbound::PubRec { packet_id, failed },
                        QoS::AtMostOnce | QoS::AtLeastOnce => Inbound::PubAck { packet_id, failed },
                    });
                }
                Outbound::PubRel { packet_id, .. } => {
                    member.begun.borrow_mut().remove(&packet_id);
                    client.send(Inbound::PubComp { packet_id });
                }
                Outbound::Close(_) => break,
                _ => {}
            }
        }
    }
}

/// Waits until a group shows itself as it should be.
pub(crate) async fn until_group(
    world: &World,
    filter: &str,
    is_so: impl Fn(&GroupObservation) -> bool,
) {
    let seen = RefCell::new(None);
    let fact = async || {
        let filter = Filter::new(filter).expect("a filter");
        *seen.borrow_mut() = world.system().groups().observe(filter).await;
        seen.borrow().as_ref().is_some_and(&is_so)
    };
    until(fact, || format!("never came true of {filter}: {seen:#?}")).await;
}

/// Whose actor dies.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Group,
    Member,
}

/// So many lives in a row are over before an effect that does not exist: one has fewer effects than another, as more of them
/// meet in one turn.
const LIVES: u32 = 5;

/// Lives one life after the other; in each an actor dies one effect later, until no life is so long.
async fn die_at_every_effect(world: &World, victim: Victim) {
    let mut deaths = 0;
    let mut short = 0;
    while short < LIVES {
        let nth = deaths;
        let story = Story::new(format!("{victim:?}{nth}-{short}"));
        let performed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&performed);
        let die = move |effect: &dyn Debug| {
            if count.fetch_add(1, Ordering::SeqCst) == nth {
                panic!("injected before {effect:?}");
            }
        };
        match victim {
            Victim::Group => {
                let mine = story.filter.clone();
                let fault = move |filter: &Filter, effect: &GroupEffect| {
                    if filter.as_str() == mine {
                        die(effect);
                    }
                };
                world.system().inject_group(Arc::new(fault));
            }
            Victim::Member => {
                let mine = story.members[0].id.clone();
                let fault = move |client_id: &ClientId, effect: &Effect| {
                    if client_id.as_str() == mine {
                        die(effect);
                    }
                };
                world.system().inject(Arc::new(fault));
            }
        }
        let life = async {
            story.publish(world).await;
            story.settle(world).await;
        };
        story.meanwhile(world, life).await;
        story.check();
        story.end(world).await;
        // From here on nobody dies of it any more.
        if performed.swap(u64::MAX / 2, Ordering::SeqCst) <= nth {
            short += 1;
            continue;
        }
        short = 0;
        deaths += 1;
        world
            .until("the death was noticed", |seen| {
                seen.shards.restarts == deaths
            })
            .await;
    }
    assert!(deaths > 7, "{deaths} deaths are not the whole life");
}

#[test]
fn a_group_whose_actor_dies_at_any_effect_loses_nothing_and_sends_qos_2_once() {
    run(async {
        let mut world = World::start().await;
        die_at_every_effect(&world, Victim::Group).await;
        world.stop().await;
    });
}

#[test]
fn a_member_whose_actor_dies_at_any_effect_keeps_what_it_began_and_the_rest_goes_to_others() {
    run(async {
        let mut world = World::start().await;
        die_at_every_effect(&world, Victim::Member).await;
        world.stop().await;
    });
}

#[test]
fn a_group_that_keeps_panicking_is_given_up_and_goes_on_after_a_restart() {
    run(async {
        let mut world = World::start().await;
        world.system().inject_group(Arc::new(|filter, effect| {
            if filter.as_str() == "$share/q/q/+" {
                panic!("injected before {effect:?}");
            }
        }));
        let mut member = world.connect("q-a", kept()).await;
        member.subscribe("$share/q/q/+", 1).await;
        let mut publisher = world.connect("q-p", transient()).await;
        publisher.publish("q/1", "held", 1).await.expect("routed");
        world
            .until("the group is given up", |seen| {
                seen.shards.gauge(Gauge::Quarantined) == 1
                    && seen.shards.restarts == u64::from(PANICS_MAX) + 1
            })
            .await;
        // Nobody else is disturbed.
        member.subscribe("$share/fine/q/+", 1).await;
        publisher.publish("q/2", "fine", 1).await.expect("routed");
        assert_eq!(member.take().await.as_deref(), Ok("fine"));
        world.restart().await;
        let mut member = world.connect("q-a", kept()).await;
        assert_eq!(member.take().await.as_deref(), Ok("held"));
        world.stop().await;
    });
}

#[test]
fn a_group_goes_on_where_it_was_when_the_power_failed() {
    run(async {
        let mut world = World::start().await;
        for seed in 0..40 {
            let story = Story::new(format!("p{seed}"));
            // Somewhere in the middle of it the power fails.
            let enough = usize::try_from(seed % 7).expect("small");
            let some = async {
                let cut = async {
                    while story.took.borrow().len() < enough {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    () = story.publish(&world) => {}
                    () = cut => {}
                }
            };
            story.meanwhile(&world, some).await;
            world.crash(seed).await;
            story.meanwhile(&world, story.settle(&world)).await;
            story.check();
            story.end(&world).await;
        }
        world.stop().await;
    });
}
