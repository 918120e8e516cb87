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
use std::sync::Arc;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture,
};

use super::local::{Local, Presence, ResidentState};
use super::protocol::{ConnectRequest, FromConnection, SessionDied, ToConnection, ToSession};
use crate::journal::{JournalReader, ReadError, ReadRequest};
use crate::model::counter::Counter;
use crate::model::cursor::ReadId;
use crate::model::effect::{Effect, Input};
use crate::model::entry::{Change, Entry};
use crate::model::ids::{Fence, Now, Offset, PacketId, SessionNumber, Timestamp};
use crate::model::message::QoS;
use crate::model::packet::{Outbound, Routed};
use crate::model::record::{Page, Record};
use crate::model::refusal::Refusal;
use crate::model::routes::Slot;
use crate::model::session::Session;
use crate::observe::Gauge;
use crate::supervise::Sentinel;

/// Bytes that one catch-up read brings at most.
const READ_BYTES_MAX: usize = 256 * 1024;

/// Runs one session.
#[derive(Debug)]
pub struct SessionActor {
    session: Session,
    local: Rc<RefCell<Local>>,
    slot: Slot,
    connection: Option<Recipient<ToConnection>>,
    /// The connection whose attach is being decided.
    candidate: Option<Recipient<ToConnection>>,
    held: VecDeque<Held>,
    outgoing: Vec<Outbound>,
    processed: u32,
    /// Inputs that effects answered at once.
    answers: Vec<Input>,
    /// Whether the publication performed last found a subscription.
    routed: Routed,
    /// Whether the entries of the barrier passed last are missing from the journal.
    refused: bool,
    detached_at: Option<Timestamp>,
    /// What the directory was told of this session last.
    presence: Presence,
    /// Gone once the actor was told to stop.
    sentinel: Option<Sentinel>,
}

/// What waits for the journal.
#[derive(Debug)]
enum Held {
    /// Until this ticket is answered.
    Barrier(u64),
    /// An effect behind a barrier.
    Effect(Effect),
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
            answers: Vec::new(),
            routed: Routed::NoSubscribers,
            refused: false,
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

    /// One turn: decide on all inputs, perform, send what is left for others, once each.
    fn turn(&mut self, inputs: impl IntoIterator<Item = Input>, ctx: &mut Context<Self>) {
        let now = self.now();
        let mut effects = Vec::new();
        for input in inputs {
            self.session.handle(now, input, &mut effects);
            self.perform_all(&mut effects, ctx);
        }
        self.release(ctx);
        self.answer(now, &mut effects, ctx);
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
        local.cells.shift(
            Gauge::Subscriptions,
            -i64::try_from(self.session.subscriptions().len()).unwrap_or(0),
        );
        local.vacate(self.slot);
        ctx.stop();
    }

