//! Retained messages at subscribe: a cursor over the topics that a filter matches, read page by page as the window and the
//! connection have room.
//!
//! What was retained before the subscription is owed. What is published since comes as it is published: from the
//! journal to who reads that, by the routing pass to the others. So a record from since then is passed over, and one
//! whose successor was sent meanwhile, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use super::outbound::count_delivery;
use crate::model::effect::Effect;
use crate::model::effects::Effects;
use crate::model::entry::{Change, Unsettled};
use crate::model::ids::{Now, Offset, Timestamp};
use crate::model::message::{Message, QoS};
use crate::model::packet::{Delivery, Outbound, SubscriptionOptions};
use crate::model::record::{Record, RetainedRecords};
use crate::model::snapshot::ReplaySnapshot;
use crate::model::topic::Filter;

/// Retained messages that one page brings at most.
const PAGE_MAX: usize = 256;
/// Topics remembered, as sent by the routing pass, between a subscription and its first page. What comes on more topics in
/// that time may come as a retained message, too.
const EARLY_MAX: usize = 1024;

/// Replays under way.
#[derive(Clone, Debug)]
pub(super) struct Replays {
    /// One after the other.
    queue: Vec<Replay>,
    page: Page,
    /// Topics whose retained message was replaced by one that was sent meanwhile.
    overtaken: BTreeMap<Box<str>, By>,
}

/// By what a retained message was replaced.
#[derive(Clone, Debug)]
enum By {
    /// A record that was sent since the page was asked for.
    Record(Offset),
    /// A message that the routing pass brought since the page was asked for: early, if its time does not tell a later
    /// page that it came.
    Routed { message: Arc<Message>, early: bool },
    /// An early one from before the page was asked for.
    Early,
}

/// The page of the first replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// None was asked for.
    None,
    Asked,
    /// It was asked for and is of no use any more.
    Void,
}

/// The retained messages of one subscription that are still to be sent.
#[derive(Clone, Debug)]
struct Replay {
    durable: ReplaySnapshot,
    since: Since,
    /// The next one is in the backlog as well: its turn comes behind that.
    behind: Option<Offset>,
}

/// From when on the routing pass brings what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Unknown,
    /// A page was asked for, which says when.
    Asked,
    At(Timestamp),
}

impl Since {
    /// Whether the routing pass brought what was published at `at`.
    fn is_before(self, at: Timestamp) -> bool {
        matches!(self, Self::At(since) if since < at)
    }
}

impl Replay {
    fn new(durable: ReplaySnapshot) -> Self {
        Self {
            durable,
            since: Since::Unknown,
            behind: None,
        }
    }
}

impl Replays {
    /// Replays as a snapshot holds them.
    pub(super) fn restore(replays: Vec<ReplaySnapshot>) -> Option<Box<Self>> {
        (!replays.is_empty()).then(|| {
            Box::new(Self {
                queue: replays.into_iter().map(Replay::new).collect(),
                page: Page::None,
                overtaken: BTreeMap::new(),
            })
        })
    }

    /// Replays under way, in the order in which they began.
    fn iter(&self) -> impl Iterator<Item = &ReplaySnapshot> {
        self.queue.iter().map(|replay| &replay.durable)
    }

    /// Whether there is nothing left to do or to wait for.
    fn is_over(&self) -> bool {
        self.queue.is_empty() && self.page != Page::Void
    }

    fn end(&mut self, filter: &Filter) {
        let first = self.queue.first();
        if self.page == Page::Asked && first.is_some_and(|it| it.durable.filter == *filter) {
            self.page = Page::Void;
        }
        self.queue.retain(|known| known.durable.filter != *filter);
    }

    /// The connection is gone, and with it what was on its way to it.
    pub(super) fn park(&mut self) {
        self.page = Page::None;
        self.overtaken.clear();
        for replay in &mut self.queue {
            replay.since = Since::Unknown;
        }
    }

    /// A page that was asked for came back. Gives whether it is of use.
    fn arrived(&mut self, asked_at: Timestamp) -> bool {
        for replay in &mut self.queue {
            if replay.since == Since::Asked {
                replay.since = Since::At(asked_at);
            }
        }
        std::mem::replace(&mut self.page, Page::None) == Page::Asked
    }

