//! What is published while a group gets its first member, and while it becomes durable: what comes after a SUBACK reaches
//! it, and what was on its way is not lost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use outlive_actors::actor::local::home_of;
use outlive_actors::model::effect::Effect;
use outlive_actors::model::group::GroupEffect;
use outlive_actors::model::ids::{ClientId, PacketId};
use outlive_actors::model::packet::Routed;
use outlive_actors::model::topic::Filter;
use outlive_actors::observe::GroupObservation;

use crate::client::{Client, kept, publication, transient};
use crate::gate::Gate;
use crate::groups::{until, until_group};
use crate::world::{World, run};

/// A group and where its clients live.
struct Scene<'a> {
    world: &'a World,
    topic: String,
    filter: String,
    /// The shard that the group lives on, of two.
    home: usize,
    /// How often each message came.
    took: RefCell<BTreeMap<String, u32>>,
}

impl<'a> Scene<'a> {
    fn of(world: &'a World, topic: &str) -> Self {
        let filter = format!("$share/group/{topic}");
        let home = home_of(&Filter::new(&filter).expect("a filter"), 2);
        Self {
            world,
            topic: topic.to_owned(),
            filter,
            home: usize::from(home.0),
            took: RefCell::default(),
        }
    }

    /// A client id that lives on the group's shard, or on the other one.
    fn id(&self, name: &str, at_home: bool) -> String {
        let ids = (0..).map(|nth| format!("{}-{name}{nth}", self.topic));
        let system = self.world.system();
        let mut ids =
            ids.filter(|id| (system.home(&ClientId::from(id.as_str())) == self.home) == at_home);
        ids.next().expect("a hash spreads")
    }

    /// Takes what comes, for ever.
    async fn serve(&self, mut client: Client) {
        loop {
            let text = client.take().await.expect("attached");
            *self.took.borrow_mut().entry(text).or_default() += 1;
        }
    }

    /// Lets both members take what comes until `chapter` is over.
    async fn meanwhile<T>(&self, members: [Client; 2], chapter: impl Future<Output = T>) -> T {
        let [a, b] = members;
        tokio::select! {
            done = chapter => done,
            () = self.serve(a) => unreachable!("it serves for ever"),
            () = self.serve(b) => unreachable!("it serves for ever"),
        }
    }

    /// Waits until `last` came and the group has nothing left.
    async fn settled(&self, last: &str) {
        let came = async || self.took.borrow().contains_key(last);
        until(came, || format!("{last} misses in {:?}", self.took)).await;
        let quiet = |seen: &GroupObservation| {
            seen.leases == 0 && seen.waiting == 0 && seen.unread_entries == 0
        };
        until_group(self.world, &self.filter, quiet).await;
    }

    fn times(&self, text: &str) -> u32 {
        self.took.borrow().get(text).copied().unwrap_or(0)
    }
}

/// The SUBACK came before the group's actor was there to read anything.
#[test]
fn what_is_published_after_the_suback_of_a_group_s_first_member_reaches_it() {
    run(async {
        let mut world = World::start().await;
        let scene = Scene::of(&world, "first");
        let mut member = world.connect(&scene.id("m", false), transient()).await;
        let gate = Gate::closed();
        let at_gate = gate.clone();
        let mine = scene.filter.clone();
        world.system().inject_group(Arc::new(move |filter, effect| {
            if filter.as_str() == mine && matches!(effect, GroupEffect::Listen(true)) {
                at_gate.pass();
            }
        }));
        let suback = member.begin_subscribe(&scene.filter, 1);
        gate.reached().await;
        // By the time that a newcomer on the member's shard is answered, the member would be.
        let mut publisher = world.connect(&scene.id("p", false), transient()).await;
        let early = tokio::select! {
            biased;
            answer = member.subscribed(suback) => Some(answer),
            () = std::future::ready(()) => None,
        };
        if early.is_none() {
            gate.open();
            member.subscribed(suback).await.expect("subscribed");
        }
        let routed = publisher.publish(&scene.topic, "after", 1).await;
        gate.open();
        assert_eq!(routed, Ok(Routed::Matched));
        assert_eq!(member.take().await.as_deref(), Ok("after"));
        world.stop().await;
    });
}

