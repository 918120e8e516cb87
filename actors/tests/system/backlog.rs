//! A shard that cannot keep up slows those that feed it; nothing grows without end.

use std::sync::{Arc, Mutex, mpsc};

use outlive_actors::actor::shared::ROUTE_BACKLOG_BYTES_MAX;
use outlive_actors::model::effect::Effect;
use outlive_actors::model::ids::{ClientId, PacketId};

use crate::client::{publication, transient};
use crate::world::{World, run};

#[test]
fn a_busy_shard_holds_back_its_publishers_credit_until_it_has_caught_up() {
    run(async {
        let mut world = World::start_with(|config| config.shards = 2).await;
        let lives_on = |shard: usize, name: &str| {
            let ids = (0..).map(|n| format!("{name}-{n}"));
            ids.into_iter()
                .find(|id| world.system().home(&ClientId::from(id.as_str())) == shard)
                .expect("every shard is somebody's home")
        };
        let mut publisher = world.connect(&lives_on(0, "publisher"), transient()).await;
        let mut reader = world.connect(&lives_on(1, "reader"), transient()).await;
        let mut blocker = world.connect(&lives_on(1, "blocker"), transient()).await;
        reader.subscribe("flood", 0).await;
        let (go_on, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        world.system().inject(Arc::new(move |_, effect| {
            if let Effect::Publish { message, .. } = effect
                && message.topic() == "hold"
            {
                held.lock().expect("one holds").recv().expect("it goes on");
            }
        }));
        blocker.begin_publish("hold", "", 0);

        // Half the bound in each batch: the third finds it reached.
        let large = "x".repeat(usize::try_from(ROUTE_BACKLOG_BYTES_MAX / 16).expect("small"));
        let number = publisher.number();
        for _ in 0..6 {
            let batch = (0..8).map(|_| publication("flood", &large, 0, PacketId::FIRST, number));
            publisher.send_all(batch.collect());
        }
        publisher.publish("elsewhere", "", 1).await.expect("routed");
        let given = publisher.processed;
        assert!(
            (16..=25).contains(&given),
            "credit for {given} of 49 packets"
        );
        assert!(world.observe().route_backlog_bytes >= 3 * ROUTE_BACKLOG_BYTES_MAX);

        go_on.send(()).expect("the shard is held");
        for _ in 0..48 {
            reader.delivery().await.expect("nothing is lost");
        }
        let mut sent = 49;
        let all_given = async {
            while publisher.processed < sent {
                publisher.publish("elsewhere", "", 1).await.expect("routed");
                sent += 1;
            }
        };
        let patience = std::time::Duration::from_secs(20);
        let given = tokio::time::timeout(patience, all_given).await;
        given.expect("what was kept back is given");
        assert_eq!(world.observe().route_backlog_bytes, 0);
        world.stop().await;
    });
}
