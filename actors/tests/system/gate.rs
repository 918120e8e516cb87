//! Stops a thread of the system where a test wants it, until the test lets it go on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::groups::until;
use crate::world::PATIENCE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Ahead,
    Before,
    Open,
}

/// A gate that the first who comes waits at.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(Mutex<At>, Condvar)>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new((Mutex::new(At::Ahead), Condvar::new())))
    }

    fn at(&self) -> MutexGuard<'_, At> {
        self.0.0.lock().expect("nobody panics with it")
    }

    /// On the thread that is stopped.
    pub(crate) fn pass(&self) {
        let mut at = self.at();
        if *at == At::Ahead {
            *at = At::Before;
            let opened = &self.0.1;
            let passed = opened.wait_timeout_while(at, PATIENCE, |at| *at == At::Before);
            let (_at, waited) = passed.expect("nobody panics with it");
            assert!(!waited.timed_out(), "nobody opens the gate");
        }
    }

    /// Waits until somebody waits.
    pub(crate) async fn reached(&self) {
        let is_there = async || *self.at() == At::Before;
        until(is_there, || "nobody comes to the gate".to_owned()).await;
    }

    pub(crate) fn open(&self) {
        *self.at() = At::Open;
        self.0.1.notify_all();
    }
}
