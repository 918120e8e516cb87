//! Power cuts and full disks: what was acknowledged is there afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use outlive_actors::model::counter::Counter;
use outlive_actors::model::effect::Effect;
use outlive_actors::model::ids::PacketId;
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{Inbound, Outbound};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::observe::Gauge;

use crate::client::{Client, kept, publication, text, transient};
use crate::world::{World, is_message, run};

/// splitmix64: the same seed gives the same script.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A publisher that remembers what it was promised and repeats what is in doubt.
struct Publisher {
    client: Client,
    last: u16,
    acknowledged: Vec<String>,
    /// Sent, and neither PUBACK nor PUBREC came.
    doubtful: Vec<(PacketId, String, u8)>,
}

fn qos_of(text: &str) -> u8 {
    if text.ends_with("once") { 2 } else { 1 }
}

impl Publisher {
    fn send(&mut self, random: &mut Random) {
        self.last += 1;
        let qos = 1 + u8::try_from(random.below(2)).expect("small");
        let text = format!("{} {}", self.last, ["least", "once"][usize::from(qos - 1)]);
        let id = PacketId::new(1_000 + self.last).expect("above 0");
        self.repeat(id, &text, qos);
        self.doubtful.push((id, text, qos));
    }

    fn repeat(&self, id: PacketId, text: &str, qos: u8) {
        let number = self.client.number();
        self.client.send(publication("news", text, qos, id, number));
    }

    /// Waits for all answers.
    async fn settle(&mut self) {
        for (id, text, _) in std::mem::take(&mut self.doubtful) {
            self.client.published(id).await.expect("published");
            self.acknowledged.push(text);
        }
    }
}

/// Takes what comes to a reader until it has all of `wanted`, each seen through to the end of its handshake.
async fn read(reader: &mut Client, read: &mut Vec<String>, wanted: &[String]) {
    while wanted.iter().any(|text| !read.contains(text)) {
        read.push(reader.take().await.expect("attached"));
    }
}

fn exactly_once(read: &[String]) {
    let mut seen = BTreeSet::new();
    for text in read.iter().filter(|text| qos_of(text) == 2) {
        assert!(seen.insert(text), "{text} came twice: {read:?}");
    }
}

/// First appearances are in the order of publication, each QoS for itself: the window of QoS 2 survives a crash as it
/// is, QoS 1 is read anew.
fn in_order(read: &[String]) {
    for qos in [1, 2] {
        let mut seen = BTreeSet::new();
        let firsts: Vec<u64> = read
            .iter()
            .filter(|text| qos_of(text) == qos)
            .filter_map(|text| text.split(' ').next()?.parse().ok())
            .filter(|number| seen.insert(*number))
            .collect();
        assert!(firsts.is_sorted(), "QoS {qos}: {read:?}");
    }
}

async fn busy(seed: u64) {
    let mut random = Random(seed);
    let mut world = World::start_with(|config| config.segment_bytes = 16 << 10).await;
    let mut sleeper = world.connect("sleeper", kept()).await;
    sleeper.subscribe("news", 2).await;
    sleeper.hang_up();
    let mut reader = world.connect("reader", kept()).await;
    reader.subscribe("news", 2).await;
    let mut publisher = Publisher {
        client: world.connect("publisher", kept()).await,
        last: 0,
        acknowledged: Vec::new(),
        doubtful: Vec::new(),
    };
    let mut taken = Vec::new();
    for power_cut in 0..4 {
        for _ in 0..random.below(20) {
            publisher.send(&mut random);
            if random.below(3) == 0 {
                publisher.settle().await;
            }
            if random.below(4) == 0 {
                read(&mut reader, &mut taken, &publisher.acknowledged).await;
            }
        }
        if random.below(2) == 0 {
            // So that answers and deliveries are under way when the power is cut.
            tokio::task::yield_now().await;
        }
        world.crash(seed * 10 + power_cut).await;
        assert_eq!(world.observe().quota.used, 3);
        for client_id in ["reader", "publisher"] {
            let mut client = world.ask(client_id, kept());
            assert!(client.attached().await, "{client_id} is lost");
            match client_id {
                "reader" => reader = client,
                _ => publisher.client = client,
            }
        }
        for (id, text, qos) in &publisher.doubtful {
            publisher.repeat(*id, text, *qos);
        }
        publisher.settle().await;
        read(&mut reader, &mut taken, &publisher.acknowledged).await;
    }
    let mut sleeper = world.connect("sleeper", kept()).await;
    let mut slept = Vec::new();
    read(&mut sleeper, &mut slept, &publisher.acknowledged).await;
    for read in [&taken, &slept] {
        exactly_once(read);
        in_order(read);
    }
    world.stop().await;
}

