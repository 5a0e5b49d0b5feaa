//! What the service listens on: an address or a socket of the file system.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::Tls;
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
    /// With TLS, where it is spoken.
    Tcp(TcpListener, Option<Arc<Tls>>),
    /// With the file that goes when nobody listens any more.
    Unix(UnixListener, Socket),
}

impl Listener {
    /// Listens on `HOST:PORT`, where TLS may be spoken, or on `unix:PATH`.
    pub(crate) async fn bind(listen: &str, tls: Option<Arc<Tls>>) -> io::Result<Self> {
        match listen.strip_prefix(UNIX) {
            Some(path) => {
                let (socket, listener) = Socket::bind_public(Path::new(path))?;
                Ok(Self::Unix(listener, socket))
            }
            None => Ok(Self::Tcp(TcpListener::bind(listen).await?, tls)),
        }
    }

    /// Returns where it listens.
    pub(crate) fn place(&self) -> io::Result<Place> {
        match self {
            Self::Tcp(listener, tls) => Ok(Place::Address {
                address: listener.local_addr()?,
                tls: tls.is_some(),
            }),
            Self::Unix(_, socket) => Ok(Place::Socket(socket.path().to_owned())),
        }
    }

    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                // An answer is written at once; waiting for more to send would only delay it.
                let _ = stream.set_nodelay(true);
                // An IPv4 client of a listener for both is known by its IPv4 address.
                let peer = Peer::Ip(address.ip().to_canonical());
                let tls = tls.as_ref().map(|tls| tls.acceptor());
                let stream = Box::new(stream);
                Ok(Accepted { stream, peer, tls })
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted {
                    stream: Box::new(stream),
                    peer: Peer::Local,
                    tls: None,
                })
            }
        }
    }
}

/// Where a service can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Address { address: SocketAddr, tls: bool },
    Socket(PathBuf),
}

/// A connection that came in.
pub(super) struct Accepted {
    pub(super) stream: Box<dyn Stream>,
    pub(super) peer: Peer,
    /// What greets the client, where TLS is spoken.
    pub(super) tls: Option<TlsAcceptor>,
}

/// A connection, whatever carries it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
