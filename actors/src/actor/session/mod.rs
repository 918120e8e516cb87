//! The session actor: the hands of one [`Session`].
//!
//! Owns: the session, its connection's address, the effects that wait for the journal. Does not know: sockets, versions,
//! other sessions.
//!
//! Effects are performed in order. What is appended goes out with the turn; what waits ([`waits`]) is held back behind a
//! barrier until the appender answered the ticket.
//!
//! [`waits`]: crate::model::effect::Effect::waits

use std::cell::RefCell;
use std::rc::Rc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};

use self::turn::Waiting;
use super::local::{Local, Occupant, Presence, ResidentState};
use super::protocol::{
    Candidate, FromConnection, SessionAddress, SessionDied, ToConnection, ToSession, close,
};
use crate::model::counter::Counter;
use crate::model::effect::Input;
use crate::model::ids::Timestamp;
use crate::model::lazy::Lazy;
use crate::model::packet::{Connect, Inbound};
use crate::model::refusal::Refusal;
use crate::model::session::Session;
use crate::supervise::Sentinel;

mod connection;
mod groups;
mod perform;
mod reads;
mod turn;

/// Runs one session.
#[derive(Debug)]
pub struct SessionActor {
    sentinel: Sentinel,
    session: Session,
    local: Rc<RefCell<Local>>,
    connection: Option<Recipient<ToConnection>>,
    waiting: Lazy<Waiting>,
    /// Something was published to another shard since credit was given last.
    away: bool,
    /// What the directory was told of this session last: whether its client is here, and whether it ever came back.
    told: (Presence, bool),
    /// The directory knows when something is due.
    deadline_told: bool,
    detached_at: Option<Timestamp>,
}

impl SessionActor {
    /// An actor for `session`, in the slot that `sentinel` watches over.
    pub fn new(session: Session, local: Rc<RefCell<Local>>, sentinel: Sentinel) -> Self {
        Self {
            sentinel,
            connection: None,
            waiting: Lazy::default(),
            away: false,
            told: (Presence::of(&session), session.was_resumed()),
            deadline_told: false,
            detached_at: session.is_begun().then(|| local.borrow().now().time),
            session,
            local,
        }
    }

    /// Stops the actor; the session lives on in its snapshot.
    fn passivate(&mut self, local: &mut Local, ctx: &mut Context<Self>) {
        let deadline = self.session.deadline();
        self.stop(local, ctx);
        local.passivated(self.session.client_id(), deadline);
    }

    fn stop(&mut self, local: &mut Local, ctx: &mut Context<Self>) {
        self.sentinel.dismiss();
        local.vacate(self.sentinel.slot());
        ctx.stop();
    }

    fn end(&mut self, ctx: &mut Context<Self>) {
        let local = Rc::clone(&self.local);
        let mut local = local.borrow_mut();
        self.detached_at = None;
        // A newcomer that is already on its way finds the vacant session here, and keeps its unit of the quota.
        let slot = local.slot(self.sentinel.slot());
        if slot.is_some_and(|slot| slot.attaching > 0) {
            return;
        }
        local.remove(self.session.client_id());
        self.stop(&mut local, ctx);
    }
}

impl Drop for SessionActor {
    /// The shard knows of a death before any connection can come back because of it.
    fn drop(&mut self) {
        if self.sentinel.alarm()
            && let Some(connection) = &self.connection
        {
            close(connection, Refusal::Internal);
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;
}

impl Handler<ToSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, told: ToSession, ctx: &mut Self::Context) {
        if matches!(told, ToSession::Wake) {
            self.turn([], ctx);
            self.go_on(ctx);
        } else if self.waiting.postponed.is_empty() && !self.must_wait(&told) {
            self.hear(told, ctx);
        } else {
            // Behind what came before it.
            self.waiting.postponed.push_back(told);
        }
    }
}

impl SessionActor {
    /// Whether these are packets, which may publish, while readers of the shard have not had their turn.
    fn must_wait(&self, told: &ToSession) -> bool {
        let from_client = matches!(
            told,
            ToSession::FromConnection(FromConnection::Packets { .. })
        );
        let mut local = self.local.borrow_mut();
        if !from_client || !local.is_crowded() {
            return false;
        }
        local.count(Counter::FanOutPaused);
        local.await_readers(self.sentinel.slot());
        true
    }

