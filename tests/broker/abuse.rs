//! Clients that mean harm, or are very broken: they dawdle, never read, flood, and leave connections half open. Limits
//! hold, memory and file descriptors stay bounded, the others are served.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::client::Client;
use crate::harness::{Broker, PATIENCE, eventually};
use crate::wire::{Ack, Connect, Packet, Properties, Publish, Version, packet, publish};

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One whose system takes little on its behalf, so that what it does not read is the broker's soon.
fn open_small(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

/// Whether the other side has closed; what it said before is thrown away.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    let closed = loop {
        match stream.read(&mut bytes) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => break error.kind() != ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false).unwrap();
    closed
}

/// A client that must be served whatever others do.
struct Neighbour(Client);

impl Neighbour {
    fn of(broker: &Broker) -> Self {
        let mut client = Client::transient(broker, Version::V5, "neighbour");
        client.subscribe("neighbour", 1);
        Self(client)
    }

    fn is_served(&mut self) {
        self.0.publish("neighbour", "x", 1);
        self.0.expect("x");
    }
}

fn message(qos: u8, id: u16) -> Publish {
    Publish {
        topic: "flood".to_owned(),
        payload: b"0123456789".to_vec(),
        qos,
        retain: false,
        duplicate: false,
        id,
        properties: Properties::default(),
    }
}

/// Files of its own that a broker opens when it first needs them, at most; far fewer than connections come and go here.
const OWN_FILES: usize = 8;

#[test]
fn a_connect_that_drips_in_is_cut_off_by_the_timeout() {
    const DAWDLERS: usize = 100;
    let broker = Broker::start_with(&["mqtt.connect_timeout_millis=500"]);
    let mut neighbour = Neighbour::of(&broker);
    // They announce a CONNECT of 16 KB and never come to its end.
    let mut dawdlers: Vec<_> = (0..DAWDLERS).map(|_| open(broker.address())).collect();
    let rest = std::iter::repeat(b'a');
    let mut bytes = b"\x10\x80\x80\x01\x00\x04MQTT\x04\x02\x00\x00\x3f\xff"
        .iter()
        .copied()
        .chain(rest);
    eventually("all that dawdle are cut off", || {
        let byte = bytes.next().expect("endless");
        for dawdler in &mut dawdlers {
            // One that was cut off takes no more.
            drop(dawdler.write_all(&[byte]));
        }
        neighbour.is_served();
        dawdlers.retain_mut(|dawdler| !is_closed(dawdler));
        dawdlers.is_empty()
    });
    let timeouts = broker.metric("outlive_connect_timeouts_total");
    assert!(timeouts >= 100.0, "{timeouts} counted");
}

#[test]
fn a_packet_that_drips_in_does_not_replace_a_keep_alive() {
    // [MQTT-3.1.2-22]: a packet must come, not a byte.
    let broker = Broker::start();
    let mut neighbour = Neighbour::of(&broker);
    for version in Version::ALL {
        let mut stream = open(broker.address());
        let connect = Connect::new(version, "dawdler").keep_alive(1);
        stream.write_all(&connect.encode()).unwrap();
        stream.write_all(b"\x30\xff\x7f\x00\x01a").unwrap();
        eventually("the client that never ends a packet is cut off", || {
            drop(stream.write_all(&[0]));
            is_closed(&mut stream)
        });
        neighbour.is_served();
    }
}

#[test]
fn ten_thousand_packets_in_one_write_are_all_answered_in_order() {
    const PACKETS: u16 = 10_000;
    let broker = Broker::start();
    let mut neighbour = Neighbour::of(&broker);
    let mut client = Client::transient(&broker, Version::V311, "pipeline");
    let bytes: Vec<u8> = (1..=PACKETS)
        .flat_map(|id| publish(Version::V311, &message(1, id)))
        .collect();
    client.send(&bytes);
    neighbour.is_served();
    for id in 1..=PACKETS {
        client.wait_ack(Ack::Puback, id);
    }
    let pings = packet(0xC0, &[]).repeat(usize::from(PACKETS));
    client.send(&pings);
    for _ in 0..PACKETS {
        assert_eq!(client.receive(), Packet::Pingresp);
    }
    client.assert_nothing_waits();
    // A 5.0 client was told how many it may have under way.
    let mut client = Client::transient(&broker, Version::V5, "pipeline");
    let bytes: Vec<u8> = (1..=PACKETS)
        .flat_map(|id| publish(Version::V5, &message(2, id)))
        .collect();
    client.send(&bytes);
    assert_eq!(client.closed(), Some(0x93)); // [MQTT-3.3.4-9]
    neighbour.is_served();
}

