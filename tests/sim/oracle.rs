//! What must be true: an account of everything published and received, kept apart from the broker's own state.
//!
//! Every publication by an application is a *post*; every time a client puts it on the wire is an *attempt*, so that
//! an attempt is one record of the journal at most. A violation panics; the runner prints the run's story.

use std::collections::{BTreeMap, BTreeSet};

use outlive_actors::model::ids::{PacketId, SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::packet::{Delivery, RetainHandling, SubscriptionOptions};
use outlive_actors::model::topic::Filter;

/// A post's number.
pub(crate) type Post = usize;
/// An attempt's number.
pub(crate) type Attempt = usize;

/// One publication by an application.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) publisher: usize,
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) will: bool,
    /// When it was first sent.
    pub(crate) sent_at: u64,
    /// The earliest moment at which an attempt of it expires.
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) acked: bool,
    /// The journal refused an attempt: its publisher repeats it out of order.
    pub(crate) refused: bool,
    /// Attempts of it that are in the journal.
    pub(crate) logged: u32,
    /// How often it was handed to routing.
    pub(crate) routed: u32,
}

/// One time that a subscription was in force, as its client knows.
#[derive(Debug)]
pub(crate) struct Period {
    filter: Filter,
    no_local: bool,
    /// SUBSCRIBE was sent.
    asked_at: u64,
    /// SUBACK came.
    granted_at: Option<u64>,
    /// SUBSCRIBE that asked for retained messages was sent; those that were granted, and the last of them.
    replays_asked: Vec<u64>,
    replay_granted: Option<u64>,
    /// From here on nothing is owed: UNSUBSCRIBE or a downgrade to QoS 0 was sent.
    dropped_at: Option<u64>,
    /// From here on nothing new may come: UNSUBACK came.
    gone_at: Option<u64>,
}

/// What one client's application knows of one session.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    periods: Vec<Period>,
    /// Posts received: how often, and how often as QoS 2.
    got: BTreeMap<Post, (u32, u32)>,
    seen: BTreeSet<Attempt>,
    /// When an attempt was last received as a retained message.
    retained: BTreeMap<Attempt, u64>,
    /// What came by groups.
    pub(crate) by_groups: BTreeSet<Attempt>,
    /// How often retained messages were asked for.
    replays: Vec<Filter>,
    /// The last first delivery per topic, QoS of publication and of delivery, of what was published to be retained.
    newest: BTreeMap<(String, QoS, QoS), Attempt>,
    /// The last first delivery per publisher, topic, QoS of publication and of delivery.
    order: BTreeMap<(usize, String, QoS, QoS), Attempt>,
}

impl Holding {
    /// Shared subscriptions in force with QoS 1 or 2, and since when.
    pub(crate) fn shares_held(&self) -> impl Iterator<Item = (&Filter, u64)> {
        let held = self.periods.iter();
        let held = held.filter(|known| known.filter.is_shared() && known.dropped_at.is_none());
        held.filter_map(|known| Some((&known.filter, known.granted_at?)))
    }

    /// Whether a shared subscription was ever asked for.
    pub(crate) fn shared(&self, filter: &Filter) -> bool {
        self.periods.iter().any(|known| known.filter == *filter)
    }

    /// Nothing is owed any more.
    pub(crate) fn abandon(&mut self) {
        for known in &mut self.periods {
            known.dropped_at = known.dropped_at.or(Some(0));
        }
    }
}

/// What one session handed out under a packet identifier.
#[derive(Clone, Copy, Debug)]
struct Handed {
    packet_id: PacketId,
    link: u64,
    /// How often the session had been rebuilt.
    rebuilt: u32,
    /// It went to the wire.
    sent: bool,
}

/// The account.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Counts events; orders what the account compares.
    pub(crate) clock: u64,
    pub(crate) posts: Vec<Posted>,
    attempts: Vec<Post>,
    /// When an attempt was routed, and when it was routed or committed last.
    settled: BTreeMap<Attempt, (u64, u64)>,
    /// When an attempt was committed, and when as a retained message it was replaced or cleared.
    committed: BTreeMap<Attempt, u64>,
    replaced: BTreeMap<Attempt, u64>,
    retained: BTreeMap<String, Attempt>,
    handed: BTreeMap<(SessionNumber, Attempt, QoS), Handed>,
    /// The connection over which an attempt went to a session with QoS 0.
    at_most_once: BTreeMap<(SessionNumber, Attempt), u64>,
    rebuilt: BTreeMap<SessionNumber, u32>,
    /// Sent with one QoS, and after a crash, since the subscription had changed meanwhile, with another: then it comes
    /// behind what was already in the window.
    requalified: BTreeSet<Attempt>,
    tried: BTreeSet<(SessionNumber, Attempt, QoS)>,
    pub(crate) received: u64,
    pub(crate) redelivered: u64,
}

