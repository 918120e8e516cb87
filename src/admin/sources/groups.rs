//! The groups of shared subscriptions.

use outlive_actors::observe::Gauge;
use outlive_actors::system::SystemObservation;

use super::super::metrics::Sample;
use super::{number, plain_gauge};

/// What the groups show.
pub(super) fn samples(seen: &SystemObservation) -> [Sample; 8] {
    let gauge = |gauge| u64::try_from(seen.shards.gauge(gauge)).unwrap_or(0);
    let online = gauge(Gauge::GroupMembersOnline);
    let offline = seen.group_members.saturating_sub(online);
    let members = "Member sessions of groups, once for each shared subscription.";
    let member =
        |state, count| Sample::gauge("outlive_group_members", members, state, number(count));
    [
        plain_gauge(
            "outlive_group_names",
            "Groups by name, however many filters each has.",
            seen.group_names,
        ),
        plain_gauge(
            "outlive_groups",
            "Groups: one for each name and filter.",
            gauge(Gauge::Groups),
        ),
        Sample::gauge(
            "outlive_actors",
            "Actors by kind.",
            &[("kind", "group")],
            number(gauge(Gauge::GroupActors)),
        ),
        member(&[("state", "online")], online),
        member(&[("state", "offline")], offline),
        plain_gauge(
            "outlive_group_leases",
            "Records that members of groups have and did not settle.",
            gauge(Gauge::GroupLeases),
        ),
        plain_gauge(
            "outlive_group_waiting",
            "Messages at hand of groups that wait for a member: returned ones, those in memory, and those that were read.",
            gauge(Gauge::GroupWaiting),
        ),
        plain_gauge(
            "outlive_groups_behind",
            "Durable groups with an actor that are behind the journal's live end.",
            gauge(Gauge::GroupsBehind),
        ),
    ]
}
