//! The harness: a group, what stands in for its members and the journal, and views of its effects.

use super::*;

/// One group and what stands in for its members' sessions and the journal.
pub(super) struct Script {
    pub(super) group: Group,
    pub(super) journal: BTreeMap<Offset, Arc<Message>>,
    pub(super) end: u64,
    pub(super) time: Timestamp,
    /// The fold of what was recorded.
    pub(super) snapshot: GroupSnapshot,
    /// Who has what, by the leases handed over.
    pub(super) has: BTreeMap<u64, Vec<Offset>>,
    pub(super) once: Vec<u64>,
    pub(super) effects: Vec<GroupEffect>,
    /// What was counted, in order, each as often as it was.
    pub(super) counts: Vec<Counter>,
    pub(super) deaths: u32,
    /// The group waits for its snapshot.
    pub(super) recalling: bool,
}

impl Script {
    pub(super) fn with(strategy: Strategy, limits: SessionLimits) -> Self {
        let number = GroupNumber(1);
        Self {
            group: Group::new(number, filter(), strategy, Arc::new(limits)),
            journal: BTreeMap::new(),
            end: START,
            time: Timestamp(1000),
            snapshot: GroupSnapshot::created(number, filter(), Offset(START), Offset(START - 1)),
            has: BTreeMap::new(),
            once: Vec::new(),
            effects: Vec::new(),
            counts: Vec::new(),
            deaths: 0,
            recalling: false,
        }
    }

    pub(super) fn durable() -> Self {
        let mut script = Self::with(Strategy::RoundRobin, SessionLimits::default());
        script.input(GroupInput::Durable {
            next: Offset(START),
        });
        script
    }

    pub(super) fn input(&mut self, input: GroupInput) {
        let mut effects = Effects::new();
        self.group.handle(self.now(), input, &mut effects);
        for (counter, times) in effects.drain_counts() {
            self.counts.extend((0..times).map(|_| counter));
        }
        for effect in effects.drain() {
            self.effects.push(effect.clone());
            self.perform(effect);
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            time: self.time,
            log_end: Offset(self.end),
            live_end: Offset(self.end),
        }
    }

    pub(super) fn perform(&mut self, effect: GroupEffect) {
        match effect {
            GroupEffect::Lease { member, lease, .. } => match lease {
                Lease::Record { at, .. } => {
                    let twice = self.has.values().any(|has| has.contains(&at));
                    assert!(!twice, "{at:?} is leased twice at once");
                    self.has.entry(member.0).or_default().push(at);
                }
                Lease::Once(_) => self.once.push(member.0),
                Lease::Recount => {}
            },
            GroupEffect::Record(change) => {
                self.snapshot.apply(Offset(self.end), &change);
                self.end += 1;
            }
            GroupEffect::Read { read, from, .. } => {
                let records = self.journal.range(from..);
                let page = Page {
                    records: records
                        .map(|(offset, message)| Record {
                            offset: *offset,
                            message: Arc::clone(message),
                        })
                        .collect(),
                    next: Offset(self.end),
                    end: Offset(self.end),
                    holes: 0,
                };
                self.input(GroupInput::Page { read, page });
            }
            GroupEffect::Reread(asked) => {
                let records = asked.iter().map(|at| {
                    self.journal.get(at).map(|message| Record {
                        offset: *at,
                        message: Arc::clone(message),
                    })
                });
                let records = records.collect();
                self.input(GroupInput::Reread { asked, records });
            }
            GroupEffect::Recall => {
                assert!(!self.recalling, "it asks again before it has an answer");
                self.recalling = true;
            }
            GroupEffect::Listen(_) | GroupEffect::End => {}
        }
    }

    pub(super) fn say(&mut self, member: u64, said: Said) {
        self.input(GroupInput::Said(FromMember {
            member: SessionNumber(member),
            place: PLACE,
            said,
        }));
    }

    pub(super) fn online(&mut self, member: u64, max: u16) {
        let online = online(member, max, QoS::ExactlyOnce, Vec::new());
        self.say(member, Said::Online(Box::new(online)));
    }