/// A publisher's shard looks up who reads the topic, a kept session joins, and only then the publication arrives.
async fn publish_across_the_switch(world: &World, topic: &str, qos: u8) -> [u32; 2] {
    let scene = Scene::of(world, topic);
    let mut first = world.connect(&scene.id("a", true), transient()).await;
    first.subscribe(&scene.filter, 2).await;
    let stopped = scene.id("p", false);
    let mut publisher = world.connect(&stopped, transient()).await;
    let gate = Gate::closed();
    let at_gate = gate.clone();
    world.system().inject(Arc::new(move |client_id, effect| {
        if client_id.as_str() == stopped
            && let Effect::Publish { message, .. } = effect
            && message.topic() == "aside"
        {
            at_gate.pass();
        }
    }));
    // Both in one turn, which ends behind the gate.
    let across = PacketId::new(1_000).expect("not 0");
    let publication = |topic, qos| publication(topic, "across", qos, across, publisher.number());
    publisher.send_all(vec![
        publication(&scene.topic, qos),
        publication("aside", 0),
    ]);
    gate.reached().await;
    let mut second = world.connect(&scene.id("b", true), kept()).await;
    let suback = second.begin_subscribe(&scene.filter, 2);
    let durable = |seen: &GroupObservation| seen.standing.durable_from.is_some();
    until_group(world, &scene.filter, durable).await;
    // The actor answers behind what it was told with that.
    until_group(world, &scene.filter, durable).await;
    gate.open();
    publisher.published(across).await.expect("routed");
    second.subscribed(suback).await.expect("subscribed");
    let chapter = async {
        let after = publisher.publish(&scene.topic, "after", qos).await;
        assert_eq!(after, Ok(Routed::Matched));
        scene.settled("after").await;
    };
    scene.meanwhile([first, second], chapter).await;
    ["across", "after"].map(|text| scene.times(text))
}

#[test]
fn what_is_on_its_way_when_a_group_becomes_durable_reaches_it_once() {
    run(async {
        let mut world = World::start().await;
        for qos in [1, 2] {
            let took = publish_across_the_switch(&world, &format!("t{qos}"), qos).await;
            assert_eq!(took, [1, 1], "QoS {qos}");
        }
        world.stop().await;
    });
}

/// It may come from both sides: nobody knows whether its record lies before the group's cursor. What comes after the
/// SUBACK comes once.
#[test]
fn what_is_on_its_way_and_journaled_for_others_when_a_group_becomes_durable_is_not_lost() {
    run(async {
        let mut world = World::start().await;
        let mut other = world.connect("other", kept()).await;
        for qos in [1, 2] {
            let topic = format!("t{qos}");
            other.subscribe(&topic, qos).await;
            let [across, after] = publish_across_the_switch(&world, &topic, qos).await;
            assert!((1..=2).contains(&across), "QoS {qos}: {across}");
            assert_eq!(after, 1, "QoS {qos}");
            assert_eq!(other.take().await.as_deref(), Ok("across"));
            assert_eq!(other.take().await.as_deref(), Ok("after"));
        }
        world.stop().await;
    });
}

/// Publishes on and on; says what it published and whether the SUBACK was there before.
async fn publish_on(
    mut publisher: Client,
    scene: &Scene<'_>,
    name: &str,
    acked: &Cell<bool>,
) -> Vec<(String, bool)> {
    let mut published = Vec::new();
    let mut after = 0;
    while after < 5 {
        let text = format!("{name}{}", published.len());
        let late = acked.get();
        let routed = publisher.publish(&scene.topic, &text, 1).await;
        assert_eq!(routed, Ok(Routed::Matched));
        published.push((text, late));
        after += u32::from(late);
    }
    published
}

#[test]
fn all_that_is_published_while_a_group_becomes_durable_comes_and_what_comes_after_the_suback_once()
{
    run(async {
        let mut world = World::start().await;
        for nth in 0..20 {
            let scene = Scene::of(&world, &format!("s{nth}"));
            let mut first = world
                .connect(&scene.id("a", nth % 2 == 0), transient())
                .await;
            first.subscribe(&scene.filter, 1).await;
            let second = world.connect(&scene.id("b", nth % 3 == 0), kept()).await;
            let here = world.connect(&scene.id("p", true), transient()).await;
            let there = world.connect(&scene.id("p", false), transient()).await;
            let acked = Cell::new(false);
            let member = async {
                let mut second = second;
                second.subscribe(&scene.filter, 1).await;
                acked.set(true);
                scene.serve(second).await;
            };
            let chapter = async {
                let (mut all, more) = tokio::join!(
                    publish_on(here, &scene, "here", &acked),
                    publish_on(there, &scene, "there", &acked),
                );
                all.extend(more);
                for (text, _) in &all {
                    scene.settled(text).await;
                }
                all
            };
            let all = tokio::select! {
                all = chapter => all,
                () = scene.serve(first) => unreachable!("it serves for ever"),
                () = member => unreachable!("it serves for ever"),
            };
            for (text, late) in all {
                let times = scene.times(&text);
                assert!(
                    times == 1 || (!late && times == 2),
                    "{text}, {late}: {times}"
                );
            }
        }
        world.stop().await;
    });
}