    /// A message that replaces the retained one of its topic is about to be sent: a page that was asked for before must
    /// not bring the one before behind its successor.
    fn overtake(&mut self, message: &Arc<Message>, at: Option<Offset>) {
        let published_at = message.published_at;
        let early = at.is_none()
            && self.overtaken.len() < EARLY_MAX
            && self
                .queue
                .iter()
                .any(|it| !it.since.is_before(published_at));
        let by = match at {
            _ if self.page != Page::Asked && !early => return,
            Some(at) => By::Record(at),
            None if self.page == Page::Asked => By::Routed {
                message: Arc::clone(message),
                early,
            },
            None => By::Early,
        };
        self.overtaken.insert(message.topic().into(), by);
    }

    /// The page is dealt with. What the routing pass brought early may be what the next one finds.
    fn page_is_over(&mut self) {
        let goes_on = !self.queue.is_empty();
        self.overtaken.retain(|_, by| {
            let early = matches!(by, By::Early | By::Routed { early: true, .. });
            *by = By::Early;
            early && goes_on
        });
    }
}

/// What becomes of a record of a page.
enum Verdict {
    Send(QoS),
    /// It was replaced, expired, or comes otherwise.
    PassOver,
    /// It comes behind what is in the backlog.
    Wait,
}

impl Session {
    /// Replays of retained messages under way, in the order in which they began.
    pub fn replays(&self) -> impl Iterator<Item = &ReplaySnapshot> {
        self.pending
            .replays
            .iter()
            .flat_map(|replays| replays.iter())
    }

    /// A subscription's retained messages are due from the first topic on.
    pub(super) fn begin_replay(&mut self, filter: &Filter, as_of: Offset) {
        let durable = ReplaySnapshot {
            filter: filter.clone(),
            as_of,
            after: None,
        };
        match &mut self.pending.replays {
            Some(replays) => {
                replays.end(filter);
                replays.queue.push(Replay::new(durable));
            }
            none => *none = Replays::restore(vec![durable]),
        }
    }

    /// The subscription is gone.
    pub(super) fn end_replay(&mut self, filter: &Filter) {
        if let Some(replays) = self.replays_mut() {
            replays.end(filter);
        }
    }

    /// Other subscriptions read the backlog from now on: a retained message may wait for one of it that nobody reads any more.
    pub(super) fn reconsider_replays(&mut self) {
        for replay in self.replays_mut().into_iter().flat_map(|it| &mut it.queue) {
            replay.behind = None;
        }
    }

    /// A publication is about to be sent, from the journal with its place there.
    pub(super) fn overtake(&mut self, message: &Arc<Message>, at: Option<Offset>) {
        if message.retain
            && let Some(replays) = self.replays_mut()
        {
            replays.overtake(message, at);
        }
    }

    /// Asks for the next page if it can be sent.
    pub(super) fn pump_replays(&mut self, effects: &mut Effects<Effect>) {
        let Some(replays) = &self.pending.replays else {
            return;
        };
        let Some(replay) = replays.queue.first() else {
            return;
        };
        let cursor = &self.reading.cursor;
        let blocked = replay.behind.is_some_and(|at| !cursor.has_passed(at));
        if replays.page != Page::None || blocked || self.awaits_room() {
            return;
        }
        let durable = &replay.durable;
        let known = self.subscriptions.get(&durable.filter);
        let records_max = match known.map_or(QoS::AtMostOnce, |known| known.options.qos) {
            QoS::AtMostOnce => PAGE_MAX,
            qos @ (QoS::AtLeastOnce | QoS::ExactlyOnce) => self.room_for(qos).min(PAGE_MAX),
        };
        if records_max == 0 {
            return;
        }
        effects.push(Effect::ReadRetained {
            filter: durable.filter.clone(),
            after: durable.after.clone(),
            records_max,
        });
        if let Some(replays) = self.replays_mut() {
            replays.page = Page::Asked;
            for replay in &mut replays.queue {
                if replay.since == Since::Unknown {
                    replay.since = Since::Asked;
                }
            }
        }
    }

    /// The page that was asked for.
    pub(super) fn replay(
        &mut self,
        now: Now,
        page: RetainedRecords,
        effects: &mut Effects<Effect>,
    ) {
        let Some(replays) = self.replays_mut() else {
            return;
        };
        if replays.arrived(page.asked_at) {
            let mut replay = replays.queue.remove(0);
            if self.send_page(now, &mut replay, page, effects)
                && let Some(replays) = self.replays_mut()
            {
                replays.queue.insert(0, replay);
            }
        }
        if let Some(replays) = self.replays_mut() {
            replays.page_is_over();
        }
        self.pump(now, effects);
    }

