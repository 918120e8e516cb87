//! The shard actor: the head of one thread.
//!
//! Owns: admitting, rehydrating and rebuilding the sessions whose home this is, the one timer, the answers of the
//! appender. Does not know: what a session decides.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Recipient, ResponseFuture};
use tokio::sync::oneshot;

use super::local::{Local, Presence, ResidentState};
use super::protocol::{
    Committed, ConnectRequest, Drain, EndSession, Rehydrate, RouteBatch, SessionDied, ToConnection,
    ToSession,
};
use crate::model::counter::Counter;
use crate::model::entry::{Change, Entry};
use crate::model::ids::ClientId;
use crate::model::packet::Outbound;
use crate::model::refusal::Refusal;
use crate::model::routes::Slot;
use crate::model::session::Session;
use crate::observe::Gauge;
use crate::supervise::may_rebuild;

/// How often a shard looks for what is due.
const TICK: Duration = Duration::from_millis(100);

/// Due sessions that one tick looks after at most; the rest follows with the next, so that a million deadlines at once
/// do not stop the shard.
const DUE_MAX: usize = 1000;

/// Makes the session actor's address; given by the system, so that this file does not know the session actor.
pub type Spawn = fn(Session, Rc<RefCell<Local>>, Recipient<SessionDied>) -> Recipient<ToSession>;

/// Runs one shard.
#[derive(Debug)]
pub struct ShardActor {
    local: Rc<RefCell<Local>>,
    spawn: Spawn,
    /// Who waits for the drain to be over.
    drains: Vec<oneshot::Sender<()>>,
}

impl ShardActor {
    /// A shard over `local`.
    pub fn new(local: Rc<RefCell<Local>>, spawn: Spawn) -> Self {
        Self {
            local,
            spawn,
            drains: Vec::new(),
        }
    }

    /// Brings a session to life and, if somebody waits for it, lets it attach.
    fn start(&self, session: Session, ctx: &mut Context<Self>) -> Recipient<ToSession> {
        (self.spawn)(session, Rc::clone(&self.local), ctx.address().recipient())
    }

    fn admit(&self, request: ConnectRequest, ctx: &mut Context<Self>) {
        let client_id = request.connect.client_id.clone();
        let session = {
            let mut local = self.local.borrow_mut();
            let Some(permit) = local.shared.quota.try_acquire() else {
                return refuse(&request.connection, Refusal::SessionQuota);
            };
            let limits = Arc::clone(&local.shared.limits);
            local.admit(
                client_id.clone(),
                permit,
                ResidentState::Passive,
                Presence::Vacant,
            );
            Session::vacant(client_id, limits)
        };
        let session = self.start(session, ctx);
        self.hand_over(&session, request);
    }

    /// Sends an attach to an actor, counted so that the actor does not stop before it has seen it.
    fn hand_over(&self, session: &Recipient<ToSession>, request: ConnectRequest) {
        let mut local = self.local.borrow_mut();
        let state = local
            .directory
            .get(&request.connect.client_id)
            .map(|resident| &resident.state);
        if let Some(ResidentState::Active(slot)) = state {
            let slot = *slot;
            if let Some(slot) = local.slot(slot) {
                slot.attaching += 1;
            }
        }
        session.do_send(ToSession::Attach(Box::new(request)));
    }

