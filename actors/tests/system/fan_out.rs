//! Much that comes at once for many readers of one shard takes bounded memory, and all of it arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outlive_actors::actor::local::FAN_OUT_BYTES_MAX;
use outlive_actors::model::counter::Counter;
use outlive_actors::model::effect::Effect;
use outlive_actors::model::ids::{ClientId, PacketId};
use outlive_actors::model::packet::Outbound;

use crate::client::{Client, kept, publication, transient};
use crate::world::{World, run};

const PUBLISHERS: usize = 10;
const READERS: usize = 20;
const MESSAGES: usize = 150;
const PAYLOAD_BYTES: usize = 4096;

/// Deliveries that were put into slots, and those that their sessions handed to their connections.
#[derive(Default)]
struct Seen {
    put: AtomicUsize,
    taken: AtomicUsize,
    most: AtomicUsize,
}

impl Seen {
    fn see(&self, effect: &Effect) {
        match effect {
            Effect::Publish { .. } => {
                self.put.fetch_add(READERS, Ordering::Relaxed);
            }
            Effect::Send(Outbound::Publish(_)) => {
                self.taken.fetch_add(1, Ordering::Relaxed);
            }
            _ => return,
        }
        let taken = self.taken.load(Ordering::Relaxed);
        let under_way = self.put.load(Ordering::Relaxed).saturating_sub(taken);
        self.most.fetch_max(under_way, Ordering::Relaxed);
    }
}

/// Client ids that live on a shard.
fn ids(world: &World, name: &str, shard: usize, count: usize) -> Vec<String> {
    let all = (0..).map(|n| format!("{name}-{n}"));
    all.filter(|id| world.system().home(&ClientId::from(id.as_str())) == shard)
        .take(count)
        .collect()
}

/// A burst from publishers on the last of `shards` to readers on the first. Gives how many deliveries were on their way at
/// most, and how often publications waited for readers.
async fn burst(shards: u8, qos: u8, keeps: bool) -> (usize, u64) {
    let mut world = World::start_with(|config| {
        config.shards = shards;
        config.limits.send_ahead_bytes = u32::MAX; // these connections do not say that they have room
    })
    .await;
    let mut readers = Vec::new();
    for id in ids(&world, "reader", 0, READERS) {
        let setup = if keeps { kept() } else { transient() };
        let mut reader = world.connect(&id, setup).await;
        reader.subscribe("burst", qos).await;
        readers.push(reader);
    }
    let mut publishers: Vec<Client> = Vec::new();
    for id in ids(&world, "publisher", usize::from(shards) - 1, PUBLISHERS) {
        publishers.push(world.connect(&id, transient()).await);
    }
    // What a reader asked for when it subscribed is answered: until then deliveries wait behind it.
    let greeted = publishers[0].publish("burst", "hello", 1).await;
    assert!(greeted.is_ok());
    for reader in &mut readers {
        assert_eq!(reader.take().await, Ok("hello".to_owned()));
    }
    let seen = Arc::new(Seen::default());
    let sees = Arc::clone(&seen);
    world
        .system()
        .inject(Arc::new(move |_, effect| sees.see(effect)));
    for (number, publisher) in publishers.iter().enumerate() {
        let session = publisher.number();
        let mut packet_id = PacketId::FIRST;
        let batch = (0..MESSAGES).map(|n| {
            packet_id = packet_id.following();
            let payload = format!("{number} {n} {}", "x".repeat(PAYLOAD_BYTES));
            publication("burst", &payload, qos, packet_id, session)
        });
        publisher.send_all(batch.collect());
    }
    for reader in &mut readers {
        let mut next = [0; PUBLISHERS];
        for _ in 0..PUBLISHERS * MESSAGES {
            let payload = reader.take().await.expect("nothing is lost");
            let mut words = payload.split(' ').map(str::parse::<usize>);
            let mut word = || words.next().expect("two").expect("numbers");
            let (publisher, n) = (word(), word());
            assert_eq!(n, next[publisher], "in order");
            next[publisher] += 1;
        }
    }
    let paused = world.counter(Counter::FanOutPaused);
    world.stop().await;
    (seen.most.load(Ordering::Relaxed), paused)
}

/// What fits into the slots, the message that reaches the bound, and what one reader has just taken out.
fn bound() -> usize {
    FAN_OUT_BYTES_MAX / PAYLOAD_BYTES * (READERS + 1) / READERS + READERS
}

#[test]
fn publishers_wait_while_readers_of_their_shard_have_not_had_their_turn() {
    run(async {
        let (most, paused) = burst(1, 0, false).await;
        assert!(most <= bound(), "{most}");
        assert!(paused > 0);
        assert!(PUBLISHERS * MESSAGES * READERS > 3 * bound());
    });
}

#[test]
fn what_comes_from_another_shard_waits_for_readers_too_and_keeps_its_order() {
    run(async {
        for qos in [0, 1] {
            let (_, paused) = burst(2, qos, false).await;
            assert!(paused > 0, "QoS {qos}");
        }
    });
}

#[test]
fn what_comes_from_the_journal_waits_for_readers_too_and_keeps_its_order() {
    run(async {
        for shards in [1, 2] {
            let (_, paused) = burst(shards, 1, true).await;
            assert!(paused > 0, "{shards} shards");
        }
    });
}
