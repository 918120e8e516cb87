//! One turn of a session actor: decide on all inputs, perform, send what is left for others, once each; and what is left
//! of it until the journal has answered.

use std::collections::VecDeque;
use std::rc::Rc;

use actix::Context;

use super::super::local::{Presence, Stay};
use super::super::protocol::{Candidate, FromConnection, Load, ToSession};
use super::SessionActor;
use super::reads::LookUp;
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Input};
use crate::model::effects::Effects;
use crate::model::ids::{Fence, Now, Offset, PacketId, Timestamp};
use crate::model::lazy::Unused;
use crate::model::message::QoS;
use crate::model::packet::{Outbound, Routed};

/// What a turn gathers.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) ctx: &'a mut Context<SessionActor>,
    now: Now,
    /// The connection whose attach is being decided.
    pub(super) candidate: Option<Candidate>,
    /// Inputs that effects answered at once.
    pub(super) answers: Vec<Input>,
    /// The publication performed last.
    pub(super) published: Published,
    /// Packets for the connection.
    pub(super) outgoing: Outgoing,
    /// Packets of the connection that are dealt with.
    pub(super) processed: Load,
    /// The model's deadline when the turn began.
    deadline: Option<Timestamp>,
}

/// Packets for the connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) packets: Vec<Outbound>,
    /// How many a turn with so many inputs brings about; mostly one for each.
    expected: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, packet: Outbound) {
        if self.packets.is_empty() {
            self.packets.reserve(self.expected);
        }
        self.packets.push(packet);
    }
}

/// What became of a publication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// What became of it.
    pub(super) routed: Routed,
    /// Under which ticket it went to the journal, if it did.
    pub(super) ticket: Option<u64>,
}

/// What outlives a turn because the journal has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) held: VecDeque<Held>,
    /// Tickets that the journal refused and whose publications are not answered yet.
    pub(super) failed: Vec<u64>,
    /// Groups that are routed to, by the number of the question.
    pub(super) joined: Vec<u64>,
    /// What the session was told and has not heard yet: readers of what its client published must have their turn first.
    pub(super) postponed: VecDeque<ToSession>,
    /// Packets dealt with, whose credit is kept back because a shard that was published to cannot keep up.
    pub(super) withheld: Load,
}

/// What waits for the journal.
#[derive(Debug)]
pub(super) enum Held {
    /// Until this ticket is answered.
    Barrier(u64),
    /// Until the group that was asked for under this number is routed to.
    Joined(u64),
    /// An effect behind a barrier.
    Effect(Effect),
    /// A look-up of retained messages that finds all that was published before.
    LookUp(LookUp),
    /// The answer to a publication.
    Answer {
        packet_id: PacketId,
        qos: QoS,
        published: Published,
    },
    /// These inbound packets of this fence are dealt with.
    Processed(Load, Fence),
}

impl Unused for Waiting {
    fn unused() -> &'static Self {
        static UNUSED: Waiting = Waiting {
            held: VecDeque::new(),
            failed: Vec::new(),
            joined: Vec::new(),
            postponed: VecDeque::new(),
            withheld: Load::NONE,
        };
        &UNUSED
    }

    fn is_unused(&self) -> bool {
        self.held.is_empty()
            && self.failed.is_empty()
            && self.joined.is_empty()
            && self.postponed.is_empty()
            && self.withheld.is_empty()
    }
}

impl Turn<'_> {
    /// The journal's end when the turn began.
    pub(super) fn log_end(&self) -> Offset {
        self.now.log_end
    }
}

impl SessionActor {
    /// A turn without a connection's packets.
    pub(super) fn turn(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        ctx: &mut Context<Self>,
    ) {
        self.turn_with(None, inputs, None, ctx);
    }

