//! Group actors that die: rebuilt from what is recorded and what their members have; nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::client::{Client, kept, transient};
use crate::world::{PATIENCE, World, run};

/// QoS of the publications that each group gets, in order.
const QOS: [u8; 6] = [1, 2, 1, 2, 2, 1];

/// Acknowledges whatever comes and says what it was, until the connection ends.
async fn work(mut member: Client, took: UnboundedSender<String>) {
    while let Ok(text) = member.take().await {
        took.send(text).ok();
    }
}

/// Everything that a group does in its life, once, with members wherever their ids put them. Gives how often each message came.
async fn live(world: &World, group: &str) -> BTreeMap<String, u32> {
    let filter = format!("$share/{group}/{group}/+");
    let (took, mut taken) = unbounded_channel();
    let mut publisher = world.connect(&format!("{group}-p"), transient()).await;
    let ids = ["a", "b", "c"].map(|name| format!("{group}-{name}"));
    let shards = ids
        .iter()
        .map(|id| world.system().home(&id.as_str().into()));
    let shards: Vec<usize> = shards.collect();
    assert!(shards.len() == 3, "each has a home");
    for id in &ids {
        let mut member = world.connect(id, kept()).await;
        member.subscribe(&filter, 2).await;
        actix_rt::spawn(work(member, took.clone()));
    }
    for (number, qos) in QOS.iter().enumerate() {
        let topic = format!("{group}/{number}");
        let routed = publisher.publish(&topic, &number.to_string(), *qos).await;
        assert!(routed.is_ok(), "{group}: {routed:?}");
    }
    let mut counts = BTreeMap::new();
    while counts.len() < QOS.len() {
        let text = tokio::time::timeout(PATIENCE, taken.recv()).await;
        let text = text.unwrap_or_else(|_| panic!("{group}: nothing comes behind {counts:?}"));
        *counts.entry(text.expect("members live")).or_default() += 1;
    }
    publisher.hang_up();
    // The members' sessions end, and with them the group.
    for id in &ids {
        world.connect(id, transient()).await.hang_up();
    }
    while let Ok(text) = taken.try_recv() {
        *counts.entry(text).or_default() += 1;
    }
    counts
}

#[test]
fn a_group_whose_actor_dies_at_any_effect_is_rebuilt_and_loses_nothing() {
    run(async {
        let mut world = World::start_with(|config| config.shards = 2).await;
        let mut deaths = 0;
        for nth in 0.. {
            let group = format!("g{nth}");
            let performed = Arc::new(AtomicU64::new(0));
            let (mine, count) = (format!("$share/{group}/"), Arc::clone(&performed));
            world.system().inject_group(Arc::new(move |filter, effect| {
                if filter.as_str().starts_with(&mine) && count.fetch_add(1, Ordering::SeqCst) == nth
                {
                    panic!("injected before {effect:?}");
                }
            }));
            let counts = live(&world, &group).await;
            assert_eq!(counts.len(), QOS.len(), "{group}: {counts:?}");
            for (number, qos) in QOS.iter().enumerate() {
                let times = counts[&number.to_string()];
                assert!(*qos < 2 || times == 1, "{group}: {number} of {counts:?}");
            }
            if performed.load(Ordering::SeqCst) <= nth {
                break;
            }
            deaths += 1;
            world
                .until("the group is gone, the death was noticed", |seen| {
                    seen.group_names == 0 && seen.shards.restarts == deaths
                })
                .await;
        }
        assert!(deaths > 15, "{deaths} deaths are not the whole life");
        world.stop().await;
    });
}
