use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::model::tenant::Tenant;

const NOW: Timestamp = Timestamp(7);

/// Asks for a unit as `client_id` of `principal` on `listener`.
fn ask(
    quota: &Arc<Quota>,
    client_id: &str,
    principal: &str,
    listener: &str,
) -> Result<Permit, Shortage> {
    let (client_id, principal) = (ClientId::from(client_id), Principal::from(principal));
    let listener = Listener::from(listener);
    let claim = Claim {
        client_id: &client_id,
        principal: &principal,
        listener: &listener,
    };
    quota.try_acquire(claim, NOW)
}

fn anybody(quota: &Arc<Quota>) -> Result<Permit, Shortage> {
    ask(quota, "anybody", "", "")
}

fn scope(result: Result<Permit, Shortage>) -> Scope {
    result.expect_err("refused").scope
}

#[test]
fn at_the_limit_a_unit_is_refused_until_one_is_released() {
    let quota = Quota::new(QuotaLimits::of(2));
    let first = anybody(&quota).unwrap();
    let second = anybody(&quota).unwrap();
    let shortage = anybody(&quota).unwrap_err();
    assert_eq!((&shortage.scope, shortage.units), (&Scope::Sessions, 1));
    assert_eq!(quota.refuse(&shortage), Refusal::SessionQuota);
    drop(first);
    assert_eq!(quota.used(), 1);
    let third = anybody(&quota);
    assert!(third.is_ok());
    drop((second, third));
    let seen = quota.observe();
    assert_eq!((seen.used, seen.refused.sessions), (0, 1));
    assert_eq!(seen.high_water, HighWater { units: 2, at: NOW });
}

#[test]
fn a_lowered_limit_throws_nobody_out_and_lets_nobody_in() {
    let quota = Quota::new(QuotaLimits::of(3));
    let mut permits: Vec<_> = (0..3).map(|_| anybody(&quota).unwrap()).collect();
    quota.set_limits(QuotaLimits::of(1)).unwrap();
    assert_eq!(quota.used(), 3);
    assert_eq!(anybody(&quota).unwrap_err().units, 3);
    permits.truncate(1);
    assert_eq!(anybody(&quota).unwrap_err().units, 1);
    permits.clear();
    permits.extend(anybody(&quota));
    assert_eq!((permits.len(), quota.used()), (1, 1));
}

#[test]
fn without_a_limit_nothing_is_refused() {
    let quota = Quota::new(QuotaLimits::default());
    let permits: Vec<_> = (0..1_000).map(|_| anybody(&quota).unwrap()).collect();
    assert_eq!((permits.len(), quota.used()), (1_000, 1_000));
}

#[test]
fn what_survived_is_adopted_above_the_limit() {
    let quota = Quota::new(QuotaLimits::of(1));
    let (id, principal, listener) = ("a".into(), Principal::anonymous(), Listener::default());
    let claim = Claim {
        client_id: &id,
        principal: &principal,
        listener: &listener,
    };
    let survivors = [quota.adopt(claim, NOW), quota.adopt(claim, NOW)];
    assert_eq!(quota.observe().high_water.units, 2);
    assert!(anybody(&quota).is_err());
    drop(survivors);
    assert_eq!(quota.used(), 0);
}

