//! The wire from socket to a fake shard and back.

use std::net::Ipv4Addr;

use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use outlive_actors::actor::protocol::{
    ConnectRequest, Credit, FromConnection, ToConnection, ToSession,
};
use outlive_actors::clock::ManualClock;
use outlive_actors::model::ids::{Fence, Timestamp};
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::{Delivery, Inbound, Outbound};
use outlive_actors::model::refusal::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::auth::Anonymous;

mod close;
mod exchange;
mod flow;
mod intake;
mod open;
mod pace;

pub(super) const FENCE: Fence = Fence(7);
pub(super) const CONNECT_V311: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c";
pub(super) const CONNECT_V5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c";
pub(super) const CONNACK_V3: &[u8] = b"\x20\x02\x00\x00";
/// Receive maximum 1024, maximum packet size 4096, alias maximum 16; what is available by default is not said.
pub(super) const CONNACK_V5: &[u8] =
    b"\x20\x0e\x00\x00\x0b\x21\x04\x00\x27\x00\x00\x10\x00\x22\x00\x10";

/// What reached the shard.
#[derive(Debug)]
pub(super) enum Event {
    Connect(ConnectRequest),
    From(FromConnection),
}

/// What the fake shard does with a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accept,
    Refuse(Refusal),
    /// The test answers.
    Nothing,
}

pub(super) struct FakeShard {
    answer: Answer,
    /// Gives credit back at once.
    credit: bool,
    connection: Option<Recipient<ToConnection>>,
    events: UnboundedSender<Event>,
}

impl Actor for FakeShard {
    type Context = Context<Self>;
}

impl Handler<ConnectRequest> for FakeShard {
    type Result = ();

    fn handle(&mut self, request: ConnectRequest, ctx: &mut Self::Context) {
        match self.answer {
            Answer::Accept => {
                request.connection.do_send(ToConnection::Attached {
                    number: outlive_actors::model::ids::SessionNumber(7),
                    fence: FENCE,
                    session: ctx.address().recipient().into(),
                });
                let expiry_seconds = request.connect.expiry_seconds;
                request.connection.do_send(packets([Outbound::ConnAck {
                    session_present: false,
                    expiry_seconds,
                }]));
            }
            Answer::Refuse(refusal) => request
                .connection
                .do_send(packets([Outbound::Close(refusal)])),
            Answer::Nothing => {}
        }
        self.connection = Some(request.connection.clone());
        // A test that is over has no ears.
        self.events.send(Event::Connect(request)).ok();
    }
}

impl Handler<ToSession> for FakeShard {
    type Result = ();

    fn handle(&mut self, told: ToSession, _: &mut Self::Context) {
        let ToSession::FromConnection(message) = told else {
            return;
        };
        if let (FromConnection::Packets { .. }, Some(connection)) = (&message, &self.connection)
            && self.credit
        {
            connection.do_send(ToConnection::Packets {
                packets: Vec::new(),
                processed: all_of(&message),
            });
        }
        self.events.send(Event::From(message)).ok();
    }
}

pub(super) fn packets(packets: impl IntoIterator<Item = Outbound>) -> ToConnection {
    ToConnection::Packets {
        packets: packets.into_iter().collect(),
        processed: Credit::default(),
    }
}

/// What a batch counts for.
pub(super) fn all_of(batch: &FromConnection) -> Credit {
    match batch {
        FromConnection::Packets { load, .. } => load.credit(),
        FromConnection::Closed { .. } => Credit::default(),
    }
}

/// A listener, a fake shard on the test's own thread, and the ends of both.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) counters: Arc<WireCounters>,
    pub(super) intake: Arc<Intake>,
    pub(super) shard: actix::Addr<FakeShard>,
    events: UnboundedReceiver<Event>,
}

