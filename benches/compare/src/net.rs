//! Many connections on one thread: big reads into one buffer, one write per touched connection and turn.
//!
//! It owns sockets and buffers and knows packets, but no workload. Invariant: a slot that was freed is told apart from its next user by its generation.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock;
use crate::failure::{Failure, Result, Trying};
use crate::packet::{self, Packet, Read};

const SCRATCH_BYTES: usize = 512 * 1024;

/// Takes what arrives: the part of a workload that reacts.
pub(crate) trait Receiver {
    /// A packet arrived.
    fn packet(&mut self, links: &mut Links, at: usize, packet: Packet<'_>) -> Result<()>;
    /// The broker closed the connection, or it failed. The slot is free already.
    fn closed(&mut self, links: &mut Links, at: usize) -> Result<()>;
}

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    partial: Vec<u8>,
    connected: bool,
    dirty: bool,
}

/// The connections.
#[derive(Debug)]
pub(crate) struct Links {
    poll: Poll,
    slots: Vec<(u32, Option<Link>)>,
    free: Vec<usize>,
    dirty: Vec<usize>,
    broker: SocketAddr,
    sources: Sources,
    /// The time at the start of this turn.
    pub(crate) now: u64,
}

impl Links {
    /// Starts a connection; what is appended to `out` meanwhile is sent as soon as it stands.
    pub(crate) fn open(&mut self) -> Result<usize> {
        let mut stream = self.sources.connect(self.broker)?;
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() - 1
        });
        self.poll
            .registry()
            .register(
                &mut stream,
                Token(at),
                Interest::READABLE | Interest::WRITABLE,
            )
            .trying("epoll_ctl")?;
        self.slots[at].1 = Some(Link {
            stream,
            out: Vec::new(),
            written: 0,
            partial: Vec::new(),
            connected: false,
            dirty: false,
        });
        Ok(at)
    }

    /// The bytes to be sent at the end of this turn; `None` if the connection is gone.
    pub(crate) fn out(&mut self, at: usize) -> Option<&mut Vec<u8>> {
        let link = self.slots.get_mut(at)?.1.as_mut()?;
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(at);
        }
        Some(&mut link.out)
    }

    /// Closes a connection at once; bytes not sent are dropped.
    pub(crate) fn close(&mut self, at: usize) {
        let (generation, link) = &mut self.slots[at];
        if link.take().is_some() {
            *generation += 1;
            self.free.push(at);
        }
    }

    fn generation(&self, at: usize) -> u32 {
        self.slots[at].0
    }

    /// Sends what is waiting; false if the connection is broken.
    fn flush(&mut self, at: usize) -> bool {
        let Some(link) = self.slots[at].1.as_mut() else {
            return true;
        };
        link.dirty = false;
        if !link.connected {
            return true;
        }
        while link.written < link.out.len() {
            match link.stream.write(&link.out[link.written..]) {
                Ok(sent) => link.written += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        link.out.clear();
        link.written = 0;
        true
    }
}

/// The event loop.
#[derive(Debug)]
pub(crate) struct Net {
    /// The connections.
    pub(crate) links: Links,
    events: Events,
    scratch: Vec<u8>,
    flushing: Vec<usize>,
}

impl Net {
    /// A loop whose connections all go to one broker.
    pub(crate) fn new(broker: SocketAddr) -> Result<Self> {
        Ok(Self {
            links: Links {
                poll: Poll::new().trying("epoll_create")?,
                slots: Vec::new(),
                free: Vec::new(),
                dirty: Vec::new(),
                broker,
                sources: Sources::default(),
                now: clock::nanos(),
            },
            events: Events::with_capacity(1024),
            scratch: vec![0; SCRATCH_BYTES],
            flushing: Vec::new(),
        })
    }

    /// Writes each touched connection once, waits for events and hands out what arrived.
    pub(crate) fn turn(&mut self, wait: Duration, receiver: &mut impl Receiver) -> Result<()> {
        self.flush_dirty(receiver)?;
        match self.links.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome.trying("epoll_wait")?,
        }
        self.links.now = clock::nanos();
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let at = event.token().0;
            if event.is_writable() && !self.writable(at) {
                self.links.close(at);
                receiver.closed(&mut self.links, at)?;
                continue;
            }
            if event.is_readable() || event.is_read_closed() {
                self.readable(at, event.is_read_closed(), receiver)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn flush_dirty(&mut self, receiver: &mut impl Receiver) -> Result<()> {
        while !self.links.dirty.is_empty() {
            std::mem::swap(&mut self.flushing, &mut self.links.dirty);
            while let Some(at) = self.flushing.pop() {
                if !self.links.flush(at) {
                    self.links.close(at);
                    receiver.closed(&mut self.links, at)?;
                }
            }
        }
        Ok(())
    }

    fn writable(&mut self, at: usize) -> bool {
        let Some(link) = self.links.slots[at].1.as_mut() else {
            return true;
        };
        if !link.connected {
            if !matches!(link.stream.take_error(), Ok(None)) {
                return false;
            }
            if link.stream.peer_addr().is_err() {
                return true; // not yet: there will be another event
            }
            link.connected = true;
        }
        self.links.flush(at)
    }

    fn readable(&mut self, at: usize, ended: bool, receiver: &mut impl Receiver) -> Result<()> {
        let generation = self.links.generation(at);
        loop {
            let Some(link) = self.links.slots[at].1.as_mut() else {
                return Ok(());
            };
            let have = link.partial.len();
            let room = self.scratch.len() - have;
            let count = match link.stream.read(&mut self.scratch[have..]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            self.scratch[..have].copy_from_slice(&link.partial);
            link.partial.clear();
            self.parse(at, generation, have + count, receiver)?;
            if self.links.generation(at) != generation {
                return Ok(());
            }
            // A short read means that the socket is empty; another read would only say so.
            if count < room && !ended {
                return Ok(());
            }
        }
        self.links.close(at);
        receiver.closed(&mut self.links, at)
    }

    fn parse(
        &mut self,
        at: usize,
        generation: u32,
        end: usize,
        receiver: &mut impl Receiver,
    ) -> Result<()> {
        let mut from = 0;
        loop {
            match packet::read(&self.scratch[from..end]) {
                Read::Packet(packet, used) => {
                    from += used;
                    receiver.packet(&mut self.links, at, packet)?;
                    if self.links.generation(at) != generation {
                        return Ok(());
                    }
                }
                Read::Partial => break,
                Read::Malformed => return Err(Failure::Malformed),
            }
        }
        if let Some(link) = self.links.slots[at].1.as_mut() {
            link.partial.extend_from_slice(&self.scratch[from..end]);
        }
        Ok(())
    }
}

/// Source addresses and ports taken in turn, so that many short connections do not run out of ports in TIME_WAIT.
#[derive(Debug, Default)]
struct Sources {
    next: u32,
}

impl Sources {
    const FIRST_PORT: u32 = 10_000;
    const PORTS: u32 = 20_000;
    const HOSTS: u32 = 200;

    fn connect(&mut self, broker: SocketAddr) -> Result<TcpStream> {
        use socket2::{Domain, Protocol, Socket, Type};
        let domain = Domain::for_address(broker);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).trying("socket")?;
        socket.set_nonblocking(true).trying("O_NONBLOCK")?;
        socket.set_tcp_nodelay(true).trying("TCP_NODELAY")?;
        if broker.is_ipv4() && broker.ip().is_loopback() {
            socket.set_reuse_address(true).trying("SO_REUSEADDR")?;
            let mut tries = 0;
            while let Err(error) = socket.bind(&self.next_source().into()) {
                tries += 1;
                if tries > 1000 {
                    return Err(error).trying("bind to a loopback address");
                }
            }
        }
        match socket.connect(&broker.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
            Err(error) => return Err(error).trying("connect"),
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    fn next_source(&mut self) -> SocketAddr {
        let host = (self.next / Self::PORTS) % Self::HOSTS;
        let port = Self::FIRST_PORT + self.next % Self::PORTS;
        self.next = self.next.wrapping_add(1);
        let host = u8::try_from(host + 1).unwrap_or(1);
        let port = u16::try_from(port).unwrap_or(0);
        SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), port))
    }
}

/// What a non-blocking connect on Linux says while it goes on.
const EINPROGRESS: i32 = 115;
