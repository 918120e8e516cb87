//! The numbers of actors and wire, under the names that `docs/metrics.md` explains.

use std::fmt;

use outlive_actors::model::counter::Counter;
use outlive_actors::observe::Gauge;
use outlive_actors::system::SystemObservation;

use super::metrics::{MetricsSource, Sample};

mod groups;
mod quota;
mod wire;

pub use wire::WireMetrics;

/// The actors: sessions, messages, quota, journal, checkpoints.
pub struct ActorMetrics {
    observe: Box<dyn Fn() -> SystemObservation + Send + Sync>,
}

impl fmt::Debug for ActorMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorMetrics").finish_non_exhaustive()
    }
}

impl ActorMetrics {
    /// What `observe` shows.
    pub fn new(observe: impl Fn() -> SystemObservation + Send + Sync + 'static) -> Self {
        Self {
            observe: Box::new(observe),
        }
    }
}

/// Name, help and labels of every counted event of the model.
#[expect(clippy::too_many_lines, reason = "one table")]
fn counter_series(counter: Counter) -> (&'static str, &'static str, super::Labels) {
    const EVENTS: &str = "outlive_session_events_total";
    const EVENTS_HELP: &str = "What happened to sessions.";
    const RECEIVED: &str = "outlive_messages_received_total";
    const RECEIVED_HELP: &str =
        "PUBLISH packets from clients, by QoS; QoS 2 duplicates are not counted.";
    const DELIVERED: &str = "outlive_messages_delivered_total";
    const DELIVERED_HELP: &str =
        "PUBLISH packets handed to connections, by QoS, redeliveries included.";
    const DROPPED: &str = "outlive_messages_dropped_total";
    const DROPPED_HELP: &str = "Deliveries that will never reach their session, by reason.";
    const RETAINED_REFUSED: &str = "outlive_retained_refused_total";
    const RETAINED_REFUSED_HELP: &str = "Messages delivered and not retained, by the limit that was reached: one of [retained], or of the tenant.";
    const GROUP_REFUSED: &str = "outlive_group_refused_total";
    const GROUP_REFUSED_HELP: &str = "Shared subscriptions refused, by the limit that was reached: one of [shared], or the tenant's on groups.";
    match counter {
        Counter::SessionCreated => (EVENTS, EVENTS_HELP, &[("event", "created")]),
        Counter::SessionResumed => (EVENTS, EVENTS_HELP, &[("event", "resumed")]),
        Counter::SessionTakenOver => (EVENTS, EVENTS_HELP, &[("event", "taken_over")]),
        Counter::SessionExpired => (EVENTS, EVENTS_HELP, &[("event", "expired")]),
        Counter::SessionDiscarded => (EVENTS, EVENTS_HELP, &[("event", "discarded")]),
        Counter::SessionEvicted => (EVENTS, EVENTS_HELP, &[("event", "evicted")]),
        Counter::TakeoverDelayed => (
            "outlive_takeovers_delayed_total",
            "Takeovers that waited because a session was taken over too often in a row.",
            &[],
        ),
        Counter::SessionRehydrated => (EVENTS, EVENTS_HELP, &[("event", "rehydrated")]),
        Counter::SessionPassivated => (EVENTS, EVENTS_HELP, &[("event", "passivated")]),
        Counter::ExpiryClamped => (EVENTS, EVENTS_HELP, &[("event", "expiry_clamped")]),
        Counter::OwnerRefused => (EVENTS, EVENTS_HELP, &[("event", "owner_refused")]),
        Counter::StaleFence => (
            "outlive_stale_fence_total",
            "Packets of connections that no longer hold their session.",
            &[],
        ),
        Counter::ReceivedQos0 => (RECEIVED, RECEIVED_HELP, &[("qos", "0")]),
        Counter::ReceivedQos1 => (RECEIVED, RECEIVED_HELP, &[("qos", "1")]),
        Counter::ReceivedQos2 => (RECEIVED, RECEIVED_HELP, &[("qos", "2")]),
        Counter::ReceivedDuplicate => (
            "outlive_messages_duplicate_total",
            "QoS 2 PUBLISH packets received again before PUBREL.",
            &[],
        ),
        Counter::ReceivedMisnumbered => (
            "outlive_messages_misnumbered_total",
            "QoS 1 PUBLISH packets refused because a QoS 2 publication holds their packet identifier.",
            &[],
        ),
        Counter::DeliveredQos0 => (DELIVERED, DELIVERED_HELP, &[("qos", "0")]),
        Counter::DeliveredQos1 => (DELIVERED, DELIVERED_HELP, &[("qos", "1")]),
        Counter::DeliveredQos2 => (DELIVERED, DELIVERED_HELP, &[("qos", "2")]),
        Counter::Redelivered => (
            "outlive_messages_redelivered_total",
            "PUBLISH packets sent again with DUP.",
            &[],
        ),
        Counter::Acked => (
            "outlive_messages_acked_total",
            "Deliveries settled by their client.",
            &[],
        ),
        Counter::AckFailed => (
            "outlive_messages_ack_failed_total",
            "Deliveries that their client refused (reason code 0x80 or above).",
            &[],
        ),
        Counter::DroppedExpired => (DROPPED, DROPPED_HELP, &[("reason", "message_expiry")]),
        Counter::DroppedQueueFull => (DROPPED, DROPPED_HELP, &[("reason", "queue_full")]),
        Counter::DroppedOffline => (DROPPED, DROPPED_HELP, &[("reason", "offline_qos0")]),
        Counter::DroppedRetention => (DROPPED, DROPPED_HELP, &[("reason", "retention")]),
        Counter::HolePassed => (
            "outlive_journal_holes_passed_total",
            "How often a session or a group read on behind a hole in the journal, made by log.bytes_max or by a part that is missing: it \
             lost what matched there, if anything did. How many messages is not known, so outlive_messages_dropped_total is without them.",
            &[],
        ),
        Counter::DroppedUnsubscribed => (DROPPED, DROPPED_HELP, &[("reason", "unsubscribed")]),
        Counter::DroppedSessionEnded => (DROPPED, DROPPED_HELP, &[("reason", "session_ended")]),
        Counter::SubscriptionRefused => (
            "outlive_subscriptions_refused_total",
            "Filters refused because of session.subscriptions_max or session.subscriptions_bytes_max.",
            &[],
        ),
        Counter::RetainRefused => (
            RETAINED_REFUSED,
            RETAINED_REFUSED_HELP,
            &[("limit", "total")],
        ),
        Counter::TenantRetainRefused => (
            RETAINED_REFUSED,
            RETAINED_REFUSED_HELP,
            &[("limit", "tenant")],
        ),
        Counter::WillPublished => (
            "outlive_wills_published_total",
            "Will messages published.",
            &[],
        ),
        Counter::JournalRefused => (
            "outlive_journal_refused_total",
            "Publications refused because the journal could not take them.",
            &[],
        ),
        Counter::InboxOverflowed => (
            "outlive_inbox_overflows_total",
            "Sessions and groups that fell behind the live end and went back to catch-up.",
            &[],
        ),
        Counter::GroupLeased => (
            "outlive_group_leased_total",
            "Records that groups leased to members.",
            &[],
        ),
        Counter::GroupSettled => (
            "outlive_group_settled_total",
            "Leases that were settled, or taken for good by a member that began to send with QoS 2.",
            &[],
        ),
        Counter::GroupReturned => (
            "outlive_group_returned_total",
            "Leases that came back and are leased again: their member left, or had no room.",
            &[],
        ),
        Counter::FanOutPaused => (
            "outlive_fan_out_pauses_total",
            "How often publications waited until readers of the same shard had taken what was put before them, 16 MiB in all.",
            &[],
        ),
        Counter::ResumeRefused => (
            "outlive_resumes_refused_total",
            "CONNECTs refused because more than four waited for one session to be read back; of one client the last ones stay.",
            &[],
        ),
        Counter::DroppedGroupEnded => (DROPPED, DROPPED_HELP, &[("reason", "group_ended")]),
        Counter::GroupRefused => (GROUP_REFUSED, GROUP_REFUSED_HELP, &[("limit", "shared")]),
        Counter::TenantGroupRefused => (GROUP_REFUSED, GROUP_REFUSED_HELP, &[("limit", "tenant")]),
    }
}

