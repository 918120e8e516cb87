//! The session actor: the hands of one [`Session`].
//!
//! Owns: the session, its connection's address, the effects that wait for the journal. Does not know: sockets, versions,
//! other sessions.
//!
//! Effects are performed in order. What is appended goes out with the turn; what waits ([`Effect::waits`]) is held back
//! behind a barrier until the appender answered the ticket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};

use super::local::{Local, Presence, ResidentState};
use super::protocol::{Candidate, FromConnection, SessionDied, ToConnection, ToSession};
use crate::model::effect::{Effect, Input};
use crate::model::ids::{Fence, Now, PacketId, Timestamp};
use crate::model::message::QoS;
use crate::model::packet::{Connect, Outbound, Routed};
use crate::model::routes::Slot;
use crate::model::session::Session;
use crate::supervise::Sentinel;

mod connection;
mod perform;
mod reads;

/// Runs one session.
#[derive(Debug)]
pub struct SessionActor {
    /// Gone once the actor was told to stop. First, so that it is dropped first: the shard knows of a death before any
    /// connection can come back because of it.
    sentinel: Option<Sentinel>,
    session: Session,
    local: Rc<RefCell<Local>>,
    slot: Slot,
    connection: Option<Recipient<ToConnection>>,
    /// The connection whose attach is being decided.
    candidate: Option<Candidate>,
    held: VecDeque<Held>,
    outgoing: Vec<Outbound>,
    processed: u32,
    /// Credit kept back because a shard that was published to cannot keep up.
    withheld: u32,
    /// Something was published to another shard since credit was given last.
    away: bool,
    /// Inputs that effects answered at once.
    answers: Vec<Input>,
    /// The publication performed last.
    published: Published,
    /// Tickets that the journal refused and whose publications are not answered yet.
    failed: Vec<u64>,
    detached_at: Option<Timestamp>,
    /// What the directory was told of this session last.
    presence: Presence,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug)]
struct Published {
    /// Whether it found a subscription.
    routed: Routed,
    /// Under which ticket it went to the journal, if it did.
    ticket: Option<u64>,
}

/// What waits for the journal.
#[derive(Debug)]
enum Held {
    /// Until this ticket is answered.
    Barrier(u64),
    /// An effect behind a barrier.
    Effect(Effect),
    /// The answer to a publication.
    Answer {
        packet_id: PacketId,
        qos: QoS,
        published: Published,
    },
    /// So many inbound packets of this fence are dealt with.
    Processed(u32, Fence),
}

impl SessionActor {
    /// An actor for `session`, in a slot of its own.
    pub fn new(
        session: Session,
        local: Rc<RefCell<Local>>,
        slot: Slot,
        sentinel: Sentinel,
    ) -> Self {
        Self {
            connection: None,
            candidate: None,
            held: VecDeque::new(),
            outgoing: Vec::new(),
            processed: 0,
            withheld: 0,
            away: false,
            answers: Vec::new(),
            published: Published {
                routed: Routed::NoSubscribers,
                ticket: None,
            },
            failed: Vec::new(),
            detached_at: session.is_begun().then(|| local.borrow().now().time),
            presence: Presence::of(&session),
            session,
            local,
            slot,
            sentinel: Some(sentinel),
        }
    }

    fn now(&self) -> Now {
        self.local.borrow().now()
    }

    /// One turn: decide on all inputs, perform, send what is left for others, once each. `packets` of them, sent under
    /// `fence`, give their connection credit back once they are dealt with.
    fn turn(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        packets: Option<(u32, Fence)>,
        ctx: &mut Context<Self>,
    ) {
        let now = self.now();
        let mut effects = Vec::new();
        // What the shard handed over comes first, whatever woke the actor: `Now::live_end` says that it did.
        let woken = self.local.borrow_mut().take(self.slot);
        let live = woken.live.into_iter().map(Input::Live);
        let records = woken.records.into_iter().map(Input::Logged);
        for input in live.chain(records).chain(inputs) {
            self.session.handle(now, input, &mut effects);
            self.perform_all(&mut effects, ctx);
        }
        self.release(ctx);
        self.give_withheld();
        self.answer(now, &mut effects, ctx);
        match packets {
            Some((count, fence)) if self.held.is_empty() => self.credit(count, fence),
            Some((count, fence)) => self.held.push_back(Held::Processed(count, fence)),
            None => {}
        }
        self.finish_turn(now, ctx);
    }

    fn answer(&mut self, now: Now, effects: &mut Vec<Effect>, ctx: &mut Context<Self>) {
        while !self.answers.is_empty() {
            for input in std::mem::take(&mut self.answers) {
                self.session.handle(now, input, effects);
                self.perform_all(effects, ctx);
            }
        }
    }

