//! The names under which the actor system's numbers are shown. `docs/metrics.md` lists them.
//!
//! Knows every counter and gauge of the actors: the tables are as long as the enums, so a new one does not compile
//! until it has a name here.

use outlive_actors::model::counter::Counter;
use outlive_actors::observe::{Gauge, ShardObservation};
use outlive_actors::system::SystemObservation;

use super::metrics::{Labels, Sample};

/// Name, help and labels of one series.
type Series = (&'static str, &'static str, Labels);

/// Everything that the actor system shows of itself.
#[must_use]
pub fn actor_samples(observation: &SystemObservation) -> Vec<Sample> {
    let mut samples = shard_samples(&observation.shards);
    samples.extend(quota_samples(observation));
    samples.extend(journal_samples(observation));
    samples.extend(checkpoint_samples(observation));
    samples
}

fn shard_samples(shards: &ShardObservation) -> Vec<Sample> {
    let counters = COUNTERS.iter().map(|(counter, (name, help, labels))| {
        Sample::counter(name, help, labels, number(shards.counter(*counter)))
    });
    let gauges = GAUGES.iter().map(|(gauge, (name, help, labels))| {
        // A gauge that is the sum of cells read one after the other may be off by a moment, but never negative.
        let value = u64::try_from(shards.gauge(*gauge)).unwrap_or(0);
        Sample::gauge(name, help, labels, number(value))
    });
    let restarts = Sample::counter(
        "outlive_actor_restarts_total",
        "Session actors rebuilt after a panic.",
        &[],
        number(shards.restarts),
    );
    counters.chain(gauges).chain([restarts]).collect()
}

fn quota_samples(observation: &SystemObservation) -> Vec<Sample> {
    vec![
        Sample::gauge(
            "outlive_session_quota_used",
            "Sessions that count against the quota, online and offline.",
            &[],
            number(observation.quota_used),
        ),
        Sample::gauge(
            "outlive_session_quota_limit",
            "quota.sessions_max; 0 is no limit.",
            &[],
            number(observation.quota_limit),
        ),
        Sample::gauge(
            "outlive_session_quota_high_water",
            "The most sessions at a time since the start.",
            &[],
            number(observation.quota_high_water),
        ),
        Sample::counter(
            "outlive_session_quota_refused_total",
            "New client ids refused because the quota was used up.",
            &[],
            number(observation.quota_refused),
        ),
        Sample::gauge(
            "outlive_retained_messages",
            "Topics with a retained message.",
            &[],
            number(observation.retained),
        ),
    ]
}

fn journal_samples(observation: &SystemObservation) -> Vec<Sample> {
    let (journal, appender) = (&observation.journal, &observation.appender);
    let counter = |name, help, value| Sample::counter(name, help, &[], number(value));
    let gauge = |name, help, value| Sample::gauge(name, help, &[], number(value));
    vec![
        gauge(
            "outlive_journal_segments",
            "Segment files.",
            journal.segments,
        ),
        gauge(
            "outlive_journal_bytes",
            "Bytes of records in all segment files.",
            journal.bytes,
        ),
        counter(
            "outlive_journal_records_read_total",
            "Records that catch-up reads decoded, wanted or not.",
            journal.records_read,
        ),
        counter(
            "outlive_journal_records_matched_total",
            "Records that catch-up reads handed out.",
            journal.records_matched,
        ),
        counter(
            "outlive_journal_syncs_total",
            "Successful syncs.",
            journal.syncs,
        ),
        counter(
            "outlive_journal_failures_total",
            "Failed writes and syncs: look at the disk.",
            journal.failures,
        ),
        gauge(
            "outlive_journal_entries_waiting",
            "Entries submitted and not answered yet.",
            appender.waiting,
        ),
        counter(
            "outlive_journal_entries_total",
            "Entries committed.",
            appender.committed,
        ),
        counter(
            "outlive_journal_batches_total",
            "Batches committed, each as one.",
            appender.batches,
        ),
        counter(
            "outlive_journal_refused_total",
            "Entries refused because the disk refused them.",
            appender.refused,
        ),
    ]
}

fn checkpoint_samples(observation: &SystemObservation) -> Vec<Sample> {
    let checkpoint = &observation.checkpoint;
    let counter = |name, help, value| Sample::counter(name, help, &[], number(value));
    let gauge = |name, help, value| Sample::gauge(name, help, &[], value);
    vec![
        counter(
            "outlive_checkpoints_total",
            "Checkpoints made.",
            checkpoint.commits,
        ),
        counter(
            "outlive_checkpoint_failures_total",
            "Failed tries to read or write the checkpoint store.",
            checkpoint.failures,
        ),
        gauge(
            "outlive_checkpoint_lag_records",
            "Journal entries that the last checkpoint does not cover.",
            number(checkpoint.lag),
        ),
        gauge(
            "outlive_checkpoint_duration_seconds",
            "How long the last checkpoint took.",
            number(checkpoint.last_commit_millis) / 1000.0,
        ),
        gauge(
            "outlive_checkpoint_dirty_sessions",
            "Sessions that differ from the store.",
            number(checkpoint.dirty_sessions as u64),
        ),
        gauge(
            "outlive_checkpoint_images_awaited",
            "Sessions asked for that wait for entries still under way.",
            number(checkpoint.images_awaited as u64),
        ),
    ]
}

/// Numbers above 2^53 lose their last digits, as they do in Prometheus.
fn number(value: u64) -> f64 {
    value as f64
}

const SESSIONS: &str = "outlive_sessions";
const SESSIONS_HELP: &str = "Sessions, by whether they have a connection.";

