//! Tests of the directory.

use super::*;
use crate::model::group::churn::WINDOW_MILLIS;
use crate::model::tenant::Tenant;

const NOW: Timestamp = Timestamp(5000);

fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap()
}

fn directory(limits: SharedLimits) -> Directory {
    Directory::new(Arc::new(limits), 0)
}

#[test]
fn a_group_goes_with_its_last_member_and_its_successor_has_another_number() {
    let mut groups = directory(SharedLimits::default());
    let a = filter("$share/g/a");
    for session in [1, 2, 1] {
        assert_eq!(groups.join(&a, SessionNumber(session), NOW), Ok(()));
    }
    groups.grant(&a, SessionNumber(1), true, true, Offset(7));
    let first = groups.get(&a).unwrap();
    assert_eq!((first.members, first.durable_from), (2, Some(Offset(7))));
    groups.leave(&a, SessionNumber(1));
    groups.leave(&a, SessionNumber(1));
    assert_eq!(groups.get(&a).map(|group| group.number), Some(first.number));
    groups.leave(&a, SessionNumber(2));
    assert!(groups.get(&a).is_none() && groups.is_empty());
    groups.join(&a, SessionNumber(3), NOW).unwrap();
    let next = groups.get(&a).unwrap();
    assert!(next.number > first.number && next.durable_from.is_none());
}

#[test]
fn a_declared_group_lives_without_members_until_it_is_not_declared_any_more() {
    let mut groups = directory(SharedLimits::default());
    let (a, b) = (filter("$share/g/a"), filter("$share/other/a"));
    let declared = |names: &[(&str, Option<Strategy>)]| {
        let names = names.iter();
        names
            .map(|(name, strategy)| ((*name).into(), *strategy))
            .collect()
    };
    groups.join(&a, SessionNumber(1), NOW).unwrap();
    groups.join(&b, SessionNumber(1), NOW).unwrap();
    let sticky = Some(Strategy::Sticky);
    let changed = groups.declare(declared(&[("g", sticky)]));
    assert_eq!(changed, std::slice::from_ref(&a));
    assert_eq!(groups.get(&a).unwrap().strategy, Strategy::Sticky);
    assert_eq!(groups.get(&b).unwrap().strategy, Strategy::RoundRobin);
    groups.grant(&a, SessionNumber(1), false, true, Offset(3));
    groups.leave(&a, SessionNumber(1));
    assert_eq!(groups.get(&a).map(|group| group.members), Some(0));
    let both = declared(&[("g", sticky), ("other", None)]);
    assert_eq!(groups.declare(both), std::slice::from_ref(&b));
    let none = declared(&[]);
    assert_eq!(groups.declare(none), [a.clone(), b.clone()]);
    assert!(groups.get(&a).is_none(), "it had no members");
    assert!(groups.get(&b).is_some());
}

#[test]
fn changes_beyond_the_limit_of_a_second_are_refused_until_it_is_over() {
    let mut groups = directory(SharedLimits {
        changes_per_second_max: 3,
        ..SharedLimits::default()
    });
    let a = filter("$share/g/a");
    groups.join(&a, SessionNumber(1), NOW).unwrap();
    groups.join(&a, SessionNumber(2), NOW).unwrap();
    groups.leave(&a, SessionNumber(2));
    let refused = groups.join(&a, SessionNumber(3), NOW);
    assert_eq!(refused, Err(Refusal::SharedQuota));
    assert_eq!(groups.get(&a).map(|group| group.members), Some(1));
    let later = NOW.plus_millis(WINDOW_MILLIS);
    assert_eq!(groups.join(&a, SessionNumber(3), later), Ok(()));
}

/// The count went with the group.
#[test]
fn changes_are_counted_though_the_group_ends_with_each() {
    let mut groups = directory(SharedLimits {
        changes_per_second_max: 4,
        ..SharedLimits::default()
    });
    let a = filter("$share/g/a");
    for _ in 0..2 {
        assert_eq!(groups.join(&a, SessionNumber(1), NOW), Ok(()));
        groups.leave(&a, SessionNumber(1));
    }
    let refused = groups.join(&a, SessionNumber(1), NOW);
    assert_eq!(refused, Err(Refusal::SharedQuota));
    assert!(groups.is_empty(), "a refused join leaves nothing");
    let b = filter("$share/other/a");
    assert_eq!(groups.join(&b, SessionNumber(1), NOW), Ok(()));
}

#[test]
fn a_session_that_came_back_belongs_where_it_subscribes_and_nowhere_else() {
    let mut groups = directory(SharedLimits::default());
    let (a, b) = (filter("$share/g/a"), filter("$share/g/b"));
    groups.join(&a, SessionNumber(1), NOW).unwrap();
    groups.join(&b, SessionNumber(1), NOW).unwrap();
    let left = groups.reconcile(SessionNumber(1), std::slice::from_ref(&b));
    assert_eq!(left, [a]);
    assert_eq!(groups.filters_of(SessionNumber(1)), [b]);
}

fn limit_tenants(groups: &mut Directory, each: u32, named: &[(&str, u32)]) {
    let at_most = |groups_max| TenantLimits {
        groups_max,
        ..TenantLimits::default()
    };
    let named = named.iter();
    groups.limit_tenants(Arc::new(PerTenant {
        each: at_most(each),
        named: named
            .map(|(name, max)| ((*name).into(), at_most(*max)))
            .collect(),
    }));
}

fn known(tenant: &str, own: &str) -> Filter {
    Tenant::new(tenant).unwrap().filter(&filter(own))
}

