//! A bad network between one client and the broker: it cuts and splits the streams where it is told to.
//!
//! Invariants: it adds and drops no byte; a cut lets exactly so many through and then ends both ends. Only the first
//! connection has the fault, those after it are good.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the broker.
    Up,
    /// From the broker to the client.
    Down,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The connection ends when so many bytes went this way.
    Cut(Way, usize),
    /// So many bytes go alone, the rest follows.
    Split(Way, usize),
    /// Every byte goes alone.
    Drip,
}

/// A listening proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    /// Bytes of the first connection, up and down.
    passed: Arc<[AtomicUsize; 2]>,
}

impl Proxy {
    /// Starts one in front of `broker`. It lives as long as the test.
    pub(crate) fn start(broker: SocketAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let counts = Arc::clone(&passed);
        thread::spawn(move || {
            let mut fault = fault;
            let mut counts = counts;
            for client in listener.incoming() {
                // A broker that is gone for good ends the proxy, and the client finds nobody.
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(broker)) else {
                    return;
                };
                link(client, server, fault, counts);
                (fault, counts) = (Fault::None, Arc::default());
            }
        });
        Self { address, passed }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes the first connection carried this way.
    pub(crate) fn passed(&self, way: Way) -> usize {
        self.passed[way as usize].load(Ordering::SeqCst)
    }
}

fn link(client: TcpStream, server: TcpStream, fault: Fault, counts: Arc<[AtomicUsize; 2]>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    for way in [Way::Up, Way::Down] {
        let (mut from, mut to) = match way {
            Way::Up => (client.try_clone().unwrap(), server.try_clone().unwrap()),
            Way::Down => (server.try_clone().unwrap(), client.try_clone().unwrap()),
        };
        let counts = Arc::clone(&counts);
        thread::spawn(move || {
            let ended = pass(way, &mut from, &mut to, fault, &counts[way as usize]);
            // The end of one stream is passed on; a cut ends both, and the other end may be gone already.
            let how = if ended {
                Shutdown::Write
            } else {
                Shutdown::Both
            };
            drop(to.shutdown(how));
            if !ended {
                drop(from.shutdown(Shutdown::Both));
            }
        });
    }
}

/// Passes bytes on until the stream ends (true), or is cut or broken (false).
fn pass(
    way: Way,
    from: &mut TcpStream,
    to: &mut TcpStream,
    fault: Fault,
    count: &AtomicUsize,
) -> bool {
    let cut = match fault {
        Fault::Cut(of, at) if of == way => Some(at),
        _ => None,
    };
    let mut buffer = [0; 4096];
    let mut passed = 0;
    loop {
        if cut == Some(passed) {
            return false;
        }
        let read = match from.read(&mut buffer) {
            Ok(0) => return true,
            Ok(read) => read,
            Err(_) => return false,
        };
        let mut bytes = &buffer[..read];
        while !bytes.is_empty() && cut != Some(passed) {
            let room = match fault {
                Fault::Cut(of, at) | Fault::Split(of, at) if of == way && passed < at => {
                    at - passed
                }
                Fault::Drip => 1,
                _ => bytes.len(),
            };
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if to.write_all(now).is_err() {
                return false;
            }
            passed += now.len();
            count.store(passed, Ordering::SeqCst);
            bytes = later;
        }
    }
}
