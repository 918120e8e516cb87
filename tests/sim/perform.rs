//! The hands of a simulated session actor: performs effects as `actor/session.rs` does, and dies where it is told to.

use outlive_actors::actor::local::{Presence, Stay};
use outlive_actors::model::effect::{Effect, Input, Live};
use outlive_actors::model::effects::Effects;
use outlive_actors::model::entry::{Change, Entry, GroupChange};
use outlive_actors::model::ids::{Fence, PacketId};
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::packet::{Outbound, ProtocolVersion, Routed, SubscriptionIds};
use outlive_actors::model::refusal::Refusal;
use std::sync::Arc;

use crate::groups::{lease_of, mark_as_in_window};
use crate::world::{Actor, Held, LookUp, Read, Residence, World};

impl World {
    /// One turn of a client's session actor: decide on each input, perform, submit what was appended.
    pub(crate) fn turn(&mut self, client: usize, inputs: Vec<Input>) {
        let residence = std::mem::replace(&mut self.residences[client], Residence::Dead);
        let Residence::Active(mut actor) = residence else {
            self.residences[client] = residence;
            return;
        };
        let mut alive = true;
        let mut inputs = inputs;
        while alive && !inputs.is_empty() {
            for input in std::mem::take(&mut inputs) {
                alive = alive && self.decide(client, &mut actor, input);
            }
            inputs = std::mem::take(&mut actor.answers);
        }
        if alive && actor.ended {
            let holds = &self.slots[client].holds;
            assert!(holds.is_empty(), "client {client}: {holds:?} after its end");
            self.vacate(client);
            self.flush(client);
            return self.forget(client);
        }
        self.flush(client);
        if !alive {
            self.slots[client].fence = Some(actor.fence);
            return self.died(client, *actor);
        }
        self.slots[client].fence = Some(actor.fence);
        self.slots[client].stay = Some(Stay::of(&actor.session));
        self.residences[client] = Residence::Active(actor);
    }

    /// Performs what waited for tickets that are answered by now.
    pub(crate) fn release(&mut self, client: usize) {
        let residence = std::mem::replace(&mut self.residences[client], Residence::Dead);
        let Residence::Active(mut actor) = residence else {
            self.residences[client] = residence;
            return;
        };
        while let Some(held) = actor.held.pop_front() {
            match held {
                Held::Barrier(ticket) if self.journal.is_open(ticket) => {
                    actor.held.push_front(Held::Barrier(ticket));
                    break;
                }
                Held::Barrier(ticket) => actor.refused = actor.failed.contains(&ticket),
                Held::Joined(question) if self.slots[client].joined.remove(&question) => {}
                Held::Joined(question) => {
                    actor.held.push_front(Held::Joined(question));
                    break;
                }
                Held::Effect(effect) => self.perform(client, &mut actor, effect),
                Held::LookUp(look_up) => actor.reads.push(Read::Retained(look_up)),
            }
        }
        let answers = std::mem::take(&mut actor.answers);
        self.residences[client] = Residence::Active(actor);
        self.turn(client, answers);
    }

    /// The end of a turn: what is for the journal leaves, then what is for other shards.
    pub(crate) fn flush(&mut self, client: usize) {
        if std::mem::take(&mut self.asks) || !self.entries.is_empty() {
            let entries = std::mem::take(&mut self.entries);
            self.journal.submit(client, entries);
        }
        self.send_talk();
    }

    /// Gives whether the actor is still alive.
    fn decide(&mut self, client: usize, actor: &mut Actor, mut input: Input) -> bool {
        let now = self.now(client);
        self.note(|| format!("  {client} <- {input:?}"));
        let joining = self.join_groups(actor, &mut input);
        let settling = Self::settling(actor, &input);
        let confused = Self::is_confused(actor, &input);
        let mut effects = Effects::new();
        actor.session.handle(now, input, &mut effects);
        if let Some(settling) = &settling {
            self.settled(client, actor, settling, &effects);
        }
        self.watch_confused(confused, &effects);
        self.refused_groups(actor, &joining, effects.as_slice());
        for mut effect in effects.drain() {
            mark_as_in_window(actor, &mut effect);
            if let Some(left) = &mut actor.dies_after {
                if *left == 0 {
                    self.note(|| format!("  {client} dies before {effect:?}"));
                    return false;
                }
                *left -= 1;
            }
            let label = self.label(match &effect {
                Effect::Publish { message, .. } => Some(message),
                Effect::Send(Outbound::Publish(delivery)) => Some(&delivery.message),
                _ => None,
            });
            self.note(|| format!("  {client} -> {effect:?}{label}"));
            self.watch(client, actor, &effect);
            if !actor.held.is_empty() && effect.waits() {
                actor.held.push_back(Held::Effect(effect));
            } else {
                self.perform(client, actor, effect);
            }
        }
        self.joined_groups(actor, &joining);
        if let Some(lease) = settling.and_then(|settling| settling.refused_lease()) {
            self.lease_is_settled(lease);
        }
        true
    }

