//! Bringing sessions back: from their snapshot when somebody asks for them or something is due, and after their actor
//! died.
//!
//! Invariant: a snapshot is asked for only when everything that its session recorded is committed, so that nothing the
//! journal will say is missing in the actor.

use actix::{AsyncContext, Context};

use super::super::local::{Presence, ResidentState};
use super::super::protocol::{
    ConnectRequest, EndSession, Rehydrate, SessionDied, ToSession, close,
};
use super::ShardActor;
use crate::model::counter::Counter;
use crate::model::entry::{Change, Entry};
use crate::model::ids::ClientId;
use crate::model::refusal::Refusal;
use crate::model::session::Session;
use crate::model::snapshot::SessionSnapshot;
use crate::observe::Gauge;
use crate::supervise::{PANICS_MAX, Panics};

/// After so long in milliseconds at the earliest a session is tried again whose snapshot could not be read, or that is
/// quarantined: something may be due for it.
const RETRY_MILLIS: u64 = 60_000;

/// Connections that wait for one session at most.
const WAITING_MAX: usize = 4;

/// Who waits for a session to come back.
#[derive(Debug, Default)]
pub(super) struct Comeback {
    /// Connections, in the order in which they asked; at most [`WAITING_MAX`].
    waiting: Vec<ConnectRequest>,
    /// An operator, who asked before them and ends it with this refusal.
    discard: Option<Refusal>,
}

impl Comeback {
    /// For a connection.
    pub(super) fn of(request: ConnectRequest) -> Self {
        Self {
            waiting: vec![request],
            discard: None,
        }
    }

    /// Lets one more connection wait, of a client that may own the session if `is_owner`. Gives who is refused because of
    /// that, and why: the first of the same principal makes way, any stranger does for the owner, and nobody for a stranger.
    fn wait(
        &mut self,
        request: ConnectRequest,
        is_owner: bool,
    ) -> Option<(ConnectRequest, Refusal)> {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(request);
            return None;
        }
        let principal = &request.connect.principal;
        let mut waiting = self.waiting.iter();
        let before = waiting.position(|before| before.connect.principal == *principal);
        let (at, refusal) = match before {
            Some(at) => (at, Refusal::TakeoverRate),
            None if is_owner => (0, Refusal::Busy),
            None => return Some((request, Refusal::Busy)),
        };
        let displaced = self.waiting.remove(at);
        self.waiting.push(request);
        Some((displaced, refusal))
    }

    /// Refuses the connections that wait; whether there were any.
    fn refuse(&mut self, refusal: Refusal) -> bool {
        let waited = !self.waiting.is_empty();
        for request in self.waiting.drain(..) {
            close(&request.connection, refusal);
        }
        waited
    }
}

impl ShardActor {
    /// A connection for a session that is on its way back. However long the store takes, what waits is bounded.
    pub(super) fn await_comeback(&mut self, request: ConnectRequest) {
        let client_id = request.connect.client_id.clone();
        let is_owner = {
            let local = self.local.borrow();
            let resident = local.directory.get(&client_id);
            resident.is_some_and(|known| *known.permit.principal() == request.connect.principal)
        };
        let comeback = self.comebacks.entry(client_id).or_default();
        if let Some((refused, refusal)) = comeback.wait(request, is_owner) {
            self.local.borrow().count(Counter::ResumeRefused);
            close(&refused.connection, refusal);
        }
    }

    /// Brings a passive session back.
    pub(super) fn rehydrate(
        &mut self,
        client_id: ClientId,
        comeback: Comeback,
        ctx: &mut Context<Self>,
    ) {
        self.rehydrate_after(self.inherited, client_id, comeback, ctx);
    }

    /// Asks for the snapshot of a session once `ticket` is answered; it comes as [`Rehydrate`].
    fn rehydrate_after(
        &mut self,
        ticket: u64,
        client_id: ClientId,
        comeback: Comeback,
        ctx: &mut Context<Self>,
    ) {
        {
            let mut local = self.local.borrow_mut();
            let Some(resident) = local.directory.get_mut(&client_id) else {
                return;
            };
            resident.state = ResidentState::Rehydrating;
        }
        self.comebacks.insert(client_id.clone(), comeback);
        self.unanswered.push((ticket, client_id));
        self.ask_answered(ctx);
    }

    /// Asks for the snapshots that lack nothing any more.
    pub(super) fn ask_answered(&mut self, ctx: &mut Context<Self>) {
        if self.unanswered.is_empty() {
            return;
        }
        let local = self.local.borrow();
        let end = local.shared.journal.end();
        self.unanswered.retain(|(ticket, client_id)| {
            if !local.is_answered(*ticket) {
                return true;
            }
            if let Some(resident) = local.directory.get(client_id) {
                let (shard, client_id) = (ctx.address(), client_id.clone());
                local.shared.checkpointer.image(
                    resident.number,
                    end,
                    Box::new(move |image| shard.do_send(Rehydrate { client_id, image })),
                );
            }
            false
        });
    }

    /// The snapshot is there, or there is none.
    pub(super) fn bring_back(&mut self, rehydrated: Rehydrate, ctx: &mut Context<Self>) {
        let Rehydrate { client_id, image } = rehydrated;
        let mut comeback = self.comebacks.remove(&client_id).unwrap_or_default();
        match image {
            Ok(Some(snapshot)) => self.revive(snapshot, comeback, ctx),
            Ok(None) => {
                // It is over: the last that its actor recorded was its end, or it was never recorded.
                let mut local = self.local.borrow_mut();
                let number = local.directory.get(&client_id).map(|known| known.number);
                local.remove(&client_id);
                drop(local);
                if let Some(number) = number {
                    self.leave_groups(number);
                }
                self.local.borrow_mut().flush_unanswered();
                for request in comeback.waiting {
                    self.connect(request, ctx);
                }
            }
            Err(error) => {
                tracing::error!(client_id = %client_id, %error, "session cannot be rebuilt");
                let mut local = self.local.borrow_mut();
                let retry_at = local.now().time.plus_millis(RETRY_MILLIS);
                local.set_deadline(&client_id, Some(retry_at));
                if let Some(resident) = local.directory.get_mut(&client_id) {
                    resident.state = ResidentState::Passive;
                }
                comeback.refuse(Refusal::Internal);
            }
        }
    }

