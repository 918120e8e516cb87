//! When a session begins, who holds it, when it ends.

use super::*;
use crate::model::refusal::Refusal;

const CAP: u32 = 259_200;

#[test]
fn a_first_connection_finds_no_session() {
    // [MQTT-3.2.2-3]
    let mut s = Script::new("meter-7");
    s.attach().expect_sent(&["connack new 3600"]);
    assert_eq!(s.counted(Counter::SessionCreated), 1);
    assert!(s.session.is_kept());
}

#[test]
fn a_kept_session_is_durable_before_its_connack() {
    let mut s = Script::new("meter-7");
    s.attach();
    let created = s.effects.iter().position(|effect| {
        matches!(effect, Effect::Persist(_, Change::Created(created)) if created.next == Offset(JOURNAL_START))
    });
    let connack = s.position(&Effect::Send(s.sent()[0].clone()));
    assert!(created.unwrap() < connack);
}

#[test]
fn a_resume_is_awaited_only_shortly_before_the_deadline_that_it_cancels() {
    for (away_seconds, awaited) in [(10, false), (3600 - 60, true)] {
        let mut s = Script::attached("meter-7");
        s.close();
        s.after_seconds(away_seconds);
        s.attach_unanswered();
        let persisted = s
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Persist(_, Change::Attached(_))));
        assert_eq!(persisted, awaited, "after {away_seconds} s");
    }
}

#[test]
fn a_transient_session_leaves_nothing_in_the_journal() {
    let mut s = Script::transient("meter-7");
    assert!(s.recorded().is_empty());
    s.subscribe("t", QOS2);
    assert!(s.recorded().is_empty());
    s.live(parts_of("a", QOS2));
    assert!(s.recorded().is_empty());
    s.send(pubrec(1));
    assert!(s.recorded().is_empty());
    s.send(pubcomp(1));
    s.send(publish(parts_of("b", QOS2), 5));
    assert!(s.recorded().is_empty());
    s.send(pubrel(5));
    assert!(s.recorded().is_empty());
    s.close();
    assert!(s.recorded().is_empty());
}

#[test]
fn every_version_and_every_pair_of_flags_means_what_the_contract_says() {
    use ProtocolVersion::{V5, V31, V311};
    // Version, clean start, expiry asked for; expiry in force, present after a reconnect with the same flags.
    for (version, clean_start, asked, in_force, present) in [
        (V31, true, 0, 0, false),
        (V311, true, 0, 0, false),
        (V31, false, u32::MAX, CAP, true),
        (V311, false, u32::MAX, CAP, true),
        (V5, true, 0, 0, false),
        (V5, false, 0, 0, false),
        (V5, false, 60, 60, true),
        (V5, true, 60, 60, false),
        (V5, false, u32::MAX, CAP, true),
        (V5, false, CAP + 1, CAP, true),
    ] {
        let mut s = Script::new("meter-7");
        s.connect.version = version;
        s.connect.clean_start = clean_start;
        s.connect.expiry_seconds = asked;
        s.attach()
            .expect_sent(&[&format!("connack new {in_force}")]);
        s.close();
        assert_eq!(s.session.is_begun(), in_force > 0, "{version:?} {asked}");
        let state = if present { "resumed" } else { "new" };
        s.attach()
            .expect_sent(&[&format!("connack {state} {in_force}")]);
    }
}

#[test]
fn an_expiry_above_the_cap_is_clamped_counted_and_recorded() {
    let mut s = Script::new("meter-7");
    s.connect.expiry_seconds = CAP + 1;
    s.attach();
    assert_eq!(s.counted(Counter::ExpiryClamped), 1);
    assert_eq!(s.snapshot.as_ref().unwrap().expiry_seconds, CAP);
}

#[test]
fn asking_for_never_gets_the_cap_and_is_no_clamp() {
    let mut s = Script::new("meter-7");
    s.connect.expiry_seconds = u32::MAX;
    s.attach();
    assert_eq!(s.counted(Counter::ExpiryClamped), 0);
}