#[test]
fn after_power_cuts_at_any_moment_all_that_was_acknowledged_is_there() {
    for seed in 0..12 {
        run(busy(seed));
    }
}

#[test]
fn a_window_survives_a_power_cut_with_its_identifiers() {
    run(async {
        let mut world = World::start().await;
        let mut reader = world.connect("reader", kept()).await;
        reader.subscribe("news", 2).await;
        let mut publisher = world.connect("publisher", transient()).await;
        for (text, qos) in [("a", 1), ("b", 2), ("c", 2)] {
            publisher
                .publish("news", text, qos)
                .await
                .expect("published");
        }
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(reader.delivery().await.expect("delivered"));
        }
        let released = sent[1].packet_id.expect("QoS 2");
        reader.send(Inbound::PubRec {
            packet_id: released,
            failed: false,
        });
        let pubrel = Outbound::PubRel {
            packet_id: released,
            known: true,
        };
        assert_eq!(reader.packet().await, pubrel);
        world.crash(7).await;
        let mut reader = world.ask("reader", kept());
        assert!(reader.attached().await);
        let mut again = Vec::new();
        for _ in 0..3 {
            again.push(reader.packet().await);
        }
        assert!(again.contains(&pubrel), "{again:?}");
        for before in [&sent[0], &sent[2]] {
            let repeated = again.iter().any(|packet| match packet {
                Outbound::Publish(delivery) => {
                    delivery.dup
                        && delivery.packet_id == before.packet_id
                        && text(delivery) == text(before)
                }
                _ => false,
            });
            assert!(repeated, "{} in {again:?}", text(before));
        }
        assert_eq!(sent[0].qos, QoS::AtLeastOnce);
        world.stop().await;
    });
}

#[test]
fn a_full_disk_refuses_publications_keeps_promises_and_heals() {
    run(async {
        let mut world = World::start().await;
        let mut sleeper = world.connect("sleeper", kept()).await;
        sleeper.subscribe("news", 1).await;
        sleeper.hang_up();
        let mut publisher = world.connect("publisher", transient()).await;
        publisher
            .publish("news", "before", 1)
            .await
            .expect("published");

        world.files.limit_space(Some(0));
        let large = "x".repeat(4_096);
        for qos in [1, 2] {
            let refused = publisher.publish("news", &large, qos).await;
            assert_eq!(refused, Err(Refusal::JournalUnavailable));
        }
        assert_eq!(world.counter(Counter::JournalRefused), 2);
        // What a session decided waits; nobody is told that it is done.
        let mut waiting = world.ask("newcomer", kept());
        world
            .until("the newcomer waits for the disk", |seen| {
                seen.appender.waiting > 0 && seen.shards.gauge(Gauge::SessionsOnline) == 2
            })
            .await;
        assert_eq!(world.counter(Counter::JournalRefused), 2);

        world.files.limit_space(None);
        assert!(!waiting.attached().await);
        publisher
            .publish("news", "after", 1)
            .await
            .expect("published");
        world.crash(3).await;
        let mut sleeper = world.connect("sleeper", kept()).await;
        assert_eq!(sleeper.take_until("after").await, ["before", "after"]);
        assert!(world.ask("newcomer", kept()).attached().await);
        world.stop().await;
    });
}