    /// Asks for the snapshot of a passive session; the answer comes as [`Rehydrate`].
    fn rehydrate(
        &self,
        client_id: &ClientId,
        waiting: Option<Box<ConnectRequest>>,
        ctx: &mut Context<Self>,
    ) {
        let mut local = self.local.borrow_mut();
        let local = &mut *local;
        let Some(resident) = local.directory.get_mut(client_id) else {
            return;
        };
        resident.state = ResidentState::Rehydrating(waiting);
        let number = resident.number;
        let shard = ctx.address();
        let client_id = client_id.clone();
        let end = local.shared.journal.end();
        local.shared.checkpointer.image(
            number,
            end,
            Box::new(move |image| shard.do_send(Rehydrate { client_id, image })),
        );
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.local.borrow().shared.clock.now();
        let due = self.local.borrow_mut().due(now, DUE_MAX);
        for client_id in due {
            let slot = {
                let local = self.local.borrow();
                match local
                    .directory
                    .get(&client_id)
                    .map(|resident| &resident.state)
                {
                    Some(ResidentState::Active(slot)) => Some(*slot),
                    Some(ResidentState::Passive) => None,
                    Some(ResidentState::Rehydrating(_) | ResidentState::Quarantined) | None => {
                        continue;
                    }
                }
            };
            match slot {
                Some(slot) => self.tell(slot, ToSession::Tick),
                None => self.rehydrate(&client_id, None, ctx),
            }
        }
    }

    fn tell(&self, slot: Slot, told: ToSession) {
        if let Some(state) = self.local.borrow_mut().slot(slot) {
            state.session.do_send(told);
        }
    }

    fn bring_back(&self, rehydrated: Rehydrate, ctx: &mut Context<Self>) {
        let Rehydrate { client_id, image } = rehydrated;
        let waiting = {
            let mut local = self.local.borrow_mut();
            let Some(resident) = local.directory.get_mut(&client_id) else {
                return;
            };
            let ResidentState::Rehydrating(waiting) =
                std::mem::replace(&mut resident.state, ResidentState::Passive)
            else {
                return;
            };
            waiting
        };
        let mut snapshot = match image {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => {
                // It ended meanwhile: a session whose actor died before its creation was recorded.
                self.local.borrow_mut().remove(&client_id);
                if let Some(request) = waiting {
                    self.admit(*request, ctx);
                }
                return;
            }
            Err(error) => {
                tracing::error!(client_id = %client_id, %error, "session cannot be rebuilt");
                if let Some(request) = waiting {
                    refuse(&request.connection, Refusal::Internal);
                }
                return;
            }
        };
        let session = {
            let mut local = self.local.borrow_mut();
            local.count(Counter::SessionRehydrated);
            let now = local.now();
            if snapshot.detached_at.is_none() {
                // Its actor died with a connection: what was sent since its last record may have been received.
                let change = Change::Recovered {
                    at: now.time,
                    maybe_sent_below: now.log_end,
                };
                snapshot.apply(snapshot.covers, &change);
                local.append(Entry::change(snapshot.number, change));
            }
            Session::restore(snapshot, Arc::clone(&local.shared.limits), now.time)
        };
        let session = self.start(session, ctx);
        session.do_send(ToSession::Tick); // whose turn takes along what was appended, and does what is due
        if let Some(request) = waiting {
            self.hand_over(&session, *request);
        }
    }

    /// A session actor panicked: its connection is closed, its neighbours don't notice, it is rebuilt.
    fn buried(&self, died: &SessionDied, ctx: &mut Context<Self>) {
        let mut local = self.local.borrow_mut();
        let now = local.shared.clock.now();
        local.mute_all(died.slot);
        if let Some(connection) = local.vacate(died.slot).and_then(|slot| slot.connection) {
            refuse(&connection, Refusal::Internal);
        }
        let Some(resident) = local.directory.get_mut(&died.client_id) else {
            return;
        };
        let rebuild = may_rebuild(&mut resident.panics, now);
        let panics = resident.panics.0;
        if !rebuild {
            resident.state = ResidentState::Quarantined;
            local.cells.shift(Gauge::Quarantined, 1);
        }
        local.cells.restarted();
        tracing::error!(client_id = %died.client_id, panics, rebuild, "session actor panicked");
        if rebuild {
            drop(local);
            self.rehydrate(&died.client_id, None, ctx);
        }
    }

