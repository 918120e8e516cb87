//! What the wire counts. One value per broker, shared by reference, never global.

use std::sync::atomic::{AtomicU64, Ordering};

use outlive_actors::model::refusal::Refusal;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// One thing that the wire counts. Counters only grow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum WireCounter {
            $($(#[$doc])* $variant,)+
        }

        impl WireCounter {
            /// Every counter, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The counter's name in metrics, without prefix and suffix.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

counters! {
    /// Sockets accepted.
    Accepted = "connections_accepted",
    /// `accept` failed, for example for want of file descriptors.
    AcceptErrors = "accept_errors",
    /// Closed at accept: `unauthenticated_max` was reached.
    AcceptRefused = "accept_refused",
    /// Closed before a whole CONNECT had come, by the client or by the connect timeout.
    ConnectMissing = "connect_missing",
    /// The connect timeout passed.
    ConnectTimeouts = "connect_timeouts",
    /// Connections that got a CONNACK with success.
    Opened = "connections_opened",
    /// Connections that had been opened and ended, however they ended.
    Closed = "connections_closed",
    /// Ended by a DISCONNECT of the client.
    ClosedByClient = "connections_closed_by_client",
    /// Ended without a DISCONNECT: end of stream or socket error.
    ClosedAbruptly = "connections_closed_abruptly",
    /// Bytes read.
    BytesIn = "bytes_in",
    /// Bytes written.
    BytesOut = "bytes_out",
    /// Packets read.
    PacketsIn = "packets_in",
    /// A client was not read because the packets of all under way took `inbound_bytes_max`.
    InboundWaits = "inbound_waits",
    /// Packets encoded for clients.
    PacketsOut = "packets_out",
    /// PUBLISH packets encoded for clients.
    PublishesOut = "publishes_out",
    /// PUBLISH packets refused at the door: QoS above the maximum, topic reserved, too deep or not authorized, payload not
    /// UTF-8 though it says so.
    PublishesRefused = "publishes_refused",
    /// Wills on topics of the broker: their clients were let in, they are not published.
    WillsRefused = "wills_refused",
    /// Filters refused at the door: too deep or not authorized.
    FiltersRefused = "filters_refused",
    /// QoS 0 deliveries dropped because their client does not read fast enough.
    DroppedSlowReader = "deliveries_dropped_slow_reader",
    /// Deliveries dropped because they exceed their client's maximum packet size.
    DroppedOversized = "deliveries_dropped_oversized",
    /// Acknowledgements not sent because they exceed their client's maximum packet size.
    AnswersOversized = "answers_oversized",
}

/// Every refusal, in the order of declaration.
pub const REFUSALS: [Refusal; 38] = [
    Refusal::Malformed,
    Refusal::Protocol,
    Refusal::Version,
    Refusal::ClientId,
    Refusal::Credentials,
    Refusal::NotAuthorized,
    Refusal::NoTenant,
    Refusal::AuthMethod,
    Refusal::SessionQuota,
    Refusal::PrincipalQuota,
    Refusal::ListenerQuota,
    Refusal::ConnectRate,
    Refusal::TenantConnectRate,
    Refusal::TakeoverRate,
    Refusal::SubscriptionQuota,
    Refusal::RetainedQuota,
    Refusal::TenantRetainedQuota,
    Refusal::JournalUnavailable,
    Refusal::PayloadFormat,
    Refusal::QoS,
    Refusal::PacketIdInUse,
    Refusal::WrongAck,
    Refusal::ReceiveMax,
    Refusal::PacketTooLarge,
    Refusal::TopicAlias,
    Refusal::TopicName,
    Refusal::TopicLevels,
    Refusal::TopicFilter,
    Refusal::SharedQuota,
    Refusal::TenantGroupQuota,
    Refusal::GroupNotDeclared,
    Refusal::TakenOver,
    Refusal::KeepAlive,
    Refusal::NotReading,
    Refusal::ShuttingDown,
    Refusal::Busy,
    Refusal::Administrative,
    Refusal::Internal,
];

/// The live counters; add to them from any thread.
#[derive(Debug)]
pub struct WireCounters {
    counts: [AtomicU64; WireCounter::ALL.len()],
    /// Connections refused before CONNACK, by refusal.
    refused: [AtomicU64; REFUSALS.len()],
    /// Connections ended by the broker after CONNACK, by refusal.
    ended: [AtomicU64; REFUSALS.len()],
}

impl WireCounters {
    /// All zero.
    pub fn new() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Adds `more` to `counter`.
    pub fn add(&self, counter: WireCounter, more: usize) {
        if more > 0 {
            let more = u64::try_from(more).unwrap_or(u64::MAX);
            self.counts[counter as usize].fetch_add(more, Ordering::Relaxed);
        }
    }

    /// A connection was refused before its CONNACK.
    pub(super) fn refused(&self, refusal: Refusal) {
        add_one(&self.refused, refusal);
    }

    /// An open connection was ended by the broker.
    pub(super) fn ended(&self, refusal: Refusal) {
        add_one(&self.ended, refusal);
    }

    /// What they show now.
    pub fn observe(&self) -> WireObservation {
        WireObservation {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            refused: std::array::from_fn(|at| self.refused[at].load(Ordering::Relaxed)),
            ended: std::array::from_fn(|at| self.ended[at].load(Ordering::Relaxed)),
        }
    }
}

impl Default for WireCounters {
    fn default() -> Self {
        Self::new()
    }
}

fn add_one(counts: &[AtomicU64], refusal: Refusal) {
    if let Some(count) = counts.get(refusal as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the counters showed at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireObservation {
    counts: [u64; WireCounter::ALL.len()],
    refused: [u64; REFUSALS.len()],
    ended: [u64; REFUSALS.len()],
}

impl WireObservation {
    /// One counter.
    pub fn get(&self, counter: WireCounter) -> u64 {
        self.counts[counter as usize]
    }

    /// Connections refused before CONNACK for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused.get(refusal as usize).copied().unwrap_or(0)
    }

    /// Open connections that the broker ended for this reason.
    pub fn ended(&self, refusal: Refusal) -> u64 {
        self.ended.get(refusal as usize).copied().unwrap_or(0)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.get(WireCounter::Opened)
            .saturating_sub(self.get(WireCounter::Closed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_refusals_is_in_the_order_of_their_numbers() {
        for (at, refusal) in REFUSALS.iter().enumerate() {
            assert_eq!(*refusal as usize, at, "{refusal:?}");
        }
        assert_eq!(REFUSALS.last(), Some(&Refusal::Internal));
    }

    #[test]
    fn an_observation_shows_what_was_counted() {
        let counters = WireCounters::new();
        counters.add(WireCounter::Opened, 3);
        counters.add(WireCounter::Closed, 1);
        counters.ended(Refusal::TakenOver);
        let seen = counters.observe();
        assert_eq!(seen.open(), 2);
        assert_eq!(seen.ended(Refusal::TakenOver), 1);
        assert_eq!(seen.refused(Refusal::TakenOver), 0);
    }
}