fn join(groups: &mut Directory, tenant: &str, own: &str, session: u64) -> Result<(), Refusal> {
    groups.join(&known(tenant, own), SessionNumber(session), NOW)
}

fn counts(groups: &Directory) -> Vec<(&str, u64)> {
    let tenants = groups.tally().tenants();
    tenants.map(|(name, has)| (name, has.count)).collect()
}

const REFUSED: Result<(), Refusal> = Err(Refusal::TenantGroupQuota);

#[test]
fn a_tenant_at_its_limit_of_groups_gets_no_other_name_and_others_do() {
    let mut groups = directory(SharedLimits {
        groups_max: 4,
        ..SharedLimits::default()
    });
    limit_tenants(&mut groups, 2, &[("b", 0)]);
    for own in ["$share/g/x", "$share/h/x", "$share/h/y"] {
        assert_eq!(join(&mut groups, "a", own, 1), Ok(()), "{own}");
    }
    assert_eq!(join(&mut groups, "a", "$share/i/x", 1), REFUSED);
    assert_eq!(
        join(&mut groups, "a", "$share/g/x", 2),
        Ok(()),
        "it is there"
    );
    // Others have their own, up to the total; who has no tenant has that alone.
    assert_eq!(join(&mut groups, "b", "$share/g/x", 3), Ok(()));
    let plain = filter("$share/g/x");
    assert_eq!(groups.join(&plain, SessionNumber(4), NOW), Ok(()));
    let total = Err(Refusal::SharedQuota);
    assert_eq!(join(&mut groups, "b", "$share/h/x", 3), total);
    assert_eq!(
        join(&mut groups, "a", "$share/i/x", 3),
        REFUSED,
        "the narrower one"
    );
    assert_eq!(counts(&groups), [("a", 2), ("b", 1)]);
    // A limit below what there is ends nothing.
    limit_tenants(&mut groups, 1, &[]);
    assert_eq!(
        join(&mut groups, "a", "$share/g/y", 5),
        Ok(()),
        "another filter"
    );
    assert_eq!(join(&mut groups, "b", "$share/h/x", 5), REFUSED);
    assert_eq!(groups.tally().all(), Amount::of(4));
}

#[test]
fn a_name_counts_for_its_tenant_until_its_last_group_is_over() {
    let mut groups = directory(SharedLimits::default());
    limit_tenants(&mut groups, 1, &[]);
    for own in ["$share/h/x", "$share/h/y"] {
        assert_eq!(join(&mut groups, "a", own, 1), Ok(()));
    }
    groups.leave(&known("a", "$share/h/x"), SessionNumber(1));
    assert_eq!(join(&mut groups, "a", "$share/i/x", 1), REFUSED);
    for _twice in 0..2 {
        groups.leave(&known("a", "$share/h/y"), SessionNumber(1));
    }
    assert_eq!(join(&mut groups, "a", "$share/i/x", 1), Ok(()));
    // A declared group lives without members, and counts until it is not declared any more.
    groups.declare([("i".into(), None)].into());
    let declared = known("a", "$share/i/x");
    groups.grant(&declared, SessionNumber(1), true, true, Offset(1));
    assert_eq!(groups.reconcile(SessionNumber(1), &[]), [declared]);
    assert_eq!(join(&mut groups, "a", "$share/h/x", 1), REFUSED);
    assert_eq!(counts(&groups), [("a", 1)]);
    groups.declare(BTreeMap::new());
    assert_eq!(counts(&groups), []);
}

#[test]
fn what_survives_a_restart_counts_and_what_does_not_survive_does_not() {
    let mut groups = directory(SharedLimits::default());
    let of_a = |own: &str| Tenant::new("a").unwrap().filter(&filter(own));
    for (number, own) in [(1, "$share/g/x"), (2, "$share/h/x")] {
        groups.inherit_group(&of_a(own), GroupNumber(number), Offset(1));
    }
    for own in ["$share/g/x", "$share/i/x"] {
        groups.inherit_member(&of_a(own), SessionNumber(1), true, Offset(1));
    }
    assert_eq!(groups.disinherit(), [GroupNumber(2)]);
    assert_eq!(counts(&groups), [("a", 2)]);
    groups.reconcile(SessionNumber(1), &[]);
    assert!(groups.is_empty() && counts(&groups).is_empty());
}

#[test]
fn a_session_that_comes_back_or_goes_looks_at_no_groups_of_others() {
    let mut groups = directory(SharedLimits::default());
    for n in 0..1000 {
        let of_others = filter(&format!("$share/g{}/t/{n}", n % 100));
        groups.join(&of_others, SessionNumber(n % 7), NOW).unwrap();
    }
    let own = ["$share/g1/t", "$share/g2/t", "$share/mine/t"].map(filter);
    for own in &own {
        groups.join(own, SessionNumber(100), NOW).unwrap();
    }
    groups.inherit_member(&own[0], SessionNumber(100), true, Offset(1));
    assert_eq!(groups.members(), 1003);
    groups.names.walked.set(0);
    assert_eq!(groups.filters_of(SessionNumber(100)), own);
    assert_eq!(
        groups.reconcile(SessionNumber(100), &own[..1]),
        own[1..].to_vec()
    );
    assert_eq!(groups.reconcile(SessionNumber(100), &own[..1]), []);
    assert_eq!(groups.reconcile(SessionNumber(100), &[]), own[..1].to_vec());
    assert_eq!(groups.names.walked.get(), 0);
    assert_eq!(groups.members(), 1000);
}
