//! What flows through a shard: publications to readers, entries to the journal, committed records back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::protocol::{Committed, RouteBatch, Submission};
use super::fan_out::Late;
use super::{Local, SlotState};
use crate::model::counter::Counter;
use crate::model::entry::Entry;
use crate::model::ids::{PacketId, ShardSet};
use crate::model::message::{Message, QoS};
use crate::model::packet::SubscriptionOptions;
use crate::model::record::Record;
use crate::model::refusal::Refusal;
use crate::model::routes::Slot;

/// What became of a publication.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// A subscription matched.
    pub matched: bool,
    /// It went to another shard.
    pub away: bool,
    /// The ticket to wait for, if it went to the journal.
    pub ticket: Option<u64>,
    /// Why it is not retained though it was to be; delivered it is all the same.
    pub unretained: Option<Refusal>,
}

/// A publication of the turn under way that is to be retained.
#[derive(Debug)]
pub(super) struct Retaining {
    message: Arc<Message>,
    /// Where it was routed to.
    online: ShardSet,
    /// The routes' generation when it was looked up.
    generation: u64,
}

impl Local {
    /// Routes a publication to everybody who reads it live, and to the journal if a durable reader matches, it is
    /// retained or it carries an inbound QoS 2 identifier to remember. One that is to be retained and has no room there is
    /// delivered and not retained, whatever its QoS and whoever publishes it.
    pub fn publish(&mut self, message: &Arc<Message>, received: Option<PacketId>) -> Placement {
        let (instead, unretained) = self.unless_retainable(message).unzip();
        let message = instead.as_ref().unwrap_or(message);
        let matched = self.look_ups.find(&self.shared.routes, message);
        if message.retain {
            let generation = self.look_ups.generation();
            self.retaining.push(Retaining {
                message: Arc::clone(message),
                online: matched.online,
                generation,
            });
        }
        let mut away = false;
        for shard in matched.online.iter() {
            if shard == self.shard {
                self.offer(message);
            } else {
                away = true;
                self.outboxes[usize::from(shard.0)].push(Arc::clone(message));
            }
        }
        let durable = message.qos > QoS::AtMostOnce && !matched.durable.is_empty();
        let entry = if durable || message.retain {
            Some(Entry::Message {
                message: Arc::clone(message),
                received,
            })
        } else {
            received.map(|packet_id| Entry::received(message.publisher, packet_id))
        };
        Placement {
            matched: !(matched.online.is_empty() && matched.durable.is_empty()),
            away,
            ticket: entry.map(|entry| self.append(entry)),
            unretained,
        }
    }

    /// What is published in the place of a message that is to be retained and has no room there, and why: the same
    /// message, not to be retained. `None` if it has. Counted.
    fn unless_retainable(&self, message: &Arc<Message>) -> Option<(Arc<Message>, Refusal)> {
        if !message.retain || message.payload().is_empty() {
            return None;
        }
        self.shared.retained.read().room_for(message).err()?;
        let now = self.now().time;
        let room = self.shared.retained.write().make_room_for(message, now);
        let refusal = room.err()?;
        self.count(if refusal == Refusal::TenantRetainedQuota {
            Counter::TenantRetainRefused
        } else {
            Counter::RetainRefused
        });
        let mut message = Message::clone(message);
        message.retain = false;
        Some((Arc::new(message), refusal))
    }

