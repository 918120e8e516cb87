//! The shard actor: the head of one thread.
//!
//! Owns: admitting, rehydrating and rebuilding the sessions whose home this is, the one timer, the answers of the
//! appender. Does not know: what a session decides.
//!
//! Invariant: every connect is answered, by its session or by a refusal, whatever becomes of the session meanwhile.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Recipient, ResponseFuture};
use tokio::sync::oneshot;

use self::comeback::Comeback;
use self::room::Victims;
use super::local::{Local, Presence, ResidentState, Stay};
use super::protocol::{
    Candidate, Committed, ConnectRequest, Drain, EndSession, GroupDied, ObserveSession, Rehydrate,
    RouteBatch, SessionAddress, SessionDied, ToSession, close,
};
use crate::model::counter::Counter;
use crate::model::fights::Fights;
use crate::model::group::Group;
use crate::model::ids::ClientId;
use crate::model::quota::{Claim, Permit};
use crate::model::refusal::Refusal;
use crate::model::routes::Slot;
use crate::model::session::Session;
use crate::model::snapshot::SessionSnapshot;
use crate::observe::SessionObservation;
use crate::store::StoreError;
use crate::supervise::vitals::VitalSign;

mod census;
mod comeback;
mod groups;
mod meet;
mod room;

pub use meet::Meet;

/// How often a shard looks for what is due.
const TICK: Duration = Duration::from_millis(100);

/// Due sessions that one tick looks after at most; the rest follows with the next, so that a million deadlines at once
/// do not stop the shard.
const DUE_MAX: usize = 1000;

/// Makes the session actor's address; given by the system, so that this file does not know the session actor.
pub type Spawn = fn(Session, Rc<RefCell<Local>>, Rc<Recipient<SessionDied>>) -> SessionAddress;

/// Starts a group's actor; given by the system, so that this file does not know the group actor.
pub type SpawnGroup = fn(Group, Rc<RefCell<Local>>, Rc<Recipient<GroupDied>>);

/// Runs one shard.
#[derive(Debug)]
pub struct ShardActor {
    local: Rc<RefCell<Local>>,
    spawn: Spawn,
    spawn_group: SpawnGroup,
    /// Where a group actor's death is told.
    group_deaths: OnceCell<Rc<Recipient<GroupDied>>>,
    /// Where a session actor's death is told, shared by them all; from the first session on.
    deaths: OnceCell<Rc<Recipient<SessionDied>>>,
    /// Sessions whose snapshot is being read.
    comebacks: BTreeMap<ClientId, Comeback>,
    /// Sessions whose snapshot may be asked for once this ticket is answered: it would lack what is under way.
    unanswered: Vec<(u64, ClientId)>,
    /// The ticket of what was recorded about the sessions that survived the start.
    inherited: u64,
    fights: Fights<ConnectRequest>,
    victims: Victims,
    /// Nobody attaches any more.
    draining: bool,
    /// Who waits for the drain to be over.
    drains: Vec<oneshot::Sender<()>>,
    /// Tells if the shard dies.
    _sign: VitalSign,
}

impl ShardActor {
    /// A shard over `local`, which has submitted what there is to record about the sessions that survived.
    pub fn new(
        local: Rc<RefCell<Local>>,
        spawn: Spawn,
        spawn_group: SpawnGroup,
        sign: VitalSign,
    ) -> Self {
        let inherited = local.borrow().submitted();
        let fights = Fights::new(local.borrow().shared.takeover_pause_millis);
        Self {
            local,
            spawn,
            spawn_group,
            group_deaths: OnceCell::new(),
            deaths: OnceCell::new(),
            comebacks: BTreeMap::new(),
            unanswered: Vec::new(),
            inherited,
            fights,
            victims: Victims::default(),
            draining: false,
            drains: Vec::new(),
            _sign: sign,
        }
    }

    /// Brings a session to life and, if somebody waits for it, lets it attach.
    fn start(&self, session: Session, ctx: &mut Context<Self>) -> SessionAddress {
        let deaths = self
            .deaths
            .get_or_init(|| Rc::new(ctx.address().recipient()));
        (self.spawn)(session, Rc::clone(&self.local), Rc::clone(deaths))
    }