    /// The oracle sees every decision.
    fn watch(&mut self, client: usize, actor: &Actor, effect: &Effect) {
        let number = actor.session.number();
        self.watch_member(actor, effect);
        if let Effect::Subscribe {
            replaces: Some(_), ..
        }
        | Effect::Unsubscribe { .. } = effect
        {
            self.oracle.subscription_changed(number, self.journal.end);
        }
        if let Effect::Send(Outbound::ConnAck {
            session_present: true,
            ..
        }) = effect
        {
            let (held_at, seconds) = self.last_held_at[client];
            let late = held_at.plus_seconds(seconds);
            assert!(
                self.time < late,
                "client {client}: an expired session was resumed"
            );
        }
        if let Effect::Send(Outbound::Publish(delivery)) = effect {
            let link = actor.link.expect("a delivery goes to a connection");
            self.oracle.not_acknowledged(number, delivery);
            if lease_of(&delivery.message).is_none() {
                self.oracle.handed(number, link, delivery);
            }
        }
        let (Effect::Record(_, change) | Effect::Persist(_, change)) = effect else {
            return;
        };
        let Change::Progress { next, .. } = change else {
            return;
        };
        let Some(snapshot) = self.journal.folded.get(&number) else {
            return;
        };
        for (at, message) in self.journal.messages(snapshot.next, *next) {
            let session = &actor.session;
            let matched = session
                .subscriptions()
                .matching(session.past(), message, at, number);
            let attempt = crate::oracle::attempt_of(message);
            assert!(
                matched.is_none()
                    || message.publisher == number // no-local may have changed meanwhile
                    || message.is_expired(self.time)
                    || self.oracle.was_handed(number, attempt),
                "{number:?}: progress to {next:?} passes attempt {attempt} at {at:?}, never handed out"
            );
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm per effect, so that none is forgotten"
    )]
    fn perform(&mut self, client: usize, actor: &mut Actor, effect: Effect) {
        match effect {
            Effect::Send(packet) => self.send(actor, packet),
            Effect::Publish { message, received } => {
                actor.refused = false;
                if self.publish(client, &message, received) {
                    self.barrier(actor);
                }
            }
            Effect::AckPublish { packet_id, qos } => self.acknowledge(actor, packet_id, qos),
            Effect::Persist(session, change) => {
                if matches!(change, Change::Created(_)) {
                    self.slots[client].recorded = Some(session);
                }
                self.entries.push(Entry::change(session, change));
                self.barrier(actor);
            }
            Effect::Record(session, change) => self.entries.push(Entry::change(session, change)),
            Effect::SwitchConnection { fence, taken_over } => {
                if taken_over {
                    self.watch_takeover(client);
                }
                self.switch_connection(actor, fence, taken_over);
            }
            Effect::RefuseConnection(refusal) => {
                if let Some(link) = actor.candidate.take() {
                    self.close(link, Some(refusal));
                }
            }
            Effect::DropConnection => {
                forget_held(actor);
                if let Some(link) = actor.link.take() {
                    self.close(link, None);
                }
            }
            Effect::Subscribe {
                filter,
                options,
                durable,
                replaces,
            } => {
                let slot = &mut self.slots[client];
                let known = slot.readers.iter().position(|known| known.0 == filter);
                assert_eq!(known.is_some(), replaces.is_some(), "replaces {filter}");
                slot.readers.retain(|known| known.0 != filter);
                slot.readers.push((filter.clone(), options, durable));
                match (replaces.unwrap_or(false), durable) {
                    (false, true) => assert!(slot.holds.insert(filter), "held twice"),
                    (true, false) => assert!(slot.holds.remove(&filter), "not held"),
                    (false, false) | (true, true) => {}
                }
            }
            Effect::Unsubscribe { filter, durable } => {
                let slot = &mut self.slots[client];
                slot.readers.retain(|known| known.0 != filter);
                assert_eq!(slot.holds.remove(&filter), durable, "release of {filter}");
            }
            Effect::Listen(attached) => self.listen(client, actor, attached),
            Effect::Read {
                read,
                from,
                records_max,
            } => {
                let filters = actor.session.reads();
                actor.reads.push(Read::Page {
                    fence: actor.session.fence(),
                    read,
                    filters,
                    from,
                    records_max,
                });
            }
            Effect::Reread(offsets) => {
                let fence = actor.session.fence();
                actor.reads.push(Read::Reread(fence, offsets));
            }
            Effect::ReadRetained {
                filter,
                after,
                records_max,
            } => {
                let look_up = LookUp {
                    fence: actor.session.fence(),
                    asked_at: self.time,
                    filter,
                    after,
                    records_max: records_max.min(self.rng.index(4) + 1),
                };
                if self.journal.pending.is_empty() && self.entries.is_empty() {
                    actor.reads.push(Read::Retained(look_up));
                } else {
                    self.asks = true;
                    self.barrier(actor);
                    actor.held.push_back(Held::LookUp(look_up));
                }
            }
            Effect::Join {
                member,
                filter,
                options,
                kept,
            } => self.join(client, actor, member, &filter, (options, kept)),
            Effect::Leave { member, filter } => self.leave(client, member, &filter),
            Effect::TellGroup { member, to, said } => self.tell_group(client, member, to, said),
            Effect::Take(group, offset) => {
                let taken = GroupChange::Taken { offset };
                self.entries.push(Entry::group(group, taken));
                self.barrier(actor);
            }
            Effect::End => actor.ended = true,
        }
    }

