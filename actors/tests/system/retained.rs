//! Retained messages between threads: who subscribes at the moment of a publication gets it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use outlive_actors::model::counter::Counter;
use outlive_actors::model::effect::Effect;
use outlive_actors::model::ids::{ClientId, PacketId, Timestamp};
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::Inbound;
use outlive_actors::model::tally::Amount;
use outlive_actors::observe::Gauge;
use outlive_actors::system::SystemObservation;
use tokio::sync::oneshot;

use crate::client::{Client, kept, transient};
use crate::world::{World, run};

/// A QoS 0 publication to be retained.
fn retained(client: &Client, topic: &str) -> Inbound {
    expiring(client, topic, None)
}

/// As [`retained`], until it expires.
fn expiring(client: &Client, topic: &str, expires_at: Option<Timestamp>) -> Inbound {
    let message = Arc::new(Message::new(MessageParts {
        topic,
        payload: topic.as_bytes(),
        properties: &[],
        qos: QoS::AtMostOnce,
        retain: true,
        published_at: Timestamp(0),
        expires_at,
        publisher: client.number(),
    }));
    Inbound::Publish {
        message,
        packet_id: None::<PacketId>,
        dup: false,
    }
}

#[test]
fn a_subscription_in_the_middle_of_a_turn_misses_nothing_that_the_turn_retains() {
    run(async {
        let world = World::start().await;
        let home = |id: &str| world.system().home(&ClientId::from(id));
        let elsewhere = (0..).map(|number| format!("reader-{number}"));
        let mut elsewhere = elsewhere.filter(|id| home(id) != home("writer"));
        let reader = elsewhere.next().expect("there are two shards");
        let mut reader = world.connect(&reader, transient()).await;
        let writer = world.connect("writer", transient()).await;

        // The turn of the writer's session stands still between its two publications.
        let (in_the_middle, reached) = oneshot::channel();
        let (go_on, waits) = mpsc::channel();
        let stop = Mutex::new(Some((in_the_middle, waits)));
        let published = AtomicU32::new(0);
        world.system().inject(Arc::new(move |client_id, effect| {
            let publishes = matches!(effect, Effect::Publish { .. });
            if client_id.as_str() == "writer"
                && publishes
                && published.fetch_add(1, Ordering::SeqCst) == 1
            {
                let stop = stop.lock().expect("no panic").take();
                let (in_the_middle, waits) = stop.expect("it stops once");
                in_the_middle.send(()).expect("the test waits");
                waits.recv().expect("the test goes on");
            }
        }));
        writer.send_all(vec![
            retained(&writer, "first"),
            retained(&writer, "second"),
        ]);
        reached.await.expect("two publications");
        reader.subscribe("first", 0).await;
        world
            .until("the replay is over", |seen| {
                seen.shards.gauge(Gauge::Replays) == 0
            })
            .await;
        go_on.send(()).expect("the session waits");
        assert_eq!(reader.take().await.expect("attached"), "first");
    });
}

#[test]
fn what_expired_makes_room_at_once_and_stays_away() {
    run(async {
        // No checkpoint looks for what expired.
        let mut world = World::start_with(|config| {
            config.checkpoint_interval_millis = 0;
            config.retained = Amount::of(1);
        })
        .await;
        let writer = world.connect("writer", transient()).await;
        let soon = Timestamp(1_700_000_001_000);
        writer.send(expiring(&writer, "old", Some(soon)));
        world
            .until("it is retained", |seen| seen.retained == 1)
            .await;
        writer.send(retained(&writer, "new"));
        let refused = |seen: &SystemObservation| seen.shards.counter(Counter::RetainRefused);
        world
            .until("there is no room", |seen| refused(seen) == 1)
            .await;
        world.clock.advance_millis(1_000);
        writer.send(retained(&writer, "new"));
        world
            .until("the other is gone", |seen| seen.retained_expired == 1)
            .await;
        world
            .until("it is retained", |seen| seen.retained == 1)
            .await;
        assert_eq!(world.counter(Counter::RetainRefused), 1);
        world.restart().await;
        assert_eq!(world.observe().retained, 1);
        let mut reader = world.connect("reader", transient()).await;
        reader.subscribe("#", 0).await;
        assert_eq!(reader.take().await.expect("attached"), "new");
        world.stop().await;
    });
}

#[test]
fn what_goes_because_the_journal_is_too_long_is_counted_and_gives_its_room_back() {
    run(async {
        let mut world = World::start_with(|config| {
            config.segment_bytes = 4_096;
            config.journal_bytes_max = 1;
            config.retained = Amount::of(20);
        })
        .await;
        let mut sleeper = world.connect("sleeper", kept()).await;
        sleeper.subscribe("news", 1).await;
        sleeper.hang_up();
        let mut writer = world.connect("writer", transient()).await;
        for number in 0..20 {
            writer.send(retained(&writer, &format!("old/{number}")));
        }
        while world.observe().retained_lost < 20 {
            let news = "x".repeat(1_000);
            writer.publish("news", &news, 1).await.expect("published");
        }
        let seen = world.observe();
        assert_eq!((seen.retained, seen.retained_bytes), (0, 0));
        // Both are told to the store, whether the broker ends well or not.
        writer.send(retained(&writer, "new"));
        world
            .until("there is room", |seen| seen.retained == 1)
            .await;
        assert_eq!(world.counter(Counter::RetainRefused), 0);
        world.config.journal_bytes_max = 0;
        world.crash(7).await;
        world.restart().await;
        let seen = world.observe();
        assert_eq!((seen.retained, seen.retained_lost), (1, 0));
        let mut reader = world.connect("reader", transient()).await;
        reader.subscribe("old/#", 0).await;
        reader.subscribe("new", 0).await;
        assert_eq!(reader.take().await.expect("attached"), "new");

        // The one that slept lost what nobody can count any more.
        let mut sleeper = world.connect("sleeper", kept()).await;
        let mut writer = world.connect("writer", transient()).await;
        writer.publish("news", "last", 1).await.expect("published");
        sleeper.take_until("last").await;
        assert_eq!(world.counter(Counter::HolePassed), 1);
        world.stop().await;
    });
}
