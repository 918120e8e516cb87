//! What a connection reads from and writes to: TCP now; TLS and WebSocket become further variants.
//!
//! A stream belongs to the thread whose poller knows it. [`Stream::detach`] and [`Detached::attach`] move it.

use std::future::poll_fn;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
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

    /// As [`Self::poll_read`], but asks the system whatever tokio has heard of it: what came a moment ago is found, and
    /// nobody is woken by what comes later.
    pub(super) fn read_now(&self, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self else {
            return Poll::Ready(Ok(0));
        };
        let socket = SockRef::from(stream);
        loop {
            match (&*socket).read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                read => return Poll::Ready(read),
            }
        }
    }

    /// Writes what the socket takes, at least one of `bytes`, which are some.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes).map(some),
            Self::Gone => Poll::Ready(Err(closed())),
        }
    }

    /// Writes all of `bytes`.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            written += poll_fn(|cx| self.poll_write(cx, &bytes[written..])).await?;
        }
        Ok(())
    }

    /// Writes what the socket takes now, outside a task.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => some(stream.try_write(bytes)),
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

/// A stream that takes nothing of something takes nothing any more: asking again would not end.
fn some(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        written => written,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_nothing_is_the_end_and_not_asked_again() {
        let kind = |written| some(written).map_err(|error| error.kind());
        assert_eq!(kind(Ok(0)), Err(io::ErrorKind::WriteZero));
        assert_eq!(kind(Ok(7)), Ok(7));
        let blocked = io::ErrorKind::WouldBlock;
        assert_eq!(kind(Err(blocked.into())), Err(blocked));
    }
}