#[test]
fn many_threads_never_exceed_the_limit_and_release_exactly_once() {
    const LIMIT: u64 = 3;
    const THREADS: usize = 8;
    const ROUNDS: u64 = 2_000;
    let quota = Quota::new(QuotaLimits::of(LIMIT));
    let (held, acquired, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let start = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..ROUNDS {
                    let Ok(permit) = anybody(&quota) else {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    assert!(held.fetch_add(1, Ordering::SeqCst) < LIMIT);
                    acquired.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                    held.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(quota.used(), 0);
    assert!(quota.observe().high_water.units <= LIMIT);
    let asked = acquired.into_inner() + refused.into_inner();
    assert_eq!(asked, THREADS as u64 * ROUNDS);
}

#[test]
fn principals_and_listeners_are_limited_on_their_own() {
    let quota = Quota::new(QuotaLimits {
        sessions_max: 10,
        principal_sessions_max: 1,
        principals: [("big".into(), 2)].into(),
        listeners: [("public".into(), 2)].into(),
        ..QuotaLimits::default()
    });
    let _small = ask(&quota, "1", "small", "private").unwrap();
    let small = Scope::Principal("small".into());
    assert_eq!(scope(ask(&quota, "2", "small", "public")), small);
    let _one = ask(&quota, "1", "big", "private").unwrap();
    let two = ask(&quota, "2", "big", "public").unwrap();
    let big = Scope::Principal("big".into());
    assert_eq!(
        scope(ask(&quota, "3", "big", "private")),
        big,
        "over both listeners"
    );
    let _other = ask(&quota, "1", "", "public").unwrap();
    let public = Scope::Listener("public".into());
    assert_eq!(scope(ask(&quota, "2", "", "public")), public);
    drop(two);
    assert!(ask(&quota, "3", "big", "public").is_ok());
}

fn reserve(name: &str, pattern: &str, units: u64) -> Reserve {
    Reserve {
        name: name.into(),
        client_id: Some(pattern.into()),
        principal: None,
        units,
    }
}

#[test]
fn only_those_who_fit_a_reserve_use_its_units() {
    let quota = Quota::new(QuotaLimits {
        sessions_max: 5,
        reserved: vec![
            reserve("alarms", "alarm-*", 2),
            reserve("doors", "door-*", 1),
        ],
        ..QuotaLimits::default()
    });
    let alarm = |number: u32| ask(&quota, &format!("alarm-{number}"), "", "");
    let mut common: Vec<_> = (0..2).map(|_| anybody(&quota).unwrap()).collect();
    assert_eq!(
        scope(anybody(&quota)),
        Scope::Sessions,
        "the rest is reserved"
    );
    let first = alarm(1).unwrap();
    let second = alarm(2).unwrap();
    assert_eq!(
        scope(alarm(3)),
        Scope::Sessions,
        "the door's unit is the door's"
    );
    let door = ask(&quota, "door-1", "", "").unwrap();
    assert_eq!(quota.used(), 5);
    assert_eq!(scope(ask(&quota, "door-2", "", "")), Scope::Sessions);
    // Who has used up its reserve takes what is free for everybody, and only that.
    common.pop();
    let third = alarm(3).unwrap();
    assert!(anybody(&quota).is_err());
    // An alarm that ends frees the common unit first: the reserve stays full as long as there are enough alarms.
    drop(first);
    assert!(anybody(&quota).is_ok());
    drop((second, third, door));
    assert_eq!(quota.used(), 1);
}

#[test]
fn nobody_goes_in_vain_where_two_limits_are_reached() {
    let quota = Quota::new(QuotaLimits {
        sessions_max: 2,
        reserved: vec![reserve("alarms", "alarm-*", 1)],
        listeners: [("public".into(), 1)].into(),
        ..QuotaLimits::default()
    });
    let alarm = ask(&quota, "alarm-1", "", "public").unwrap();
    let other = ask(&quota, "x", "", "").unwrap();
    let shortage = ask(&quota, "y", "", "public").unwrap_err();
    assert_eq!(shortage.scope, Scope::Listener("public".into()));
    assert!(!quota.helps(&alarm, &shortage), "its unit stays reserved");
    assert!(!quota.helps(&other, &shortage), "the listener stays full");
    let elsewhere = anybody(&quota).unwrap_err();
    assert_ne!(elsewhere.kind(), shortage.kind());
    let like_it = ask(&quota, "z", "", "public").unwrap_err();
    assert_eq!(like_it.kind(), shortage.kind());
    drop(alarm);
    let shortage = ask(&quota, "y", "", "public").unwrap_err();
    assert!(quota.helps(&other, &shortage));
}

#[test]
fn a_victim_must_free_a_unit_that_the_newcomer_may_use() {
    let quota = Quota::new(QuotaLimits {
        sessions_max: 3,
        reserved: vec![reserve("alarms", "alarm-*", 1)],
        listeners: [("public".into(), 1)].into(),
        ..QuotaLimits::default()
    });
    let alarm = ask(&quota, "alarm-1", "", "").unwrap();
    let public = ask(&quota, "x", "tenant", "public").unwrap();
    let other = ask(&quota, "y", "", "").unwrap();
    let shortage = anybody(&quota).unwrap_err();
    assert!(!quota.helps(&alarm, &shortage), "its unit stays reserved");
    assert!(quota.helps(&other, &shortage) && quota.helps(&public, &shortage));
    let of_listener = ask(&quota, "z", "", "public").unwrap_err();
    assert!(quota.helps(&public, &of_listener) && !quota.helps(&other, &of_listener));
}

#[test]
fn reserves_keep_their_members_while_the_limits_change() {
    let limits = |name: &str, units| QuotaLimits {
        sessions_max: 2,
        reserved: vec![reserve(name, "alarm-*", units)],
        ..QuotaLimits::default()
    };
    let quota = Quota::new(limits("alarms", 1));
    assert_eq!(quota.set_limits(limits("doors", 1)), Err(ReservesDiffer));
    assert_eq!(quota.set_limits(limits("alarms", 2)), Ok(()));
    assert!(anybody(&quota).is_err());
}

#[test]
fn a_report_names_the_largest_and_those_with_a_limit() {
    let quota = Quota::new(QuotaLimits {
        principals: [("idle".into(), 9)].into(),
        ..QuotaLimits::default()
    });
    drop(ask(&quota, "1", "idle", "a").unwrap());
    let mut held = Vec::new();
    for (name, count) in [("one", 1), ("two", 2), ("three", 3)] {
        held.extend(
            (0..count).map(|at| ask(&quota, "x", name, if at == 0 { "a" } else { "b" }).unwrap()),
        );
    }
    let report = quota.report(2);
    let names: Vec<_> = report
        .principals
        .iter()
        .map(|known| (known.name.as_str(), known.used, known.high))
        .collect();
    assert_eq!(names, [("three", 3, 3), ("two", 2, 2), ("idle", 0, 1)]);
    assert_eq!(report.others, 1);
    assert_eq!(report.listeners, [("a".into(), 3, 0), ("b".into(), 3, 0)]);
    held.truncate(1);
    quota.forget_highs();
    let report = quota.report(9);
    let names: Vec<_> = report
        .principals
        .iter()
        .map(|known| (known.name.as_str(), known.used, known.high))
        .collect();
    assert_eq!(names, [("one", 1, 1), ("idle", 0, 0)]);
}

#[test]
fn an_interval_knows_its_least_and_its_most() {
    let quota = Quota::new(QuotaLimits::default());
    let kept = anybody(&quota).unwrap();
    drop(anybody(&quota).unwrap());
    assert_eq!(quota.end_interval(), Interval { min: 0, max: 2 });
    assert_eq!(quota.end_interval(), Interval { min: 1, max: 1 });
    drop(kept);
    assert_eq!(quota.end_interval(), Interval { min: 0, max: 1 });
}

#[test]
fn the_high_water_mark_of_earlier_starts_counts() {
    let quota = Quota::new(QuotaLimits::default());
    let before = HighWater {
        units: 1,
        at: Timestamp(3),
    };
    quota.restore_high_water(before);
    let _one = anybody(&quota).unwrap();
    assert_eq!(quota.observe().high_water, before, "reached, not passed");
    let _two = anybody(&quota).unwrap();
    assert_eq!(quota.observe().high_water, HighWater { units: 2, at: NOW });
}

#[test]
fn devices_of_a_tenant_are_charged_to_it_whoever_they_are() {
    let quota = Quota::new(QuotaLimits {
        sessions_max: 10,
        principals: [("a".into(), 2), ("b".into(), 1)].into(),
        reserved: vec![Reserve {
            name: "alarms".into(),
            client_id: Some("alarm-*".into()),
            principal: Some("b".into()),
            units: 1,
        }],
        ..QuotaLimits::default()
    });
    let listener = Listener::default();
    let ask = |tenant: &str, own: &str, owner: &str| {
        let client_id = Tenant::new(tenant).unwrap().client_id(own);
        let principal = Principal::from(owner);
        let claim = Claim {
            client_id: &client_id,
            principal: &principal,
            listener: &listener,
        };
        quota.try_acquire(claim, NOW)
    };
    let mut first = ask("a", "alarm-1", "a/1").unwrap();
    let second = ask("a", "alarm-2", "a/2").unwrap();
    assert_eq!(
        scope(ask("a", "x", "a/3")),
        Scope::Principal("a".into()),
        "the limit of the tenant"
    );
    let other = ask("b", "alarm-1", "b/1").unwrap();
    assert_eq!(quota.report(9).reserves[0].used, 1, "by the own id");
    let shortage = ask("b", "x", "b/2").unwrap_err();
    assert!(quota.helps(&other, &shortage) && !quota.helps(&first, &shortage));
    let named: Vec<_> = quota
        .report(9)
        .principals
        .into_iter()
        .map(|known| (known.name.as_str().to_owned(), known.used, known.limit))
        .collect();
    assert_eq!(named, [("a".to_owned(), 2, 2), ("b".to_owned(), 1, 1)]);
    // Yet each session has its owner, also one that follows another under the same id.
    assert_eq!(first.principal().as_str(), "a/1");
    let (client_id, principal) = (Tenant::new("a").unwrap().client_id("alarm-1"), "a/9".into());
    let claim = Claim {
        client_id: &client_id,
        principal: &principal,
        listener: &listener,
    };
    assert_eq!(first.pass_on(claim, NOW), Ok(()));
    assert_eq!(first.principal().as_str(), "a/9");
    drop((first, second, other));
    assert_eq!(quota.used(), 0);
}

#[test]
fn room_for_a_tenant_is_made_by_its_own_sessions_only_whichever_limit_is_reached() {
    let quota = Quota::new(QuotaLimits {
        sessions_max: 3,
        principals: [("a".into(), 2)].into(),
        listeners: [("public".into(), 2)].into(),
        ..QuotaLimits::default()
    });
    let ask = |tenant: &str, listener: &str| {
        let claim = Claim {
            client_id: &Tenant::new(tenant).unwrap().client_id("c"),
            principal: &"somebody".into(),
            listener: &listener.into(),
        };
        quota.try_acquire(claim, NOW)
    };
    let [own, public, of_b] = [("a", ""), ("a", "public"), ("b", "public")]
        .map(|(tenant, listener)| ask(tenant, listener).unwrap());
    let help = |shortage: &Shortage| [&own, &public, &of_b].map(|held| quota.helps(held, shortage));
    let at_own_limit = ask("a", "").unwrap_err();
    assert_eq!(at_own_limit.scope, Scope::Principal("a".into()));
    assert_eq!(help(&at_own_limit), [true, true, false]);
    let at_total = ask("b", "").unwrap_err();
    assert_eq!(at_total.scope, Scope::Sessions);
    assert_eq!(help(&at_total), [false, false, true]);
    assert_eq!(help(&ask("c", "").unwrap_err()), [false; 3]);
    let at_listener = ask("b", "public").unwrap_err();
    assert_eq!(at_listener.scope, Scope::Listener("public".into()));
    assert_eq!(help(&at_listener), [false, false, true]);
}