    /// A CONNECT from the wire: does what it asks, unless its client id is fought over.
    fn receive(&mut self, request: ConnectRequest, ctx: &mut Context<Self>) {
        let client_id = &request.connect.client_id;
        // Strangers displace nobody who waits, either.
        let principal = &request.connect.principal;
        let same = |before: &ConnectRequest| before.connect.principal == *principal;
        if let Some(before) = self.fights.displaced(client_id, same) {
            close(&before.connection, Refusal::TakeoverRate);
        }
        if self.would_take_over(&request) {
            let now = self.local.borrow().shared.clock.now();
            if let Some(due) = self.fights.takeover(now, client_id) {
                self.local.borrow().count(Counter::TakeoverDelayed);
                let client_id = client_id.clone();
                if self.fights.wait(now, due, client_id.clone(), request) {
                    tracing::warn!(%client_id, "clients fight over a client id: takeovers wait");
                }
                return;
            }
        }
        self.connect(request, ctx);
    }

    /// Whether somebody is there who would be displaced. Strangers displace nobody, so that they cannot start a fight.
    fn would_take_over(&self, request: &ConnectRequest) -> bool {
        let mut local = self.local.borrow_mut();
        let Some(resident) = local.directory.get(&request.connect.client_id) else {
            return false;
        };
        if *resident.permit.principal() != request.connect.principal {
            return false;
        }
        match resident.state {
            ResidentState::Active(_) if resident.stay.presence == Presence::Online => true,
            ResidentState::Active(slot) => local.slot(slot).is_some_and(|slot| slot.attaching > 0),
            ResidentState::Passive | ResidentState::Rehydrating | ResidentState::Quarantined => {
                false
            }
        }
    }

    fn connect(&mut self, request: ConnectRequest, ctx: &mut Context<Self>) {
        if self.draining {
            return close(&request.connection, Refusal::ShuttingDown);
        }
        let client_id = &request.connect.client_id;
        let session = {
            let mut local = self.local.borrow_mut();
            match local
                .directory
                .get(client_id)
                .map(|resident| &resident.state)
            {
                None => None,
                Some(ResidentState::Active(slot)) => {
                    let slot = *slot;
                    local.slot(slot).and_then(|state| state.session().cloned())
                }
                Some(ResidentState::Passive) => {
                    drop(local);
                    return self.rehydrate(client_id.clone(), Comeback::of(request), ctx);
                }
                Some(ResidentState::Rehydrating) => {
                    drop(local);
                    return self.await_comeback(request);
                }
                Some(ResidentState::Quarantined) => {
                    return close(&request.connection, Refusal::Internal);
                }
            }
        };
        match session {
            None => self.admit(request, None, 0, ctx),
            // The actor died a moment ago: its `SessionDied` is in the mailbox already and comes first.
            Some(session) if !session.is_alive() => ctx.address().do_send(request),
            Some(session) => self.hand_over(&session, request),
        }
    }

    /// A newcomer, for which room was made so many times, with the unit of who was evicted the last time.
    fn admit(
        &self,
        request: ConnectRequest,
        unit: Option<Permit>,
        attempts: u8,
        ctx: &mut Context<Self>,
    ) {
        let client_id = request.connect.client_id.clone();
        let session = {
            let mut local = self.local.borrow_mut();
            let quota = &local.shared.quota;
            let claim = Claim::from(&request.connect);
            let now = local.shared.clock.now();
            let permit = match unit {
                Some(mut unit) => unit.pass_on(claim, now).map(|()| unit),
                None => quota.try_acquire(claim, now),
            };
            let permit = match permit {
                Ok(permit) => permit,
                Err(shortage) => {
                    drop(local);
                    return self.look_for_room(request, shortage, attempts);
                }
            };
            let limits = Arc::clone(&local.shared.limits);
            local.admit(
                client_id.clone(),
                permit,
                ResidentState::Passive,
                Stay::VACANT,
            );
            Session::vacant(client_id, limits)
        };
        let session = self.start(session, ctx);
        self.hand_over(&session, request);
    }

