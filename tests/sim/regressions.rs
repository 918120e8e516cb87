//! What the simulation found in the model, told as short stories. A seed changes its story with every change of the
//! simulation; these do not.

use std::sync::Arc;

use outlive_actors::model::effect::{Effect, Input};
use outlive_actors::model::effects::Effects;
use outlive_actors::model::entry::{Change, Entry};
use outlive_actors::model::ids::{
    ClientId, Listener, Now, Offset, PacketId, SessionNumber, Timestamp,
};
use outlive_actors::model::limits::SessionLimits;
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::{
    Connect, Inbound, Outbound, ProtocolVersion, SubscriptionOptions,
};
use outlive_actors::model::record::{Record, RetainedRecords};
use outlive_actors::model::session::Session;
use outlive_actors::model::topic::Filter;

use crate::fold;
use crate::journal::Journal;

/// One session and the journal that commits at once.
struct Story {
    session: Session,
    journal: Journal,
}

impl Story {
    fn new() -> Self {
        let limits = Arc::new(SessionLimits::default());
        Self {
            session: Session::vacant(ClientId::from("meter-7"), limits),
            journal: Journal::new(),
        }
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        let now = Now {
            time: Timestamp(1_000_000),
            log_end: self.journal.end,
            live_end: self.journal.end,
        };
        let mut effects = Effects::new();
        self.session.handle(now, input, &mut effects);
        let effects: Vec<_> = effects.drain().collect();
        for effect in &effects {
            if let Effect::Persist(number, change) | Effect::Record(number, change) = effect {
                self.journal.append(Entry::change(*number, change.clone()));
            }
        }
        effects
    }

    fn connect(&mut self, number: u64, clean: bool) -> Vec<Effect> {
        let connect = Box::new(Connect {
            client_id: ClientId::from("meter-7"),
            principal: "someone".into(),
            listener: Listener::default(),
            version: ProtocolVersion::V311,
            clean_start: clean,
            expiry_seconds: if clean { 0 } else { u32::MAX },
            receive_max: u16::MAX,
            will: None,
        });
        self.input(Input::Attach {
            connect,
            number: SessionNumber(number),
            epoch: 1,
        })
    }

    fn packet(&mut self, packet: Inbound) -> Vec<Effect> {
        let fence = self.session.fence();
        self.input(Input::Packet { fence, packet })
    }
}

/// The CONNACK did not wait for `Ended`: after a crash the next CONNECT resumed what a clean start had discarded.
#[test]
fn a_clean_start_is_not_undone_by_a_crash() {
    let mut story = Story::new();
    story.connect(1, false);
    let effects = story.connect(2, true);
    let ended = Effect::Persist(SessionNumber(1), Change::Ended);
    let ended_at = effects.iter().position(|effect| *effect == ended);
    let accepted_at = effects
        .iter()
        .position(|effect| matches!(effect, Effect::Send(Outbound::ConnAck { .. })));
    assert!(ended_at.is_some() && ended_at < accepted_at, "{effects:?}");
}

/// A retained message moves no cursor and its acknowledgement was outstanding, so that nothing called for a progress
/// record: the session left memory, and the message was never sent again.
#[test]
fn a_retained_message_that_was_not_acknowledged_survives_the_detach() {
    let mut story = Story::new();
    story.connect(1, false);
    let message = Arc::new(Message::new(MessageParts {
        topic: "setting",
        payload: b"on",
        properties: b"",
        qos: QoS::AtLeastOnce,
        retain: true,
        published_at: Timestamp(0),
        expires_at: None,
        publisher: SessionNumber(9),
    }));
    let options = SubscriptionOptions::of_qos(QoS::AtLeastOnce);
    story.packet(Inbound::Subscribe {
        packet_id: PacketId::FIRST,
        filters: vec![(Filter::new("setting").unwrap(), options, None)],
    });
    let fence = story.session.fence();
    let offset = Offset(1);
    let effects = story.input(Input::Retained {
        fence,
        page: RetainedRecords {
            records: vec![Some(Record { offset, message })],
            ..RetainedRecords::default()
        },
    });
    let sent = |effect: &Effect| matches!(effect, Effect::Send(Outbound::Publish(_)));
    assert!(effects.iter().any(sent), "{effects:?}");

    story.input(Input::Closed { fence });
    assert_eq!(story.session.inflight().len(), 1);
    fold::agrees(&story.journal, &story.session);
}
