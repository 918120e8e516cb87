//! Shared subscriptions over TCP: who gets what, what waits, what a crash leaves, and what is refused.

use std::collections::BTreeSet;

use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::wire::{Ack, Connect, Version};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn number(payload: &str) -> u32 {
    payload.parse().expect("payloads are numbers")
}

/// Publishes the numbers of a range to `t`.
fn publish(broker: &Broker, numbers: std::ops::Range<u32>, qos: u8) {
    let mut publisher = Client::transient(broker, Version::V311, "publisher");
    for number in numbers {
        publisher.publish("t", &number.to_string(), qos);
    }
    publisher.disconnect();
}

/// Takes so many messages, acknowledged.
fn take(client: &mut Client, count: usize) -> BTreeSet<u32> {
    let taken: BTreeSet<u32> = (0..count)
        .map(|_| {
            let message = client.message();
            client.acknowledge(&message);
            number(message.text())
        })
        .collect();
    assert_eq!(taken.len(), count, "a message came twice");
    taken
}

fn online(broker: &Broker, members: u32) {
    eventually("the members are known to be online", || {
        let seen = broker.metric("outlive_group_members{state=\"online\"}");
        (seen - f64::from(members)).abs() < 0.5
    });
}

#[test]
fn members_of_all_versions_get_each_message_once_and_equal_shares() {
    // [MQTT-4.8.2-3]
    for qos in 0..=2 {
        for kept in [false, true] {
            let broker = Broker::start_with(&["runtime.shards=2"]);
            let mut members: Vec<Client> = VERSIONS
                .iter()
                .map(|version| {
                    let name = format!("member-{version:?}");
                    let mut member = match kept {
                        true => Client::kept(&broker, *version, &name),
                        false => Client::transient(&broker, *version, &name),
                    };
                    member.subscribe("$share/workers/+", qos);
                    member
                })
                .collect();
            let mut alone = Client::transient(&broker, Version::V5, "alone");
            alone.subscribe("t", qos);
            publish(&broker, 0..30, qos);
            let mut all = BTreeSet::new();
            for member in &mut members {
                all.append(&mut take(member, 10));
                member.assert_nothing_waits();
            }
            assert_eq!(all, (0..30).collect(), "qos {qos} kept {kept}");
            assert_eq!(take(&mut alone, 30), all, "who shares with nobody gets all");
        }
    }
}

#[test]
fn what_nobody_was_online_for_waits_and_survives_kill_9() {
    let mut broker = Broker::start_with(&["runtime.shards=2"]);
    for version in VERSIONS {
        let name = format!("member-{version:?}");
        let mut member = Client::kept(&broker, version, &name);
        member.subscribe("$share/workers/#", 1);
        member.disconnect();
    }
    publish(&broker, 0..10, 1);
    broker.crash();
    publish(&broker, 10..20, 2);
    let mut member = Client::kept(&broker, Version::V5, "member-V5");
    assert!(member.connack.present);
    assert_eq!(take(&mut member, 20), (0..20).collect());
    eventually("nothing is leased any more", || {
        broker.metric("outlive_group_leases") < 0.5
    });
    member.disconnect();
    broker.stop();
    broker.restart();
    let mut member = Client::kept(&broker, Version::V31, "member-V31");
    member.assert_nothing_waits();
    publish(&broker, 20..21, 1);
    assert_eq!(take(&mut member, 1), [20].into());
}

#[test]
fn what_a_member_did_not_acknowledge_with_qos_1_another_one_gets() {
    let broker = Broker::start_with(&["runtime.shards=2"]);
    for kept in [false, true] {
        let connect = |name: &str| match kept {
            true => Client::kept(&broker, Version::V311, &format!("{name}-kept")),
            false => Client::transient(&broker, Version::V311, name),
        };
        let filter = format!("$share/{kept}/t");
        let mut silent = connect("silent");
        silent.subscribe(&filter, 1);
        publish(&broker, 0..10, 1);
        for _ in 0..10 {
            silent.message(); // sent, and not acknowledged
        }
        let mut other = connect("other");
        other.subscribe(&filter, 1);
        silent.vanish();
        assert_eq!(take(&mut other, 10), (0..10).collect(), "kept {kept}");
        other.unsubscribe(&filter);
    }
}

#[test]
fn a_qos_2_delivery_stays_with_its_member_and_ends_with_its_session() {
    // [MQTT-4.8.2-4], [MQTT-4.8.2-5]
    let mut broker = Broker::start_with(&["runtime.shards=2"]);
    let mut first = Client::kept(&broker, Version::V311, "first");
    first.subscribe("$share/g/t", 2);
    publish(&broker, 0..2, 2);
    let begun = first.message();
    let other_id = first.message().id;
    first.send_ack(Ack::Pubrec, other_id);
    first.wait_ack(Ack::Pubrel, other_id);
    let mut second = Client::kept(&broker, Version::V311, "second");
    second.subscribe("$share/g/t", 2);
    first.vanish();
    broker.crash();
    let mut second = {
        second.closed();
        Client::kept(&broker, Version::V311, "second")
    };
    publish(&broker, 2..3, 2);
    assert_eq!(
        take(&mut second, 1),
        [2].into(),
        "not what the first one has"
    );
    let mut first = Client::kept(&broker, Version::V311, "first");
    let again = first.message();
    assert_eq!(
        (again.id, again.text(), again.duplicate),
        (begun.id, begun.text(), true)
    );
    first.wait_ack(Ack::Pubrel, other_id);
    first.send_ack(Ack::Pubcomp, other_id);
    first.vanish();
    // The session ends: what was begun is gone, nobody else gets it.
    Client::transient(&broker, Version::V311, "first").disconnect();
    publish(&broker, 3..4, 2);
    assert_eq!(take(&mut second, 1), [3].into());
    second.assert_nothing_waits();
}

