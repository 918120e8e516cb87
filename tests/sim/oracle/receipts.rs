//! What applications get: each QoS 2 post once, in order, of a subscription; and nothing that is owed is missing.

use outlive_actors::model::ids::{SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::packet::Delivery;

use super::{Attempt, Holding, Oracle, attempt_of};
use crate::seen::Seen;

impl Oracle {
    /// The application gets a message: each QoS 2 post once.
    pub(crate) fn received(&mut self, client: usize, holding: &mut Holding, delivery: &Delivery) {
        self.tally.saw(Seen::Received);
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
        if posted.retain && delivery.retain {
            holding.retained.insert(attempt, self.clock);
        }
        self.arrived(client, holding, delivery);
    }

    /// A message reaches the application, which may refuse it: in order, of a subscription.
    pub(crate) fn arrived(&mut self, client: usize, holding: &mut Holding, delivery: &Delivery) {
        let attempt = attempt_of(&delivery.message);
        let post = self.attempts[attempt];
        let posted = &self.posts[post];
        if posted.retain {
            self.arrived_retained(holding, attempt, delivery);
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
    fn arrived_retained(&self, holding: &mut Holding, attempt: Attempt, delivery: &Delivery) {
        let topic = delivery.message.topic();
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
        (client, number): (usize, SessionNumber),
        holding: &Holding,
        message: &Message,
        now: Timestamp,
    ) {
        let (post, attempt) = (self.post_of(message), attempt_of(message));
        if message.qos == QoS::AtMostOnce || message.is_expired(now) {
            return;
        }
        // Some successor was sent by the routing pass and was lost on its way to the journal: this one is older.
        let outlives = |seen: &Attempt| {
            let posted = &self.posts[self.attempts[*seen]];
            posted.retain && posted.topic == message.topic() && !self.committed.contains_key(seen)
        };
        let sent = self.at_most_once.keys();
        let sent = sent.filter(|(to, _)| *to == number);
        if holding.seen.iter().any(outlives) || sent.map(|(_, sent)| sent).any(outlives) {
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
            if holding
                .refused
                .get(&attempt)
                .is_some_and(|at| *at > asked_at)
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
            let counts = posted.acked_at.is_some()
                && !posted.will
                && posted.qos > QoS::AtMostOnce
                && posted.expires_at.is_none_or(|at| at > now);
            let owed = counts
                && holding.periods.iter().any(|known| {
                    known.filter.matches(&posted.topic)
                        && known.granted_at.is_some_and(|at| at < posted.sent_at)
                        && (known.dropped_at.is_none() || posted.acked_at < known.owed_before)
                        && !(known.no_local && posted.publisher == client)
                });
            let refused = || {
                let mut refused = holding.refused.keys();
                refused.any(|attempt| self.attempts[*attempt] == post)
            };
            assert!(
                !owed || holding.got.contains_key(&post) || refused(),
                "client {client} never got post {post} on {} from client {}",
                posted.topic,
                posted.publisher
            );
        }
    }
}
