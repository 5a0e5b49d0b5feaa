//! What the service listens on: an address or a socket of the file system.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::socket::Socket;

/// What stands before the path of a socket.
const UNIX: &str = "unix:";

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An address.
    Ip(IpAddr),
    /// A process of this machine.
    Local,
}

/// Accepts connections.
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// With the file that goes when nobody listens any more.
    Unix(UnixListener, Socket),
}

impl Listener {
    /// Listens on `HOST:PORT` or `unix:PATH`.
    pub(crate) async fn bind(listen: &str) -> io::Result<Self> {
        match listen.strip_prefix(UNIX) {
            Some(path) => {
                let (socket, listener) = Socket::bind_public(Path::new(path))?;
                Ok(Self::Unix(listener, socket))
            }
            None => TcpListener::bind(listen).await.map(Self::Tcp),
        }
    }

    /// Returns where it listens.
    pub(crate) fn place(&self) -> io::Result<Place> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Place::Address),
            Self::Unix(_, socket) => Ok(Place::Socket(socket.path().to_owned())),
        }
    }

    pub(super) async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // An answer is written at once; waiting for more to send would only delay it.
                let _ = stream.set_nodelay(true);
                // An IPv4 client of a listener for both is known by its IPv4 address.
                Ok((Box::new(stream), Peer::Ip(address.ip().to_canonical())))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Peer::Local))
            }
        }
    }
}

/// Where a service can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

/// A connection, whatever carries it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
