//! Which sessions live here, how each is run, and when something is due for it.

use super::super::recovery::SessionSummary;
use super::Local;
use crate::model::counter::Counter;
use crate::model::ids::{ClientId, SessionNumber, Timestamp};
use crate::model::quota::Permit;
use crate::model::routes::Slot;
use crate::model::session::Session;
use crate::observe::Gauge;
use crate::supervise::Panics;

/// What a shard knows of one client id.
#[derive(Debug)]
pub struct Resident {
    /// The session's number; 0 before its first attach.
    pub number: SessionNumber,
    /// Its unit of the quota.
    pub permit: Permit,
    /// When something is due: expiry, will, progress, passivation.
    pub deadline: Option<Timestamp>,
    /// How it is run.
    pub state: ResidentState,
    /// Whether it has a connection.
    pub presence: Presence,
    /// Of its actor, if there were any.
    pub panics: Option<Box<Panics>>,
}

/// Whether a session has a connection, for the gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// There is no session yet, or no more.
    Vacant,
    /// A connection is attached.
    Online,
    /// The session waits for its client.
    Offline,
}

impl Presence {
    /// A session's.
    pub fn of(session: &Session) -> Self {
        match (session.is_begun(), session.is_attached()) {
            (false, _) => Self::Vacant,
            (true, true) => Self::Online,
            (true, false) => Self::Offline,
        }
    }

    fn gauge(self) -> Option<Gauge> {
        match self {
            Self::Vacant => None,
            Self::Online => Some(Gauge::SessionsOnline),
            Self::Offline => Some(Gauge::SessionsOffline),
        }
    }
}

/// How a session is run.
#[derive(Debug)]
pub enum ResidentState {
    /// By an actor.
    Active(Slot),
    /// By nobody: its snapshot lies in the store.
    Passive,
    /// By nobody yet: its snapshot is being read.
    Rehydrating,
    /// By nobody any more: its actor kept panicking.
    Quarantined,
}

impl Local {
    /// A client id gets an entry and holds `permit`.
    pub fn admit(
        &mut self,
        client_id: ClientId,
        permit: Permit,
        state: ResidentState,
        presence: Presence,
    ) {
        if let Some(gauge) = presence.gauge() {
            self.cells.shift(gauge, 1);
        }
        let number = SessionNumber(0);
        self.directory.insert(
            client_id,
            Resident {
                number,
                permit,
                deadline: None,
                state,
                presence,
                panics: None,
            },
        );
    }

    /// Takes over a session that survived a restart: routable, passive.
    pub fn inherit(&mut self, summary: SessionSummary) {
        let permit = self.shared.quota.adopt();
        let client_id = summary.client_id;
        self.admit(
            client_id.clone(),
            permit,
            ResidentState::Passive,
            Presence::Offline,
        );
        if let Some(resident) = self.directory.get_mut(&client_id) {
            resident.number = summary.number;
        }
        let deadline = summary
            .will_due_at
            .into_iter()
            .fold(summary.deadline, Ord::min);
        self.set_deadline(&client_id, Some(deadline));
        for filter in &summary.filters {
            self.hold(filter);
        }
        if let Some(record) = summary.record {
            self.append(record);
        }
    }

    /// Forgets a client id; its permit is free.
    pub fn remove(&mut self, client_id: &ClientId) {
        self.set_deadline(client_id, None);
        self.set_presence(client_id, Presence::Vacant);
        self.directory.remove(client_id);
    }

    /// Says whether a session has a connection.
    pub fn set_presence(&mut self, client_id: &ClientId, presence: Presence) {
        let Some(resident) = self.directory.get_mut(client_id) else {
            return;
        };
        let before = std::mem::replace(&mut resident.presence, presence);
        if let Some(gauge) = before.gauge() {
            self.cells.shift(gauge, -1);
        }
        if let Some(gauge) = presence.gauge() {
            self.cells.shift(gauge, 1);
        }
    }

    /// A session's actor stopped, its session lives on in its snapshot.
    pub fn passivated(&mut self, client_id: &ClientId, deadline: Option<Timestamp>) {
        self.count(Counter::SessionPassivated);
        self.set_deadline(client_id, deadline);
        if let Some(resident) = self.directory.get_mut(client_id) {
            resident.state = ResidentState::Passive;
        }
    }

    /// Says when something is due for a client id.
    pub fn set_deadline(&mut self, client_id: &ClientId, deadline: Option<Timestamp>) {
        let Some(resident) = self.directory.get_mut(client_id) else {
            return;
        };
        if resident.deadline == deadline {
            return;
        }
        if let Some(before) = std::mem::replace(&mut resident.deadline, deadline) {
            self.wheel.remove(&(before, client_id.clone()));
        }
        if let Some(at) = deadline {
            self.wheel.insert((at, client_id.clone()));
        }
    }

    /// The client ids for which something is due, at most `max`; their deadlines are forgotten.
    pub fn due(&mut self, now: Timestamp, max: usize) -> Vec<ClientId> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some((at, _)) = self.wheel.first()
            && *at <= now
            && let Some((_, client_id)) = self.wheel.pop_first()
        {
            if let Some(resident) = self.directory.get_mut(&client_id) {
                resident.deadline = None;
            }
            due.push(client_id);
        }
        due
    }
}
