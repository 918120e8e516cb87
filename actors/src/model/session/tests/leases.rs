//! What groups lease to a session.

use super::*;
use crate::model::effect::WhichGroup;
use crate::model::group::talk::{GroupRef, Lease, Leased, MEMORY_LEASES_FROM, Said};
use crate::model::ids::{GroupNumber, ShardId};
use crate::model::refusal::Refusal;

const GROUP: GroupRef = GroupRef {
    number: GroupNumber(1),
    home: ShardId(0),
};

const AT: Offset = Offset(900);

fn shared() -> Filter {
    filter("$share/g/t")
}

fn said(s: &Script) -> Vec<Said> {
    let effects = s.effects.iter().filter_map(|effect| match effect {
        Effect::TellGroup {
            to: WhichGroup::Group(GROUP),
            said,
            ..
        } => Some(said.clone()),
        _ => None,
    });
    effects.collect()
}

/// A member of the group.
fn member() -> Script {
    member_with(SessionLimits::default())
}

fn member_with(limits: SessionLimits) -> Script {
    let mut s = Script::with_limits("member", limits);
    s.attach();
    s.send(Inbound::Subscribe {
        packet_id: id(9),
        filters: vec![(shared(), SubscriptionOptions::of_qos(QOS2), None)],
    });
    s
}

fn lease(s: &mut Script, what: Lease) {
    let leased = Leased {
        group: GROUP,
        filter: shared(),
        fence: s.session.fence(),
        what: [what].into(),
    };
    s.input(Input::Leased(leased));
}

/// Leases a record; gives the packet identifier under which the client has it.
fn lease_record(s: &mut Script, at: Offset, qos: QoS) -> PacketId {
    let message = Arc::new(Message::new(parts_of("x", qos)));
    lease(s, Lease::Record { at, message });
    let leases = s.session.inflight().leases();
    leases.last().expect("it is sent").1.packet_id
}

fn leave(s: &mut Script) {
    s.unsubscribe(&["$share/g/t"]);
}

#[test]
fn a_lease_that_its_client_refuses_is_settled_and_not_returned() {
    // [MQTT-4.8.2-6]
    let mut s = member();
    let packet_id = lease_record(&mut s, AT, QOS1);
    let failed = true;
    s.send(Inbound::PubAck { packet_id, failed });
    assert_eq!(said(&s), [Said::Settled(s.session.fence(), [AT].into())]);
    assert!(s.session.inflight().is_empty());
}

#[test]
fn asked_what_it_has_a_session_names_qos_1_and_counts_what_is_its_own() {
    let mut s = member();
    lease_record(&mut s, AT, QOS1);
    lease_record(&mut s, Offset(901), QOS2);
    s.clear();
    lease(&mut s, Lease::Recount);
    let said = said(&s);
    let [Said::Recounted(online)] = said.as_slice() else {
        panic!("{said:?}");
    };
    assert_eq!((online.fence, online.qos), (s.session.fence(), QOS2));
    assert_eq!(
        (online.holds.as_slice(), online.taken),
        ([AT].as_slice(), 1)
    );
}

/// The connection ends without a word to any group.
fn ends_silently(s: &mut Script) {
    s.clear();
    s.close();
    let told = |effect: &Effect| matches!(effect, Effect::TellGroup { .. });
    assert!(!s.effects.iter().any(told));
}

#[test]
fn what_a_client_has_it_settles_after_it_unsubscribed_and_then_the_group_is_forgotten() {
    let mut s = member();
    let packet_id = lease_record(&mut s, AT, QOS1);
    leave(&mut s);
    let failed = false;
    s.send(Inbound::PubAck { packet_id, failed });
    assert_eq!(said(&s), [Said::Settled(s.session.fence(), [AT].into())]);
    ends_silently(&mut s);
}

#[test]
fn a_group_that_is_left_with_nothing_unsettled_is_forgotten_at_once() {
    let mut s = member();
    let packet_id = lease_record(&mut s, AT, QOS1);
    let failed = false;
    s.send(Inbound::PubAck { packet_id, failed });
    leave(&mut s);
    ends_silently(&mut s);
}

#[test]
fn what_is_leased_after_the_client_unsubscribed_goes_back() {
    let mut s = member();
    leave(&mut s);
    let message = Arc::new(Message::new(parts("x")));
    let what = Lease::Record {
        at: AT,
        message: Arc::clone(&message),
    };
    lease(&mut s, what);
    let returned = Said::Returned {
        fence: s.session.fence(),
        at: AT,
        message,
        full: false,
    };
    assert_eq!(said(&s), [returned]);
}

