//! Progress is recorded lazily, and what the changes fold to goes on exactly.

use super::*;

fn detached(s: &Script) -> Change {
    Change::Detached {
        at: s.time,
        expiry_seconds: 3600,
        will_due: false,
    }
}

#[test]
fn progress_is_recorded_after_so_many_acknowledgements() {
    let limits = SessionLimits {
        progress_acks_max: 2,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.attach();
    let mut s = s.deliver(&["a", "b", "c"]);
    s.send(puback(1));
    assert_eq!(s.progress(), None);
    let end = Offset(s.end);
    s.send(puback(2));
    assert_eq!(s.progress(), Some((end, 4, vec![3])));
    s.send(puback(3));
    assert_eq!(s.progress(), None, "the count starts again");
}

#[test]
fn progress_is_recorded_a_second_after_the_first_acknowledgement() {
    let mut s = Script::attached("meter-7").deliver(&["a", "b"]);
    s.send(puback(1));
    let due = s.time.plus_millis(1000);
    assert_eq!(s.session.deadline(), Some(due));
    s.time = s.time.plus_millis(999);
    s.send(puback(2)).tick().expect(&[]);
    assert_eq!(s.session.deadline(), Some(due), "the first one counts");
    s.time = due;
    let end = Offset(s.end);
    s.tick();
    assert_eq!(s.progress(), Some((end, 3, vec![])));
    s.tick().expect(&[]);
}

#[test]
fn a_quiet_reader_follows_the_journal_so_that_it_pins_nothing() {
    let mut s = Script::attached("meter-7").deliver(&[]);
    s.log(parts_to("other", "x"));
    assert_eq!(s.session.deadline(), Some(START.plus_millis(600_000)));
    let end = Offset(s.end);
    s.after_seconds(600).tick();
    assert_eq!(s.progress(), Some((end, 1, vec![])));
    assert_eq!(s.snapshot.as_ref().unwrap().floor(), end);
}

#[test]
fn an_idle_tick_without_news_records_nothing_and_comes_again() {
    let mut s = Script::attached("meter-7");
    s.after_seconds(600).tick().expect(&[]);
    assert_eq!(s.session.deadline(), Some(s.time.plus_millis(600_000)));
}

#[test]
fn progress_is_recorded_before_the_detach() {
    let mut s = Script::attached("meter-7").deliver(&["a", "b"]);
    s.send(puback(1));
    let end = Offset(s.end);
    s.close();
    assert_eq!(s.progress(), Some((end, 3, vec![2])));
    assert_eq!(s.recorded().len(), 2);
    assert_eq!(s.recorded()[1], detached(&s));
}

#[test]
fn a_detach_without_news_records_no_progress() {
    let mut s = Script::attached("meter-7");
    s.close();
    assert_eq!(s.recorded(), [detached(&s)]);
}

#[test]
fn progress_does_not_pass_what_waits_for_credit() {
    let mut s = Script::new("meter-7");
    s.connect.receive_max = 1;
    s.attach();
    let mut s = s.deliver(&["a"]);
    let waiting = Offset(s.end);
    s.log(parts("b")).log(parts("c"));
    s.close();
    assert_eq!(s.session.cursor().next(), waiting);
    assert_eq!(s.progress(), Some((waiting, 2, vec![1])));
}

#[test]
fn the_floor_stays_at_the_oldest_unsettled_record() {
    let mut s = Script::attached("meter-7").deliver(&["a", "b"]);
    let (oldest, _) = s.journal.first_key_value().unwrap();
    let oldest = *oldest;
    s.send(puback(2)).close();
    assert_eq!(s.snapshot.as_ref().unwrap().floor(), oldest);
}

#[test]
fn a_restored_session_goes_on_exactly_where_it_stopped() {
    let mut s = Script::attached("meter-7").deliver(&["a", "b", "c"]);
    s.send(puback(2)).close();
    s.crash().log(parts("d")).attach();
    s.expect_sent(&[
        "connack resumed 3600",
        "publish a q1 #1 dup",
        "publish c q1 #3 dup",
        "publish d q1 #4",
    ]);
}

#[test]
fn after_a_crash_unrecorded_deliveries_come_again_with_their_identifiers_and_dup() {
    let mut s = Script::attached("meter-7").deliver(&["a", "b", "c"]);
    s.send(puback(1)); // not recorded yet
    s.crash().attach();
    s.expect_sent(&[
        "connack resumed 3600",
        "publish a q1 #1 dup",
        "publish b q1 #2 dup",
        "publish c q1 #3 dup",
    ]);
    s.log(parts("d")).expect_sent(&["publish d q1 #4"]);
}

#[test]
fn what_was_published_after_a_crash_is_no_duplicate() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.crash().log(parts("b")).attach();
    s.expect_sent(&[
        "connack resumed 3600",
        "publish a q1 #1 dup",
        "publish b q1 #2",
    ]);
}

