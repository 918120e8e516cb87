//! Performing effects, and holding back what waits for the journal.

use std::sync::Arc;

use super::super::protocol::{Candidate, Credit, Load, ToConnection, close};
use super::SessionActor;
use super::turn::{Held, Published, Turn, Waiting};
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Input};
use crate::model::effects::Effects;
use crate::model::entry::{Change, Entry};
use crate::model::ids::{Fence, PacketId, SessionNumber};
use crate::model::message::{Message, QoS};
use crate::model::packet::{Outbound, Routed, SubscriptionOptions};
use crate::model::refusal::Refusal;
use crate::model::topic::Filter;

impl SessionActor {
    pub(super) fn perform_all(&mut self, effects: &mut Effects<Effect>, turn: &mut Turn<'_>) {
        for effect in effects.drain() {
            if self.waiting.held.is_empty() || !effect.waits() {
                self.perform(effect, turn);
            } else if let Effect::AckPublish { packet_id, qos } = effect {
                let published = turn.published;
                self.waiting.held.push_back(Held::Answer {
                    packet_id,
                    qos,
                    published,
                });
            } else {
                self.waiting.held.push_back(Held::Effect(effect));
            }
        }
    }

    pub(super) fn perform(&mut self, effect: Effect, turn: &mut Turn<'_>) {
        #[cfg(feature = "testing")]
        self.local
            .borrow()
            .shared
            .faults
            .before(self.session.client_id(), &effect);
        match effect {
            Effect::Send(packet) => turn.outgoing.push(packet),
            Effect::Publish { message, received } => self.publish(&message, received, turn),
            Effect::AckPublish { packet_id, qos } => {
                self.acknowledge(packet_id, qos, turn.published, turn);
            }
            Effect::Persist(session, change) => {
                let ticket = self.append(session, change);
                self.barrier(ticket);
            }
            Effect::Record(session, change) => {
                self.append(session, change);
            }
            Effect::SwitchConnection { fence, taken_over } => {
                self.switch_connection(fence, taken_over, turn)
            }
            Effect::RefuseConnection(refusal) => {
                if let Some(connection) = turn.candidate.take().and_then(Candidate::accept) {
                    close(&connection, refusal);
                }
            }
            Effect::DropConnection => self.drop_connection(turn),
            Effect::Subscribe {
                filter,
                options,
                durable,
                replaces,
            } => self.subscribe(filter, &options, durable, replaces),
            Effect::Unsubscribe { filter, durable } => self.unsubscribe(filter, durable),
            Effect::Join {
                member,
                filter,
                options,
                kept,
            } => self.join(member, &filter, options, kept, turn),
            Effect::Leave { member, filter } => self.leave(member, &filter),
            Effect::TellGroup { member, to, said } => self.tell_group(member, to, said),
            Effect::Take(group, offset) => self.take(group, offset),
            Effect::Listen(attached) => self.listen(attached),
            Effect::Read {
                read,
                from,
                records_max,
            } => self.read(read, from, records_max, turn),
            Effect::Reread(offsets) => {
                self.read_at(offsets, turn, |fence, records| Input::Reread {
                    fence,
                    records,
                });
            }
            Effect::ReadRetained {
                filter,
                after,
                records_max,
            } => self.read_retained(filter, after, records_max, turn),
            Effect::End => self.end(turn.ctx),
        }
    }

    fn publish(&mut self, message: &Arc<Message>, received: Option<PacketId>, turn: &mut Turn<'_>) {
        let mut local = self.local.borrow_mut();
        let placement = local.publish(message, received);
        drop(local);
        self.away |= placement.away;
        turn.published = Published {
            routed: match placement.unretained {
                Some(why) => Routed::NotRetained(why),
                None if placement.matched => Routed::Matched,
                None => Routed::NoSubscribers,
            },
            ticket: placement.ticket,
        };
        if let Some(ticket) = placement.ticket {
            self.barrier(ticket);
        }
    }

    /// Puts a subscription into the routes; `replaces` says whether there was one and whether that was durable.
    fn subscribe(
        &mut self,
        filter: Filter,
        options: &SubscriptionOptions,
        durable: bool,
        replaces: Option<bool>,
    ) {
        let mut local = self.local.borrow_mut();
        local.listen(
            self.sentinel.slot(),
            &filter,
            options,
            durable,
            replaces.is_some(),
        );
        local.count_subscriptions(self.sentinel.slot(), self.session.subscriptions().len());
        match (replaces.unwrap_or(false), durable) {
            (false, true) => local.change_hold(self.sentinel.slot(), filter, true),
            (true, false) => local.change_hold(self.sentinel.slot(), filter, false),
            (false, false) | (true, true) => {}
        }
    }