    fn barrier(&self, actor: &mut Actor) {
        let ticket = self.journal.next_ticket();
        if !matches!(actor.held.back(), Some(Held::Barrier(last)) if *last == ticket) {
            actor.held.push_back(Held::Barrier(ticket));
        }
    }

    /// Routes a publication; gives whether it is appended.
    fn publish(
        &mut self,
        client: usize,
        message: &Arc<Message>,
        received: Option<PacketId>,
    ) -> bool {
        self.oracle.routed(message);
        self.route_to_groups(client, message);
        for slot in &mut self.slots {
            let mut live: Option<Live> = None;
            let mut logged = false;
            for (filter, options, durable) in &slot.readers {
                let own = options.no_local && slot.number == Some(message.publisher);
                if own || !filter.matches(message.topic()) {
                    continue;
                }
                let qos = message.qos.min(options.qos);
                logged |= *durable && qos > QoS::AtMostOnce;
                let retain = options.retain_as_published && message.retain;
                let live = live.get_or_insert(Live {
                    message: Arc::clone(message),
                    qos,
                    retain,
                    subscription_ids: SubscriptionIds::new(),
                });
                live.qos = live.qos.max(qos);
                live.retain |= retain;
                live.subscription_ids.extend(options.id);
            }
            slot.queue.extend(live.filter(|_| !logged).map(Input::Live));
        }
        let durable = message.qos > QoS::AtMostOnce
            && self
                .slots
                .iter()
                .any(|slot| slot.holds.iter().any(|held| held.matches(message.topic())));
        let shared = message.qos > QoS::AtMostOnce && self.groups.hold(message.topic());
        let durable = durable || shared;
        if durable || message.retain {
            self.entries.push(Entry::Message {
                message: Arc::clone(message),
                received,
            });
        } else if let Some(packet_id) = received {
            self.entries
                .push(Entry::received(message.publisher, packet_id));
        }
        durable || message.retain || received.is_some()
    }