    /// Answers who waits for the drain, once nobody is attached and nothing is unanswered.
    fn look_after_drain(&mut self) {
        if !self.drains.is_empty() && self.local.borrow().is_drained() {
            for drain in self.drains.drain(..) {
                // Whoever asked may have given up.
                drain.send(()).ok();
            }
        }
    }
}

/// Tells a connection why it does not get a session.
fn refuse(connection: &Recipient<ToConnection>, refusal: Refusal) {
    connection.do_send(ToConnection::Packets {
        packets: vec![Outbound::Close(refusal)],
        processed: 0,
    });
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
        ctx.run_interval(TICK, |shard, ctx| {
            shard.tick(ctx);
            shard.look_after_drain();
        });
    }
}

impl Handler<ConnectRequest> for ShardActor {
    type Result = ();

    fn handle(&mut self, request: ConnectRequest, ctx: &mut Self::Context) {
        let client_id = request.connect.client_id.clone();
        let slot = {
            let mut local = self.local.borrow_mut();
            match local
                .directory
                .get_mut(&client_id)
                .map(|resident| &mut resident.state)
            {
                None => None,
                Some(ResidentState::Active(slot)) => Some(Some(*slot)),
                Some(ResidentState::Passive) => Some(None),
                Some(ResidentState::Rehydrating(waiting)) => {
                    if let Some(before) = waiting.replace(Box::new(request)) {
                        refuse(&before.connection, Refusal::TakenOver);
                    }
                    return;
                }
                Some(ResidentState::Quarantined) => {
                    return refuse(&request.connection, Refusal::Internal);
                }
            }
        };
        match slot {
            None => self.admit(request, ctx),
            Some(None) => self.rehydrate(&client_id, Some(Box::new(request)), ctx),
            Some(Some(slot)) => {
                let session = self
                    .local
                    .borrow_mut()
                    .slot(slot)
                    .map(|state| state.session.clone());
                if let Some(session) = session {
                    self.hand_over(&session, request);
                }
            }
        }
    }
}

impl Handler<RouteBatch> for ShardActor {
    type Result = ();

    fn handle(&mut self, batch: RouteBatch, _: &mut Self::Context) {
        let mut local = self.local.borrow_mut();
        for message in &batch.messages {
            local.deliver(message);
        }
    }
}

impl Handler<Committed> for ShardActor {
    type Result = ();

    fn handle(&mut self, committed: Committed, _: &mut Self::Context) {
        self.local.borrow_mut().committed(&committed);
    }
}

impl Handler<Rehydrate> for ShardActor {
    type Result = ();

    fn handle(&mut self, rehydrated: Rehydrate, ctx: &mut Self::Context) {
        self.bring_back(rehydrated, ctx);
    }
}

impl Handler<SessionDied> for ShardActor {
    type Result = ();

    fn handle(&mut self, died: SessionDied, ctx: &mut Self::Context) {
        self.buried(&died, ctx);
    }
}

impl Handler<EndSession> for ShardActor {
    type Result = bool;

    fn handle(&mut self, end: EndSession, _: &mut Self::Context) -> bool {
        let slot = match self
            .local
            .borrow()
            .directory
            .get(&end.client_id)
            .map(|resident| &resident.state)
        {
            Some(ResidentState::Active(slot)) => *slot,
            Some(
                ResidentState::Passive | ResidentState::Rehydrating(_) | ResidentState::Quarantined,
            )
            | None => {
                return false;
            }
        };
        self.tell(
            slot,
            ToSession::End {
                refusal: end.refusal,
                discard: end.discard,
            },
        );
        true
    }
}

impl Handler<Drain> for ShardActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        for state in self.local.borrow().occupied() {
            state.session.do_send(ToSession::End {
                refusal: Refusal::ShuttingDown,
                discard: false,
            });
        }
        let (done, drained) = oneshot::channel();
        self.drains.push(done);
        Box::pin(async move {
            // A shard that is gone has nothing left to drain.
            drained.await.ok();
        })
    }
}
