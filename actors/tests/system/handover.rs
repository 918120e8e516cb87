//! A member's session makes way for the next one of its client id, and the actor dies of it: what the one before had, goes
//! to others, and only one of the two is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use outlive_actors::model::effect::Effect;
use outlive_actors::model::ids::ClientId;
use outlive_actors::model::message::QoS;
use outlive_actors::observe::GroupObservation;

use crate::client::{Client, Setup, kept, text, transient};
use crate::groups::until_group;
use crate::world::{World, run};

/// Begins a session whatever there was before.
fn anew(setup: Setup) -> Setup {
    Setup {
        clean_start: true,
        ..setup
    }
}

/// Lets the actor of a session die before its `nth` effect from here on; gives how many were performed.
fn die_before(world: &World, mortal: &str, nth: u64) -> Arc<AtomicU64> {
    let mortal = mortal.to_owned();
    let performed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&performed);
    let fault = move |client_id: &ClientId, effect: &Effect| {
        if client_id.as_str() == mortal && count.fetch_add(1, Ordering::SeqCst) == nth {
            panic!("injected before {effect:?}");
        }
    };
    world.system().inject(Arc::new(fault));
    performed
}

/// Connects, however often the actor dies of it.
async fn connect(world: &World, client_id: &str, setup: &Setup) -> Client {
    loop {
        let mut client = world.ask(client_id, setup.clone());
        if client.answer().await.is_ok() {
            break client;
        }
    }
}

/// A member of a group, to which a message is leased, gives way to a session of the same client id that is in no group.
/// The actor dies one effect later each time, until it survives.
async fn give_way_and_die(world: &World, before: Setup, next: Setup) -> u64 {
    for nth in 0.. {
        let group = format!("g{nth}");
        let filter = format!("$share/{group}/{group}/+");
        let mortal = format!("{group}-mortal");
        let mut first = world.connect(&mortal, before.clone()).await;
        first.subscribe(&filter, 1).await;
        let mut publisher = world.connect(&format!("{group}-p"), transient()).await;
        let topic = format!("{group}/1");
        publisher
            .publish(&topic, "leased", 1)
            .await
            .expect("routed");
        let delivery = first.delivery().await.expect("the only member gets it");
        assert_eq!(
            (text(&delivery).as_str(), delivery.qos),
            ("leased", QoS::AtLeastOnce)
        );
        let mut heir = world.connect(&format!("{group}-heir"), transient()).await;
        heir.subscribe(&filter, 1).await;

        let performed = die_before(world, &mortal, nth);
        let mut second = connect(world, &mortal, &next).await;
        let survived = performed.load(Ordering::SeqCst) <= nth;
        world.system().inject(Arc::new(|_, _| {}));
        assert_eq!(heir.take().await.as_deref(), Ok("leased"), "{nth}");
        let alone = |seen: &GroupObservation| {
            seen.standing.members == 1 && seen.members_online == 1 && seen.leases == 0
        };
        until_group(world, &filter, alone).await;
        // Whoever has the client id now has nothing to do with the group, and is well.
        second.subscribe(&topic, 1).await;
        publisher.publish(&topic, "both", 1).await.expect("routed");
        assert_eq!(second.take().await.as_deref(), Ok("both"), "{nth}");
        assert_eq!(heir.take().await.as_deref(), Ok("both"), "{nth}");
        for client in [second, heir, publisher] {
            client.hang_up();
        }
        if survived {
            return nth;
        }
    }
    unreachable!("an attach has an end")
}

#[test]
fn a_member_whose_actor_dies_while_it_makes_way_for_the_next_session_keeps_nothing() {
    run(async {
        for (before, next) in [
            (transient(), transient()),
            (transient(), anew(kept())),
            (kept(), transient()),
            (kept(), anew(kept())),
        ] {
            let mut world = World::start().await;
            let deaths = give_way_and_die(&world, before, next).await;
            assert!(deaths > 5, "{deaths} deaths are not the whole attach");
            world.stop().await;
        }
    });
}