pub(super) struct Options {
    pub(super) answer: Answer,
    pub(super) credit: bool,
    pub(super) config: WireConfig,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) authorizer: Arc<dyn Authorizer>,
    pub(super) listeners: usize,
    pub(super) tenancy: Tenancy,
    pub(super) tenants_connects_per_second_max: PerTenant<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            answer: Answer::Accept,
            credit: true,
            config: WireConfig {
                packet_bytes_max: 4096,
                topic_alias_max: 16,
                ..WireConfig::default()
            },
            authenticator: Arc::new(Anonymous),
            authorizer: Arc::new(Anonymous),
            listeners: 1,
            tenancy: Tenancy::Off,
            tenants_connects_per_second_max: PerTenant::default(),
        }
    }
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        let (sender, events) = unbounded_channel();
        let shard = FakeShard {
            answer: options.answer,
            credit: options.credit,
            connection: None,
            events: sender,
        }
        .start();
        let counters = Arc::new(WireCounters::new());
        let intake = Arc::new(Intake::new(options.config.inbound_bytes_max));
        let listeners = (0..options.listeners)
            .map(|_| bind((Ipv4Addr::LOCALHOST, 0).into(), 4096).unwrap())
            .collect();
        let setup = Setup {
            shards: vec![ShardHandle {
                arbiter: actix_rt::Arbiter::current(),
                connects: shard.clone().recipient(),
            }],
            home: Arc::new(|_| 0),
            config: Arc::new(options.config),
            authenticator: options.authenticator,
            authorizer: options.authorizer,
            tenancy: options.tenancy,
            tenants_connects_per_second_max: options.tenants_connects_per_second_max,
            intake: Arc::clone(&intake),
            counters: Arc::clone(&counters),
            clock: Arc::new(ManualClock::new(Timestamp(1_000_000))),
        };
        let server = serve(listeners, setup).unwrap();
        Self {
            server,
            counters,
            intake,
            shard,
            events,
        }
    }

    /// A connected socket that has sent `bytes`.
    pub(super) async fn client(&self, bytes: &[u8]) -> TcpStream {
        self.client_at(0, bytes).await
    }

    /// The same, of a client that comes to a listener by its number.
    pub(super) async fn client_at(&self, listener: usize, bytes: &[u8]) -> TcpStream {
        let mut client = TcpStream::connect(self.server.addresses()[listener])
            .await
            .unwrap();
        client.write_all(bytes).await.unwrap();
        client
    }

    /// A client that has its CONNACK.
    pub(super) async fn open(
        &mut self,
        connect: &[u8],
        connack: &[u8],
    ) -> (TcpStream, ConnectRequest) {
        let mut client = self.client(connect).await;
        expect(&mut client, connack).await;
        let request = self.request().await;
        (client, request)
    }

    pub(super) async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap()
    }

    pub(super) async fn request(&mut self) -> ConnectRequest {
        match self.event().await {
            Event::Connect(request) => request,
            other @ Event::From(_) => panic!("no CONNECT: {other:?}"),
        }
    }

    /// The next packets from the connection; `None`: it is closed.
    pub(super) async fn batch(&mut self) -> Option<Vec<Inbound>> {
        match self.event().await {
            Event::From(FromConnection::Packets { fence, packets, .. }) => {
                assert_eq!(fence, FENCE);
                Some(packets)
            }
            Event::From(FromConnection::Closed { fence }) => {
                assert_eq!(fence, FENCE);
                None
            }
            other @ Event::Connect(_) => panic!("a CONNECT: {other:?}"),
        }
    }

    /// So many packets, in as many batches as they take.
    pub(super) async fn inbound(&mut self, count: usize) -> Vec<Inbound> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.batch().await.unwrap());
        }
        assert_eq!(all.len(), count);
        all
    }

    pub(super) fn count(&self, counter: WireCounter) -> u64 {
        self.counters.observe().get(counter)
    }
}

/// Reads exactly `expected`.
pub(super) async fn expect(client: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, expected, "{bytes:02x?}");
}

/// A 5.0 packet that begins with `first`, has `head` and says why.
fn reasoned(first: u8, head: &[u8], why: Refusal) -> Vec<u8> {
    let text = why.to_string();
    let length = u8::try_from(text.len()).unwrap();
    let remaining = u8::try_from(head.len()).unwrap() + 1 + 3 + length;
    [
        &[first, remaining],
        head,
        &[3 + length, 0x1F, 0, length],
        text.as_bytes(),
    ]
    .concat()
}

/// A CONNACK of 5.0 with a refusal.
pub(super) fn refused_v5(code: u8, why: Refusal) -> Vec<u8> {
    reasoned(0x20, &[0, code], why)
}

/// A DISCONNECT of 5.0.
pub(super) fn goodbye(code: u8, why: Refusal) -> Vec<u8> {
    reasoned(0xE0, &[code], why)
}

/// Reads until the broker closes; what came before.
pub(super) async fn rest(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is a close, too.
    client.read_to_end(&mut bytes).await.ok();
    bytes
}

pub(super) fn delivery(qos: QoS, number: u16, payload: &[u8]) -> Delivery {
    Delivery {
        message: Arc::new(Message::new(MessageParts {
            topic: "t",
            payload,
            properties: b"",
            qos,
            retain: false,
            published_at: Timestamp(0),
            expires_at: None,
            publisher: outlive_actors::model::ids::SessionNumber(1),
        })),
        packet_id: outlive_actors::model::ids::PacketId::new(number)
            .filter(|_| qos != QoS::AtMostOnce),
        qos,
        dup: false,
        retain: false,
        paced: false,
        subscription_ids: [].into_iter().collect(),
    }
}

/// The message of a PUBLISH.
pub(super) fn published(packet: &Inbound) -> &Message {
    let Inbound::Publish { message, .. } = packet else {
        panic!("no PUBLISH: {packet:?}");
    };
    message
}

/// The answers of the door to the filters of a SUBSCRIBE.
pub(super) fn refusals(packet: &Inbound) -> Vec<Option<Refusal>> {
    let Inbound::Subscribe { filters, .. } = packet else {
        panic!("no SUBSCRIBE: {packet:?}");
    };
    filters.iter().map(|(_, _, refusal)| *refusal).collect()
}

/// Runs `body` in an actor system of its own.
pub(super) fn run(body: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(body);
}
