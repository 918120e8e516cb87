//! A session runs ahead of its connection by so many bytes and no more.

use super::*;

/// Not yet attached, with room for so many bytes.
fn ahead(send_ahead_bytes: u32) -> Script {
    let limits = SessionLimits {
        send_ahead_bytes,
        ..SessionLimits::default()
    };
    Script::with_limits("meter-7", limits)
}

/// With room for one delivery at a time.
fn kept() -> Script {
    let mut s = ahead(1);
    s.attach();
    s.deliver(&[])
}

/// What the connection gets, with the question for room.
#[track_caller]
fn expect(s: &Script, lines: &[&str]) {
    let sent = s.effects.iter().filter_map(|effect| match effect {
        Effect::Send(packet) => Some(line(packet)),
        _ => None,
    });
    assert_eq!(sent.collect::<Vec<_>>(), lines);
}

#[test]
fn records_wait_until_the_connection_has_room() {
    let mut s = kept();
    s.log(parts("a"));
    expect(&s, &["publish a q1 #1", "await room"]);
    s.log(parts("b"));
    expect(&s, &[]);
    s.send(puback(1));
    expect(&s, &[]);
    s.send(Inbound::Room);
    expect(&s, &["publish b q1 #2", "await room"]);
    s.send(Inbound::Room);
    expect(&s, &[]);
    s.log(parts("c"));
    expect(&s, &["publish c q1 #3", "await room"]);
}

#[test]
fn a_transient_session_queues_meanwhile() {
    let mut s = ahead(1);
    s.connect.expiry_seconds = 0;
    s.attach().subscribe("t", QOS1);
    s.live(parts("a"));
    expect(&s, &["publish a q1 #1", "await room"]);
    s.live(parts("b"));
    expect(&s, &[]);
    s.live(parts_of("now", QOS0));
    expect(&s, &["publish now q0"]);
    s.send(Inbound::Room);
    expect(&s, &["publish b q1 #2", "await room"]);
}

#[test]
fn it_is_counted_in_bytes() {
    // Payload, topic, and what a delivery takes.
    let mut s = ahead(3 * 66);
    s.attach();
    let mut s = s.deliver(&["a", "b"]);
    s.log(parts("c"));
    expect(&s, &["publish c q1 #3", "await room"]);
    s.log(parts("d"));
    expect(&s, &[]);
}

#[test]
fn a_window_that_is_due_is_sent_again_as_there_is_room() {
    let mut s = kept();
    for payload in ["a", "b", "c"] {
        s.log(parts(payload)).answered();
    }
    s.close().attach_unanswered();
    s.expect_sent(&["connack resumed 3600"]);
    let [reread] = answers(&s).try_into().expect("one read");
    s.input(reread);
    expect(&s, &["publish a q1 #1 dup", "await room"]);
    s.send(puback(2));
    expect(&s, &[]);
    s.send(Inbound::Room);
    expect(&s, &[]);
    let [reread] = answers(&s).try_into().expect("one read");
    s.input(reread)
        .answered()
        .expect_sent(&["publish c q1 #3 dup"]);
    s.log(parts("d")).expect_sent(&["publish d q1 #4"]);
}

#[test]
fn a_new_connection_has_room() {
    let mut s = kept();
    s.log(parts("a")).close().attach();
    s.send(puback(1));
    s.log(parts("b"));
    expect(&s, &["publish b q1 #2", "await room"]);
}

fn answers(s: &Script) -> Vec<Input> {
    let effects = s.effects.clone();
    effects
        .into_iter()
        .filter_map(|effect| s.answer(effect))
        .collect()
}
