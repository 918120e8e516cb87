//! A connection actor without a network: records what its session sends, sends what the test says.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler};
use outlive_actors::actor::protocol::{
    ConnectRequest, FromConnection, Load, SessionAddress, ToConnection,
};
use outlive_actors::model::ids::{
    ClientId, Fence, Listener, PacketId, Principal, SessionNumber, Timestamp,
};
use outlive_actors::model::message::{Message, MessageParts, QoS, Will};
use outlive_actors::model::packet::{
    Connect, Delivery, Inbound, Outbound, ProtocolVersion, Routed, SubscriptionOptions,
};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::topic::Filter;
use outlive_actors::system::ActorSystem;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::world::PATIENCE;

/// What a CONNECT asks for.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) clean_start: bool,
    pub(crate) expiry_seconds: u32,
    pub(crate) principal: &'static str,
    pub(crate) listener: &'static str,
    pub(crate) receive_max: u16,
    pub(crate) will: Option<Box<Will>>,
}

/// Resumes a session, or begins one that is kept for an hour.
pub(crate) fn kept() -> Setup {
    Setup {
        clean_start: false,
        expiry_seconds: 3_600,
        principal: "",
        listener: "",
        receive_max: 65_535,
        will: None,
    }
}

/// A session that ends with its connection.
pub(crate) fn transient() -> Setup {
    Setup {
        clean_start: true,
        expiry_seconds: 0,
        ..kept()
    }
}

struct Wire(UnboundedSender<ToConnection>);

impl Actor for Wire {
    type Context = Context<Self>;
}

impl Handler<ToConnection> for Wire {
    type Result = ();

    fn handle(&mut self, told: ToConnection, _: &mut Self::Context) {
        self.0.send(told).ok();
    }
}

/// One connection, from CONNECT to its end.
pub(crate) struct Client {
    told: UnboundedReceiver<ToConnection>,
    packets: VecDeque<Outbound>,
    session: Option<(Fence, SessionNumber, SessionAddress)>,
    /// Inbound packets that the session dealt with.
    pub(crate) processed: u32,
    last_id: u16,
    _wire: Addr<Wire>,
}

impl Client {
    pub(crate) fn ask(system: &ActorSystem, client_id: ClientId, setup: Setup) -> Self {
        let (tell, told) = unbounded_channel();
        let wire = Wire(tell).start();
        let home = system.connects(system.home(&client_id));
        home.do_send(ConnectRequest {
            connect: Connect {
                client_id,
                principal: Principal::from(setup.principal),
                listener: Listener::from(setup.listener),
                version: ProtocolVersion::V5,
                clean_start: setup.clean_start,
                expiry_seconds: setup.expiry_seconds,
                receive_max: setup.receive_max,
                will: setup.will,
            },
            connection: wire.clone().recipient(),
        });
        Self {
            told,
            packets: VecDeque::new(),
            session: None,
            processed: 0,
            last_id: 0,
            _wire: wire,
        }
    }

