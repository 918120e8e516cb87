//! Which sessions live here, how each is run, and when something is due for it.

use tokio::sync::oneshot;

use super::super::recovery::SessionSummary;
use super::Local;
use crate::model::counter::Counter;
use crate::model::ids::{ClientId, SessionNumber, Timestamp};
use crate::model::packet::Connect;
use crate::model::quota::{Claim, Permit};
use crate::model::refusal::Refusal;
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
    /// Where its client is.
    pub stay: Stay,
    /// Of its actor, if there were any.
    pub panics: Option<Box<Panics>>,
}

/// The unit of a session that ended.
#[derive(Debug)]
pub(super) struct Released {
    permit: Permit,
    evicted_for: Option<oneshot::Sender<Permit>>,
}

/// Where a session's client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Whether it is here.
    pub presence: Presence,
    /// Whether it ever came back to the session.
    pub resumed: bool,
    /// How long the session outlives its connection, in seconds.
    pub expiry_seconds: u32,
    /// When an offline session expires.
    pub expires_at: Timestamp,
}

impl Stay {
    /// A client id that has no session yet.
    pub const VACANT: Self = Self {
        presence: Presence::Vacant,
        resumed: false,
        expiry_seconds: 0,
        expires_at: Timestamp(0),
    };

    /// A session's.
    pub fn of(session: &Session) -> Self {
        Self {
            presence: Presence::of(session),
            resumed: session.was_resumed(),
            expiry_seconds: session.expiry_seconds(),
            expires_at: session.expires_at().unwrap_or_default(),
        }
    }

    /// The connection was lost at `now`.
    #[must_use]
    pub fn left(self, now: Timestamp) -> Self {
        Self {
            presence: Presence::Offline,
            expires_at: now.plus_seconds(self.expiry_seconds),
            ..self
        }
    }

    /// Since when an offline session's client is gone.
    pub fn offline_since(&self) -> Option<Timestamp> {
        let millis = u64::from(self.expiry_seconds) * 1000;
        (self.presence == Presence::Offline)
            .then(|| Timestamp(self.expires_at.0.saturating_sub(millis)))
    }
}

/// Whether a session has a connection.
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
    pub fn admit(&mut self, client_id: ClientId, permit: Permit, state: ResidentState, stay: Stay) {
        if let Some(gauge) = stay.presence.gauge() {
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
                stay,
                panics: None,
            },
        );
    }

    /// Takes over a session that survived a restart: routable, passive.
    pub fn inherit(&mut self, summary: SessionSummary) {
        let client_id = summary.client_id;
        let claim = Claim {
            client_id: &client_id,
            principal: &summary.owner,
            listener: &summary.listener,
        };
        let permit = self.shared.quota.adopt(claim, self.shared.clock.now());
        let stay = Stay {
            presence: Presence::Offline,
            resumed: summary.resumed,
            expiry_seconds: summary.expiry_seconds,
            expires_at: summary.deadline,
        };
        self.admit(client_id.clone(), permit, ResidentState::Passive, stay);
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

    /// Forgets a client id. Its permit is free at the end of the turn, when the end of the session is on its way to the
    /// journal: no newcomer's beginning can be recorded before, so that a crash never brings back more than the limit.
    pub fn remove(&mut self, client_id: &ClientId) {
        self.set_deadline(client_id, None);
        self.set_stay(client_id, Stay::VACANT);
        if let Some(resident) = self.directory.remove(client_id) {
            self.released.push(Released {
                permit: resident.permit,
                evicted_for: self.evicted.remove(client_id),
            });
        }
    }

    /// Gives back the units of sessions that ended; that of one that was evicted goes to whoever waits for it.
    pub(super) fn give_units_back(&mut self) {
        for released in self.released.drain(..) {
            let Released {
                permit,
                evicted_for,
            } = released;
            match evicted_for {
                // Given back if whoever waited has given up.
                Some(waiting) => drop(waiting.send(permit)),
                None => drop(permit),
            }
        }
    }

    /// A client id's unit is for a session that `connect` begins, if it begins one.
    ///
    /// # Errors
    /// [`Refusal`] if there is no unit for that session.
    pub fn pass_on_unit(&mut self, connect: &Connect) -> Result<(), Refusal> {
        let Some(resident) = self.directory.get_mut(&connect.client_id) else {
            return Ok(());
        };
        let claim = Claim::from(connect);
        let passed_on = resident.permit.pass_on(claim, self.shared.clock.now());
        passed_on.map_err(|shortage| self.shared.quota.refuse(&shortage))
    }

    /// Says where a session's client is.
    pub fn set_stay(&mut self, client_id: &ClientId, stay: Stay) {
        let Some(resident) = self.directory.get_mut(client_id) else {
            return;
        };
        let before = std::mem::replace(&mut resident.stay, stay).presence;
        if stay.presence == Presence::Online && !self.evicted.is_empty() {
            self.evicted.remove(client_id); // its unit is not for anybody else
        }
        if let Some(gauge) = before.gauge() {
            self.cells.shift(gauge, -1);
        }
        if let Some(gauge) = stay.presence.gauge() {
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