#[test]
fn the_last_member_takes_the_group_with_it_and_the_next_one_begins_at_the_end() {
    let broker = Broker::start_with(&["runtime.shards=2"]);
    let mut member = Client::kept(&broker, Version::V5, "member");
    member.subscribe("$share/g/t", 1);
    member.disconnect();
    publish(&broker, 0..5, 1);
    let mut member = Client::kept(&broker, Version::V5, "member");
    member.unsubscribe("$share/g/t");
    drop(member);
    eventually("the group is gone", || {
        broker.metric("outlive_groups") < 0.5
    });
    let mut member = Client::kept(&broker, Version::V5, "late");
    member.subscribe("$share/g/t", 1);
    publish(&broker, 5..6, 1);
    assert_eq!(take(&mut member, 1), [5].into());
    member.assert_nothing_waits();
}

#[test]
fn a_declared_group_keeps_its_progress_without_members() {
    let mut broker = Broker::start_with(&[
        "runtime.shards=2",
        "shared.groups=jobs=sticky,other",
        "shared.require_declared_groups=true",
    ]);
    let mut member = Client::transient(&broker, Version::V5, "x7f3");
    assert_eq!(member.try_subscribe("$share/jobs/t", 1), 1);
    assert_eq!(member.try_subscribe("$share/wrong/t", 1), 0x87);
    member.disconnect();
    let mut old = Client::transient(&broker, Version::V311, "old");
    assert_eq!(old.try_subscribe("$share/wrong/t", 1), 0x80);
    publish(&broker, 0..5, 1);
    broker.crash();
    let mut member = Client::transient(&broker, Version::V5, "a91c");
    member.subscribe("$share/jobs/t", 1);
    assert_eq!(take(&mut member, 5), (0..5).collect());
}

#[test]
fn limits_of_groups_are_refused_with_a_code_and_counted() {
    let broker = Broker::start_with(&[
        "shared.groups_max=2",
        "shared.filters_per_group_max=2",
        "shared.members_per_group_max=3",
    ]);
    let mut v5 = Client::transient(&broker, Version::V5, "five");
    for filter in ["$share/a/1", "$share/a/2", "$share/b/1"] {
        assert_eq!(v5.try_subscribe(filter, 1), 1, "{filter}");
    }
    assert_eq!(v5.try_subscribe("$share/a/3", 1), 0x97, "filters");
    assert_eq!(v5.try_subscribe("$share/c/1", 1), 0x97, "groups");
    assert_eq!(
        v5.try_subscribe("$share/a/1", 0),
        0,
        "it is a member already"
    );
    let mut v311 = Client::transient(&broker, Version::V311, "four");
    assert_eq!(v311.try_subscribe("$share/a/1", 1), 1);
    assert_eq!(v311.try_subscribe("$share/a/2", 1), 0x80, "members");
    let refused = broker.metric("outlive_group_refused_total");
    assert!((refused - 3.0).abs() < 0.5, "{refused}");
    v5.unsubscribe("$share/b/1");
    assert_eq!(v5.try_subscribe("$share/c/1", 1), 1, "there is room again");
}

#[test]
fn overlapping_subscriptions_of_one_client_are_one_delivery_and_one_for_each_share() {
    let broker = Broker::start_with(&["runtime.shards=2"]);
    let mut client = Client::kept(&broker, Version::V5, "client");
    for filter in ["t", "+", "$share/a/t", "$share/a/#", "$share/b/t"] {
        client.subscribe(filter, 1);
    }
    online(&broker, 3);
    publish(&broker, 0..1, 1);
    for _ in 0..4 {
        client.expect("0");
    }
    client.assert_nothing_waits();
}

#[test]
fn retained_messages_are_not_sent_to_those_who_share() {
    let broker = Broker::start();
    let mut publisher = Client::transient(&broker, Version::V311, "publisher");
    publisher.publish_retained("t", "old", 1);
    let mut member = Client::kept(&broker, Version::V5, "member");
    member.subscribe("$share/g/t", 1);
    member.assert_nothing_waits();
    publisher.publish("t", "new", 1);
    member.expect("new");
}

#[test]
fn a_member_that_reads_nothing_more_does_not_hold_the_others_up() {
    let broker = Broker::start_with(&["runtime.shards=2", "session.inflight_max=2"]);
    let mut slow = Client::kept(&broker, Version::V311, "slow");
    slow.subscribe("$share/g/t", 1);
    let mut quick = Client::connect(&broker, &Connect::kept(Version::V311, "quick"));
    quick.subscribe("$share/g/t", 1);
    online(&broker, 2);
    publish(&broker, 0..20, 1);
    let mut all = take(&mut quick, 18);
    quick.assert_nothing_waits();
    all.append(&mut take(&mut slow, 2));
    assert_eq!(all, (0..20).collect());
}
