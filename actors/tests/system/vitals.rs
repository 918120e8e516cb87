//! Parts without which nothing goes on: whoever runs the system hears of their death, and of nothing else.

use std::sync::Arc;
use std::time::Duration;

use outlive_actors::model::ids::ShardId;
use outlive_actors::model::refusal::Refusal;
use outlive_actors::supervise::vitals::Vital;

use crate::client::{kept, transient};
use crate::world::{PATIENCE, World, run};

const PARTS: [Vital; 5] = [
    Vital::Appender,
    Vital::Checkpointer,
    Vital::Registry,
    Vital::Shard(ShardId(0)),
    Vital::Shard(ShardId(1)),
];

#[test]
fn the_death_of_a_part_is_told_and_a_new_start_has_what_was_promised() {
    for part in PARTS {
        run(async {
            let mut world = World::start().await;
            let mut reader = world.connect("reader", kept()).await;
            reader.subscribe("news", 1).await;
            reader.hang_up();
            let mut writer = world.connect("writer", transient()).await;
            let routed = writer.publish("news", "promised", 1).await;
            routed.expect("accepted");
            let vitals = world.system().vitals();
            world.system().kill(part);
            let dead = tokio::time::timeout(PATIENCE, vitals.death()).await;
            assert_eq!(dead, Ok(part));
            // Whoever asks later hears it, too.
            assert_eq!(world.system().vitals().death().await, part);
            world.crash(0).await;
            let mut reader = world.ask("reader", kept());
            assert!(reader.attached().await, "{part}");
            reader.take_until("promised").await;
            world.stop().await;
        });
    }
}

#[test]
fn neither_a_session_that_dies_nor_a_stop_is_the_death_of_a_part() {
    run(async {
        let mut world = World::start().await;
        let vitals = world.system().vitals();
        world.system().inject(Arc::new(|client_id, _| {
            assert_ne!(client_id.as_str(), "victim", "injected");
        }));
        let mut victim = world.ask("victim", kept());
        assert_eq!(victim.closed().await, Refusal::Internal);
        world
            .until("it was noticed", |seen| seen.shards.restarts == 1)
            .await;
        world.stop().await;
        let dead = tokio::time::timeout(Duration::ZERO, vitals.death()).await;
        assert!(dead.is_err(), "{dead:?}");
    });
}