    /// The next packet, whatever it is.
    pub(crate) async fn packet(&mut self) -> Outbound {
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return packet;
            }
            let told = tokio::time::timeout(PATIENCE, self.told.recv()).await;
            match told.expect("a packet comes").expect("the wire lives") {
                ToConnection::Attached {
                    fence,
                    number,
                    session,
                } => self.session = Some((fence, number, session)),
                ToConnection::Packets { packets, processed } => {
                    self.packets.extend(packets);
                    self.processed += processed.packets;
                }
            }
        }
    }

    /// The next packet that `want` picks; those before it stay for later.
    async fn pick<T>(&mut self, want: impl Fn(&Outbound) -> Option<T>) -> Result<T, Refusal> {
        let mut passed = VecDeque::new();
        let picked = loop {
            let packet = self.packet().await;
            if let Some(picked) = want(&packet) {
                break Ok(picked);
            }
            if let Outbound::Close(refusal) = packet {
                break Err(refusal);
            }
            passed.push_back(packet);
        };
        passed.append(&mut self.packets);
        self.packets = passed;
        picked
    }

    /// Waits for the CONNACK: whether state was resumed, or why not.
    pub(crate) async fn answer(&mut self) -> Result<bool, Refusal> {
        self.pick(|packet| match packet {
            Outbound::ConnAck {
                session_present, ..
            } => Some(*session_present),
            _ => None,
        })
        .await
    }

    /// Waits for the CONNACK; whether state was resumed.
    pub(crate) async fn attached(&mut self) -> bool {
        self.answer().await.expect("the connection is accepted")
    }

    /// Waits for the end of the connection, whatever else comes first.
    pub(crate) async fn closed(&mut self) -> Refusal {
        loop {
            if let Outbound::Close(refusal) = self.packet().await {
                return refusal;
            }
        }
    }

    pub(crate) fn number(&self) -> SessionNumber {
        self.session.as_ref().expect("attached").1
    }

    pub(crate) fn fence(&self) -> Fence {
        self.session.as_ref().expect("attached").0
    }

    pub(crate) fn send(&self, packet: Inbound) {
        self.send_all(vec![packet]);
    }

    pub(crate) fn send_all(&self, packets: Vec<Inbound>) {
        let (fence, _, session) = self.session.as_ref().expect("attached");
        let fence = *fence;
        let load = Load::uncounted(u32::try_from(packets.len()).expect("few packets"));
        session.send(FromConnection::Packets {
            fence,
            packets,
            load,
        });
    }

    /// The network connection is gone.
    pub(crate) fn hang_up(self) {
        let (fence, _, session) = self.session.as_ref().expect("attached");
        session.send(FromConnection::Closed { fence: *fence });
    }

    fn next_id(&mut self) -> PacketId {
        self.last_id += 1;
        PacketId::new(self.last_id).expect("few packets")
    }

    /// SUBSCRIBE, sent and not waited for.
    pub(crate) fn begin_subscribe(&mut self, filter: &str, qos: u8) -> PacketId {
        let packet_id = self.next_id();
        let filter = Filter::new(filter).expect("a filter");
        let options = SubscriptionOptions::of_qos(QoS::from_level(qos).expect("a QoS"));
        self.send(Inbound::Subscribe {
            packet_id,
            filters: vec![(filter, options, None)],
        });
        packet_id
    }

    pub(crate) async fn subscribed(&mut self, id: PacketId) -> Result<(), Refusal> {
        self.pick(|packet| match packet {
            Outbound::SubAck { packet_id, results } if *packet_id == id => {
                Some(results[0].map(drop))
            }
            _ => None,
        })
        .await?
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) {
        let id = self.begin_subscribe(filter, qos);
        self.subscribed(id).await.expect("subscribed");
    }

    pub(crate) async fn unsubscribe(&mut self, filter: &str) -> Result<(), Refusal> {
        let id = self.next_id();
        self.send(Inbound::Unsubscribe {
            packet_id: id,
            filters: vec![Filter::new(filter).expect("a filter")],
        });
        self.pick(|packet| match packet {
            Outbound::UnsubAck { packet_id, .. } if *packet_id == id => Some(()),
            _ => None,
        })
        .await
    }

    /// PUBLISH, sent and not waited for.
    pub(crate) fn begin_publish(&mut self, topic: &str, payload: &str, qos: u8) -> PacketId {
        let id = self.next_id();
        self.send(publication(topic, payload, qos, id, self.number()));
        id
    }

    /// PUBACK or PUBREC.
    pub(crate) async fn published(&mut self, id: PacketId) -> Result<Routed, Refusal> {
        self.pick(|packet| match packet {
            Outbound::PubAck { packet_id, result } | Outbound::PubRec { packet_id, result }
                if *packet_id == id =>
            {
                Some(*result)
            }
            _ => None,
        })
        .await?
    }

    /// Publishes and sees the handshake through.
    pub(crate) async fn publish(
        &mut self,
        topic: &str,
        payload: &str,
        qos: u8,
    ) -> Result<Routed, Refusal> {
        let id = self.begin_publish(topic, payload, qos);
        let routed = self.published(id).await?;
        if qos == 2 {
            self.send(Inbound::PubRel { packet_id: id });
            self.pick(|packet| match packet {
                Outbound::PubComp { packet_id, .. } if *packet_id == id => Some(()),
                _ => None,
            })
            .await?;
        }
        Ok(routed)
    }

    /// The next delivery, not acknowledged.
    pub(crate) async fn delivery(&mut self) -> Result<Delivery, Refusal> {
        self.pick(|packet| match packet {
            Outbound::Publish(delivery) => Some(delivery.clone()),
            _ => None,
        })
        .await
    }

    /// The next delivery's payload, acknowledged.
    pub(crate) async fn take(&mut self) -> Result<String, Refusal> {
        let delivery = self.delivery().await?;
        if let Some(packet_id) = delivery.packet_id {
            match delivery.qos {
                QoS::ExactlyOnce => {
                    self.send(Inbound::PubRec {
                        packet_id,
                        failed: false,
                    });
                    self.pick(|packet| match packet {
                        Outbound::PubRel { packet_id: id, .. } if *id == packet_id => Some(()),
                        _ => None,
                    })
                    .await?;
                    self.send(Inbound::PubComp { packet_id });
                }
                QoS::AtMostOnce | QoS::AtLeastOnce => self.send(Inbound::PubAck {
                    packet_id,
                    failed: false,
                }),
            }
        }
        Ok(text(&delivery))
    }

    /// Takes deliveries until `last` came; gives all of them.
    pub(crate) async fn take_until(&mut self, last: &str) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.last().is_none_or(|text| text != last) {
            taken.push(self.take().await.expect("attached"));
        }
        taken
    }
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload().to_vec()).expect("text")
}

pub(crate) fn publication(
    topic: &str,
    payload: &str,
    qos: u8,
    id: PacketId,
    publisher: SessionNumber,
) -> Inbound {
    let qos = QoS::from_level(qos).expect("a QoS");
    let message = Arc::new(Message::new(MessageParts {
        topic,
        payload: payload.as_bytes(),
        properties: &[],
        qos,
        retain: false,
        published_at: Timestamp(0),
        expires_at: None,
        publisher,
    }));
    Inbound::Publish {
        message,
        packet_id: (qos > QoS::AtMostOnce).then_some(id),
        dup: false,
    }
}
