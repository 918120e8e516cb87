//! Performing effects, and holding back what waits for the journal.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::Context;

use super::super::protocol::{Candidate, ToConnection, close};
use super::{Held, Published, SessionActor};
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Input};
use crate::model::entry::{Change, Entry};
use crate::model::ids::{Fence, PacketId, SessionNumber};
use crate::model::message::{Message, QoS};
use crate::model::packet::{Outbound, Routed, SubscriptionOptions};
use crate::model::refusal::Refusal;
use crate::model::topic::Filter;

impl SessionActor {
    pub(super) fn perform_all(&mut self, effects: &mut Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects.drain(..) {
            if self.held.is_empty() || !effect.waits() {
                self.perform(effect, ctx);
            } else if let Effect::AckPublish { packet_id, qos } = effect {
                let published = self.published;
                self.held.push_back(Held::Answer {
                    packet_id,
                    qos,
                    published,
                });
            } else {
                self.held.push_back(Held::Effect(effect));
            }
        }
    }

    pub(super) fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        #[cfg(feature = "testing")]
        self.local
            .borrow()
            .shared
            .faults
            .before(self.session.client_id(), &effect);
        match effect {
            Effect::Send(packet) => self.outgoing.push(packet),
            Effect::Count(counter) => self.local.borrow().count(counter),
            Effect::Publish { message, received } => self.publish(&message, received),
            Effect::AckPublish { packet_id, qos } => {
                self.acknowledge(packet_id, qos, self.published);
            }
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
                if let Some(connection) = self.candidate.take().and_then(Candidate::accept) {
                    close(&connection, refusal);
                }
            }
            Effect::DropConnection => self.drop_connection(),
            Effect::Subscribe {
                filter,
                options,
                durable,
                replaces,
            } => self.subscribe(filter, &options, durable, replaces),
            Effect::Unsubscribe { filter, durable } => self.unsubscribe(filter, durable),
            Effect::Listen(attached) => self.listen(attached),
            Effect::Replay { filter, options } => {
                self.find_retained(filter, options, ctx);
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

    fn publish(&mut self, message: &Arc<Message>, received: Option<PacketId>) {
        let placement = self.local.borrow_mut().publish(message, received);
        self.away |= placement.away;
        self.published = Published {
            routed: if placement.matched {
                Routed::Matched
            } else {
                Routed::NoSubscribers
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
        local.listen(self.slot, &filter, options, durable, replaces.is_some());
        local.count_subscriptions(self.slot, self.session.subscriptions().len());
        match (replaces.unwrap_or(false), durable) {
            (false, true) => local.change_hold(self.slot, filter, true),
            (true, false) => local.change_hold(self.slot, filter, false),
            (false, false) | (true, true) => {}
        }
    }

    fn unsubscribe(&mut self, filter: Filter, durable: bool) {
        let mut local = self.local.borrow_mut();
        local.mute(self.slot, &filter);
        local.count_subscriptions(self.slot, self.session.subscriptions().len());
        if durable {
            local.change_hold(self.slot, filter, false);
        }
    }

    pub(super) fn append(&mut self, session: SessionNumber, change: Change) -> u64 {
        let mut local = self.local.borrow_mut();
        if matches!(change, Change::Created { .. })
            && let Some(resident) = local.directory.get_mut(self.session.client_id())
        {
            // From this record on it is what a rebuild must look for.
            resident.number = session;
        }
        local.holds_recorded(self.slot);
        local.append(Entry::change(session, change))
    }

    pub(super) fn barrier(&mut self, ticket: u64) {
        if !matches!(self.held.back(), Some(Held::Barrier(last)) if *last == ticket) {
            self.held.push_back(Held::Barrier(ticket));
        }
    }

    /// PUBACK or PUBREC, now that the publication's ticket is answered.
    fn acknowledge(&mut self, packet_id: PacketId, qos: QoS, published: Published) {
        let refused = published
            .ticket
            .is_some_and(|ticket| self.failed.contains(&ticket));
        let result = if refused {
            Err(Refusal::JournalUnavailable)
        } else {
            Ok(published.routed)
        };
        if refused {
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
    pub(super) fn release(&mut self, ctx: &mut Context<Self>) {
        let answered = self.local.borrow().answered;
        while let Some(held) = self.held.pop_front() {
            match held {
                Held::Barrier(ticket) => {
                    if self.local.borrow_mut().take_failed(self.slot, ticket) {
                        self.failed.push(ticket);
                    }
                    if ticket > answered && !self.failed.contains(&ticket) {
                        self.held.push_front(Held::Barrier(ticket));
                        return;
                    }
                }
                Held::Effect(effect) => self.perform(effect, ctx),
                Held::Answer {
                    packet_id,
                    qos,
                    published,
                } => self.acknowledge(packet_id, qos, published),
                Held::Processed(packets, fence) => self.credit(packets, fence),
            }
        }
        self.failed = Vec::new();
        self.held = VecDeque::new(); // gives the memory back: a session is idle most of its life
    }

    pub(super) fn credit(&mut self, packets: u32, fence: Fence) {
        if fence != self.session.fence() {
            return;
        }
        if std::mem::take(&mut self.away) && self.local.borrow().shared.is_backlogged() {
            self.withheld += packets;
            self.local.borrow_mut().hold_back(self.slot);
        } else {
            self.processed += packets;
        }
    }

    /// Gives the credit that was kept back, or goes on waiting for the backlog to shrink.
    pub(super) fn give_withheld(&mut self) {
        if self.withheld == 0 {
            return;
        }
        let mut local = self.local.borrow_mut();
        if local.shared.is_backlogged() {
            local.hold_back(self.slot);
        } else {
            self.processed += std::mem::take(&mut self.withheld);
        }
    }

    pub(super) fn send_outgoing(&mut self) {
        if self.outgoing.is_empty() && self.processed == 0 {
            return;
        }
        let packets = std::mem::take(&mut self.outgoing);
        let processed = std::mem::take(&mut self.processed);
        if let Some(connection) = &self.connection {
            connection.do_send(ToConnection::Packets { packets, processed });
        }
    }
}