    /// The member leaves and keeps what it began with QoS 2.
    pub(super) fn offline(&mut self, member: u64, keeps: &[Offset]) {
        let has = self.has.remove(&member).unwrap_or_default();
        let kept = has.into_iter().filter(|at| keeps.contains(at)).collect();
        self.has.insert(member, kept);
        let (fence, keeps) = (Fence(member), keeps.to_vec());
        self.say(member, Said::Offline { fence, keeps });
    }

    pub(super) fn settle(&mut self, member: u64, at: Offset) {
        self.drop_lease(member, at);
        self.say(member, Said::Settled(Fence(member), [at].into()));
    }

    /// The member has no room for it after all.
    pub(super) fn give_back(&mut self, member: u64, at: Offset) {
        self.drop_lease(member, at);
        let message = Arc::clone(&self.journal[&at]);
        let (fence, full) = (Fence(member), true);
        self.say(
            member,
            Said::Returned {
                fence,
                at,
                message,
                full,
            },
        );
    }

    fn drop_lease(&mut self, member: u64, at: Offset) {
        let has = self.has.entry(member).or_default();
        has.retain(|known| *known != at);
    }

    pub(super) fn publish(&mut self, topic: &str, publisher: u64, qos: QoS) -> Offset {
        let at = Offset(self.end);
        let message = message(topic, publisher, qos);
        self.journal.insert(at, Arc::clone(&message));
        self.end += 1;
        self.input(GroupInput::Logged(Record {
            offset: at,
            message,
        }));
        at
    }

    pub(super) fn publish_many(&mut self, count: usize) -> Vec<Offset> {
        (0..count)
            .map(|_| self.publish("t/a", 9, QoS::AtLeastOnce))
            .collect()
    }

    pub(super) fn of(&self, member: u64) -> Vec<Offset> {
        self.has.get(&member).cloned().unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Vec<usize> {
        self.has.values().map(Vec::len).collect()
    }

    pub(super) fn counted(&self, counter: Counter) -> usize {
        self.counts.iter().filter(|it| **it == counter).count()
    }

    /// Time passes, so that progress is recorded.
    pub(super) fn tick(&mut self) {
        self.time = self.time.plus_millis(2000);
        self.input(GroupInput::Tick);
    }

    /// The actor dies and is rebuilt while these members are online.
    pub(super) fn rebuild(&mut self, online: &[u64]) {
        let limits = Arc::new(SessionLimits::default());
        let make = if self.group.is_durable() {
            Group::asleep
        } else {
            Group::new
        };
        self.group = make(GroupNumber(1), filter(), Strategy::RoundRobin, limits);
        self.deaths += 1;
        let online = online
            .iter()
            .map(|member| (SessionNumber(*member), Fence(*member), PLACE));
        let mut effects = Effects::new();
        self.group.recount(self.deaths, online, &mut effects);
        assert!(
            effects.as_slice().iter().all(|effect| matches!(
                effect,
                GroupEffect::Lease {
                    lease: Lease::Recount,
                    ..
                }
            )),
            "it asks, and leases nothing"
        );
        self.input(GroupInput::Tick);
    }

    /// The member answers that it has `holds` of QoS 1.
    pub(super) fn recounted(&mut self, member: u64, holds: Vec<Offset>) {
        let online = online(member, 100, QoS::ExactlyOnce, holds);
        self.say(member, Said::Recounted(Box::new(online)));
    }

    /// A member records that it begins a delivery with QoS 2.
    pub(super) fn record_sent(&mut self, at: Offset) {
        self.snapshot.apply_sent(Offset(self.end), at);
        self.end += 1;
    }

    /// The journal answers what the group asked of it about its snapshot.
    pub(super) fn recall(&mut self) {
        assert!(std::mem::take(&mut self.recalling), "it did not ask");
        let snapshot = Some(Box::new(self.snapshot.clone()));
        self.input(GroupInput::Recalled(snapshot));
    }
}