#[test]
fn a_session_comes_back_after_a_sync_failed_and_nobody_wrote_since() {
    run(async {
        let mut world = World::start().await;
        let mut sleeper = world.connect("sleeper", kept()).await;
        sleeper.subscribe("news", 1).await;
        drop(world.connect("publisher", transient()).await);
        // So many sessions there were before: that is not written down again.
        world.restart().await;
        let mut publisher = world.connect("publisher", transient()).await;
        publisher.publish("news", "before", 1).await.expect("well");
        world.files.fail_syncs(1);
        let refused = publisher.publish("news", "lost", 1).await;
        assert_eq!(refused, Err(Refusal::JournalUnavailable));
        assert_eq!(world.counter(Counter::JournalRefused), 1);
        let mut sleeper = world.connect("sleeper", kept()).await;
        publisher.publish("news", "after", 1).await.expect("healed");
        assert_eq!(sleeper.take_until("after").await, ["before", "after"]);
        world.stop().await;
    });
}

#[test]
fn a_drain_on_a_full_disk_does_not_wait_for_refused_publications() {
    run(async {
        let mut world = World::start().await;
        world
            .connect("sleeper", kept())
            .await
            .subscribe("news", 1)
            .await;
        let mut publisher = world.connect("publisher", transient()).await;
        let mut sleeper = world.connect("sleeper", kept()).await;
        world.files.limit_space(Some(world.files.used_bytes()));
        let large = "x".repeat(4_096);
        let refused = publisher.publish("news", &large, 1).await;
        assert_eq!(refused, Err(Refusal::JournalUnavailable));
        // There is room kept for the state of sessions.
        world.stop().await;
        assert_eq!(sleeper.closed().await, Refusal::ShuttingDown);
    });
}

#[test]
fn every_publication_of_a_refused_batch_is_refused() {
    run(async {
        let mut world = World::start().await;
        let mut sleeper = world.connect("sleeper", kept()).await;
        sleeper.subscribe("news", 1).await;
        sleeper.hang_up();
        let mut publisher = world.connect("publisher", transient()).await;
        world.files.limit_space(Some(0));
        let large = "x".repeat(4_096);
        let ids = [1, 2, 3].map(|id| PacketId::new(id).expect("not zero"));
        let number = publisher.number();
        publisher.send_all(
            ids.map(|id| publication("news", &large, 1, id, number))
                .into(),
        );
        for id in ids {
            let refused = publisher.published(id).await;
            assert_eq!(refused, Err(Refusal::JournalUnavailable), "{id:?}");
        }
        world.files.limit_space(None);
        world.stop().await;
    });
}

/// A connection that ends while a record is on its way to its session must not make the cursor step over the record: the
/// shard's thread is held until the record is committed and the connection's end is in the session's mailbox, in front
/// of the wake.
#[test]
fn a_record_on_its_way_to_a_session_that_hangs_up_is_not_lost() {
    run(async {
        let mut world = World::start_with(|config| config.shards = 1).await;
        let mut publisher = world.connect("publisher", transient()).await;
        let mut reader = world.connect("reader", kept()).await;
        reader.subscribe("news", 1).await;
        publisher.publish("news", "first", 1).await.expect("live");
        reader.take_until("first").await;
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        world.system().inject(Arc::new(move |_, effect| {
            if let Effect::Publish { message, .. } = effect
                && message.topic() == "hold"
            {
                held.lock().expect("one holds").recv().expect("it goes on");
            }
        }));
        publisher.begin_publish("news", "second", 1);
        publisher.begin_publish("hold", "", 0);
        world
            .until("the record is committed", |seen| {
                let recorded = world.recorded().into_iter();
                recorded.filter(is_message).count() == 2 && seen.appender.waiting == 0
            })
            .await;
        reader.hang_up();
        go_on.send(()).expect("the shard is held");
        world
            .until("the reader is away", |seen| {
                seen.shards.gauge(Gauge::SessionsOffline) == 1
            })
            .await;
        let mut reader = world.ask("reader", kept());
        assert!(reader.attached().await);
        reader.take_until("second").await;
        world.stop().await;
    });
}
