//! Why a measurement could not be taken.

use std::io;

use thiserror::Error;

/// What stops a workload or the whole run.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    /// The command line asks for something that is not there.
    #[error("{0}")]
    Usage(String),
    /// The broker did not become ready.
    #[error("{name} is not ready after {seconds} s; it said: {log}")]
    NotReady {
        name: String,
        seconds: u64,
        log: String,
    },
    /// A CONNECT was answered with a return code other than 0.
    #[error("connection refused with return code {0}")]
    Refused(u8),
    /// The broker closed a connection that should have stayed.
    #[error("the broker closed a connection while {0}")]
    Closed(&'static str),
    /// A SUBACK held a failure code.
    #[error("subscription refused")]
    SubscriptionRefused,
    /// A session was resumed that should be new, or the other way round.
    #[error("session present was {0}, expected {1}")]
    SessionPresent(bool, bool),
    /// Bytes from the broker that are no MQTT packet a client may get.
    #[error("the broker sent bytes that are no MQTT 3.1.1 packet")]
    Malformed,
    /// Nothing moved for a long time.
    #[error("no progress for {seconds} s while {what}")]
    Stalled { what: &'static str, seconds: u64 },
    /// The broker takes too long for the sizes asked for.
    #[error("gave up after {seconds} s and {done} connections")]
    Slow { seconds: u64, done: u64 },
    /// The workload needs a broker that this program starts itself.
    #[error("needs a broker that is started by this program")]
    NotOurs,
}

/// The result of most things here.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Adds what was tried to an I/O error.
pub(crate) trait Trying<T> {
    /// Says what was tried.
    fn trying(self, what: impl Into<String>) -> Result<T>;
}

impl<T> Trying<T> for io::Result<T> {
    fn trying(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Failure::Io {
            what: what.into(),
            source,
        })
    }
}