const GAUGES: [(Gauge, Series); Gauge::COUNT] = [
    (
        Gauge::SessionsOnline,
        (SESSIONS, SESSIONS_HELP, &[("state", "online")]),
    ),
    (
        Gauge::SessionsOffline,
        (SESSIONS, SESSIONS_HELP, &[("state", "offline")]),
    ),
    (
        Gauge::SessionActors,
        (
            "outlive_actors",
            "Actors in memory.",
            &[("kind", "session")],
        ),
    ),
    (
        Gauge::Subscriptions,
        (
            "outlive_subscriptions",
            "Subscriptions of the sessions that are in memory.",
            &[],
        ),
    ),
    (
        Gauge::Quarantined,
        (
            "outlive_sessions_quarantined",
            "Sessions that are not rebuilt any more because they kept panicking: please report.",
            &[],
        ),
    ),
];

const COUNTERS: [(Counter, Series); Counter::COUNT] = [
    (Counter::SessionCreated, event(&[("event", "created")])),
    (Counter::SessionResumed, event(&[("event", "resumed")])),
    (Counter::SessionTakenOver, event(&[("event", "taken_over")])),
    (Counter::SessionExpired, event(&[("event", "expired")])),
    (Counter::SessionDiscarded, event(&[("event", "discarded")])),
    (
        Counter::SessionRehydrated,
        event(&[("event", "rehydrated")]),
    ),
    (
        Counter::SessionPassivated,
        event(&[("event", "passivated")]),
    ),
    (
        Counter::ExpiryClamped,
        event(&[("event", "expiry_clamped")]),
    ),
    (Counter::OwnerRefused, event(&[("event", "owner_refused")])),
    (
        Counter::StaleFence,
        one(
            "outlive_stale_fences_total",
            "Packets ignored because a newer connection holds the session.",
        ),
    ),
    (Counter::ReceivedQos0, received(&[("qos", "0")])),
    (Counter::ReceivedQos1, received(&[("qos", "1")])),
    (Counter::ReceivedQos2, received(&[("qos", "2")])),
    (
        Counter::ReceivedDuplicate,
        one(
            "outlive_messages_duplicate_total",
            "QoS 2 messages received again and not published again.",
        ),
    ),
    (Counter::DeliveredQos0, delivered(&[("qos", "0")])),
    (Counter::DeliveredQos1, delivered(&[("qos", "1")])),
    (Counter::DeliveredQos2, delivered(&[("qos", "2")])),
    (
        Counter::Redelivered,
        one(
            "outlive_messages_redelivered_total",
            "Messages sent again with DUP.",
        ),
    ),
    (
        Counter::Acked,
        one(
            "outlive_messages_acked_total",
            "QoS 1 and 2 deliveries that clients acknowledged.",
        ),
    ),
    (
        Counter::AckFailed,
        one(
            "outlive_messages_ack_failed_total",
            "Deliveries that clients refused with a reason code of 0x80 or above.",
        ),
    ),
    (
        Counter::DroppedExpired,
        dropped(&[("reason", "message_expiry")]),
    ),
    (
        Counter::DroppedQueueFull,
        dropped(&[("reason", "queue_full")]),
    ),
    (
        Counter::DroppedOffline,
        dropped(&[("reason", "offline_qos0")]),
    ),
    (
        Counter::DroppedRetention,
        dropped(&[("reason", "retention")]),
    ),
    (
        Counter::DroppedSessionEnded,
        dropped(&[("reason", "session_ended")]),
    ),
    (
        Counter::SubscriptionRefused,
        one(
            "outlive_subscriptions_refused_total",
            "Subscriptions refused because of session.subscriptions_max.",
        ),
    ),
    (
        Counter::ReceiveMaxExceeded,
        one(
            "outlive_receive_max_exceeded_total",
            "Clients that sent more than their receive maximum allows.",
        ),
    ),
    (
        Counter::WillPublished,
        one("outlive_wills_published_total", "Wills published."),
    ),
    (
        Counter::JournalRefused,
        one(
            "outlive_publications_refused_total",
            "Publications refused because the journal could not take them.",
        ),
    ),
    (
        Counter::JournalReset,
        one(
            "outlive_journal_resets_total",
            "Connections closed because a change of their session could not be recorded.",
        ),
    ),
    (
        Counter::InboxOverflowed,
        one(
            "outlive_inbox_overflows_total",
            "Sessions that fell behind the live end and went back to catch-up.",
        ),
    ),
];

const fn one(name: &'static str, help: &'static str) -> Series {
    (name, help, &[])
}

const fn event(labels: Labels) -> Series {
    (
        "outlive_session_events_total",
        "What happened to sessions.",
        labels,
    )
}

const fn received(labels: Labels) -> Series {
    (
        "outlive_messages_received_total",
        "Messages that clients published, duplicates of QoS 2 not counted.",
        labels,
    )
}

const fn delivered(labels: Labels) -> Series {
    (
        "outlive_messages_delivered_total",
        "Messages handed to connections, redeliveries included.",
        labels,
    )
}

const fn dropped(labels: Labels) -> Series {
    (
        "outlive_messages_dropped_total",
        "Messages that a session will not get, by reason.",
        labels,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_and_gauge_has_exactly_one_series() {
        let counters: BTreeSet<u8> = COUNTERS.iter().map(|(counter, _)| *counter as u8).collect();
        assert_eq!(counters.len(), Counter::COUNT);
        let gauges: BTreeSet<u8> = GAUGES.iter().map(|(gauge, _)| *gauge as u8).collect();
        assert_eq!(gauges.len(), Gauge::COUNT);
        let samples = shard_samples(&ShardObservation::default());
        let series: BTreeSet<String> = samples.iter().map(Sample::series).collect();
        assert_eq!(series.len(), samples.len());
    }
}