/// The attempt that a message is.
pub(crate) fn attempt_of(message: &Message) -> Attempt {
    let bytes: [u8; 8] = message.properties()[..8].try_into().unwrap();
    usize::try_from(u64::from_le_bytes(bytes)).unwrap()
}

impl Oracle {
    pub(crate) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(crate) fn post(&mut self, posted: Posted) -> Post {
        self.posts.push(posted);
        self.posts.len() - 1
    }

    pub(crate) fn attempt(&mut self, post: Post, expires_at: Option<Timestamp>) -> Attempt {
        let known = &mut self.posts[post].expires_at;
        *known = match (*known, expires_at) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        self.attempts.push(post);
        self.attempts.len() - 1
    }

    pub(crate) fn post_of(&self, message: &Message) -> Post {
        self.post_of_attempt(attempt_of(message))
    }

    pub(crate) fn post_of_attempt(&self, attempt: Attempt) -> Post {
        self.attempts[attempt]
    }

    fn settle(&mut self, message: &Message) {
        let at = self.tick();
        self.settled
            .entry(attempt_of(message))
            .and_modify(|(_, last)| *last = at)
            .or_insert((at, at));
    }

    pub(crate) fn routed(&mut self, message: &Message) {
        self.settle(message);
        let post = self.post_of(message);
        self.posts[post].routed += 1;
    }

    /// An attempt is in the journal: a QoS 2 post at most once.
    pub(crate) fn committed(&mut self, message: &Message) {
        self.settle(message);
        let (post, attempt) = (self.post_of(message), attempt_of(message));
        // A crash may publish a will again.
        self.committed.entry(attempt).or_insert(self.clock);
        if message.retain {
            let topic = message.topic().to_owned();
            let before = self.retained.insert(topic, attempt);
            self.replaced.extend(before.map(|it| (it, self.clock)));
            self.replaced.remove(&attempt);
        }
        let posted = &mut self.posts[post];
        posted.logged += 1;
        assert!(
            posted.will || posted.qos != QoS::ExactlyOnce || posted.logged == 1,
            "QoS 2 post {post} is in the journal twice"
        );
    }

    // --- what a session hands out

    pub(crate) fn rebuilt(&mut self, number: SessionNumber) {
        *self.rebuilt.entry(number).or_default() += 1;
    }

    /// A session decided on a delivery over its connection `link`.
    pub(crate) fn handed(&mut self, number: SessionNumber, link: u64, delivery: &Delivery) {
        let attempt = attempt_of(&delivery.message);
        let Some(packet_id) = delivery.packet_id else {
            return self.handed_once(number, link, attempt);
        };
        let rebuilt = self.rebuilt.get(&number).copied().unwrap_or(0);
        let key = (number, attempt, delivery.qos);
        let before = self.handed.get(&key).copied();
        let now = Handed {
            packet_id,
            link,
            rebuilt,
            sent: before.is_some_and(|before| before.sent),
        };
        let other = match delivery.qos {
            QoS::ExactlyOnce => QoS::AtLeastOnce,
            QoS::AtMostOnce | QoS::AtLeastOnce => QoS::ExactlyOnce,
        };
        self.tried.insert(key);
        if self.tried.contains(&(number, attempt, other)) {
            self.requalified.insert(attempt);
        }
        self.handed.insert(key, now);
        // A retained message is replayed at another subscribe; a crash may publish a will again.
        let posted = &self.posts[self.attempts[attempt]];
        let repeats = posted.retain || posted.will;
        let Some(before) = before.filter(|_| !repeats) else {
            assert!(
                repeats || !delivery.dup || rebuilt > 0,
                "{number:?}: attempt {attempt} came with DUP and was never sent"
            );
            return;
        };
        assert!(
            link != before.link,
            "{number:?}: attempt {attempt} was sent twice on one connection"
        );
        self.redelivered += 1;
        let known = before.sent || before.rebuilt == rebuilt;
        assert!(
            delivery.dup || !known,
            "{number:?}: attempt {attempt} was sent again without DUP"
        );
        let may_change =
            before.rebuilt != rebuilt && (delivery.qos == QoS::AtLeastOnce || !before.sent);
        assert!(
            packet_id == before.packet_id || may_change,
            "{number:?}: attempt {attempt} was sent again as {packet_id:?} instead of {:?}",
            before.packet_id
        );
    }

    /// QoS 0: however many subscriptions match, it goes over a connection once.
    fn handed_once(&mut self, number: SessionNumber, link: u64, attempt: Attempt) {
        let posted = &self.posts[self.attempts[attempt]];
        let before = self.at_most_once.insert((number, attempt), link);
        assert!(
            posted.retain || posted.will || before.is_none_or(|before| before != link),
            "{number:?}: attempt {attempt} was sent twice with QoS 0"
        );
    }

