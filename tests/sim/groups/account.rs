//! The account of leases, kept apart from the broker's own state: who was given which record of which group, who began it
//! with QoS 2, who received it.

use std::collections::{BTreeMap, BTreeSet};

use outlive_actors::actor::protocol::MemberNews;
use outlive_actors::model::effect::Effect;
use outlive_actors::model::entry::{Change, Step};
use outlive_actors::model::group::Group;
use outlive_actors::model::group::talk::{Lease, Leased};
use outlive_actors::model::ids::{Fence, GroupNumber, Offset, SessionNumber};
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::packet::Outbound;
use outlive_actors::model::topic::Filter;

use super::lease_of;
use super::routes::Travels;
use crate::oracle::{Attempt, Post, attempt_of};
use crate::seen::Seen;
use crate::world::{Actor, Residence, World};

/// One lease: a group and an offset, or the number of what is in memory only.
pub(crate) type Key = (GroupNumber, Offset);

/// Marks of QoS 0 messages lie between offsets and leases in memory.
const ONCE_FROM: u64 = 1 << 62;

/// What became of one record of one group.
#[derive(Debug, Default)]
struct Story {
    attempt: Attempt,
    /// Who recorded, durably, that it begins to send it with QoS 2.
    begun: Option<SessionNumber>,
    /// Who submitted that, durable or not yet.
    beginning: Option<SessionNumber>,
    /// It was sent with QoS 0: nobody knows what became of it.
    at_most_once: bool,
    /// The group's actors that had died when it was leased last.
    deaths: u32,
    /// The same for each member that it was leased to.
    leased: BTreeMap<SessionNumber, u32>,
    /// Its member said that it is settled: how many deaths of the group's actors and crashes there had been.
    settled: Option<(u32, u32)>,
    /// A client refused it with PUBACK or PUBREC.
    refused: bool,
    got: Vec<Got>,
}

impl Story {
    /// Somebody had it, or refused it.
    fn is_known(&self) -> bool {
        !self.got.is_empty() || self.refused || self.at_most_once
    }
}

/// A client received it.
#[derive(Clone, Copy, Debug)]
struct Got {
    qos: QoS,
    client: usize,
    link: Option<u64>,
    /// Deaths of the group's actors until it was leased, and of the process until now.
    deaths: u32,
    crashes: u32,
}

/// The account.
#[derive(Default)]
pub(crate) struct Account {
    pub(super) filters: BTreeMap<GroupNumber, Filter>,
    /// Where durable groups began.
    starts: BTreeMap<GroupNumber, Offset>,
    /// When the homes of groups began to route to them by the journal.
    pub(super) switched: BTreeMap<GroupNumber, u64>,
    /// As what each attempt was leased.
    pub(super) leased_as: BTreeMap<(GroupNumber, Attempt), BTreeSet<Offset>>,
    stories: BTreeMap<Key, Story>,
    crashes: u32,
    once: u64,
}

impl Account {
    pub(super) fn named(&mut self, number: GroupNumber, filter: &Filter) {
        let before = self.filters.insert(number, filter.clone());
        assert!(
            before.is_none_or(|before| before == *filter),
            "{number:?} was another group's number"
        );
    }

    pub(super) fn created(&mut self, number: GroupNumber, next: Offset) {
        self.starts.insert(number, next);
    }

    /// From now on all that is published comes to a group from the journal: its home says so, or the process died meanwhile.
    pub(super) fn switched(&mut self, number: GroupNumber, at: u64) {
        self.switched.entry(number).or_insert(at);
    }

    pub(super) fn start(&self, number: GroupNumber) -> Option<Offset> {
        self.starts.get(&number).copied()
    }

    pub(super) fn crashed(&mut self) {
        self.crashes += 1;
        for story in self.stories.values_mut() {
            story.beginning = story.begun;
        }
    }

    pub(super) fn next_once(&mut self) -> Offset {
        self.once += 1;
        Offset(ONCE_FROM + self.once)
    }

    /// A member is about to record that it begins a delivery.
    pub(crate) fn beginning(&mut self, key: Key, member: SessionNumber) {
        self.stories.entry(key).or_default().beginning = Some(member);
    }

    /// The beginning of a delivery is durable.
    pub(crate) fn begun(&mut self, key: Key, member: Option<SessionNumber>) {
        let story = self.stories.entry(key).or_default();
        let member = member.or(story.beginning);
        assert!(
            story.begun.is_none(),
            "{key:?} is begun by {member:?}, and was by {:?}",
            story.begun
        );
        story.begun = member;
    }

