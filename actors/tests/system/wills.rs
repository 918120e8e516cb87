//! Wills that come due while the broker is down.

use outlive_actors::model::counter::Counter;
use outlive_actors::model::ids::{PacketId, SessionNumber};
use outlive_actors::model::message::Will;
use outlive_actors::model::packet::Inbound;

use crate::client::{Setup, kept, publication};
use crate::world::{World, run};

/// Enough for one at each shard, whoever reads and whoever dies.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A session that is attached when the power goes, and expires so many seconds after.
async fn die(world: &mut World, expiry_seconds: u32) {
    world.config.shards = 4;
    world.restart().await;
    for name in NAMES {
        let mut reader = world.connect(&format!("reader-{name}"), kept()).await;
        reader.subscribe("wills/#", 1).await;
        reader.hang_up();
    }
    let mut connected = Vec::new();
    for name in NAMES {
        let topic = format!("wills/{name}");
        let will = publication(&topic, name, 1, PacketId::FIRST, SessionNumber(0));
        let Inbound::Publish { message, .. } = will else {
            unreachable!("a publication")
        };
        let setup = Setup {
            expiry_seconds,
            will: Some(Box::new(Will {
                message,
                delay_seconds: 0,
                expiry_seconds: None,
            })),
            ..kept()
        };
        connected.push(world.connect(&format!("mortal-{name}"), setup).await);
    }
    // They were attached for long, and the broker may have been down for most of it.
    world.clock.advance_millis(600_000);
    world.crash(1).await;
}

/// Each reader gets each will once.
async fn read_all(world: &World) {
    for name in NAMES {
        let mut reader = world.ask(&format!("reader-{name}"), kept());
        assert!(reader.attached().await, "resumed");
        let mut wills = Vec::new();
        for _ in NAMES {
            wills.push(reader.take().await.expect("a will"));
        }
        wills.sort();
        assert_eq!(wills, NAMES);
        reader.hang_up();
    }
}

#[test]
fn wills_of_sessions_that_expired_meanwhile_reach_the_kept_readers_of_all_shards() {
    run(async {
        let mut world = World::start().await;
        die(&mut world, 10).await;
        assert_eq!(world.observe().expired_while_down, NAMES.len() as u64);
        assert_eq!(world.counter(Counter::WillPublished), NAMES.len() as u64);
        read_all(&world).await;
        world.stop().await;
    });
}

#[test]
fn wills_of_sessions_that_go_on_reach_the_kept_readers_of_all_shards() {
    run(async {
        let mut world = World::start().await;
        die(&mut world, 3_600).await;
        world
            .until("all wills are published", |seen| {
                seen.shards.counter(Counter::WillPublished) == NAMES.len() as u64
            })
            .await;
        assert_eq!(world.observe().expired_while_down, 0);
        read_all(&world).await;
        world.stop().await;
    });
}