    /// Hears what was postponed, as far as the readers of what its client publishes follow.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        while let Some(waiting) = self.waiting.used()
            && !waiting.postponed.is_empty()
            && !self.sentinel.is_dismissed()
        {
            let mut local = self.local.borrow_mut();
            if local.is_crowded() {
                return local.await_readers(self.sentinel.slot());
            }
            drop(local);
            if let Some(told) = waiting.postponed.pop_front() {
                self.waiting.tidy();
                self.hear(told, ctx);
            }
        }
    }

    fn hear(&mut self, told: ToSession, ctx: &mut Context<Self>) {
        match told {
            ToSession::FromConnection(FromConnection::Packets {
                fence,
                packets,
                load,
            }) => {
                let publications = packets.iter().filter_map(Inbound::publication);
                self.local.borrow_mut().look_ahead(publications);
                let inputs = packets
                    .into_iter()
                    .map(|packet| Input::Packet { fence, packet });
                self.turn_with(None, inputs, Some((load, fence)), ctx);
            }
            ToSession::FromConnection(FromConnection::Closed { fence }) => {
                self.turn([Input::Closed { fence }], ctx);
            }
            ToSession::Wake => self.turn([], ctx),
            ToSession::Attach { connect, candidate } => self.attach(connect, candidate, ctx),
            ToSession::Tick => {
                self.deadline_told = false; // the shard forgets a deadline that passed
                self.turn([Input::Tick], ctx);
            }
            // Whoever asked may have given up.
            ToSession::Observe(answer) => {
                answer.send((&self.session).into()).ok();
            }
            ToSession::End { refusal, discard } => {
                self.turn([Input::End { refusal, discard }], ctx);
            }
        }
    }
}

impl SessionActor {
    fn attach(&mut self, mut connect: Box<Connect>, candidate: Candidate, ctx: &mut Context<Self>) {
        let (number, epoch) = {
            let mut local = self.local.borrow_mut();
            if let Some(slot) = local.slot(self.sentinel.slot()) {
                slot.attaching = slot.attaching.saturating_sub(1);
            }
            (local.shared.next_session_number(), local.shared.epoch)
        };
        if let Err(refusal) = self.claim_unit(&mut connect) {
            if let Some(connection) = candidate.accept() {
                close(&connection, refusal);
            }
            if self.session.is_begun() {
                return self.turn([Input::Tick], ctx); // which ends what expired
            }
            self.end(ctx);
            return self.local.borrow_mut().flush_unanswered();
        }
        let attach = Input::Attach {
            connect,
            number,
            epoch,
        };
        self.turn_with(Some(candidate), [attach], None, ctx);
    }

    /// A unit of a session that goes on stays charged where it is. One of a session that is over, whose client id
    /// somebody asks for before it was given back, is charged to whoever begins the next one.
    fn claim_unit(&self, connect: &mut Connect) -> Result<(), Refusal> {
        let mut local = self.local.borrow_mut();
        let now = local.shared.clock.now();
        let is_over =
            !self.session.is_begun() || self.session.expires_at().is_some_and(|at| at <= now);
        if is_over {
            local.pass_on_unit(connect)?;
        }
        if let Some(resident) = local.directory.get(&connect.client_id) {
            connect.listener = resident.permit.listener().clone();
        }
        Ok(())
    }
}

/// Starts an actor for `session` on this thread and enters it into the directory; the shard's [`super::shard::Spawn`].
pub fn spawn(
    session: Session,
    local: Rc<RefCell<Local>>,
    shard: Rc<Recipient<SessionDied>>,
) -> SessionAddress {
    let context = Context::<SessionActor>::new();
    let address = SessionAddress::from(context.address().recipient());
    let client_id = session.client_id().clone();
    let slot = {
        let mut borrowed = local.borrow_mut();
        let slot = borrowed.occupy(Occupant::Session(address.clone()));
        borrowed.count_subscriptions(slot, session.subscriptions().len());
        if let Some(resident) = borrowed.directory.get_mut(&client_id) {
            resident.state = ResidentState::Active(slot);
            resident.number = session.number();
        }
        slot
    };
    let sentinel = Sentinel::new(shard, slot, client_id);
    context.run(SessionActor::new(session, local, sentinel));
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task takes its actor and some 430 bytes, in steps of 128: one byte more here costs as many.
    #[test]
    fn an_idle_session_is_small() {
        let bytes = size_of::<SessionActor>();
        assert!(bytes <= 328, "{bytes}");
    }
}