    /// A client refused the record: it is discarded.
    pub(crate) fn refused(&mut self, key: Key) {
        self.stories.entry(key).or_default().refused = true;
    }

    /// Whether nobody else may get the record any more: a client received it, or it went to one with QoS 0, or somebody
    /// began it.
    fn may_be_settled(&self, key: Key) -> bool {
        self.stories
            .get(&key)
            .is_some_and(|story| story.is_known() || story.beginning.is_some())
    }

    /// Whether the record came to somebody, or is lost for a reason; `lives` says which sessions there are.
    pub(super) fn is_settled(&self, key: Key, lives: impl Fn(SessionNumber) -> bool) -> bool {
        self.stories.get(&key).is_some_and(|story| {
            let ended = story.begun.is_some_and(|member| !lives(member));
            story.is_known() || ended
        })
    }

    /// The same for a post, through whatever group of this filter.
    pub(super) fn is_post_settled(
        &self,
        filter: &Filter,
        of: impl Fn(Attempt) -> Post,
        post: Post,
        lives: impl Fn(SessionNumber) -> bool,
    ) -> bool {
        self.stories.iter().any(|(key, story)| {
            self.filters.get(&key.0) == Some(filter)
                && of(story.attempt) == post
                && self.is_settled(*key, &lives)
        })
    }
}

impl World {
    /// A group leases a record: only to somebody who is online, and nothing that somebody else has.
    pub(super) fn watch_lease(
        &mut self,
        number: GroupNumber,
        (member, fence): (SessionNumber, Fence),
        lease: &Lease,
    ) {
        let Lease::Record { at, message } = lease else {
            return;
        };
        let resident = self.groups.residents.get(&number);
        if let Some(resident) = resident {
            let online = resident.attendance.fence_of(member);
            assert_eq!(online, Some(fence), "{member:?} is not online");
        }
        let deaths = resident.map_or(0, |resident| resident.deaths);
        let key = (number, *at);
        let start = self.groups.account.start(number).unwrap_or_default();
        assert!(*at >= start, "{number:?} began at {start:?}, not at {at:?}");
        for client in 0..self.clients.len() {
            self.nobody_has(client, key, deaths);
        }
        let account = &self.groups.account;
        self.saw(if account.stories.contains_key(&key) {
            Seen::LeasedAgain
        } else {
            Seen::Leased
        });
        let account = &mut self.groups.account;
        let crashes = account.crashes;
        let story = account.stories.entry(key).or_default();
        assert!(
            story.settled != Some((deaths, crashes)),
            "{key:?} is leased again, though its member settled it"
        );
        assert!(
            story.beginning.is_none(),
            "{key:?} is leased again, though {:?} began it",
            story.beginning
        );
        story.attempt = attempt_of(message);
        story.deaths = deaths;
        story.leased.insert(member, deaths);
        self.watch_twice(key, message);
    }

    fn nobody_has(&self, client: usize, key: Key, deaths: u32) {
        let (number, at) = key;
        let is_it = |leased: &Leased| {
            let mut what = leased.what.iter();
            let record =
                |lease: &Lease| matches!(lease, Lease::Record { at: known, .. } if *known == at);
            leased.group.number == number && what.any(record)
        };
        let slot = &self.slots[client];
        match &self.residences[client] {
            Residence::Active(actor) => {
                let session = &actor.session;
                let filter = &self.groups.account.filters[&number];
                // Its group died meanwhile, and does not ask who left what it has.
                let story = self.groups.account.stories.get(&key);
                let forgotten = story.is_some_and(|story| story.deaths != deaths)
                    && session.subscriptions().get(filter).is_none();
                let mut leases = session.inflight().leases();
                assert!(
                    !leases.any(|(group, sent)| (group, sent.offset) == key
                        && !(forgotten && sent.qos == QoS::AtLeastOnce)),
                    "client {client} has {key:?} already"
                );
                let mut news = self.groups.ways.values().flatten();
                let travels = news.any(|travels| {
                    let Travels::Talk(batch) = travels else {
                        return false;
                    };
                    batch.for_members.iter().any(|news| {
                        (Some(news.slot), news.member) == (slot.place, session.number())
                            && matches!(&news.what, MemberNews::Leased(leased)
                                if is_it(leased) && leased.fence == session.fence())
                    })
                });
                let waits = slot.leased.iter();
                let waits = waits
                    .filter(|leased| leased.fence == session.fence())
                    .any(is_it);
                assert!(
                    !session.is_attached() || forgotten || !(travels || waits),
                    "{key:?} is on its way to client {client}"
                );
            }
            Residence::Passive | Residence::Dead | Residence::Quarantined => {
                let snapshot = self.journal.snapshot_of(&self.clients[client].id);
                let unsettled = snapshot.map_or(&[][..], |snapshot| &snapshot.unsettled);
                let has = unsettled.iter().any(|sent| {
                    (sent.lease, sent.offset) == (Some(number), at) && sent.step != Step::Done
                });
                assert!(!has, "client {client} began {key:?}");
            }
            Residence::None => {}
        }
    }