#[test]
fn a_second_crash_derives_the_same_again() {
    let mut s = Script::attached("meter-7").deliver(&["a", "b"]);
    for _ in 0..3 {
        s.crash().attach();
        s.expect_sent(&[
            "connack resumed 3600",
            "publish a q1 #1 dup",
            "publish b q1 #2 dup",
        ]);
    }
}

#[test]
fn after_a_crash_a_re_read_skips_the_qos_2_records_that_were_sent() {
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS2);
    s.log(parts("a")).log(parts_of("b", QOS2)).log(parts("c"));
    s.crash().attach();
    s.expect_sent(&[
        "connack resumed 3600",
        "publish b q2 #2 dup",
        "publish a q1 #1 dup",
        "publish c q1 #3 dup",
    ]);
    assert_eq!(s.window(), [2, 1, 3]);
}

#[test]
fn after_a_crash_a_settled_qos_2_record_does_not_come_again() {
    // [MQTT-4.3.3-1]
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS2);
    s.log(parts("a")).log(parts_of("b", QOS2)).log(parts("c"));
    s.send(pubrec(2));
    s.send(pubcomp(2));
    s.crash().attach();
    s.expect_sent(&[
        "connack resumed 3600",
        "publish a q1 #1 dup",
        "publish c q1 #3 dup",
    ]);
}

#[test]
fn after_a_crash_a_released_qos_2_record_is_only_released() {
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS2);
    s.log(parts_of("a", QOS2)).send(pubrec(1));
    s.crash().attach();
    s.expect_sent(&["connack resumed 3600", "pubrel 1 true"]);
}

#[test]
fn after_a_crash_a_qos_2_record_that_was_not_sent_is_no_duplicate() {
    let mut s = Script::new("meter-7");
    s.connect.receive_max = 1;
    s.attach().subscribe("t", QOS2);
    s.log(parts_of("a", QOS2)).log(parts_of("b", QOS2));
    s.crash().attach();
    s.expect_sent(&["connack resumed 3600", "publish a q2 #1 dup"]);
    s.send(pubrec(1));
    s.send(pubcomp(1))
        .answered()
        .expect_sent(&["publish b q2 #2"]);
}

#[test]
fn recorded_progress_ends_the_doubt_about_what_was_sent() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.crash().attach();
    s.send(puback(1)).close();
    assert_eq!(
        s.snapshot.as_ref().unwrap().maybe_sent_below,
        Offset::default()
    );
    s.crash().attach();
    s.expect_sent(&["connack resumed 3600"]);
}

#[test]
fn identifiers_and_window_survive_any_number_of_restarts() {
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS2);
    s.log(parts_of("a", QOS2)).log(parts("b"));
    for _ in 0..3 {
        s.close().crash().attach();
        s.expect_sent(&[
            "connack resumed 3600",
            "publish a q2 #1 dup",
            "publish b q1 #2 dup",
        ]);
    }
    s.log(parts("c")).expect_sent(&["publish c q1 #3"]);
}

#[test]
fn a_restored_session_has_the_deadlines_it_had() {
    let mut s = Script::new("meter-7");
    s.connect.will = will("gone", 60);
    s.attach().close();
    let (expires_at, deadline) = (s.session.expires_at(), s.session.deadline());
    s.after_seconds(30).crash();
    assert_eq!(s.session.expires_at(), expires_at);
    assert_eq!(s.session.deadline(), deadline);
}