#[test]
fn a_clean_start_with_an_expiry_is_fresh_now_and_kept_afterwards() {
    // [MQTT-3.1.2-4]
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.close();
    s.connect.clean_start = true;
    s.attach().expect_sent(&["connack new 3600"]);
    assert_eq!(s.counted(Counter::SessionDiscarded), 1);
    assert!(s.session.subscriptions().is_empty());
    assert!(s.window().is_empty());
    s.subscribe("t", QOS1).close();
    s.connect.clean_start = false;
    s.log(parts("b")).attach();
    s.expect_sent(&["connack resumed 3600", "publish b q1 #1"]);
}

#[test]
fn a_clean_start_ends_the_old_session_before_the_new_one_begins() {
    // 5.0: [MQTT-3.1.2-4]
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    let before = s.session.number();
    s.close();
    s.connect.clean_start = true;
    s.attach();
    let ended = s.position(&Effect::Persist(before, Change::Ended));
    let created = s
        .effects
        .iter()
        .position(|effect| matches!(effect, Effect::Persist(_, Change::Created(_))));
    assert!(ended < created.unwrap());
    assert_ne!(s.session.number(), before, "numbers are never reused");
    assert!(s.has(&Effect::Unsubscribe {
        filter: filter("t"),
        durable: true
    }));
    assert_eq!(s.counted(Counter::DroppedSessionEnded), 1);
}

#[test]
fn a_kept_session_moves_between_versions() {
    let mut s = Script::attached("meter-7").deliver(&[]);
    s.disconnect().log(parts("a"));
    s.connect.version = ProtocolVersion::V31;
    s.connect.expiry_seconds = u32::MAX;
    s.attach()
        .expect_sent(&["connack resumed 259200", "publish a q1 #1"]);
    assert_eq!(
        s.snapshot.as_ref().unwrap().version,
        ProtocolVersion::V31,
        "the version it was last used with is kept"
    );
}

#[test]
fn the_expiry_clock_starts_when_the_connection_ends() {
    // 3.1.1: [MQTT-4.1.0-1] [MQTT-4.1.0-2]
    // 5.0: [MQTT-4.1.0-1]
    // 5.0 section 3.1.2.11.2.
    let mut s = Script::attached("meter-7");
    s.after_seconds(10_000).tick();
    assert_eq!(s.session.expires_at(), None);
    s.close();
    let deadline = s.time.plus_seconds(3600);
    assert_eq!(s.session.expires_at(), Some(deadline));
    assert_eq!(s.session.deadline(), Some(deadline));
}

#[test]
fn a_session_ends_at_its_deadline_and_not_before() {
    // 5.0: [MQTT-4.1.0-2]
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.close().after_seconds(3599).tick().expect(&[]);
    s.after_seconds(1).tick();
    let number = s.session.number();
    s.expect(&[
        Effect::Unsubscribe {
            filter: filter("t"),
            durable: true,
        },
        Effect::Persist(number, Change::Ended),
        Effect::End,
    ])
    .expect_counts(&[Counter::DroppedSessionEnded, Counter::SessionExpired]);
    assert!(!s.session.is_begun());
    assert_eq!(s.session.deadline(), None);
    s.tick().expect(&[]);
}

#[test]
fn a_connection_after_the_deadline_is_a_first_one_even_if_no_tick_came() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.close().after_seconds(3600).attach();
    s.expect_sent(&["connack new 3600"]);
    assert_eq!(s.counted(Counter::SessionExpired), 1);
    assert!(s.session.subscriptions().is_empty());
}

#[test]
fn an_expired_session_does_not_keep_its_id_for_its_owner() {
    let mut s = Script::attached("meter-7");
    s.close().after_seconds(3600);
    s.connect.principal = Principal::from("mallory");
    s.attach().expect_sent(&["connack new 3600"]);
}

#[test]
fn a_reconnect_in_time_cancels_the_expiry() {
    let mut s = Script::attached("meter-7");
    s.close().after_seconds(3599).attach();
    s.expect_sent(&["connack resumed 3600"]);
    s.after_seconds(7200).tick();
    assert!(s.session.is_begun());
    assert_eq!(s.session.expires_at(), None);
}