    /// What was decided went to the wire.
    pub(crate) fn sent(&mut self, number: SessionNumber, delivery: &Delivery) {
        let key = (number, attempt_of(&delivery.message), delivery.qos);
        if let Some(handed) = self.handed.get_mut(&key) {
            handed.sent = true;
        }
    }

    /// The process died before the last attach was recorded, which nobody waits for: what was sent since then as QoS 1
    /// is sent again as if for the first time.
    pub(crate) fn attach_forgotten(&mut self, number: SessionNumber) {
        self.handed
            .retain(|(of, _, qos), _| *of != number || *qos != QoS::AtLeastOnce);
    }

    pub(crate) fn was_handed(&self, number: SessionNumber, attempt: Attempt) -> bool {
        [QoS::AtLeastOnce, QoS::ExactlyOnce]
            .iter()
            .any(|qos| self.handed.contains_key(&(number, attempt, *qos)))
    }

    // --- what an application receives

    /// A subscription is asked for; QoS 0 ends what is owed.
    pub(crate) fn asked(
        &mut self,
        holding: &mut Holding,
        filter: &Filter,
        options: SubscriptionOptions,
    ) {
        let SubscriptionOptions { qos, no_local, .. } = options;
        let now = self.tick();
        let replays = options.retain_handling == RetainHandling::AtSubscribe;
        if options.retain_handling != RetainHandling::Never {
            holding.replays.push(filter.clone());
        }
        let open = holding
            .periods
            .iter_mut()
            .rev()
            .find(|known| known.filter == *filter && known.gone_at.is_none());
        match open {
            Some(known) if known.dropped_at.is_none() && known.no_local == no_local => {
                if qos == QoS::AtMostOnce {
                    known.dropped_at = Some(now);
                }
                known.replays_asked.extend(replays.then_some(now));
            }
            _ => {
                if let Some(known) = open {
                    known.dropped_at = known.dropped_at.or(Some(now));
                }
                holding.periods.push(Period {
                    filter: filter.clone(),
                    no_local,
                    asked_at: now,
                    granted_at: None,
                    replays_asked: Vec::from_iter(replays.then_some(now)),
                    replay_granted: None,
                    dropped_at: (qos == QoS::AtMostOnce).then_some(now),
                    gone_at: None,
                });
            }
        }
    }

    pub(crate) fn granted(&mut self, holding: &mut Holding, filter: &Filter, asked_at: u64) {
        let now = self.tick();
        for known in &mut holding.periods {
            let answered = known.asked_at <= asked_at && known.gone_at.is_none();
            if known.filter == *filter && known.granted_at.is_none() && answered {
                known.granted_at = Some(now);
            }
            if known.filter == *filter && answered {
                // A SUBSCRIBE has two filters at most, and counts one for itself.
                let mut asked = known.replays_asked.iter().copied();
                let asked = asked.find(|at| (asked_at - 1..=asked_at).contains(at));
                known.replay_granted = asked.max(known.replay_granted);
            }
        }
    }

    pub(crate) fn dropped(&mut self, holding: &mut Holding, filter: &Filter) {
        let now = self.tick();
        for known in &mut holding.periods {
            if known.filter == *filter && known.dropped_at.is_none() {
                known.dropped_at = Some(now);
            }
        }
    }

    pub(crate) fn gone(&mut self, holding: &mut Holding, filter: &Filter, asked_at: u64) {
        let now = self.tick();
        for known in &mut holding.periods {
            let dropped = known.dropped_at.is_some_and(|at| at <= asked_at);
            let ended = dropped && known.gone_at.is_none();
            if known.filter == *filter && ended {
                known.gone_at = Some(now);
            }
        }
    }