impl MetricsSource for ActorMetrics {
    fn collect(&self) -> Vec<Sample> {
        let seen = (self.observe)();
        let mut samples: Vec<_> = Counter::ALL
            .iter()
            .map(|counter| {
                let (name, help, labels) = counter_series(*counter);
                Sample::counter(name, help, labels, number(seen.shards.counter(*counter)))
            })
            .collect();
        let gauge = |gauge| number(u64::try_from(seen.shards.gauge(gauge)).unwrap_or(0));
        let sessions = "Sessions by whether a connection is attached.";
        samples.extend([
            Sample::gauge(
                "outlive_sessions",
                sessions,
                &[("state", "online")],
                gauge(Gauge::SessionsOnline),
            ),
            Sample::gauge(
                "outlive_sessions",
                sessions,
                &[("state", "offline")],
                gauge(Gauge::SessionsOffline),
            ),
            Sample::gauge(
                "outlive_actors",
                "Actors by kind.",
                &[("kind", "session")],
                gauge(Gauge::SessionActors),
            ),
            Sample::gauge(
                "outlive_subscriptions",
                "Subscriptions of sessions that have an actor.",
                &[],
                gauge(Gauge::Subscriptions),
            ),
            Sample::gauge(
                "outlive_retained_replays",
                "Replays of retained messages under way, of sessions that have an actor.",
                &[],
                gauge(Gauge::Replays),
            ),
            Sample::gauge(
                "outlive_sessions_quarantined",
                "Sessions that are not rebuilt any more because their actor kept panicking.",
                &[],
                gauge(Gauge::Quarantined),
            ),
            Sample::counter(
                "outlive_actor_restarts_total",
                "Actors rebuilt after a panic.",
                &[("kind", "session")],
                number(seen.shards.restarts),
            ),
        ]);
        samples.extend(groups::samples(&seen));
        samples.extend(quota::samples(&seen.quota));
        samples.extend(journal_samples(&seen));
        samples.extend(appender_samples(&seen));
        samples.extend(storage_samples(&seen));
        samples.extend(clock_samples(&seen));
        samples
    }
}