    /// A turn in which `candidate` may get the session. `packets` of the inputs, sent under `fence`, give their connection
    /// credit back once they are dealt with.
    pub(super) fn turn_with(
        &mut self,
        candidate: Option<Candidate>,
        inputs: impl IntoIterator<Item = Input>,
        packets: Option<(Load, Fence)>,
        ctx: &mut Context<Self>,
    ) {
        let mut turn = Turn {
            ctx,
            now: self.local.borrow().now(),
            candidate,
            answers: Vec::new(),
            published: Published {
                routed: Routed::NoSubscribers,
                ticket: None,
            },
            outgoing: Outgoing::default(),
            processed: Load::default(),
            deadline: self.session.deadline(),
        };
        let mut effects = Effects::new();
        // What the shard handed over comes first, whatever woke the actor: `Now::live_end` says that it did.
        let woken = self.local.borrow_mut().take(self.sentinel.slot());
        let live = woken.live.into_iter().map(Input::Live);
        let records = woken.records.into_iter().map(Input::Logged);
        let leases: usize = woken.leased.iter().map(|leased| leased.what.len()).sum();
        let leased = woken.leased.into_iter().map(Input::Leased);
        let handed = live.chain(records).chain(leased);
        let mut inputs = inputs.into_iter();
        turn.outgoing.expected = handed.size_hint().0 + inputs.size_hint().0 + leases;
        handed.for_each(|input| self.decide(input, &mut effects, &mut turn));
        let mut packets = packets;
        while let Some(input) = inputs.next() {
            self.decide(input, &mut effects, &mut turn);
            if packets.is_some() && self.local.borrow().is_crowded() {
                packets = self.postpone(inputs, packets);
                break;
            }
        }
        if !woken.joined.is_empty() {
            self.waiting.joined.extend(woken.joined);
        }
        self.release(&mut turn);
        self.give_withheld(&mut turn);
        while !turn.answers.is_empty() {
            for input in std::mem::take(&mut turn.answers) {
                self.decide(input, &mut effects, &mut turn);
            }
        }
        match packets {
            Some((load, fence)) if self.waiting.held.is_empty() => {
                self.credit(load, fence, &mut turn);
            }
            Some((load, fence)) => self.waiting.held.push_back(Held::Processed(load, fence)),
            None => {}
        }
        self.local.borrow().count_all(&mut effects);
        self.finish(turn);
    }

    fn decide(&mut self, mut input: Input, effects: &mut Effects<Effect>, turn: &mut Turn<'_>) {
        let joining = self.join_groups(&mut input, turn.now.time);
        self.session.handle(turn.now, input, effects);
        self.perform_all(effects, turn);
        self.joined_groups(joining);
    }

    /// What is left of a connection's packets waits until those who read what came before it had their turn. Gives back
    /// what the packets count for if nothing is left.
    fn postpone(
        &mut self,
        rest: impl Iterator<Item = Input>,
        packets: Option<(Load, Fence)>,
    ) -> Option<(Load, Fence)> {
        let (load, fence) = packets?;
        let mut packets = Vec::new();
        for input in rest {
            if let Input::Packet { packet, .. } = input {
                packets.push(packet);
            }
        }
        if packets.is_empty() {
            return Some((load, fence));
        }
        let rest = FromConnection::Packets {
            fence,
            packets,
            load,
        };
        let postponed = &mut self.waiting.postponed;
        postponed.push_front(ToSession::FromConnection(rest));
        let mut local = self.local.borrow_mut();
        local.count(Counter::FanOutPaused);
        local.await_readers(self.sentinel.slot());
        None
    }

    fn finish(&mut self, mut turn: Turn<'_>) {
        self.send_outgoing(&mut turn);
        let shared = Rc::clone(&self.local);
        let mut local = shared.borrow_mut();
        let slot = self.sentinel.slot();
        local.flush(slot);
        local.count_replays(slot, self.session.replays().count());
        if self.sentinel.is_dismissed() {
            return;
        }
        let told = (Presence::of(&self.session), self.session.was_resumed());
        if told != self.told {
            self.told = told;
            local.set_stay(self.session.client_id(), Stay::of(&self.session));
        }
        let passivate_after = local.shared.passivate_after_millis;
        let passivation = self.detached_at.map(|at| at.plus_millis(passivate_after));
        if passivation.is_some_and(|at| at <= turn.now.time)
            && self.waiting.held.is_empty()
            && self.waiting.postponed.is_empty()
            && local.is_quiet(slot)
        {
            return self.passivate(&mut local, turn.ctx);
        }
        // Of an attached session only what the model says counts; told once, it need not be told again.
        let deadline = self.session.deadline();
        if self.detached_at.is_none() && self.deadline_told && deadline == turn.deadline {
            return;
        }
        self.deadline_told = true;
        // A session that is due for passivation but not quiet yet is looked at again when its tickets are answered.
        let passivation = passivation.filter(|at| *at > turn.now.time);
        let deadline = [deadline, passivation].into_iter().flatten().min();
        local.set_deadline(self.session.client_id(), deadline);
    }
}
