//! What a connection reads from and writes to: TCP now; TLS and WebSocket become further variants.
//!
//! A stream belongs to the thread whose poller knows it. [`Stream::detach`] and [`Detached::attach`] move it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// An open stream, bound to this thread.
#[derive(Debug)]
pub(super) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// Closed.
    Gone,
}

impl Stream {
    /// Reads what is there into `scratch`; 0 means the peer closed.
    ///
    /// A read that does not fill `scratch` has drained the socket, which tokio remembers: the next call does not ask
    /// the system again before something new has come.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(scratch);
        match self {
            Self::Tcp(stream) => Pin::new(stream)
                .poll_read(cx, &mut buf)
                .map_ok(|()| buf.filled().len()),
            Self::Gone => Poll::Ready(Ok(0)),
        }
    }

    /// Writes what the socket takes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(closed())),
        }
    }

    /// Writes what the socket takes now, outside a task.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Gone => Err(closed()),
        }
    }

    /// Tells the peer that nothing more will come.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    /// Takes the stream off this thread's poller.
    pub(super) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Self::Gone => Err(closed()),
        }
    }
}

fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// A stream on its way to another thread.
#[derive(Debug)]
pub(super) enum Detached {
    /// Plain TCP, non-blocking.
    Tcp(std::net::TcpStream),
}

impl Detached {
    /// Puts the stream onto this thread's poller.
    pub(super) fn attach(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
        }
    }
}