#[test]
fn a_disconnect_changes_the_expiry() {
    let mut s = Script::attached("meter-7");
    s.disconnect_with(false, Some(60));
    assert_eq!(s.session.expires_at(), Some(s.time.plus_seconds(60)));
    assert_eq!(s.snapshot.as_ref().unwrap().expiry_seconds, 60);
}

#[test]
fn a_disconnect_above_the_cap_is_clamped_and_counted() {
    let mut s = Script::attached("meter-7");
    s.disconnect_with(false, Some(CAP + 1));
    assert_eq!(s.counted(Counter::ExpiryClamped), 1);
    assert_eq!(s.session.expires_at(), Some(s.time.plus_seconds(CAP)));
}

#[test]
fn a_disconnect_with_expiry_0_ends_the_session() {
    let mut s = Script::attached("meter-7");
    s.disconnect_with(false, Some(0));
    assert!(s.has(&Effect::End));
    assert!(s.snapshot.is_none());
    s.attach().expect_sent(&["connack new 3600"]);
}

#[test]
fn an_expiry_of_0_cannot_be_made_longer_at_disconnect() {
    // 5.0 section 3.14.2.2.2: a protocol error
    let mut s = Script::transient("meter-7");
    s.connect.will = will("gone", 0);
    s.attach();
    s.disconnect_with(false, Some(60));
    s.expect_sent(&["close Protocol"]);
    assert_eq!(s.published(), ["gone"], "that was no normal disconnection");
    assert!(s.has(&Effect::End));
}

#[test]
fn a_transient_session_ends_with_its_connection() {
    // 3.1.1: [MQTT-3.1.2-6]
    let mut s = Script::transient("meter-7");
    s.subscribe("t", QOS1);
    s.close()
        .expect(&[
            Effect::Listen(false),
            Effect::DropConnection,
            Effect::Unsubscribe {
                filter: filter("t"),
                durable: false,
            },
            Effect::End,
        ])
        .expect_counts(&[Counter::SessionDiscarded]);
}

#[test]
fn a_takeover_of_a_transient_session_starts_a_new_one() {
    let mut s = Script::transient("meter-7");
    s.subscribe("t", QOS1);
    s.attach().expect_sent(&["connack new 0"]);
    assert!(s.session.subscriptions().is_empty());
    assert_eq!(s.counted(Counter::SessionTakenOver), 1);
}

#[test]
fn a_takeover_of_a_kept_session_resumes_it_at_once() {
    // [MQTT-3.1.4-3]
    let mut s = Script::attached("meter-7").deliver(&[]);
    let fence = s.session.fence();
    s.attach().expect_sent(&["connack resumed 3600"]);
    assert!(s.session.fence() > fence);
    let switch = Effect::SwitchConnection {
        fence: s.session.fence(),
        taken_over: true,
    };
    assert!(s.position(&switch) < s.position(&Effect::Send(s.sent()[0].clone())));
    assert_eq!(s.session.subscriptions().len(), 1);
}

#[test]
fn a_takeover_with_clean_start_discards_a_kept_session() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.connect.clean_start = true;
    s.attach().expect_sent(&["connack new 3600"]);
    assert_eq!(s.counted(Counter::SessionTakenOver), 1);
    assert_eq!(s.counted(Counter::SessionDiscarded), 1);
}

#[test]
fn a_session_resumed_with_expiry_0_ends_with_that_connection() {
    let mut s = Script::attached("meter-7").deliver(&[]);
    s.close();
    s.connect.expiry_seconds = 0;
    s.attach().expect_sent(&["connack resumed 0"]);
    s.attach().expect_sent(&["connack new 0"]);
    assert!(s.session.subscriptions().is_empty());
    assert!(s.snapshot.is_none());
}

#[test]
fn another_principal_is_refused_and_the_session_untouched() {
    let mut s = Script::attached("meter-7").deliver(&[]);
    let fence = s.session.fence();
    s.connect.principal = Principal::from("mallory");
    s.attach()
        .expect(&[Effect::RefuseConnection(Refusal::NotAuthorized)])
        .expect_counts(&[Counter::OwnerRefused]);
    assert_eq!(s.session.fence(), fence);
    assert!(s.session.is_attached());
    s.log(parts("a")).expect_sent(&["publish a q1 #1"]);
}