    /// A member is done with a record, by a word that no death keeps from the group.
    pub(crate) fn lease_is_settled(&mut self, key: Key) {
        let resident = self.groups.residents.get(&key.0);
        let deaths = resident.map(|resident| resident.deaths);
        let account = &mut self.groups.account;
        let crashes = account.crashes;
        let story = account.stories.entry(key).or_default();
        if deaths == Some(story.deaths) {
            story.settled = Some((story.deaths, crashes));
        }
    }

    /// A session decides: what is of a group is marked.
    pub(crate) fn watch_member(&mut self, actor: &Actor, effect: &Effect) {
        let member = actor.session.number();
        match effect {
            Effect::Persist(session, Change::Sent(sent)) => {
                if let Some(group) = sent.lease {
                    let key = (group, sent.offset);
                    self.groups.account.beginning(key, *session);
                }
            }
            Effect::Take(group, offset) => {
                self.groups.account.beginning((*group, *offset), member);
            }
            Effect::Send(Outbound::Publish(delivery)) => {
                if let Some(key) = lease_of(&delivery.message)
                    && delivery.packet_id.is_none()
                {
                    let story = self.groups.account.stories.entry(key).or_default();
                    story.at_most_once = true;
                }
            }
            _ => {}
        }
    }

    /// Progress passes nothing that somebody may still have to get.
    pub(super) fn watch_progress(&self, group: &Group, next: Offset, unsettled: &[Offset]) {
        let number = group.number();
        let account = &self.groups.account;
        let snapshot = self.journal.groups.get(&number);
        let from = snapshot.map_or(account.start(number), |snapshot| Some(snapshot.next));
        let from = from.unwrap_or(next);
        let passed = self.journal.messages(from, next);
        let passed = passed.filter(|(_, message)| counts(group.plain_filter(), message));
        let named = snapshot.map(|snapshot| &snapshot.unsettled);
        let named = named.into_iter().flatten();
        let passed = passed.map(|(at, _)| at).chain(named.copied());
        for at in passed.filter(|at| !unsettled.contains(at)) {
            let record = &self.journal.read_at(&[at])[0];
            let expired = |message: &Message| message.is_expired(self.time);
            assert!(
                record.as_ref().is_none_or(|it| expired(&it.message))
                    || account.may_be_settled((number, at)),
                "progress of {number:?} to {next:?} passes {at:?}, which nobody got"
            );
        }
    }

    /// A client received what a group leased.
    pub(crate) fn watch_receipts(&mut self, client: usize) {
        for (key, qos) in std::mem::take(&mut self.clients[client].leases) {
            self.saw(Seen::LeaseReceived);
            let filter = &self.groups.account.filters[&key.0];
            let subscribes = self.clients[client].holding.shared(filter);
            assert!(subscribes, "client {client} never subscribed to {filter}");
            if qos == QoS::AtMostOnce {
                continue;
            }
            let (link, number) = (self.clients[client].link, self.clients[client].number);
            let crashes = self.groups.account.crashes;
            let story = self.groups.account.stories.entry(key).or_default();
            let got = Got {
                qos,
                client,
                link,
                deaths: story.leased.get(&number).copied().unwrap_or_default(),
                crashes,
            };
            let before = story.got.clone();
            story.got.push(got);
            assert!(
                before.iter().all(|before| before.qos < QoS::ExactlyOnce),
                "{key:?} came with QoS 2, and again: {before:?}, {got:?}"
            );
            if let Some(before) = before.last() {
                let explained = before.deaths != got.deaths || before.crashes != got.crashes;
                assert!(
                    explained || self.is_over(before.client, before.link),
                    "{key:?} came twice for no reason: {before:?}, {got:?}"
                );
            }
        }
    }

    /// Whether a client's connection has come to its end.
    fn is_over(&self, client: usize, link: Option<u64>) -> bool {
        let known = link.and_then(|link| self.links.get(&link));
        self.clients[client].link != link || known.is_none_or(|link| link.ended_at.is_some())
    }
}

/// Whether a group with this filter leases the message from the journal.
pub(super) fn counts(plain: &Filter, message: &Message) -> bool {
    message.qos > QoS::AtMostOnce && plain.matches(message.topic())
}