#[test]
fn what_the_connection_has_no_room_for_goes_back_and_the_group_hears_when_there_is() {
    let limits = SessionLimits {
        send_ahead_bytes: 1,
        ..SessionLimits::default()
    };
    let mut s = member_with(limits);
    lease_record(&mut s, AT, QOS1);
    assert!(s.has(&Effect::Send(Outbound::AwaitRoom)));
    let at = Offset(901);
    let message = Arc::new(Message::new(parts("y")));
    let record = Lease::Record {
        at,
        message: Arc::clone(&message),
    };
    lease(&mut s, record);
    let fence = s.session.fence();
    let full = Said::Returned {
        fence,
        at,
        message,
        full: true,
    };
    assert_eq!(said(&s), [full]);
    s.send(Inbound::Room);
    let room = s.limits.inflight_max - 1;
    assert_eq!(said(&s), [Said::Room(fence, room)]);
}

/// Its lease went back when the connection ended, so the identifier is free.
#[test]
fn what_a_client_acknowledges_of_an_earlier_connection_is_not_what_it_is_leased_now() {
    let mut s = member();
    let earlier = lease_record(&mut s, AT, QOS1);
    s.close().after_seconds(1).crash().attach();
    let now = lease_record(&mut s, Offset(901), QOS1);
    assert_ne!(now, earlier);
    s.send(Inbound::PubAck {
        packet_id: earlier,
        failed: false,
    });
    assert_eq!(said(&s), []);
    assert_eq!(s.window(), [now.get()]);
}

#[test]
fn what_is_in_memory_only_a_kept_session_gives_back() {
    let mut s = member();
    let at = MEMORY_LEASES_FROM;
    let message = Arc::new(Message::new(parts_of("x", QOS2)));
    let what = Lease::Record {
        at,
        message: Arc::clone(&message),
    };
    lease(&mut s, what);
    let returned = Said::Returned {
        fence: s.session.fence(),
        at,
        message,
        full: false,
    };
    assert_eq!(said(&s), [returned]);
    assert!(s.session.inflight().is_empty());
}

/// An older record of a group took the place of the newer message in what was remembered of the topic, and the page under way
/// brought the retained one before that.
#[test]
fn what_a_group_leases_replaces_no_retained_message() {
    let mut s = member();
    let older = Offset(0);
    let of_topic = |payload| MessageParts {
        retain: true,
        ..parts(payload)
    };
    s.retain(of_topic("old"));
    s.send(Inbound::Subscribe {
        packet_id: id(10),
        filters: vec![(filter("t"), SubscriptionOptions::of_qos(QOS0), None)],
    });
    let asked = s.effects.clone();
    let page: Vec<_> = asked.into_iter().filter_map(|it| s.answer(it)).collect();
    s.live(of_topic("new"));
    let message = Arc::new(Message::new(of_topic("older")));
    let at = older;
    lease(&mut s, Lease::Record { at, message });
    s.clear();
    for input in page {
        s.apply(input);
    }
    s.answered().expect_sent(&[]);
}

#[test]
fn a_lease_is_acknowledged_as_it_was_sent() {
    for qos in [QOS1, QOS2] {
        let mut s = member();
        let packet_id = lease_record(&mut s, AT, qos);
        s.send(match qos {
            QOS1 => pubcomp(packet_id.get()),
            QOS0 | QOS2 => puback(packet_id.get()),
        });
        assert!(s.has(&Effect::Send(Outbound::Close(Refusal::WrongAck))));
        // QoS 1 goes back to the group: on the next connection its identifier names nothing.
        s.attach_unanswered();
        let holds = s.session.inflight().len();
        assert_eq!(holds, usize::from(qos == QOS2));
        if qos == QOS1 {
            s.send(puback(packet_id.get())).expect_sent(&[]);
        }
    }
}

#[test]
fn a_lease_that_is_sent_again_has_the_identifier_of_its_own_share() {
    let mut s = member();
    for (text, id) in [("$share/g/t", 1), ("$share/h/t", 2)] {
        let options = SubscriptionOptions {
            id: Some(id),
            ..SubscriptionOptions::of_qos(QOS2)
        };
        s.subscribe_with(text, options);
    }
    for (number, text) in [(1, "$share/g/t"), (2, "$share/h/t")] {
        let leased = Leased {
            group: GroupRef {
                number: GroupNumber(number),
                ..GROUP
            },
            filter: filter(text),
            fence: s.session.fence(),
            what: [Lease::Record {
                at: Offset(s.end),
                message: Arc::new(Message::new(parts_of("x", QOS2))),
            }]
            .into(),
        };
        s.log(parts_of("x", QOS2)).input(Input::Leased(leased));
    }
    // Another identifier says nothing about what was sent.
    let options = SubscriptionOptions {
        id: Some(3),
        ..SubscriptionOptions::of_qos(QOS2)
    };
    s.subscribe_with("$share/h/t", options);
    let ids = |s: &Script| -> Vec<Vec<u32>> {
        let sent = s.sent();
        let ids = sent.iter().filter_map(|packet| match packet {
            Outbound::Publish(delivery) => Some(delivery.subscription_ids.to_vec()),
            _ => None,
        });
        ids.collect()
    };
    s.close().attach();
    assert_eq!(ids(&s), [[1], [2]]);
    s.crash().attach();
    assert_eq!(ids(&s), [[1], [2]]);
}
