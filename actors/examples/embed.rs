//! The actor system inside an actix application, without a network: a connection is an actor of one's own.
//!
//! Run it with `cargo run -p outlive-actors --example embed -- some/directory`; run it twice, and the session is resumed.

#![expect(clippy::print_stdout, reason = "the example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use outlive_actors::actor::protocol::{
    ConnectRequest, FromConnection, Load, SessionAddress, ToConnection,
};
use outlive_actors::clock::{Clock, SystemClock};
use outlive_actors::model::ids::{ClientId, Fence, Listener, PacketId, Principal, SessionNumber};
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::{
    Connect, Inbound, Outbound, ProtocolVersion, SubscriptionOptions,
};
use outlive_actors::model::topic::Filter;
use outlive_actors::system::{ActorSystem, SystemConfig};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Hands what the session sends to whoever holds the other end.
struct Connection(UnboundedSender<ToConnection>);

impl Actor for Connection {
    type Context = Context<Self>;
}

impl Handler<ToConnection> for Connection {
    type Result = ();

    fn handle(&mut self, told: ToConnection, _: &mut Self::Context) {
        // The other end is gone once the example is over.
        self.0.send(told).ok();
    }
}

/// What the example subscribes to, and then publishes.
fn packets(filter: Filter, publisher: SessionNumber, clock: &dyn Clock) -> Vec<Inbound> {
    let message = Message::new(MessageParts {
        topic: "room/1/temperature",
        payload: b"21.5",
        properties: &[],
        qos: QoS::AtLeastOnce,
        retain: false,
        published_at: clock.now(),
        expires_at: None,
        publisher,
    });
    vec![
        Inbound::Subscribe {
            packet_id: PacketId::FIRST,
            filters: vec![(filter, SubscriptionOptions::of_qos(QoS::AtLeastOnce), None)],
        },
        Inbound::Publish {
            message: Arc::new(message),
            packet_id: Some(PacketId::FIRST.following()),
            dup: false,
        },
    ]
}

/// Speaks to its session until the publication came back, then hangs up.
async fn talk(
    mut told: UnboundedReceiver<ToConnection>,
    clock: &dyn Clock,
) -> Result<(), Box<dyn Error>> {
    let filter = Filter::new("room/+/temperature").ok_or("no filter")?;
    let mut attached: Option<(Fence, SessionAddress)> = None;
    while let Some(told) = told.recv().await {
        let packets = match told {
            ToConnection::Attached {
                fence,
                number,
                session,
            } => {
                let packets = packets(filter.clone(), number, clock);
                let load = Load::uncounted(1);
                session.send(FromConnection::Packets {
                    fence,
                    packets,
                    load,
                });
                attached = Some((fence, session));
                continue;
            }
            ToConnection::Packets { packets, .. } => packets,
        };
        for packet in packets {
            println!("from the session: {packet:?}");
            let (Outbound::Publish(delivery), Some((fence, session))) = (packet, &attached) else {
                continue;
            };
            let packet_id = delivery.packet_id.ok_or("QoS 1 has an identifier")?;
            let packets = vec![Inbound::PubAck {
                packet_id,
                failed: false,
            }];
            let fence = *fence;
            let load = Load::uncounted(1);
            session.send(FromConnection::Packets {
                fence,
                packets,
                load,
            });
            session.send(FromConnection::Closed { fence });
            return Ok(());
        }
    }
    Err("the session ended the connection".into())
}

async fn embed(config: SystemConfig) -> Result<(), Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let system = ActorSystem::start(config, Arc::clone(&clock)).await?;
    let client_id = ClientId::from("thermostat");
    let (tell, told) = unbounded_channel();
    system
        .connects(system.home(&client_id))
        .send(ConnectRequest {
            connect: Connect {
                client_id,
                principal: Principal::anonymous(),
                listener: Listener::default(),
                version: ProtocolVersion::V5,
                clean_start: false,
                expiry_seconds: 3_600,
                receive_max: 100,
                will: None,
            },
            connection: Connection(tell).start().recipient(),
        })
        .await?;
    talk(told, &*clock).await?;
    let seen = system.observer()();
    let (sessions, records) = (seen.quota.used, seen.appender.committed);
    println!("{sessions} session, {records} records appended since the start");
    system.drain(Duration::from_secs(10)).await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("name a directory")?;
    actix_rt::System::new().block_on(embed(SystemConfig::new(directory)))
}