    /// Looks up who reads these, which are about to be published in this order: faster than one by one.
    pub fn look_ahead<'a>(&mut self, messages: impl Iterator<Item = &'a Arc<Message>>) {
        let filters = self.look_ups.look_ahead(&self.shared.routes, messages);
        self.routes.fetch(filters);
    }

    /// Delivers what another shard's sessions published, and takes it off this shard's backlog.
    pub fn routed(&mut self, batch: RouteBatch) {
        self.come_late(Late::Routed(batch, 0));
    }

    /// As [`Self::routed`], from the message at `from` on; gives what is left when readers must have their turn.
    pub(super) fn route(&mut self, batch: RouteBatch, from: usize) -> Option<Late> {
        let messages = batch.messages.get(from..).unwrap_or_default();
        let done = self.for_each_until_crowded(messages, |message| message, Self::offer);
        if done < messages.len() {
            return Some(Late::Routed(batch, from + done));
        }
        let backlog = &self.shared.backlogs[usize::from(self.shard.0)];
        backlog.fetch_sub(batch.bytes, Ordering::Relaxed);
        None
    }

    /// Looks up who reads each of these and gives it to them; stops when readers must have their turn. Gives how many.
    fn for_each_until_crowded<T>(
        &mut self,
        all: &[T],
        message: impl Fn(&T) -> &Arc<Message>,
        offer: impl Fn(&mut Self, &T),
    ) -> usize {
        if self.is_crowded() {
            return 0;
        }
        self.look_ahead(all.iter().map(&message));
        let mut done = 0;
        for one in all {
            if self.is_crowded() {
                break;
            }
            self.look_ups.find(&self.shared.routes, message(one));
            offer(self, one);
            done += 1;
        }
        self.look_ups.end_turn();
        done
    }

    /// The session of this slot keeps its connection's credit back until no shard is backlogged.
    pub fn hold_back(&mut self, slot: Slot) {
        self.held_back.insert(slot);
    }

    /// Wakes who kept credit back, if no shard is backlogged any more.
    pub fn wake_held_back(&mut self) {
        if self.held_back.is_empty() || self.shared.is_backlogged() {
            return;
        }
        for slot in std::mem::take(&mut self.held_back) {
            if let Some(state) = self.slot(slot) {
                state.wake();
            }
        }
    }

    /// Puts the publication that was looked up last into the slots of this shard's live readers, and wakes them.
    fn offer(&mut self, message: &Arc<Message>) {
        self.for_each_reader(|state, options, durable, pass| {
            if options.no_local && state.number == message.publisher {
                return 0;
            }
            state.offer(message, options, durable, pass)
        });
    }

    /// As [`Self::offer`], for a committed record and its durable readers.
    fn offer_record(&mut self, record: &Record) {
        self.for_each_reader(|state, options, durable, pass| {
            if durable && options.qos > QoS::AtMostOnce {
                return state.offer_record(record, pass);
            }
            0
        });
    }

    /// Calls `found` for this shard's readers of what was looked up last: slot, options, durable, the number of this pass. It
    /// gives how many bytes the slot holds more.
    fn for_each_reader(
        &mut self,
        mut found: impl FnMut(&mut SlotState, &SubscriptionOptions, bool, u64) -> isize,
    ) {
        self.pass += 1;
        let pass = self.pass;
        let slots = &mut self.slots;
        let mut more = 0;
        for filter in self.look_ups.filters() {
            self.routes
                .for_each_reader(*filter, |slot, options, durable| {
                    if let Some(state) = slots.get_mut(slot.0 as usize).and_then(Option::as_mut) {
                        more += found(state, options, durable, pass);
                    }
                });
        }
        self.put(more);
    }

    /// Whether the publications of a ticket were refused by the journal.
    pub fn take_failed(&mut self, slot: Slot, ticket: u64) -> bool {
        let Some(state) = self.slot(slot) else {
            return false;
        };
        let at = state
            .waiting
            .failed
            .iter()
            .position(|failed| *failed == ticket);
        let failed = at.map(|at| state.waiting.failed.swap_remove(at));
        state.waiting.tidy();
        failed.is_some()
    }

    /// Appends an entry; gives the ticket under which the whole turn is answered.
    pub fn append(&mut self, entry: Entry) -> u64 {
        self.entries.push(entry);
        self.ticket
    }

    /// Whether the turn under way has something for the journal.
    pub fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Gives a ticket that is answered when all that any shard submitted before is.
    pub fn ask(&mut self) -> u64 {
        self.asked = true;
        self.ticket + 1
    }

    /// The ticket of the last submission.
    pub fn submitted(&self) -> u64 {
        self.ticket - 1
    }

    /// Whether every submission up to and including `ticket` is answered.
    pub fn is_answered(&self, ticket: u64) -> bool {
        self.waiting
            .front()
            .is_none_or(|(first, _)| *first > ticket)
    }

    /// Sends what is left for the journal though no session waits for the answer.
    pub fn flush_unanswered(&mut self) {
        self.flush(Slot(u32::MAX));
    }

    /// Ends a turn of `slot`: sends what it left for the journal and other shards, one message each.
    pub fn flush(&mut self, slot: Slot) {
        self.look_ups.end_turn();
        // The journal comes first: whoever was routed a publication, and asks the journal, finds it there.
        self.submit(slot);
        self.give_units_back();
        self.route_late();
        for (shard, outbox) in self.outboxes.iter_mut().enumerate() {
            if !outbox.is_empty()
                && let Some(peer) = self.peers.get(shard)
            {
                let messages = std::mem::take(outbox);
                let bytes = messages.iter().map(|message| backlog_bytes(message)).sum();
                self.shared.backlogs[shard].fetch_add(bytes, Ordering::Relaxed);
                peer.do_send(RouteBatch { messages, bytes });
            }
        }
        self.groups.flush();
    }

    /// Who subscribed on another shard during this turn may have found what the turn retains neither routed nor in the
    /// journal's queue: it is routed now. Whoever subscribes from here on finds it in the queue.
    fn route_late(&mut self) {
        for late in std::mem::take(&mut self.retaining) {
            if late.generation == self.shared.routes.generation() {
                continue;
            }
            let online = self
                .shared
                .routes
                .lookup(late.message.topic(), |_| {})
                .online;
            for shard in online.iter() {
                if shard != self.shard && !late.online.contains(shard) {
                    self.outboxes[usize::from(shard.0)].push(Arc::clone(&late.message));
                }
            }
        }
    }

    fn submit(&mut self, slot: Slot) {
        let ticket = self.ticket;
        let entries = std::mem::take(&mut self.entries);
        if !entries.is_empty() {
            self.submit_as(ticket, slot, entries);
        }
        if std::mem::take(&mut self.asked) {
            // By itself: it may have to wait for others, which these entries need not.
            self.submit_as(ticket + 1, slot, Vec::new());
        }
    }

    fn submit_as(&mut self, ticket: u64, slot: Slot, entries: Vec<Entry>) {
        self.ticket = ticket + 1;
        if let Some(state) = self.slot(slot) {
            state.last_ticket = ticket;
        }
        self.waiting.push_back((ticket, slot));
        self.shared.appender.submit(Submission {
            shard: self.shard,
            ticket,
            entries,
        });
    }

    /// Takes the appender's answer: records go to their readers, whoever waits for a ticket is woken.
    pub fn committed(&mut self, committed: Committed) {
        self.come_late(Late::Committed(committed, 0));
    }

    /// As [`Self::committed`], from the record at `from` on; gives what is left when readers must have their turn.
    pub(super) fn commit(&mut self, committed: Committed, from: usize) -> Option<Late> {
        let records = committed.records.get(from..).unwrap_or_default();
        let done =
            self.for_each_until_crowded(records, |record| &record.message, Self::offer_record);
        if done < records.len() {
            return Some(Late::Committed(committed, from + done));
        }
        self.live_end = self.live_end.max(committed.end);
        self.answered = self.answered.max(committed.ticket);
        for ticket in &committed.failed {
            let at = self
                .waiting
                .iter()
                .position(|(waiting, _)| waiting == ticket);
            let waited = at.and_then(|at| self.waiting.remove(at));
            if let Some(state) = waited.and_then(|(_, slot)| self.slot(slot)) {
                state.waiting.failed.push(*ticket);
                state.wake();
            }
        }
        while let Some((ticket, slot)) = self.waiting.front().copied()
            && ticket <= self.answered
        {
            self.waiting.pop_front();
            if let Some(state) = self.slot(slot) {
                state.wake();
            }
        }
        None
    }
}

/// What a publication counts for while it is on its way to another shard.
fn backlog_bytes(message: &Message) -> u64 {
    (message.size_bytes() + size_of::<Message>()) as u64
}
