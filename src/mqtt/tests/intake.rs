//! How many bytes of packets are under way to sessions, of one client and of all.

use outlive_actors::actor::protocol::INBOUND_BYTES_MAX;

use super::*;

const PAYLOAD_BYTES: usize = 60_000;

fn options(inbound_bytes_max: u64) -> Options {
    Options {
        credit: false,
        config: WireConfig {
            packet_bytes_max: 1024 * 1024,
            inbound_bytes_max,
            ..WireConfig::default()
        },
        ..Options::default()
    }
}

/// A large PUBLISH with QoS 0.
fn large() -> Vec<u8> {
    let mut frame = vec![0x30];
    properties::put_variable_int(&mut frame, 3 + PAYLOAD_BYTES);
    frame.extend_from_slice(b"\x00\x01a");
    frame.resize(frame.len() + PAYLOAD_BYTES, b'x');
    frame
}

/// The next batch from a connection, still under way.
async fn under_way(world: &mut World) -> FromConnection {
    match world.event().await {
        Event::From(batch) => batch,
        other @ Event::Connect(_) => panic!("a CONNECT: {other:?}"),
    }
}

fn give(request: &ConnectRequest, processed: Credit) {
    request.connection.do_send(ToConnection::Packets {
        packets: Vec::new(),
        processed,
    });
}

#[test]
fn a_client_is_not_read_while_its_packets_take_too_many_bytes() {
    run(async {
        let mut world = World::new(options(u64::from(u32::MAX)));
        let (mut client, request) = world.open(CONNECT_V311, CONNACK_V3).await;
        const SENT: u32 = 40;
        let (mut reader, mut writer) = client.split();
        let write = async {
            for _ in 0..SENT {
                writer.write_all(&large()).await.unwrap();
            }
            writer.write_all(b"\xc0\x00").await.unwrap();
        };
        let most = u64::from(INBOUND_BYTES_MAX) + PAYLOAD_BYTES as u64 + 1024;
        let read = async {
            let mut all = 0;
            while all < SENT {
                // Until it is full: only then what was dealt with is told.
                let mut batches = Vec::new();
                let mut told = Credit::default();
                while all < SENT && told.bytes < INBOUND_BYTES_MAX {
                    let batch = under_way(&mut world).await;
                    let credit = all_of(&batch);
                    told.packets += credit.packets;
                    told.bytes += credit.bytes;
                    all += credit.packets;
                    batches.push(batch);
                    assert!(world.intake.bytes() <= most, "{}", world.intake.bytes());
                }
                drop(batches);
                assert_eq!(world.intake.bytes(), 0, "nothing comes without credit");
                give(&request, told);
            }
        };
        tokio::join!(write, read);
        let mut pong = [0; 2];
        reader.read_exact(&mut pong).await.unwrap();
        assert_eq!(world.count(WireCounter::InboundWaits), 0);
    });
}

#[test]
fn a_subscribe_counts_for_the_memory_of_its_filters_not_for_its_bytes() {
    run(async {
        let mut world = World::new(options(u64::from(u32::MAX)));
        let (mut client, _request) = world.open(CONNECT_V311, CONNACK_V3).await;
        const FILTERS: usize = 10_000;
        let mut frame = vec![0x82];
        properties::put_variable_int(&mut frame, 2 + 4 * FILTERS);
        frame.extend_from_slice(b"\x00\x01");
        frame.extend_from_slice(&b"\x00\x01a\x00".repeat(FILTERS));
        client.write_all(&frame).await.unwrap();
        let batch = under_way(&mut world).await;
        let bytes = all_of(&batch).bytes as usize;
        assert!(bytes >= FILTERS * 40, "{bytes}");
    });
}

#[test]
fn no_client_is_read_while_the_packets_of_all_take_too_many_bytes() {
    run(async {
        const MOST: u64 = 200_000;
        let mut world = World::new(options(MOST));
        let (mut client, _request) = world.open(CONNECT_V311, CONNACK_V3).await;
        let mut other_connect = CONNECT_V311.to_vec();
        *other_connect.last_mut().unwrap() = b'd';
        let (mut other, _request) = world.open(&other_connect, CONNACK_V3).await;
        client.write_all(&large().repeat(4)).await.unwrap();
        let mut batches = Vec::new();
        for _ in 0..4 {
            batches.push(under_way(&mut world).await);
        }
        // A read brings no more than 64 KiB, and what was there of the packet before.
        let all = world.intake.bytes();
        assert!(
            (MOST..MOST + 2 * PAYLOAD_BYTES as u64).contains(&all),
            "{all}"
        );
        other.write_all(b"\xc0\x00").await.unwrap();
        client.write_all(b"\xc0\x00").await.unwrap();
        while world.count(WireCounter::InboundWaits) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.count(WireCounter::PacketsIn), 6, "neither is read");
        drop(batches);
        expect(&mut other, b"\xd0\x00").await;
        expect(&mut client, b"\xd0\x00").await;
        assert_eq!(world.intake.bytes(), 0);
    });
}