fn plain_counter(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample::counter(name, help, &[], number(value))
}

fn plain_gauge(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample::gauge(name, help, &[], number(value))
}

fn journal_samples(seen: &SystemObservation) -> [Sample; 9] {
    let (counter, gauge) = (plain_counter, plain_gauge);
    let journal = &seen.journal;
    [
        gauge(
            "outlive_journal_segments",
            "Segment files of the journal.",
            journal.segments,
        ),
        gauge(
            "outlive_journal_bytes",
            "Bytes of all segment files.",
            journal.bytes,
        ),
        counter(
            "outlive_journal_records_dropped_total",
            "Records dropped at log.bytes_max though a lagging session or the retained table needed them.",
            journal.records_dropped,
        ),
        counter(
            "outlive_journal_losses_total",
            "Parts of the journal that were missing at this start, and without which it went on: segments, and its end if the store knows of more.",
            journal.losses,
        ),
        counter(
            "outlive_journal_indexes_rebuilt_total",
            "Topic indexes of segments whose file was damaged or half written and that were built again.",
            journal.indexes_rebuilt,
        ),
        counter(
            "outlive_journal_syncs_total",
            "Successful syncs of the journal.",
            journal.syncs,
        ),
        counter(
            "outlive_journal_failures_total",
            "Failed writes and syncs of the journal, and files that could not be removed.",
            journal.failures,
        ),
        counter(
            "outlive_journal_records_read_total",
            "Records that catch-up reads decoded.",
            journal.records_read,
        ),
        counter(
            "outlive_journal_records_matched_total",
            "Records that catch-up reads handed to sessions.",
            journal.records_matched,
        ),
    ]
}

fn clock_samples(seen: &SystemObservation) -> [Sample; 2] {
    let ahead = seen.clock_ahead_millis as f64 / 1000.0;
    [
        Sample::gauge(
            "outlive_clock_ahead_seconds",
            "The broker's time less what the wall clock shows; the broker's goes on from start to start until the machine boots anew.",
            &[],
            ahead,
        ),
        plain_counter(
            "outlive_sessions_expired_while_down_total",
            "Sessions that expired while the broker was down, as its start found.",
            seen.expired_while_down,
        ),
    ]
}

fn appender_samples(seen: &SystemObservation) -> [Sample; 5] {
    let (counter, gauge) = (plain_counter, plain_gauge);
    let appender = &seen.appender;
    [
        gauge(
            "outlive_journal_waiting",
            "Entries accepted and not yet durable.",
            appender.waiting,
        ),
        counter(
            "outlive_journal_entries_total",
            "Entries committed to the journal.",
            appender.committed,
        ),
        counter(
            "outlive_journal_batches_total",
            "Group commits of the journal.",
            appender.batches,
        ),
        counter(
            "outlive_journal_entries_refused_total",
            "Entries that the disk refused.",
            appender.refused,
        ),
        gauge(
            "outlive_journal_failing",
            "1 from the first write or sync that fails until as much could be written again, else 0.",
            u64::from(appender.failing),
        ),
    ]
}

fn storage_samples(seen: &SystemObservation) -> [Sample; 8] {
    let (counter, gauge) = (plain_counter, plain_gauge);
    let checkpoint = &seen.checkpoint;
    [
        gauge(
            "outlive_route_backlog_bytes",
            "Publications on their way from shard to shard; at 16 MiB to one shard their publishers wait.",
            seen.route_backlog_bytes,
        ),
        gauge(
            "outlive_retained_messages",
            "Retained messages.",
            seen.retained,
        ),
        gauge(
            "outlive_retained_bytes",
            "Bytes of topics, properties and payloads of retained messages.",
            seen.retained_bytes,
        ),
        counter(
            "outlive_retained_expired_total",
            "Messages that expired while they were retained.",
            seen.retained_expired,
        ),
        counter(
            "outlive_retained_lost_total",
            "Retained messages whose records are gone: dropped at log.bytes_max, or missing at the start.",
            seen.retained_lost,
        ),
        gauge(
            "outlive_snapshot_pending_writes",
            "Journal entries that no checkpoint covers.",
            checkpoint.lag,
        ),
        counter(
            "outlive_checkpoints_total",
            "Checkpoints made.",
            checkpoint.commits,
        ),
        counter(
            "outlive_checkpoint_failures_total",
            "Checkpoints that failed and will be tried again.",
            checkpoint.failures,
        ),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
fn number(value: u64) -> f64 {
    value as f64
}