#[test]
fn a_client_that_floods_and_never_reads_is_stopped_and_then_cut_off() {
    let broker = Broker::start_with(&["mqtt.write_timeout_millis=1000"]);
    let mut neighbour = Neighbour::of(&broker);
    let before = broker.rss_bytes();
    let subscribe = crate::wire::subscribe(Version::V311, 1, "flood", 1);
    // What it sends comes back to it.
    let own = Publish {
        payload: vec![0; 1000],
        ..message(0, 0)
    };
    for flood in [
        packet(0xC0, &[]).repeat(10_000),
        publish(Version::V311, &own).repeat(100),
    ] {
        let mut stream = open_small(broker.address());
        stream
            .write_all(&Connect::new(Version::V311, "flood").encode())
            .unwrap();
        stream.write_all(&subscribe).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (mut at, mut highest, mut sent) = (0, before, 0_usize);
        eventually("the client that never reads is cut off", || {
            for _ in 0..16 {
                match stream.write(&flood[at..]) {
                    Ok(count) => {
                        at = (at + count) % flood.len();
                        sent += count;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return true,
                }
            }
            highest = highest.max(broker.rss_bytes());
            neighbour.is_served();
            false
        });
        let grown = highest.saturating_sub(before) / 1_000_000;
        assert!(grown < 64, "{grown} MB after {sent} bytes");
    }
}

#[test]
fn thousands_of_half_open_connections_cost_little_and_stop_nobody() {
    const HALF_OPEN: usize = 3_000;
    rlimit::increase_nofile_limit(2 * HALF_OPEN as u64).unwrap();
    // Nobody is cut off before the last one is there, however long that takes.
    let broker = Broker::start_with(&[
        "mqtt.unauthenticated_max=2000",
        "mqtt.connect_timeout_millis=600000",
    ]);
    let mut neighbour = Neighbour::of(&broker);
    let (before, files) = (broker.rss_bytes(), broker.open_files());
    let mut half_open = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = open(broker.address());
        // Nothing, a byte, half a CONNECT; those above the limit are closed already.
        let bytes = &b"\x10\x10\x00\x04MQTT"[..number % 9];
        drop(stream.write_all(bytes));
        half_open.push(stream);
    }
    neighbour.is_served();
    eventually("those above the limit are closed", || {
        broker.metric("outlive_accept_refused_total") >= 1000.0
    });
    let grown = broker.rss_bytes().saturating_sub(before) / 1_000_000;
    assert!(grown < 40, "{grown} MB for {HALF_OPEN} half connections");
    assert!(broker.open_files() >= files + 1000, "they are held");
    drop(half_open);
    eventually("all are gone", || broker.open_files() <= files + OWN_FILES);
    neighbour.is_served();
    Client::transient(&broker, Version::V311, "newcomer").disconnect();
}

#[test]
fn garbage_from_thousands_of_connections_leaves_nothing_behind() {
    let broker = Broker::start();
    let mut neighbour = Neighbour::of(&broker);
    let files = broker.open_files();
    let mut seed = 0x9e37_79b9_u32;
    for number in 0..2_000 {
        let mut stream = open(broker.address());
        let garbage: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        })
        .take(64)
        .collect();
        if number % 2 == 0 {
            // Some get in before they talk nonsense.
            drop(stream.write_all(&Connect::new(Version::V5, "nonsense").encode()));
        }
        drop(stream.write_all(&garbage));
        if number % 100 == 0 {
            neighbour.is_served();
        }
    }
    eventually("all are gone", || broker.open_files() <= files + OWN_FILES);
    eventually("their sessions are gone", || {
        broker.metric("outlive_connections ") <= 1.0
    });
    neighbour.is_served();
}
