//! The harness: a session, what stands in for its client and its journal, and views of its effects.

use super::*;

/// One session, its client, a journal and a clock that is turned by hand.
pub(super) struct Script {
    pub(super) session: Session,
    pub(super) limits: Arc<SessionLimits>,
    /// What the next attach asks for.
    pub(super) connect: Connect,
    pub(super) time: Timestamp,
    pub(super) epoch: u32,
    pub(super) sessions: u64,
    pub(super) journal: BTreeMap<Offset, Arc<Message>>,
    pub(super) end: u64,
    /// Where the retained messages are.
    pub(super) retained: Retained,
    /// The fold of the changes so far.
    pub(super) snapshot: Option<SessionSnapshot>,
    /// The effects of the last input, with those of its answers if it was [`Self::answered`].
    pub(super) effects: Vec<Effect>,
    /// What the same inputs counted, in order, each as often as it was.
    pub(super) counts: Vec<Counter>,
}

impl Script {
    /// A 5.0 client with session expiry 1 h that has not connected yet.
    pub(super) fn new(client_id: &str) -> Self {
        Self::with_limits(client_id, SessionLimits::default())
    }

    pub(super) fn with_limits(client_id: &str, limits: SessionLimits) -> Self {
        let limits = Arc::new(limits);
        let client_id = ClientId::from(client_id);
        Self {
            session: Session::vacant(client_id.clone(), Arc::clone(&limits)),
            limits,
            connect: Connect {
                client_id,
                principal: Principal::anonymous(),
                listener: Listener::default(),
                version: ProtocolVersion::V5,
                clean_start: false,
                expiry_seconds: 3600,
                receive_max: u16::MAX,
                will: None,
            },
            time: START,
            epoch: 1,
            sessions: 0,
            journal: BTreeMap::new(),
            end: JOURNAL_START,
            retained: Retained::new(),
            snapshot: None,
            effects: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// Attached, kept.
    pub(super) fn attached(client_id: &str) -> Self {
        let mut script = Self::new(client_id);
        script.attach();
        script
    }

    /// Attached, without a state that outlives the connection.
    pub(super) fn transient(client_id: &str) -> Self {
        let mut script = Self::new(client_id);
        script.connect.expiry_seconds = 0;
        script.attach();
        script
    }

    /// Subscribes to `t` with QoS 1 and publishes these payloads there with QoS 1.
    pub(super) fn deliver(mut self, payloads: &[&'static str]) -> Self {
        self.subscribe("t", QOS1);
        for payload in payloads {
            self.log(parts(payload));
        }
        self
    }

    // ---- inputs

    /// Applies one input; its effects are the last ones from now on.
    pub(super) fn input(&mut self, input: Input) -> &mut Self {
        self.clear();
        self.apply(input);
        self
    }

    /// Forgets the effects and counts so far.
    pub(super) fn clear(&mut self) {
        self.effects.clear();
        self.counts.clear();
    }

    pub(super) fn apply(&mut self, input: Input) {
        let now = self.now();
        let mut effects = Effects::new();
        self.session.handle(now, input, &mut effects);
        for effect in effects.as_slice() {
            self.append(effect);
        }
        self.effects.extend(effects.drain());
        for (counter, times) in effects.drain_counts() {
            self.counts.extend((0..times).map(|_| counter));
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            time: self.time,
            log_end: Offset(self.end),
            live_end: Offset(self.end),
        }
    }

    /// Does for the journal what the appender does, and folds.
    pub(super) fn append(&mut self, effect: &Effect) {
        let at = Offset(self.end);
        match effect {
            Effect::Persist(number, change) | Effect::Record(number, change) => {
                self.end += 1;
                if let Change::Created(created) = change {
                    self.snapshot = Some(SessionSnapshot::created(*number, created, at));
                } else if *change == Change::Ended {
                    self.snapshot = None;
                } else if let Some(snapshot) = &mut self.snapshot {
                    snapshot.apply(at, change);
                }
            }
            Effect::Publish {
                received: Some(packet_id),
                ..
            } => {
                self.end += 1;
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.apply_received(at, *packet_id);
                }
            }
            _ => {}
        }
    }

    /// Answers the reads among the last effects from the journal, and those that follow from the answers.
    pub(super) fn answered(&mut self) -> &mut Self {
        let mut at = 0;
        while at < self.effects.len() {
            let effect = self.effects[at].clone();
            at += 1;
            if let Some(answer) = self.answer(effect) {
                self.apply(answer);
            }
        }
        self
    }

    pub(super) fn answer(&self, effect: Effect) -> Option<Input> {
        let fence = self.session.fence();
        match effect {
            Effect::Read {
                read,
                from,
                records_max,
            } => {
                let page = self.read(from, records_max as usize);
                Some(Input::Page { fence, read, page })
            }
            Effect::Reread(offsets) => Some(Input::Reread {
                fence,
                records: self.read_at(&offsets),
            }),
            Effect::ReadRetained {
                filter,
                after,
                records_max,
            } => {
                let page = self
                    .retained
                    .page(&filter, after.as_deref(), records_max, usize::MAX);
                let found: Vec<_> = page.found.iter().map(|(_, offset)| *offset).collect();
                Some(Input::Retained {
                    fence,
                    page: RetainedRecords {
                        asked_at: self.time,
                        records: self.read_at(&found),
                        resume: page.resume,
                    },
                })
            }
            Effect::Send(Outbound::AwaitRoom) => Some(Input::Packet {
                fence,
                packet: Inbound::Room,
            }),
            _ => None,
        }
    }

    pub(super) fn read(&self, from: Offset, records_max: usize) -> Page {
        let mut records = self
            .journal
            .range(from..)
            .filter(|(_, message)| self.reads(message));
        let page: Vec<_> = records.by_ref().take(records_max).map(record).collect();
        let end = Offset(self.end);
        Page {
            next: records.next().map_or(end, |(offset, _)| *offset),
            records: page,
            end,
            holes: 0,
        }
    }

    /// Whether a subscription reads this message from the journal.
    pub(super) fn reads(&self, message: &Message) -> bool {
        let reads = self.session.reads();
        reads
            .iter()
            .any(|(filter, _)| filter.matches(message.topic()))
    }

    pub(super) fn read_at(&self, offsets: &[Offset]) -> Vec<Option<Record>> {
        offsets
            .iter()
            .map(|at| self.journal.get_key_value(at).map(record))
            .collect()
    }

    /// Connects with [`Self::connect`] and reads what that makes due.
    pub(super) fn attach(&mut self) -> &mut Self {
        self.attach_unanswered().answered()
    }

    pub(super) fn attach_unanswered(&mut self) -> &mut Self {
        self.sessions += 1;
        self.input(Input::Attach {
            connect: Box::new(self.connect.clone()),
            number: SessionNumber(self.sessions),
            epoch: self.epoch,
        })
    }

    /// A packet over the connection that holds `fence`.
    pub(super) fn packet(&mut self, fence: Fence, packet: Inbound) -> &mut Self {
        self.input(Input::Packet { fence, packet })
    }

    /// A packet over the attached connection.
    pub(super) fn send(&mut self, packet: Inbound) -> &mut Self {
        self.packet(self.session.fence(), packet)
    }

    pub(super) fn subscribe(&mut self, filter: &str, qos: QoS) -> &mut Self {
        self.subscribe_with(filter, SubscriptionOptions::of_qos(qos))
    }

    pub(super) fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
    ) -> &mut Self {
        self.send(Inbound::Subscribe {
            packet_id: id(9),
            filters: vec![(self::filter(filter), options, None)],
        })
        .answered()
    }

    pub(super) fn unsubscribe(&mut self, filters: &[&str]) -> &mut Self {
        self.send(Inbound::Unsubscribe {
            packet_id: id(9),
            filters: filters.iter().map(|text| filter(text)).collect(),
        })
    }

    pub(super) fn disconnect(&mut self) -> &mut Self {
        self.disconnect_with(false, None)
    }

    pub(super) fn disconnect_with(
        &mut self,
        with_will: bool,
        expiry_seconds: Option<u32>,
    ) -> &mut Self {
        self.send(Inbound::Disconnect {
            with_will,
            expiry_seconds,
        })
    }

    /// The socket is gone.
    pub(super) fn close(&mut self) -> &mut Self {
        self.input(Input::Closed {
            fence: self.session.fence(),
        })
    }

    /// A publication reaches the journal, and the session if that is attached and wants it.
    pub(super) fn log(&mut self, parts: MessageParts<'_>) -> &mut Self {
        let offset = Offset(self.end);
        let message = Arc::new(Message::new(parts));
        self.keep(Arc::clone(&message));
        let wanted = self.session.is_kept() && self.reads(&message);
        self.clear();
        if self.session.is_attached() && wanted {
            self.apply(Input::Logged(Record { offset, message }));
        }
        self
    }

    /// A publication from the routing pass.
    pub(super) fn live(&mut self, parts: MessageParts<'_>) -> &mut Self {
        let message = Arc::new(Message::new(parts));
        self.input(Input::Live(Live {
            qos: message.qos,
            message,
            retain: false,
            subscription_ids: [].into_iter().collect(),
        }))
    }

    /// A retained message is in the journal, not handed to the session.
    pub(super) fn retain(&mut self, parts: MessageParts<'_>) -> &mut Self {
        let retained = MessageParts {
            retain: true,
            ..parts
        };
        self.keep(Arc::new(Message::new(retained)));
        self
    }

    fn keep(&mut self, message: Arc<Message>) {
        let offset = Offset(self.end);
        self.end += 1;
        match RetainedAt::of(offset, &message) {
            _ if !message.retain => {}
            Some(at) => self.retained.set(message.topic(), at),
            None => self.retained.clear(message.topic()),
        }
        self.journal.insert(offset, message);
    }

    /// The journal loses everything it holds.
    pub(super) fn trim(&mut self) -> &mut Self {
        self.journal.clear();
        self
    }

    pub(super) fn after_seconds(&mut self, seconds: u32) -> &mut Self {
        self.time = self.time.plus_seconds(seconds);
        self
    }

    pub(super) fn tick(&mut self) -> &mut Self {
        self.input(Input::Tick)
    }

    /// The broker dies and starts again: what is left is the fold of the changes.
    pub(super) fn crash(&mut self) -> &mut Self {
        let mut snapshot = self.snapshot.clone().expect("a kept session");
        if snapshot.detached_at.is_none() {
            let recovered = Change::Recovered {
                at: self.time,
                maybe_sent_below: Offset(self.end),
            };
            snapshot.apply(Offset(self.end), &recovered);
            self.end += 1;
        }
        self.restore(snapshot)
    }

    pub(super) fn restore(&mut self, snapshot: SessionSnapshot) -> &mut Self {
        self.epoch += 1;
        self.clear();
        self.session = Session::restore(snapshot.clone(), Arc::clone(&self.limits), self.time);
        self.snapshot = Some(snapshot);
        self
    }

    // ---- views

    /// Exactly these effects.
    #[track_caller]
    pub(super) fn expect(&mut self, effects: &[Effect]) -> &mut Self {
        assert_eq!(self.effects, effects);
        self
    }

    /// Exactly these counts.
    #[track_caller]
    pub(super) fn expect_counts(&mut self, counts: &[Counter]) -> &mut Self {
        assert_eq!(self.counts, counts);
        self
    }

    /// Exactly these packets to the client, as [`line`] writes them.
    #[track_caller]
    pub(super) fn expect_sent(&mut self, lines: &[&str]) -> &mut Self {
        let sent: Vec<_> = self.sent().iter().map(line).collect();
        assert_eq!(sent, lines);
        self
    }

    /// The packets to the client.
    pub(super) fn sent(&self) -> Vec<Outbound> {
        let sent = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send(Outbound::AwaitRoom) => None,
            Effect::Send(packet) => Some(packet.clone()),
            _ => None,
        });
        sent.collect()
    }

    /// The changes recorded, awaited or not.
    pub(super) fn recorded(&self) -> Vec<Change> {
        let recorded = self.effects.iter().filter_map(|effect| match effect {
            Effect::Persist(_, change) | Effect::Record(_, change) => Some(change.clone()),
            _ => None,
        });
        recorded.collect()
    }

    /// The payloads published, wills included.
    pub(super) fn published(&self) -> Vec<String> {
        let published = self.effects.iter().filter_map(|effect| match effect {
            Effect::Publish { message, .. } => Some(text(message)),
            _ => None,
        });
        published.collect()
    }

    pub(super) fn counted(&self, counter: Counter) -> usize {
        self.counts
            .iter()
            .filter(|known| **known == counter)
            .count()
    }

    pub(super) fn position(&self, effect: &Effect) -> usize {
        let mut effects = self.effects.iter();
        effects
            .position(|known| known == effect)
            .unwrap_or_else(|| panic!("no {effect:?} in {:?}", self.effects))
    }

    pub(super) fn has(&self, effect: &Effect) -> bool {
        self.effects.contains(effect)
    }

    /// The progress recorded: next offset, next identifier, unsettled identifiers.
    pub(super) fn progress(&self) -> Option<(Offset, u16, Vec<u16>)> {
        self.recorded()
            .into_iter()
            .rev()
            .find_map(|change| match change {
                Change::Progress {
                    next,
                    next_packet_id,
                    unsettled,
                } => Some((
                    next,
                    next_packet_id.get(),
                    unsettled.iter().map(|sent| sent.packet_id.get()).collect(),
                )),
                _ => None,
            })
    }

    pub(super) fn window(&self) -> Vec<u16> {
        let window = self.session.inflight().iter();
        window.map(|sent| sent.packet_id.get()).collect()
    }
}
