//! How much a client is sent at once: its receive maximum counts by connection, and QoS 2 has a limit of its own for 3.x.

use super::*;
use crate::model::effect::WhichGroup;
use crate::model::group::talk::{GroupRef, Lease, Leased, Said};
use crate::model::ids::{GroupNumber, ShardId};

/// A client that takes `receive_max` at once, subscribed to everything with QoS 2.
fn taking(receive_max: u16) -> Script {
    let mut s = Script::new("meter-7");
    s.connect.receive_max = receive_max;
    s.attach();
    s.subscribe("t", QOS2);
    s
}

/// A 3.1.1 client that is sent two QoS 2 messages at once.
fn bridge() -> Script {
    let limits = SessionLimits {
        exactly_once_v3_max: 2,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("bridge", limits);
    s.connect.version = ProtocolVersion::V311;
    s.connect.expiry_seconds = u32::MAX;
    s.attach();
    s.subscribe("t", QOS2);
    s
}

fn log_qos2(s: &mut Script, payloads: &[&'static str]) {
    for payload in payloads {
        s.log(parts_of(payload, QOS2));
    }
}

fn complete(s: &mut Script, packet_id: u16) -> &mut Script {
    s.send(pubrec(packet_id));
    s.send(pubcomp(packet_id))
}

#[test]
fn a_release_on_a_new_connection_takes_nothing_of_the_receive_maximum() {
    // 5.0 section 4.9: the quota is re-initialized with each connection, and counts PUBLISH packets.
    let mut s = taking(1);
    log_qos2(&mut s, &["a", "b", "c"]);
    s.send(pubrec(1));
    s.close()
        .attach()
        .expect_sent(&["connack resumed 3600", "pubrel 1 true", "publish b q2 #2"]);
    // PUBCOMP for what was published before gives no more than there was.
    s.send(pubcomp(1)).expect_sent(&[]);
    complete(&mut s, 2).expect_sent(&["publish c q2 #3"]);
}

#[test]
fn a_publish_sent_again_counts_for_the_new_connection() {
    let mut s = taking(1);
    log_qos2(&mut s, &["a", "b"]);
    s.close()
        .attach()
        .expect_sent(&["connack resumed 3600", "publish a q2 #1 dup"]);
    s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
    s.send(pubcomp(1)).expect_sent(&["publish b q2 #2"]);
}

#[test]
fn what_is_released_over_many_connections_stays_within_the_window() {
    let limits = SessionLimits {
        inflight_max: 3,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.connect.receive_max = 1;
    s.attach();
    s.subscribe("t", QOS2);
    log_qos2(&mut s, &["a", "b", "c", "d", "e"]);
    for packet_id in 1..=3 {
        s.send(pubrec(packet_id));
        s.close().attach();
    }
    assert_eq!(s.window(), [1, 2, 3]);
    s.send(pubcomp(1)).expect_sent(&["publish d q2 #4"]);
}

#[test]
fn a_3_1_1_client_has_few_qos_2_exchanges_open() {
    let mut s = bridge();
    log_qos2(&mut s, &["a", "b", "c", "d"]);
    assert_eq!(s.window(), [1, 2]);
    // PUBREC is not enough: the client holds the message until PUBREL.
    s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
    s.send(pubcomp(1)).expect_sent(&["publish c q2 #3"]);
    s.close().attach().expect_sent(&[
        "connack resumed 259200",
        "publish b q2 #2 dup",
        "publish c q2 #3 dup",
    ]);
    complete(&mut s, 2).expect_sent(&["publish d q2 #4"]);
}

#[test]
fn exchanges_of_earlier_connections_count_for_a_3_1_1_client() {
    // It keeps them, as its session does.
    let mut s = bridge();
    log_qos2(&mut s, &["a", "b", "c"]);
    s.send(pubrec(1));
    s.close().attach().expect_sent(&[
        "connack resumed 259200",
        "pubrel 1 true",
        "publish b q2 #2 dup",
    ]);
    s.send(pubcomp(1)).expect_sent(&["publish c q2 #3"]);
}

#[test]
fn a_window_that_a_5_0_client_left_is_sent_again_to_a_3_1_1_client_as_it_takes_it() {
    let mut s = bridge();
    s.connect.version = ProtocolVersion::V5;
    s.close().attach();
    log_qos2(&mut s, &["a", "b", "c", "d"]);
    assert_eq!(s.window(), [1, 2, 3, 4]);
    s.connect.version = ProtocolVersion::V311;
    s.close().attach().expect_sent(&[
        "connack resumed 259200",
        "publish a q2 #1 dup",
        "publish b q2 #2 dup",
    ]);
    complete(&mut s, 1).answered();
    assert_eq!(s.session.inflight().first_due().unwrap().packet_id, id(4));
    complete(&mut s, 2).answered();
    complete(&mut s, 3).answered();
    assert_eq!(s.session.inflight().first_due(), None);
}

#[test]
fn qos_1_is_not_concerned_but_does_not_overtake() {
    let mut s = bridge();
    for payload in ["a", "b", "c"] {
        s.log(parts(payload));
    }
    log_qos2(&mut s, &["d", "e"]);
    assert_eq!(s.window(), [1, 2, 3, 4, 5]);
    s.log(parts("f")).expect_sent(&["publish f q1 #6"]);
    log_qos2(&mut s, &["g"]);
    s.expect_sent(&[]);
    s.log(parts("h")).expect_sent(&[]);
    s.send(pubrec(4));
    s.send(pubcomp(4))
        .expect_sent(&["publish g q2 #7", "publish h q1 #8"]);
}

#[test]
fn a_transient_3_1_1_session_keeps_to_it() {
    let mut s = bridge();
    s.connect.expiry_seconds = 0;
    s.connect.clean_start = true;
    s.attach();
    for payload in ["a", "b", "c"] {
        s.live(parts_of(payload, QOS2));
    }
    assert_eq!(s.window(), [1, 2]);
    s.live(parts("d")).expect_sent(&[]);
    complete(&mut s, 1).expect_sent(&["publish c q2 #3", "publish d q1 #4"]);
}

#[test]
fn retained_messages_keep_to_it() {
    let mut s = bridge();
    let topics = ["r/1", "r/2", "r/3"];
    for topic in topics {
        s.retain(MessageParts {
            qos: QOS2,
            ..parts_to(topic, topic)
        });
    }
    s.subscribe("r/+", QOS2);
    assert_eq!(s.window(), [65_535, 65_534]);
    // It is not asked for again and again while there is no room.
    assert!(
        !s.effects
            .iter()
            .skip_while(|it| !matches!(it, Effect::Send(Outbound::Publish(_))))
            .any(|it| matches!(it, Effect::ReadRetained { .. }))
    );
    s.send(pubrec(65_535));
    s.send(pubcomp(65_535)).answered();
    assert_eq!(s.window(), [65_534, 65_533]);
}

#[test]
fn a_group_hears_of_room_when_there_is_some_for_what_it_leases() {
    let group = GroupRef {
        number: GroupNumber(1),
        home: ShardId(0),
    };
    let said = |s: &Script| {
        let effects = s.effects.iter().filter_map(|effect| match effect {
            Effect::TellGroup {
                to: WhichGroup::Group(_),
                said,
                ..
            } => Some(said.clone()),
            _ => None,
        });
        effects.collect::<Vec<_>>()
    };
    let mut s = bridge();
    s.subscribe("$share/g/t", QOS2);
    log_qos2(&mut s, &["a", "b"]);
    let message = Arc::new(Message::new(parts_of("x", QOS2)));
    let at = Offset(900);
    let fence = s.session.fence();
    s.input(Input::Leased(Leased {
        group,
        filter: filter("$share/g/t"),
        fence,
        what: [Lease::Record {
            at,
            message: Arc::clone(&message),
        }]
        .into(),
    }));
    let full = true;
    assert_eq!(
        said(&s),
        [Said::Returned {
            fence,
            at,
            message,
            full
        }]
    );
    s.log(parts("c"));
    s.send(puback(3));
    assert_eq!(said(&s), []);
    complete(&mut s, 1);
    assert_eq!(said(&s), [Said::Room(fence, 1)]);
}