    fn perform_all(&mut self, effects: &mut Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects.drain(..) {
            if !self.held.is_empty() && effect.waits() {
                self.held.push_back(Held::Effect(effect));
            } else {
                self.perform(effect, ctx);
            }
        }
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Send(packet) => self.outgoing.push(packet),
            Effect::Count(counter) => self.local.borrow().count(counter),
            Effect::Publish { message, received } => {
                let placement = self.local.borrow_mut().publish(&message, received);
                self.routed = if placement.matched {
                    Routed::Matched
                } else {
                    Routed::NoSubscribers
                };
                self.refused = false;
                if let Some(ticket) = placement.ticket {
                    self.barrier(ticket);
                }
            }
            Effect::AckPublish { packet_id, qos } => self.acknowledge(packet_id, qos),
            Effect::Persist(session, change) => {
                let ticket = self.append(session, change);
                self.barrier(ticket);
            }
            Effect::Record(session, change) => {
                self.append(session, change);
            }
            Effect::SwitchConnection { fence, taken_over } => {
                self.switch_connection(fence, taken_over, ctx)
            }
            Effect::RefuseConnection(refusal) => {
                if let Some(connection) = self.candidate.take() {
                    close(&connection, refusal);
                }
            }
            Effect::DropConnection => self.drop_connection(),
            Effect::Subscribe {
                filter,
                options,
                durable,
                replaces,
            } => {
                let mut local = self.local.borrow_mut();
                local.listen(self.slot, &filter, &options, durable, replaces.is_some());
                if replaces.is_none() {
                    local.cells.shift(Gauge::Subscriptions, 1);
                }
                match (replaces.unwrap_or(false), durable) {
                    (false, true) => local.hold(&filter),
                    (true, false) => local.release(&filter),
                    (false, false) | (true, true) => {}
                }
            }
            Effect::Unsubscribe { filter, durable } => {
                let mut local = self.local.borrow_mut();
                local.mute(self.slot, &filter);
                local.cells.shift(Gauge::Subscriptions, -1);
                if durable {
                    local.release(&filter);
                }
            }
            Effect::Listen(attached) => self.listen(attached),
            Effect::Replay { filter, options } => {
                let fence = self.session.fence();
                let offsets = self.local.borrow().retained(&filter);
                self.answers.push(Input::RetainedFound {
                    fence,
                    options,
                    offsets,
                });
            }
            Effect::Read {
                read,
                from,
                records_max,
            } => self.read(read, from, records_max, ctx),
            Effect::Reread(offsets) => {
                self.read_at(offsets, ctx, |fence, records| Input::Reread {
                    fence,
                    records,
                });
            }
            Effect::ReadRetained(offsets) => {
                self.read_at(offsets, ctx, |fence, records| Input::Retained {
                    fence,
                    records,
                });
            }
            Effect::End => self.end(ctx),
        }
    }

    fn append(&mut self, session: SessionNumber, change: Change) -> u64 {
        self.local
            .borrow_mut()
            .append(Entry::change(session, change))
    }

    fn barrier(&mut self, ticket: u64) {
        if !matches!(self.held.back(), Some(Held::Barrier(last)) if *last == ticket) {
            self.held.push_back(Held::Barrier(ticket));
        }
    }

    /// PUBACK or PUBREC for the publication performed last.
    fn acknowledge(&mut self, packet_id: PacketId, qos: QoS) {
        let result = if self.refused {
            Err(Refusal::JournalUnavailable)
        } else {
            Ok(self.routed)
        };
        if self.refused {
            self.local.borrow().count(Counter::JournalRefused);
            self.answers.push(Input::PublishFailed {
                received: (qos == QoS::ExactlyOnce).then_some(packet_id),
            });
        }
        self.outgoing.push(if qos == QoS::ExactlyOnce {
            Outbound::PubRec { packet_id, result }
        } else {
            Outbound::PubAck { packet_id, result }
        });
    }

    /// Performs what waited for tickets that are answered by now.
    fn release(&mut self, ctx: &mut Context<Self>) {
        let answered = self.local.borrow().answered;
        while let Some(held) = self.held.pop_front() {
            match held {
                Held::Barrier(ticket) => {
                    self.refused = self.local.borrow_mut().take_failed(self.slot, ticket);
                    self.routed = Routed::Matched;
                    if ticket > answered && !self.refused {
                        self.held.push_front(Held::Barrier(ticket));
                        return;
                    }
                }
                Held::Effect(effect) => self.perform(effect, ctx),
                Held::Processed(packets, fence) => self.credit(packets, fence),
            }
        }
        self.held = VecDeque::new(); // gives the memory back: a session is idle most of its life
    }

    fn credit(&mut self, packets: u32, fence: Fence) {
        if fence == self.session.fence() {
            self.processed += packets;
        }
    }

    fn send_outgoing(&mut self) {
        if self.outgoing.is_empty() && self.processed == 0 {
            return;
        }
        let packets = std::mem::take(&mut self.outgoing);
        let processed = std::mem::take(&mut self.processed);
        if let Some(connection) = &self.connection {
            connection.do_send(ToConnection::Packets { packets, processed });
        }
    }

    /// The newcomer holds the session at once; what waited for the connection before is dropped with it.
    fn switch_connection(&mut self, fence: Fence, taken_over: bool, ctx: &mut Context<Self>) {
        if taken_over && let Some(before) = self.connection.take() {
            close(&before, Refusal::TakenOver);
        }
        self.detached_at = None;
        self.forget_held();
        self.connection = self.candidate.take();
        if let Some(connection) = &self.connection {
            connection.do_send(ToConnection::Attached {
                fence,
                session: ctx.address().recipient(),
            });
        }
        if let Some(slot) = self.local.borrow_mut().slot(self.slot) {
            slot.connection.clone_from(&self.connection);
        }
    }

    fn drop_connection(&mut self) {
        // A refusal that waits for the journal is sent now: it answers nothing that must be durable first.
        let close = self.held.iter().rev().find_map(|held| match held {
            Held::Effect(Effect::Send(packet @ Outbound::Close(_))) => Some(packet.clone()),
            _ => None,
        });
        self.outgoing.extend(close);
        self.send_outgoing();
        self.forget_held();
        self.connection = None;
        let mut local = self.local.borrow_mut();
        if let Some(slot) = local.slot(self.slot) {
            slot.connection = None;
        }
        self.detached_at = Some(local.shared.clock.now());
    }

    fn forget_held(&mut self) {
        self.outgoing.clear();
        self.processed = 0;
        self.held.retain(|held| matches!(held, Held::Barrier(_)));
    }

    fn listen(&mut self, attached: bool) {
        let mut local = self.local.borrow_mut();
        if let Some(slot) = local.slot(self.slot) {
            slot.number = self.session.number();
        }
        let number = self.session.number();
        if let Some(resident) = local.directory.get_mut(self.session.client_id()) {
            resident.number = number;
        }
        if !attached {
            return local.mute_all(self.slot);
        }
        for known in self.session.subscriptions().iter() {
            let durable = self.session.is_kept() && known.options.qos > QoS::AtMostOnce;
            local.listen(self.slot, &known.filter, &known.options, durable, false);
        }
    }

    /// Reads on a thread that may wait for a disk.
    fn read(&mut self, read: ReadId, from: Offset, records_max: u32, ctx: &mut Context<Self>) {
        let filters: Vec<_> = self
            .session
            .subscriptions()
            .durable()
            .map(|known| (known.filter.clone(), known.from))
            .collect();
        let fence = self.session.fence();
        self.read_with(ctx, move |journal| {
            let request = ReadRequest {
                filters: &filters,
                from,
                records_max: records_max as usize,
                bytes_max: READ_BYTES_MAX,
            };
            journal
                .read(&request)
                .map(|page: Page| Input::Page { fence, read, page })
        });
    }

    fn read_at(
        &mut self,
        offsets: Vec<Offset>,
        ctx: &mut Context<Self>,
        answer: impl FnOnce(Fence, Vec<Option<Record>>) -> Input + Send + 'static,
    ) {
        let fence = self.session.fence();
        self.read_with(ctx, move |journal| {
            journal
                .read_at(&offsets)
                .map(|records| answer(fence, records))
        });
    }

    fn read_with(
        &mut self,
        ctx: &mut Context<Self>,
        read: impl FnOnce(&dyn JournalReader) -> Result<Input, ReadError> + Send + 'static,
    ) {
        let journal = Arc::clone(&self.local.borrow().shared.journal);
        let answer = tokio::task::spawn_blocking(move || read(&*journal));
        ctx.spawn(
            answer
                .into_actor(self)
                .map(|answer, session, ctx| match answer {
                    Ok(Ok(input)) => session.turn([input], ctx),
                    Ok(Err(error)) => session.read_failed(&error.to_string(), ctx),
                    Err(error) => session.read_failed(&error.to_string(), ctx),
                }),
        );
    }

    /// What cannot be read is not skipped: the connection ends, the records stay, an operator is told.
    fn read_failed(&mut self, error: &str, ctx: &mut Context<Self>) {
        tracing::error!(client_id = %self.session.client_id(), error, "journal cannot be read, connection closed");
        self.turn(
            [Input::End {
                refusal: Refusal::Internal,
                discard: false,
            }],
            ctx,
        );
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

fn close(connection: &Recipient<ToConnection>, refusal: Refusal) {
    connection.do_send(ToConnection::Packets {
        packets: vec![Outbound::Close(refusal)],
        processed: 0,
    });
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
                let now = self.now();
                let mut effects = Vec::new();
                for packet in packets {
                    self.session
                        .handle(now, Input::Packet { fence, packet }, &mut effects);
                    self.perform_all(&mut effects, ctx);
                }
                self.answer(now, &mut effects, ctx);
                if self.held.is_empty() {
                    self.credit(count, fence);
                } else {
                    self.held.push_back(Held::Processed(count, fence));
                }
                self.finish_turn(now, ctx);
            }
            FromConnection::Closed { fence } => self.turn([Input::Closed { fence }], ctx),
        }
    }
}

impl Handler<ToSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, told: ToSession, ctx: &mut Self::Context) {
        match told {
            ToSession::Wake => {
                let woken = self.local.borrow_mut().take(self.slot);
                let live = woken.live.into_iter().map(Input::Live);
                let records = woken.records.into_iter().map(Input::Logged);
                self.turn(live.chain(records), ctx);
            }
            ToSession::Attach(request) => self.attach(*request, ctx),
            ToSession::Tick => self.turn([Input::Tick], ctx),
            ToSession::End { refusal, discard } => {
                self.turn([Input::End { refusal, discard }], ctx)
            }
        }
    }
}

impl SessionActor {
    fn attach(&mut self, request: ConnectRequest, ctx: &mut Context<Self>) {
        let (number, epoch) = {
            let mut local = self.local.borrow_mut();
            if let Some(slot) = local.slot(self.slot) {
                slot.attaching = slot.attaching.saturating_sub(1);
            }
            (local.shared.next_session_number(), local.shared.epoch)
        };
        self.candidate = Some(request.connection);
        self.turn(
            [Input::Attach {
                connect: Box::new(request.connect),
                number,
                epoch,
            }],
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