    /// The application gets a message: each QoS 2 post once, in order, of a subscription.
    pub(crate) fn received(&mut self, client: usize, holding: &mut Holding, delivery: &Delivery) {
        self.received += 1;
        let attempt = attempt_of(&delivery.message);
        let post = self.attempts[attempt];
        let posted = &self.posts[post];
        let replays = holding.replays.iter();
        let replays = replays.filter(|it| it.matches(&posted.topic)).count();
        let got = holding.got.entry(post).or_default();
        got.0 += 1;
        if delivery.qos == QoS::ExactlyOnce {
            got.1 += 1;
            let repeatable = posted.will || posted.refused;
            let times = if posted.retain { 1 + replays } else { 1 };
            assert!(
                repeatable || got.1 as usize <= times,
                "QoS 2 post {post} was received {} times",
                got.1
            );
        }
        if posted.retain {
            self.received_retained(holding, attempt, delivery);
        } else {
            let settled = self.settled.get(&attempt).copied();
            let fits = holding.periods.iter().any(|known| {
                known.filter.matches(&posted.topic)
                    && settled.is_some_and(|(routed, settled)| {
                        settled >= known.asked_at && known.gone_at.is_none_or(|gone| routed <= gone)
                    })
            });
            assert!(
                fits,
                "post {post} on {} came without a subscription",
                posted.topic
            );
        }
        // After a crash its own message is read again, and wanted if no-local is off by then.
        let own = posted.publisher == client && holding.periods.iter().any(|it| it.no_local);
        let ordered = !(posted.retain || posted.will || posted.refused || own);
        if holding.seen.insert(attempt) && ordered && !self.requalified.contains(&attempt) {
            let key = (
                posted.publisher,
                posted.topic.clone(),
                posted.qos,
                delivery.qos,
            );
            let last = holding.order.insert(key, attempt);
            assert!(
                last.is_none_or(|last| last < attempt),
                "post {post} (attempt {attempt}) came after attempt {last:?}"
            );
        }
    }

    /// A message that was published to be retained: it was so, or is published, since the subscription; and it does not
    /// come behind its successor.
    fn received_retained(&self, holding: &mut Holding, attempt: Attempt, delivery: &Delivery) {
        let topic = delivery.message.topic();
        if delivery.retain {
            holding.retained.insert(attempt, self.clock);
        }
        let last = self.replaced.get(&attempt).copied().unwrap_or(self.clock);
        let settled = self.settled.get(&attempt).map_or(0, |(_, last)| *last);
        let mut periods = holding.periods.iter();
        let fits = periods.any(|it| it.filter.matches(topic) && last.max(settled) >= it.asked_at);
        assert!(fits, "attempt {attempt} on {topic} was replaced before");
        if holding.seen.contains(&attempt) {
            return;
        }
        let key = (topic.to_owned(), delivery.message.qos, delivery.qos);
        if self.posts[self.attempts[attempt]].will {
            return; // a crash may publish it again
        }
        let before = holding.newest.insert(key, attempt);
        let at = |attempt| self.committed.get(&attempt).copied();
        if let Some((before, now)) = before.and_then(at).zip(at(attempt)) {
            assert!(before < now, "attempt {attempt} came behind its successor");
        }
    }

    /// What is retained at last must have come to who asked for it: as retained, if it was there before.
    pub(crate) fn no_retained_message_is_missing(
        &self,
        client: usize,
        holding: &Holding,
        message: &Message,
        now: Timestamp,
    ) {
        let (post, attempt) = (self.post_of(message), attempt_of(message));
        if message.qos == QoS::AtMostOnce || message.is_expired(now) {
            return;
        }
        // Some successor came by the routing pass and was lost on its way to the journal: this one is older.
        let outlives = |seen: &Attempt| {
            let posted = &self.posts[self.attempts[*seen]];
            posted.retain && posted.topic == message.topic() && !self.committed.contains_key(seen)
        };
        if holding.seen.iter().any(outlives) {
            return;
        }
        // The session tells one that overtook its replay from the retained one by comparing them, and the mark differs.
        if holding.by_groups.contains(&attempt) {
            return;
        }
        let own = self.posts[post].publisher == client;
        for known in &holding.periods {
            let Some(asked_at) = known.replay_granted else {
                continue;
            };
            if known.dropped_at.is_some()
                || !known.filter.matches(message.topic())
                || (known.no_local && own)
            {
                continue;
            }
            let was_there = self.settled[&attempt].1 < asked_at;
            let came = if was_there {
                holding
                    .retained
                    .get(&attempt)
                    .is_some_and(|at| *at > asked_at)
            } else {
                holding.got.contains_key(&post)
            };
            assert!(
                came,
                "client {client} never got attempt {attempt}, retained on {}",
                message.topic()
            );
        }
    }

    /// Everybody reconnected and drained: nothing that is owed may be missing.
    pub(crate) fn nothing_is_missing(&self, client: usize, holding: &Holding, now: Timestamp) {
        for (post, posted) in self.posts.iter().enumerate() {
            let counts = posted.acked
                && !posted.will
                && posted.qos > QoS::AtMostOnce
                && posted.expires_at.is_none_or(|at| at > now);
            let owed = counts
                && holding.periods.iter().any(|known| {
                    known.filter.matches(&posted.topic)
                        && known.granted_at.is_some_and(|at| at < posted.sent_at)
                        && known.dropped_at.is_none()
                        && !(known.no_local && posted.publisher == client)
                });
            assert!(
                !owed || holding.got.contains_key(&post),
                "client {client} never got post {post} on {} from client {}",
                posted.topic,
                posted.publisher
            );
        }
    }
}
