//! Transient sessions: messages from the routing pass, a bounded queue, no journal.

use super::*;
use crate::model::limits::Overflow;

fn bounded(overflow: Overflow, queue_messages_max: u32, queue_bytes_max: u64) -> Script {
    let limits = SessionLimits {
        overflow,
        queue_messages_max,
        queue_bytes_max,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.connect.expiry_seconds = 0;
    s.connect.receive_max = 1;
    s.attach();
    s
}

fn unbounded() -> Script {
    bounded(Overflow::DropOldest, 0, 0)
}

#[test]
fn messages_wait_for_credit_and_leave_in_order() {
    // [MQTT-3.3.4-9]
    let mut s = unbounded();
    s.live(parts("a")).expect_sent(&["publish a q1 #1"]);
    s.live(parts("b")).expect_sent(&[]);
    s.live(parts("c")).expect_sent(&[]);
    s.send(puback(1)).expect_sent(&["publish b q1 #2"]);
    s.live(parts("d")).expect_sent(&[]);
    s.send(puback(2)).expect_sent(&["publish c q1 #3"]);
    s.send(puback(3)).expect_sent(&["publish d q1 #4"]);
}

#[test]
fn qos_2_holds_its_credit_until_pubcomp() {
    let mut s = unbounded();
    s.live(parts_of("a", QOS2)).live(parts("b"));
    s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
    s.send(pubcomp(1)).expect_sent(&["publish b q1 #2"]);
}

#[test]
fn qos_0_needs_no_credit() {
    // 5.0: [MQTT-4.9.0-3]
    let mut s = unbounded();
    s.live(parts("a")).live(parts("b"));
    s.live(parts_of("c", QOS0)).expect_sent(&["publish c q0"]);
}

#[test]
fn a_message_that_expires_in_the_queue_is_dropped_and_counted() {
    // [MQTT-3.3.2-5]
    let mut s = unbounded();
    let expiring = MessageParts {
        expires_at: Some(START.plus_seconds(5)),
        ..parts("b")
    };
    s.live(parts("a")).live(expiring).live(parts("c"));
    s.after_seconds(5).send(puback(1));
    s.expect_sent(&["publish c q1 #2"]);
    assert_eq!(s.counted(Counter::DroppedExpired), 1);
}

#[test]
fn a_full_queue_drops_the_oldest() {
    let mut s = bounded(Overflow::DropOldest, 2, 0);
    s.live(parts("a")).live(parts("b")).live(parts("c"));
    s.live(parts("d"))
        .expect(&[])
        .expect_counts(&[Counter::DroppedQueueFull]);
    s.send(puback(1)).expect_sent(&["publish c q1 #2"]);
    s.send(puback(2)).expect_sent(&["publish d q1 #3"]);
}

#[test]
fn a_full_queue_drops_the_new_one_if_told_so() {
    let mut s = bounded(Overflow::DropNew, 2, 0);
    s.live(parts("a")).live(parts("b")).live(parts("c"));
    s.live(parts("d"))
        .expect(&[])
        .expect_counts(&[Counter::DroppedQueueFull]);
    s.send(puback(1)).expect_sent(&["publish b q1 #2"]);
    s.send(puback(2)).expect_sent(&["publish c q1 #3"]);
    s.send(puback(3)).expect_sent(&[]);
}

#[test]
fn a_full_queue_ends_the_session_if_told_so() {
    let mut s = bounded(Overflow::ExpireSession, 1, 0);
    s.live(parts("a")).live(parts("b"));
    s.live(parts("c")).expect_sent(&["close NotReading"]);
    assert!(s.has(&Effect::End));
    assert!(!s.session.is_begun());
    // One begun, one queued.
    assert_eq!(s.counted(Counter::DroppedSessionEnded), 2);
}

#[test]
fn a_queue_is_bounded_by_bytes_too() {
    // Topic and payload are two bytes.
    let mut s = bounded(Overflow::DropOldest, 0, 4);
    s.live(parts("a")).live(parts("b")).live(parts("c"));
    s.live(parts("d"))
        .expect(&[])
        .expect_counts(&[Counter::DroppedQueueFull]);
    s.send(puback(1)).expect_sent(&["publish c q1 #2"]);
    s.live(parts("e")).expect(&[]);
}

#[test]
fn a_message_larger_than_the_queue_pushes_nothing_out() {
    let mut s = bounded(Overflow::DropOldest, 0, 4);
    s.live(parts("a")).live(parts("b"));
    s.live(parts("12345"))
        .expect(&[])
        .expect_counts(&[Counter::DroppedQueueFull]);
    s.send(puback(1)).expect_sent(&["publish b q1 #2"]);
}

#[test]
fn what_waits_when_the_session_ends_is_counted() {
    let mut s = unbounded();
    s.live(parts("a")).live(parts("b")).live(parts("c"));
    s.close();
    assert_eq!(s.counted(Counter::DroppedSessionEnded), 3);
}

#[test]
fn a_new_transient_session_starts_with_an_empty_queue_and_fresh_identifiers() {
    let mut s = unbounded();
    s.live(parts("a")).live(parts("b"));
    s.attach().expect_sent(&["connack new 0"]);
    s.live(parts("c")).expect_sent(&["publish c q1 #1"]);
}

#[test]
fn a_transient_session_asks_the_journal_for_nothing() {
    let mut s = Script::transient("meter-7");
    s.subscribe("t", QOS1).expect_sent(&["suback 1"]);
    let reads = |effect: &Effect| matches!(effect, Effect::Read { .. } | Effect::Reread(_));
    assert!(!s.effects.iter().any(reads));
    s.attach();
    assert!(!s.effects.iter().any(reads));
    assert_eq!(s.session.deadline(), None, "and records no progress");
}
