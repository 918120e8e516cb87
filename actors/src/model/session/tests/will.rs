//! Wills, in every way in which a connection can end.

use super::*;
use crate::model::refusal::Refusal;

fn with_will(delay_seconds: u32) -> Script {
    let mut s = Script::new("meter-7");
    s.connect.will = will("gone", delay_seconds);
    s.attach();
    s.connect.will = None;
    s
}

#[test]
fn a_normal_disconnect_drops_the_will() {
    // [MQTT-3.14.4-3]
    let mut s = with_will(0);
    s.disconnect();
    assert!(s.published().is_empty());
    s.after_seconds(3600).tick();
    assert!(s.published().is_empty());
}

#[test]
fn a_normal_disconnect_drops_a_delayed_will() {
    let mut s = with_will(60);
    s.disconnect();
    assert!(s.snapshot.as_ref().unwrap().will.is_none());
    s.after_seconds(60).tick().expect(&[]);
}

#[test]
fn a_disconnect_with_will_publishes_it() {
    let mut s = with_will(0);
    s.disconnect_with(true, None);
    assert_eq!(s.published(), ["gone"]);
    assert_eq!(s.counted(Counter::WillPublished), 1);
}

#[test]
fn a_disconnect_with_will_still_waits_for_its_delay() {
    let mut s = with_will(60);
    s.disconnect_with(true, None);
    assert!(s.published().is_empty());
    s.after_seconds(60).tick();
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn a_lost_socket_publishes_the_will() {
    // [MQTT-3.1.2-8]
    let mut s = with_will(0);
    s.close();
    assert_eq!(s.published(), ["gone"]);
    s.after_seconds(3600).tick();
    assert!(s.published().is_empty(), "once");
}

#[test]
fn a_transient_session_publishes_its_will_whatever_the_delay() {
    // [MQTT-3.1.2-8]: the session ends
    let mut s = Script::new("meter-7");
    s.connect.expiry_seconds = 0;
    s.connect.will = will("gone", 60);
    s.attach().close();
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn a_disconnect_that_ends_the_session_publishes_a_will_it_asks_for_at_once() {
    let mut s = with_will(60);
    s.disconnect_with(true, Some(0));
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn a_delayed_will_is_published_after_its_delay_once() {
    let mut s = with_will(60);
    s.close();
    assert!(s.published().is_empty());
    assert_eq!(s.session.deadline(), Some(s.time.plus_seconds(60)));
    s.after_seconds(59).tick().expect(&[]);
    s.after_seconds(1).tick();
    assert_eq!(s.published(), ["gone"]);
    assert_eq!(s.recorded(), [Change::WillSettled]);
    s.tick().expect(&[]);
    assert!(s.session.is_begun(), "the session lives on");
}

#[test]
fn a_published_will_does_not_come_back_after_a_crash() {
    let mut s = with_will(60);
    s.close().after_seconds(60).tick();
    s.crash().after_seconds(1).tick().expect(&[]);
}

#[test]
fn a_resume_within_the_delay_cancels_the_will() {
    // [MQTT-3.1.3-9]
    let mut s = with_will(60);
    s.close().after_seconds(59).attach();
    assert!(s.published().is_empty());
    s.after_seconds(60).tick();
    assert!(s.published().is_empty());
    s.close();
    assert!(s.published().is_empty(), "the new connection has no will");
}

#[test]
fn a_resume_after_the_delay_finds_the_will_published_even_if_no_tick_came() {
    let mut s = with_will(60);
    s.close().after_seconds(60).attach();
    assert_eq!(s.published(), ["gone"]);
    s.close();
    assert!(s.published().is_empty());
}

#[test]
fn a_clean_start_within_the_delay_publishes_the_will() {
    let mut s = with_will(60);
    s.close().after_seconds(1);
    s.connect.clean_start = true;
    s.attach();
    assert_eq!(s.published(), ["gone"], "the old session ends");
}

#[test]
fn an_expiry_before_the_delay_publishes_the_will() {
    let mut s = with_will(7200);
    s.close();
    assert_eq!(s.session.deadline(), Some(s.time.plus_seconds(3600)));
    s.after_seconds(3600).tick();
    assert_eq!(s.published(), ["gone"]);
    assert!(s.has(&Effect::End));
}

#[test]
fn a_takeover_publishes_a_will_without_delay() {
    let mut s = with_will(0);
    s.attach();
    assert_eq!(s.published(), ["gone"]);
    s.expect_sent(&["connack resumed 3600"]);
}

#[test]
fn a_takeover_that_resumes_cancels_a_delayed_will() {
    let mut s = with_will(60);
    s.attach();
    assert!(s.published().is_empty());
    s.after_seconds(60).tick();
    assert!(s.published().is_empty());
}

#[test]
fn a_takeover_with_clean_start_publishes_a_delayed_will() {
    let mut s = with_will(60);
    s.connect.clean_start = true;
    s.attach();
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn a_refused_newcomer_does_not_touch_the_will() {
    let mut s = with_will(0);
    s.connect.principal = Principal::from("mallory");
    s.attach();
    assert!(s.published().is_empty());
    s.close();
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn an_operator_who_discards_a_session_publishes_its_will() {
    let mut s = with_will(60);
    s.input(Input::End {
        refusal: Refusal::Administrative,
        discard: true,
    });
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn a_will_of_a_connection_that_a_crash_cut_is_due_after_its_delay() {
    let mut s = with_will(60);
    s.crash();
    s.after_seconds(59).tick().expect(&[]);
    s.after_seconds(1).tick();
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn a_will_without_delay_of_a_connection_that_a_crash_cut_is_published_once() {
    let mut s = with_will(0);
    s.crash().attach();
    assert_eq!(s.published(), ["gone"]);
    s.crash().after_seconds(1).tick();
    assert!(s.published().is_empty());
}

#[test]
fn a_will_expires_from_its_publication_on() {
    let mut s = Script::new("meter-7");
    s.connect.will = will("gone", 60).map(|mut will| {
        will.expiry_seconds = Some(10);
        will
    });
    s.attach().close().after_seconds(60).tick();
    let expires = s.effects.iter().find_map(|effect| match effect {
        Effect::Publish { message, .. } => message.expires_at,
        _ => None,
    });
    assert_eq!(expires, Some(s.time.plus_seconds(10)));
}