    /// PUBACK or PUBREC; a refused publication closes a 3.x connection.
    fn acknowledge(&mut self, actor: &mut Actor, packet_id: PacketId, qos: QoS) {
        let Some(link) = actor.link else { return };
        let client = self.links.get(&link).map(|link| link.client);
        let v5 = client.is_some_and(|at| self.clients[at].version == ProtocolVersion::V5);
        let result = if actor.refused {
            Err(Refusal::JournalUnavailable)
        } else {
            Ok(Routed::Matched)
        };
        if actor.refused && !v5 {
            return self.close(link, Some(Refusal::JournalUnavailable));
        }
        let answer = if qos == QoS::ExactlyOnce {
            Outbound::PubRec { packet_id, result }
        } else {
            Outbound::PubAck { packet_id, result }
        };
        self.send(actor, answer);
    }

    fn send(&mut self, actor: &Actor, packet: Outbound) {
        let Some(at) = actor.link else { return };
        let Some(link) = self.links.get_mut(&at) else {
            return;
        };
        if link.down_ends {
            return;
        }
        if let Outbound::Publish(delivery) = &packet
            && lease_of(&delivery.message).is_none()
        {
            self.oracle.sent(actor.session.number(), delivery);
        }
        if let Outbound::Close(refusal) = packet {
            return self.close(at, Some(refusal));
        }
        link.number = actor.session.number();
        link.down.push_back(packet);
    }

    /// The broker ends a connection.
    pub(crate) fn close(&mut self, link: u64, refusal: Option<Refusal>) {
        if let Some(link) = self.links.get_mut(&link)
            && !std::mem::replace(&mut link.down_ends, true)
        {
            let why = refusal.unwrap_or(Refusal::Internal);
            link.down.push_back(Outbound::Close(why));
            link.up_ends = true;
            link.ended_at = link.ended_at.or(Some(self.time));
        }
    }

    fn switch_connection(&mut self, actor: &mut Actor, fence: Fence, taken_over: bool) {
        assert_eq!(taken_over, actor.link.is_some(), "taken over");
        assert!(
            fence > actor.fence,
            "{fence:?} is not above {:?}",
            actor.fence
        );
        forget_held(actor);
        if let Some(before) = actor.link.take() {
            self.close(before, Some(Refusal::TakenOver));
        }
        actor.fence = fence;
        actor.link = actor.candidate.take();
        let link = actor.link.and_then(|link| self.links.get_mut(&link));
        link.expect("a candidate").home = Some((actor.incarnation, fence));
    }

    fn listen(&mut self, client: usize, actor: &Actor, attached: bool) {
        let slot = &mut self.slots[client];
        slot.readers.clear();
        if !attached {
            // What is live goes with the connection; records on their way stay, to be ignored.
            slot.queue.retain(|input| matches!(input, Input::Logged(_)));
            return;
        }
        slot.number = Some(actor.session.number());
        let own = actor.session.subscriptions().iter();
        for known in own.filter(|known| !known.filter.is_shared()) {
            let durable = actor.session.is_kept() && known.options.qos > QoS::AtMostOnce;
            slot.readers
                .push((known.filter.clone(), known.options, durable));
        }
    }

    /// A session's actor dies before it decides on anything more.
    pub(crate) fn kill(&mut self, client: usize) {
        let residence = std::mem::replace(&mut self.residences[client], Residence::Dead);
        match residence {
            Residence::Active(actor) => self.died(client, *actor),
            _ => {
                self.residences[client] = residence;
            }
        }
    }

    /// A session actor is gone with all that it held; its neighbours don't notice.
    fn died(&mut self, client: usize, actor: Actor) {
        for link in [actor.link, actor.candidate].into_iter().flatten() {
            self.close(link, Some(Refusal::Internal));
        }
        let slot = &mut self.slots[client];
        slot.readers.clear();
        slot.queue.clear();
        // What the last turn did has reached others here, other than in the broker.
        let stay = Some(Stay::of(&actor.session));
        slot.stay = stay
            .filter(|stay| stay.presence != Presence::Vacant)
            .or(slot.stay);
        self.clients[client].forget_acks();
        self.excuse_wills_of(client);
        self.residences[client] = Residence::Dead;
    }
}

/// A group waits to hear what is taken, connection or not.
fn forget_held(actor: &mut Actor) {
    actor.held.retain(|held| {
        let group = matches!(held, Held::Effect(Effect::TellGroup { .. }));
        group || matches!(held, Held::Barrier(_))
    });
}