    fn finish_turn(&mut self, now: Now, ctx: &mut Context<Self>) {
        self.send_outgoing();
        let shared = Rc::clone(&self.local);
        let mut local = shared.borrow_mut();
        local.flush(self.slot);
        if self.sentinel.is_none() {
            return;
        }
        let presence = Presence::of(&self.session);
        if presence != self.presence {
            self.presence = presence;
            local.set_presence(self.session.client_id(), presence);
        }
        let passivate_after = local.shared.passivate_after_millis;
        let passivation = self.detached_at.map(|at| at.plus_millis(passivate_after));
        if passivation.is_some_and(|at| at <= now.time)
            && self.held.is_empty()
            && local.is_quiet(self.slot)
        {
            return self.passivate(&mut local, ctx);
        }
        // A session that is due for passivation but not quiet yet is looked at again when its tickets are answered.
        let passivation = passivation.filter(|at| *at > now.time);
        let deadline = [self.session.deadline(), passivation]
            .into_iter()
            .flatten()
            .min();
        local.set_deadline(self.session.client_id(), deadline);
    }

    /// Stops the actor; the session lives on in its snapshot.
    fn passivate(&mut self, local: &mut Local, ctx: &mut Context<Self>) {
        let deadline = self.session.deadline();
        self.stop(local, ctx);
        local.passivated(self.session.client_id(), deadline);
    }

    fn stop(&mut self, local: &mut Local, ctx: &mut Context<Self>) {
        if let Some(sentinel) = self.sentinel.take() {
            sentinel.dismiss();
        }
        local.vacate(self.slot);
        ctx.stop();
    }

    fn end(&mut self, ctx: &mut Context<Self>) {
        let local = Rc::clone(&self.local);
        let mut local = local.borrow_mut();
        self.detached_at = None;
        // A newcomer that is already on its way finds the vacant session here, and keeps its unit of the quota.
        if local.slot(self.slot).is_some_and(|slot| slot.attaching > 0) {
            return;
        }
        local.remove(self.session.client_id());
        self.stop(&mut local, ctx);
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;
}

impl Handler<FromConnection> for SessionActor {
    type Result = ();

    fn handle(&mut self, batch: FromConnection, ctx: &mut Self::Context) {
        match batch {
            FromConnection::Packets { fence, packets } => {
                let count = u32::try_from(packets.len()).unwrap_or(u32::MAX);
                let inputs = packets
                    .into_iter()
                    .map(|packet| Input::Packet { fence, packet });
                self.turn(inputs, Some((count, fence)), ctx);
            }
            FromConnection::Closed { fence } => self.turn([Input::Closed { fence }], None, ctx),
        }
    }
}

impl Handler<ToSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, told: ToSession, ctx: &mut Self::Context) {
        match told {
            ToSession::Wake => self.turn([], None, ctx),
            ToSession::Attach { connect, candidate } => self.attach(connect, candidate, ctx),
            ToSession::Tick => self.turn([Input::Tick], None, ctx),
            // Whoever asked may have given up.
            ToSession::Observe(answer) => {
                answer.send((&self.session).into()).ok();
            }
            ToSession::End { refusal, discard } => {
                self.turn([Input::End { refusal, discard }], None, ctx);
            }
        }
    }
}

impl SessionActor {
    fn attach(&mut self, connect: Box<Connect>, candidate: Candidate, ctx: &mut Context<Self>) {
        let (number, epoch) = {
            let mut local = self.local.borrow_mut();
            if let Some(slot) = local.slot(self.slot) {
                slot.attaching = slot.attaching.saturating_sub(1);
            }
            (local.shared.next_session_number(), local.shared.epoch)
        };
        self.candidate = Some(candidate);
        self.turn(
            [Input::Attach {
                connect,
                number,
                epoch,
            }],
            None,
            ctx,
        );
    }
}

/// Starts an actor for `session` on this thread and enters it into the directory; the shard's [`super::shard::Spawn`].
pub fn spawn(
    session: Session,
    local: Rc<RefCell<Local>>,
    shard: Recipient<SessionDied>,
) -> Recipient<ToSession> {
    let context = Context::<SessionActor>::new();
    let address: Recipient<ToSession> = context.address().recipient();
    let client_id = session.client_id().clone();
    let slot = {
        let mut borrowed = local.borrow_mut();
        let slot = borrowed.occupy(client_id.clone(), address.clone());
        borrowed.count_subscriptions(slot, session.subscriptions().len());
        if let Some(resident) = borrowed.directory.get_mut(&client_id) {
            resident.state = ResidentState::Active(slot);
            resident.number = session.number();
        }
        slot
    };
    let sentinel = Sentinel::new(shard, slot, client_id);
    context.run(SessionActor::new(session, local, slot, sentinel));
    address
}