    fn unsubscribe(&mut self, filter: Filter, durable: bool) {
        let mut local = self.local.borrow_mut();
        local.mute(self.sentinel.slot(), &filter);
        local.count_subscriptions(self.sentinel.slot(), self.session.subscriptions().len());
        if durable {
            local.change_hold(self.sentinel.slot(), filter, false);
        }
    }

    pub(super) fn append(&mut self, session: SessionNumber, change: Change) -> u64 {
        let mut local = self.local.borrow_mut();
        if matches!(change, Change::Created(_))
            && let Some(resident) = local.directory.get_mut(self.session.client_id())
        {
            // From this record on it is what a rebuild must look for.
            resident.number = session;
        }
        local.holds_recorded(self.sentinel.slot());
        local.append(Entry::change(session, change))
    }

    pub(super) fn barrier(&mut self, ticket: u64) {
        if !matches!(self.waiting.held.back(), Some(Held::Barrier(last)) if *last == ticket) {
            self.waiting.held.push_back(Held::Barrier(ticket));
        }
    }

    /// PUBACK or PUBREC, now that the publication's ticket is answered.
    fn acknowledge(
        &self,
        packet_id: PacketId,
        qos: QoS,
        published: Published,
        turn: &mut Turn<'_>,
    ) {
        let failed = published
            .ticket
            .is_some_and(|ticket| self.waiting.failed.contains(&ticket));
        let result = if failed {
            self.local.borrow().count(Counter::JournalRefused);
            Err(Refusal::JournalUnavailable)
        } else {
            Ok(published.routed)
        };
        if failed {
            turn.answers.push(Input::PublishFailed {
                received: (qos == QoS::ExactlyOnce).then_some(packet_id),
            });
        }
        turn.outgoing.push(if qos == QoS::ExactlyOnce {
            Outbound::PubRec { packet_id, result }
        } else {
            Outbound::PubAck { packet_id, result }
        });
    }

    /// Performs what waited for tickets that are answered by now.
    pub(super) fn release(&mut self, turn: &mut Turn<'_>) {
        let answered = self.local.borrow().answered;
        while let Some(held) = self
            .waiting
            .used()
            .and_then(|waiting| waiting.held.pop_front())
        {
            match held {
                Held::Barrier(ticket) => {
                    if self
                        .local
                        .borrow_mut()
                        .take_failed(self.sentinel.slot(), ticket)
                    {
                        self.waiting.failed.push(ticket);
                    }
                    if ticket > answered && !self.waiting.failed.contains(&ticket) {
                        self.waiting.held.push_front(Held::Barrier(ticket));
                        return;
                    }
                }
                Held::Joined(question) => {
                    if !self.waiting.joined.contains(&question) {
                        self.waiting.held.push_front(Held::Joined(question));
                        return;
                    }
                }
                Held::Effect(effect) => self.perform(effect, turn),
                Held::LookUp(look_up) => self.look_up(look_up, turn),
                Held::Answer {
                    packet_id,
                    qos,
                    published,
                } => self.acknowledge(packet_id, qos, published, turn),
                Held::Processed(load, fence) => self.credit(load, fence, turn),
            }
        }
        // Gives the memory back: a session is idle most of its life.
        if let Some(waiting) = self.waiting.used() {
            *waiting = Waiting {
                postponed: std::mem::take(&mut waiting.postponed),
                withheld: std::mem::take(&mut waiting.withheld),
                ..Waiting::default()
            };
            self.waiting.tidy();
        }
    }

    pub(super) fn credit(&mut self, load: Load, fence: Fence, turn: &mut Turn<'_>) {
        if fence != self.session.fence() {
            return;
        }
        if std::mem::take(&mut self.away) && self.local.borrow().shared.is_backlogged() {
            self.waiting.withheld.absorb(load);
            self.local.borrow_mut().hold_back(self.sentinel.slot());
        } else {
            turn.processed.absorb(load);
        }
    }

    /// Gives the credit that was kept back, or goes on waiting for the backlog to shrink.
    pub(super) fn give_withheld(&mut self, turn: &mut Turn<'_>) {
        if self.waiting.withheld.is_empty() {
            return;
        }
        let mut local = self.local.borrow_mut();
        if local.shared.is_backlogged() {
            return local.hold_back(self.sentinel.slot());
        }
        turn.processed
            .absorb(std::mem::take(&mut self.waiting.withheld));
        self.waiting.tidy();
    }

    pub(super) fn send_outgoing(&self, turn: &mut Turn<'_>) {
        let packets = std::mem::take(&mut turn.outgoing.packets);
        let processed = std::mem::take(&mut turn.processed).dealt_with();
        if packets.is_empty() && processed == Credit::default() {
            return;
        }
        if let Some(connection) = &self.connection {
            connection.do_send(ToConnection::Packets { packets, processed });
        }
    }
}