    /// Sends an attach to an actor, counted so that the actor does not stop before it has seen it.
    fn hand_over(&self, session: &SessionAddress, request: ConnectRequest) {
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
        session.tell(ToSession::Attach {
            connect: Box::new(request.connect),
            candidate: Candidate::new(request.connection),
        });
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.local.borrow().shared.clock.now();
        self.local.borrow_mut().wake_held_back();
        for request in self.fights.due(now) {
            self.connect(request, ctx);
        }
        let due = self.local.borrow_mut().due(now, DUE_MAX);
        for client_id in due {
            let local = self.local.borrow();
            let resident = local.directory.get(&client_id);
            match resident.map(|resident| &resident.state) {
                Some(ResidentState::Active(slot)) => {
                    let slot = *slot;
                    drop(local);
                    self.tell(slot, ToSession::Tick);
                }
                Some(ResidentState::Passive) => {
                    drop(local);
                    self.rehydrate(client_id, Comeback::default(), ctx);
                }
                Some(ResidentState::Quarantined) => {
                    drop(local);
                    self.retry(client_id, Comeback::default(), ctx);
                }
                Some(ResidentState::Rehydrating) | None => {}
            }
        }
    }

    fn tell(&self, slot: Slot, told: ToSession) {
        if let Some(state) = self.local.borrow_mut().slot(slot) {
            state.tell(told);
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

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
    }
}

impl Handler<ConnectRequest> for ShardActor {
    type Result = ();

    fn handle(&mut self, request: ConnectRequest, ctx: &mut Self::Context) {
        self.receive(request, ctx);
    }
}

impl Handler<RouteBatch> for ShardActor {
    type Result = ();

    fn handle(&mut self, batch: RouteBatch, ctx: &mut Self::Context) {
        self.local.borrow_mut().routed(batch);
        // It may have waited behind what the journal answered.
        self.ask_answered(ctx);
    }
}

impl Handler<Committed> for ShardActor {
    type Result = ();

    fn handle(&mut self, committed: Committed, ctx: &mut Self::Context) {
        self.local.borrow_mut().committed(committed);
        self.ask_answered(ctx);
        self.look_after_drain();
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
        self.buried(died, ctx);
    }
}

impl Handler<EndSession> for ShardActor {
    type Result = bool;

    fn handle(&mut self, end: EndSession, ctx: &mut Self::Context) -> bool {
        self.end(end, ctx)
    }
}

impl Handler<ObserveSession> for ShardActor {
    type Result = ResponseFuture<Option<SessionObservation>>;

    fn handle(&mut self, observe: ObserveSession, _: &mut Self::Context) -> Self::Result {
        let local = self.local.borrow();
        let Some(resident) = local.directory.get(&observe.client_id) else {
            return Box::pin(std::future::ready(None));
        };
        if let ResidentState::Active(slot) = resident.state {
            let (answer, observation) = oneshot::channel();
            drop(local);
            self.tell(slot, ToSession::Observe(answer));
            return Box::pin(async move { observation.await.ok() });
        }
        let (answer, observation) = oneshot::channel();
        let reply = move |image: Result<Option<SessionSnapshot>, StoreError>| {
            let snapshot = image.ok().flatten();
            // Whoever asked may have given up.
            answer
                .send(snapshot.as_ref().map(SessionObservation::from))
                .ok();
        };
        let shared = &local.shared;
        shared
            .checkpointer
            .image(resident.number, shared.journal.end(), Box::new(reply));
        Box::pin(async move { observation.await.ok().flatten() })
    }
}

impl Handler<Drain> for ShardActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        for request in self.fights.drain() {
            close(&request.connection, Refusal::ShuttingDown);
        }
        self.refuse_waiting(Refusal::ShuttingDown);
        for state in self.local.borrow().occupied() {
            state.tell(ToSession::End {
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

#[cfg(feature = "testing")]
impl Handler<crate::supervise::faults::Die> for ShardActor {
    type Result = ();

    fn handle(&mut self, die: crate::supervise::faults::Die, _: &mut Self::Context) {
        die.now();
    }
}