    /// Sends what of a page is due and has room; gives whether the replay goes on.
    fn send_page(
        &mut self,
        now: Now,
        replay: &mut Replay,
        page: RetainedRecords,
        effects: &mut Effects<Effect>,
    ) -> bool {
        let Some(options) = self.subscriptions.get(&replay.durable.filter) else {
            return false;
        };
        let options = options.options;
        replay.behind = None;
        let mut sends = Vec::new();
        let mut sent = Vec::new();
        let mut last = None;
        let mut cut = false;
        for record in page.records.into_iter().flatten() {
            match self.judge(now, replay, options, &record) {
                Verdict::PassOver => {}
                Verdict::Wait => {
                    replay.behind = Some(record.offset);
                    cut = true;
                    break;
                }
                Verdict::Send(_) if self.awaits_room() => {
                    cut = true;
                    break;
                }
                Verdict::Send(QoS::AtMostOnce) => {
                    self.hand_out(&record.message);
                    sends.push(delivery(&record, None, options));
                }
                Verdict::Send(qos) if self.inflight.room_for(qos) == 0 => {
                    cut = true;
                    break;
                }
                Verdict::Send(qos) => {
                    self.hand_out(&record.message);
                    let taken = self.inflight.replay(record.offset, qos, options.id);
                    sent.push(taken);
                    sends.push(delivery(&record, Some(taken), options));
                }
            }
            last = Some(record.message);
        }
        let after = if cut {
            let last = last.map(|message| message.topic().into());
            last.or_else(|| replay.durable.after.clone())
        } else {
            page.resume
        };
        let goes_on = cut || after.is_some();
        if self.kept && (after != replay.durable.after || !sent.is_empty() || !goes_on) {
            self.record_replay(&replay.durable.filter, after.clone(), sent, effects);
        }
        replay.durable.after = after;
        for delivery in sends {
            count_delivery(delivery.qos, effects);
            effects.push(Effect::Send(Outbound::Publish(delivery)));
        }
        self.ask_for_room(effects);
        goes_on
    }

    fn judge(
        &self,
        now: Now,
        replay: &Replay,
        options: SubscriptionOptions,
        record: &Record,
    ) -> Verdict {
        let Record { offset, message } = record;
        let is_new = *offset >= replay.durable.as_of;
        let replays = self.pending.replays.as_ref();
        let overtaken = replays.and_then(|replays| replays.overtaken.get(message.topic()));
        let overtaken = overtaken.is_some_and(|by| match by {
            By::Record(by) => by > offset,
            // It may be the very message that is owed: it was routed by another subscription.
            By::Routed { message: by, .. } => is_new || by != message,
            By::Early => is_new,
        });
        let own = options.no_local && message.publisher == self.number; // [MQTT-3.8.3-3]
        if own || overtaken || message.is_expired(now.time) {
            return Verdict::PassOver;
        }
        if self.kept && self.matching(message, *offset).is_some() {
            if is_new {
                return Verdict::PassOver;
            }
            if !self.reading.cursor.has_passed(*offset) {
                return Verdict::Wait;
            }
        } else if is_new && replay.since.is_before(message.published_at) {
            return Verdict::PassOver;
        }
        Verdict::Send(message.qos.min(options.qos))
    }

    /// Records how far a replay came, with what is in the window because of it.
    fn record_replay(
        &self,
        filter: &Filter,
        after: Option<Box<str>>,
        sent: Vec<Unsettled>,
        effects: &mut Effects<Effect>,
    ) {
        let exactly_once = sent.iter().any(|sent| sent.qos == QoS::ExactlyOnce);
        let change = Change::Replayed {
            filter: filter.clone(),
            after,
            sent,
        };
        if exactly_once {
            self.persist(change, effects);
        } else {
            self.record(change, effects);
        }
    }

    /// Gives the memory back when the last replay is over.
    pub(super) fn tidy_replays(&mut self) {
        if let Some(pending) = self.pending.used() {
            pending.replays.take_if(|replays| replays.is_over());
        }
    }

    fn replays_mut(&mut self) -> Option<&mut Replays> {
        self.pending.used()?.replays.as_deref_mut()
    }
}

fn delivery(record: &Record, sent: Option<Unsettled>, options: SubscriptionOptions) -> Delivery {
    Delivery {
        message: record.message.clone(),
        packet_id: sent.map(|sent| sent.packet_id),
        qos: sent.map_or(QoS::AtMostOnce, |sent| sent.qos),
        dup: false,
        retain: true,
        subscription_ids: options.id.into_iter().collect(),
        paced: true,
    }
}