    fn revive(
        &mut self,
        mut snapshot: SessionSnapshot,
        comeback: Comeback,
        ctx: &mut Context<Self>,
    ) {
        self.reconcile_groups(&snapshot);
        let session = {
            let mut local = self.local.borrow_mut();
            local.count(Counter::SessionRehydrated);
            let now = local.now();
            if snapshot.detached_at.is_none() {
                // Its actor died with a connection: what was sent since its last record may have been received.
                let known = local.directory.get(&snapshot.client_id);
                let offline_since = known.and_then(|known| known.stay.offline_since());
                let change = Change::Recovered {
                    at: offline_since.unwrap_or(now.time),
                    maybe_sent_below: now.log_end,
                };
                snapshot.apply(snapshot.covers, &change);
                local.append(Entry::change(snapshot.number, change));
            }
            Session::restore(snapshot, local.shared.limits.clone(), now.time)
        };
        let session = self.start(session, ctx);
        session.tell(ToSession::Tick); // whose turn takes along what was appended, and does what is due
        if let Some(refusal) = comeback.discard {
            let discard = true;
            session.tell(ToSession::End { refusal, discard });
        }
        for request in comeback.waiting {
            self.hand_over(&session, request);
        }
    }

    /// A session actor panicked and with its last breath closed its connection: its neighbours don't notice, it is
    /// rebuilt from what is in the journal or on its way there.
    pub(super) fn buried(&mut self, died: SessionDied, ctx: &mut Context<Self>) {
        let SessionDied {
            slot,
            whose: client_id,
        } = died;
        let mut local = self.local.borrow_mut();
        let now = local.shared.clock.now();
        let member = local.lose_member(slot);
        local.mute_all(slot);
        local.undo_holds(slot);
        local.flush_unanswered(); // what its last turn left half done
        local.vacate(slot);
        local.cells.restarted();
        let Some(resident) = local.directory.get_mut(&client_id) else {
            return;
        };
        let stay = resident.stay;
        // Nothing is recorded of a session that ends with its connection.
        let transient = member.filter(|member| *member != resident.number);
        let panics = resident
            .panics
            .get_or_insert_with(|| Box::new(Panics::none(now)))
            .count(now);
        let rebuild = panics <= PANICS_MAX;
        if !rebuild {
            resident.state = ResidentState::Quarantined;
            local.cells.shift(Gauge::Quarantined, 1);
        }
        let stay = match stay.presence {
            Presence::Online => stay.left(now),
            Presence::Offline | Presence::Vacant => stay,
        };
        local.set_stay(&client_id, stay);
        if !rebuild {
            let retry_at = now.plus_millis(RETRY_MILLIS);
            local.set_deadline(&client_id, Some(stay.expires_at.max(retry_at)));
        }
        tracing::error!(client_id = %client_id, panics, rebuild, "session actor panicked");
        let recorded = local.submitted();
        drop(local);
        if let Some(member) = transient {
            self.leave_groups(member);
        }
        if rebuild {
            self.rehydrate_after(recorded, client_id, Comeback::default(), ctx);
        }
        self.local.borrow_mut().flush_unanswered();
    }

    /// An operator ends a connection or, with `discard`, a session, whether it has an actor or not.
    pub(super) fn end(&mut self, end: EndSession, ctx: &mut Context<Self>) -> bool {
        let EndSession {
            client_id,
            refusal,
            discard,
        } = end;
        let local = self.local.borrow_mut();
        let Some(resident) = local.directory.get(&client_id) else {
            return false;
        };
        match &resident.state {
            ResidentState::Active(slot) => {
                let slot = *slot;
                drop(local);
                self.tell(slot, ToSession::End { refusal, discard });
                return true;
            }
            ResidentState::Rehydrating => {
                let comeback = self.comebacks.entry(client_id).or_default();
                comeback.discard = comeback.discard.or(discard.then_some(refusal));
                return comeback.refuse(refusal) || discard;
            }
            ResidentState::Passive | ResidentState::Quarantined if !discard => return false,
            ResidentState::Passive | ResidentState::Quarantined => {}
        }
        drop(local);
        let comeback = Comeback {
            waiting: Vec::new(),
            discard: Some(refusal),
        };
        self.retry(client_id, comeback, ctx);
        true
    }

    /// Brings a session without an actor back, to end or to do what is due; one that is quarantined may die once more.
    pub(super) fn retry(
        &mut self,
        client_id: ClientId,
        comeback: Comeback,
        ctx: &mut Context<Self>,
    ) {
        let recorded = {
            let mut local = self.local.borrow_mut();
            let recorded = local.submitted();
            if let Some(resident) = local.directory.get_mut(&client_id)
                && matches!(resident.state, ResidentState::Quarantined)
            {
                if let Some(panics) = &mut resident.panics {
                    panics.forgive_one();
                }
                local.cells.shift(Gauge::Quarantined, -1);
            }
            recorded
        };
        self.rehydrate_after(recorded, client_id, comeback, ctx);
    }

    /// Refuses all connections that wait for a session to come back.
    pub(super) fn refuse_waiting(&mut self, refusal: Refusal) {
        for comeback in self.comebacks.values_mut() {
            comeback.refuse(refusal);
        }
    }
}