#[test]
fn another_principal_is_refused_while_the_owner_is_away() {
    let mut s = Script::attached("meter-7");
    s.connect.will = will("gone", 60);
    s.attach().close();
    s.connect.principal = Principal::from("mallory");
    s.attach();
    assert!(s.has(&Effect::RefuseConnection(Refusal::NotAuthorized)));
    s.after_seconds(60).tick();
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn a_stale_connection_cannot_settle_a_record() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    let old = s.session.fence();
    s.attach();
    s.packet(old, puback(1))
        .expect(&[])
        .expect_counts(&[Counter::StaleFence]);
    assert_eq!(s.window(), [1]);
}

#[test]
fn the_end_of_a_displaced_connection_does_not_end_the_new_one() {
    let mut s = Script::attached("meter-7");
    let fence = s.session.fence();
    s.attach();
    s.input(Input::Closed { fence })
        .expect(&[])
        .expect_counts(&[Counter::StaleFence]);
    assert!(s.session.is_attached());
}

#[test]
fn a_connection_that_left_says_nothing_any_more() {
    let mut s = Script::attached("meter-7");
    s.disconnect();
    s.send(publish(parts_of("a", QOS0), 0))
        .expect(&[])
        .expect_counts(&[Counter::StaleFence]);
    s.close().expect(&[]).expect_counts(&[Counter::StaleFence]);
}

#[test]
fn a_fence_after_a_restart_is_above_every_fence_before_it() {
    let mut s = Script::attached("meter-7");
    let snapshot = s.snapshot.clone().unwrap();
    s.attach();
    s.attach();
    let lost = s.session.fence(); // its attach record did not reach the disk
    s.restore(snapshot).attach();
    assert!(s.session.fence() > lost);
}

#[test]
fn a_deadline_that_passed_while_the_broker_was_down_counts() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.close().after_seconds(3600).crash();
    s.attach().expect_sent(&["connack new 3600"]);
    assert_eq!(s.counted(Counter::SessionExpired), 1);
}

#[test]
fn a_session_attached_at_a_crash_counts_as_detached_from_then() {
    let mut s = Script::attached("meter-7");
    s.crash();
    assert_eq!(s.session.expires_at(), Some(s.time.plus_seconds(3600)));
    s.after_seconds(3600).tick();
    assert!(s.has(&Effect::End));
}

#[test]
fn an_operator_can_close_a_connection_and_keep_the_session() {
    let mut s = Script::attached("meter-7");
    s.input(Input::End {
        refusal: Refusal::Administrative,
        discard: false,
    })
    .expect_sent(&["close Administrative"]);
    assert!(s.session.is_begun());
    s.attach().expect_sent(&["connack resumed 3600"]);
}

#[test]
fn an_operator_can_discard_a_session() {
    let mut s = Script::attached("meter-7");
    s.input(Input::End {
        refusal: Refusal::Administrative,
        discard: true,
    })
    .expect_sent(&["close Administrative"]);
    assert!(s.has(&Effect::End));
    assert!(!s.session.is_begun());
    assert!(s.snapshot.is_none());
}

#[test]
fn an_operator_ends_a_transient_session_once() {
    let mut s = Script::transient("meter-7");
    s.input(Input::End {
        refusal: Refusal::Administrative,
        discard: true,
    });
    let ends = s.effects.iter().filter(|effect| **effect == Effect::End);
    assert_eq!(ends.count(), 1);
}

#[test]
fn a_spurious_tick_changes_nothing() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.tick().expect(&[]);
    s.send(puback(1)).tick().expect(&[]);
    s.close().tick().expect(&[]);
    let deadline = s.session.deadline();
    s.tick().expect(&[]);
    assert_eq!(s.session.deadline(), deadline);
}

#[test]
fn a_clock_that_steps_backwards_revives_nothing() {
    let mut s = Script::attached("meter-7");
    s.close().after_seconds(3600).tick();
    assert!(s.has(&Effect::End));
    s.time = START;
    s.attach().expect_sent(&["connack new 3600"]);
}
