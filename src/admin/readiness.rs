//! Whether the broker serves, and what is missing if not.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the broker has reached of its start and end. Shared between the broker, which sets it, and whoever asks.
#[derive(Debug, Default)]
pub struct Readiness {
    rehydrated: AtomicBool,
    listening: AtomicBool,
    draining: AtomicBool,
}

/// Why the broker is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Not every session that survived is routable again.
    Rehydrated,
    /// The ports are not open.
    Listening,
    /// The broker is shutting down.
    Draining,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rehydrated => "sessions are not rehydrated yet",
            Self::Listening => "not listening yet",
            Self::Draining => "draining",
        })
    }
}

impl Readiness {
    /// Every session that survived is routable.
    pub fn rehydrated(&self) {
        self.rehydrated.store(true, Ordering::Release);
    }

    /// Every port is open.
    pub fn listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// The broker shuts down; there is no way back.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What is missing; empty if the broker is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        if !self.rehydrated.load(Ordering::Acquire) {
            missing.push(Missing::Rehydrated);
        }
        if !self.listening.load(Ordering::Acquire) {
            missing.push(Missing::Listening);
        }
        if self.draining.load(Ordering::Acquire) {
            missing.push(Missing::Draining);
        }
        missing
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_rehydrated_and_listening_and_not_draining() {
        let readiness = Readiness::default();
        assert_eq!(
            readiness.missing(),
            [Missing::Rehydrated, Missing::Listening]
        );
        readiness.listening();
        assert_eq!(readiness.missing(), [Missing::Rehydrated]);
        readiness.rehydrated();
        assert!(readiness.is_ready());
        readiness.draining();
        assert_eq!(readiness.missing(), [Missing::Draining]);
    }
}
