//! What the model costs: a publication in, a delivery out and its acknowledgement, for a transient and a kept session.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use outlive_actors::model::effect::{Effect, Input, Live};
use outlive_actors::model::effects::Effects;
use outlive_actors::model::ids::{
    Listener, Now, Offset, PacketId, Principal, SessionNumber, Timestamp,
};
use outlive_actors::model::limits::SessionLimits;
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::{
    Connect, Inbound, ProtocolVersion, SubscriptionIds, SubscriptionOptions,
};
use outlive_actors::model::past::Past;
use outlive_actors::model::record::{Page, Record};
use outlive_actors::model::session::Session;
use outlive_actors::model::snapshot::SubscriptionSnapshot;
use outlive_actors::model::subscriptions::Subscriptions;
use outlive_actors::model::topic::Filter;

/// Messages per sample: less than the window, so that none waits.
const MESSAGES: u16 = 50;

fn main() {
    divan::main();
}

fn now() -> Now {
    Now {
        time: Timestamp(1_000_000),
        log_end: Offset(1),
        live_end: Offset(1),
    }
}

fn message(qos: QoS) -> Arc<Message> {
    Arc::new(Message::new(MessageParts {
        topic: "site/17/device/4711/state",
        payload: &[0; 64],
        properties: &[],
        qos,
        retain: false,
        published_at: Timestamp(1_000_000),
        expires_at: None,
        publisher: SessionNumber(1),
    }))
}

/// A session with a connection and one subscription, caught up with the journal.
fn attached(expiry_seconds: u32) -> Session {
    let mut session = Session::vacant("meter-7".into(), Arc::new(SessionLimits::default()));
    let mut effects = Effects::new();
    let connect = Connect {
        client_id: "meter-7".into(),
        principal: Principal::anonymous(),
        listener: Listener::default(),
        version: ProtocolVersion::V311,
        clean_start: false,
        expiry_seconds,
        receive_max: u16::MAX,
        will: None,
    };
    let attach = Input::Attach {
        connect: Box::new(connect),
        number: SessionNumber(7),
        epoch: 1,
    };
    session.handle(now(), attach, &mut effects);
    let filter = Filter::new("site/+/device/4711/#").expect("a valid filter");
    let packet = Inbound::Subscribe {
        packet_id: PacketId::FIRST,
        filters: vec![(filter, SubscriptionOptions::of_qos(QoS::AtLeastOnce), None)],
    };
    let fence = session.fence();
    session.handle(now(), Input::Packet { fence, packet }, &mut effects);
    for effect in std::mem::take(&mut effects).drain() {
        if let Effect::Read { read, .. } = effect {
            let page = Page {
                records: Vec::new(),
                next: Offset(1),
                end: Offset(1),
                holes: 0,
            };
            session.handle(now(), Input::Page { fence, read, page }, &mut effects);
        }
    }
    session
}

#[divan::bench(args = [QoS::AtMostOnce, QoS::AtLeastOnce])]
fn publish(bencher: Bencher<'_, '_>, qos: QoS) {
    let message = message(qos);
    let packet_id = (qos > QoS::AtMostOnce).then_some(PacketId::FIRST);
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .with_inputs(|| (attached(0), Effects::new()))
        .bench_values(|(mut session, mut effects)| {
            let fence = session.fence();
            for _ in 0..MESSAGES {
                let packet = Inbound::Publish {
                    message: Arc::clone(&message),
                    packet_id,
                    dup: false,
                };
                session.handle(now(), Input::Packet { fence, packet }, &mut effects);
            }
            black_box(effects)
        });
}

#[divan::bench(args = [QoS::AtMostOnce, QoS::AtLeastOnce])]
fn deliver_live(bencher: Bencher<'_, '_>, qos: QoS) {
    let message = message(qos);
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .with_inputs(|| (attached(0), Effects::new()))
        .bench_values(|(mut session, mut effects)| {
            for _ in 0..MESSAGES {
                let live = Live {
                    message: Arc::clone(&message),
                    qos,
                    retain: false,
                    subscription_ids: SubscriptionIds::new(),
                };
                session.handle(now(), Input::Live(live), &mut effects);
            }
            black_box(effects)
        });
}

#[divan::bench]
fn deliver_logged_and_acknowledge(bencher: Bencher<'_, '_>) {
    let message = message(QoS::AtLeastOnce);
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .with_inputs(|| (attached(3600), Effects::new()))
        .bench_values(|(mut session, mut effects)| {
            let fence = session.fence();
            for number in 1..=MESSAGES {
                let record = Record {
                    offset: Offset(u64::from(number)),
                    message: Arc::clone(&message),
                };
                session.handle(now(), Input::Logged(record), &mut effects);
                let packet = Inbound::PubAck {
                    packet_id: PacketId::new(number).expect("not zero"),
                    failed: false,
                };
                session.handle(now(), Input::Packet { fence, packet }, &mut effects);
            }
            black_box(effects)
        });
}

/// What a record costs a session with so many filters, one in two with a wildcard, of which one matches.
#[divan::bench(args = [1, 8, 9, 100, 1000, 10_000])]
fn match_filters(bencher: Bencher<'_, '_>, filters: usize) {
    let subscription = |number: usize| {
        let text = match number % 2 {
            0 => format!("site/17/device/{number}/state"),
            _ => format!("site/17/device/{number}/+"),
        };
        SubscriptionSnapshot {
            filter: Filter::new(&text).expect("a valid filter"),
            options: SubscriptionOptions::of_qos(QoS::AtLeastOnce),
            from: Offset(0),
        }
    };
    let numbers = 4712 - filters.min(4712)..;
    let subscriptions = Subscriptions::restore(numbers.take(filters).map(subscription).collect());
    let message = message(QoS::AtLeastOnce);
    bencher.bench(|| {
        let matched = subscriptions.matching(&Past::EMPTY, &message, Offset(1), SessionNumber(7));
        assert!(black_box(matched).is_some());
    });
}
