//! HTTP/1.1 over TCP or a unix socket, one request at a time, on a connection that is kept between requests.

use super::{Answer, AnswerBody, Bytes, ClientError, HeaderMap, Method, header, prepared, tls};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HeaderValue;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::{io, path::PathBuf, time::Duration};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::Mutex,
    time::timeout,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any deadline of the service, so that its own answer comes first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Says where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp {
        /// Whether TLS is spoken.
        tls: bool,
        /// `HOST:PORT`, as it goes into the header `Host`.
        authority: String,
        /// What comes before every path; empty as a rule.
        prefix: String,
    },
}

impl Address {
    /// Reads `http://HOST:PORT[/PREFIX]`; says in words what is wrong with anything else.
    pub(crate) fn parse_http(text: &str) -> Result<Address, String> {
        let wrong = |why: &str| format!("--server {text}: {why}; write it as http://HOST:PORT");
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(wrong("the address has to start with http:// or https://")),
        };
        let uri: Uri = text.parse().map_err(|_| wrong("this is no address"))?;
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| wrong("there is no host in it"))?;
        if rest.contains(['@', '?', '#']) {
            return Err(wrong(
                "only a host, a port and a path belong here (tokens go to --token)",
            ));
        }
        let port = match uri
            .authority()
            .map(|authority| &authority.as_str()[host.len()..])
        {
            None | Some("") if tls => 443,
            None | Some("") => 80,
            Some(_) => uri.port_u16().ok_or_else(|| wrong("this is no port"))?,
        };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Address::Tcp {
            tls,
            authority: format!("{host}:{port}"),
            prefix,
        })
    }
}

/// Is a server at an address, with at most one open connection.
pub(crate) struct Wire {
    address: Address,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Wire {
    pub(crate) fn new(address: Address) -> Self {
        Wire {
            address,
            connection: Mutex::new(None),
        }
    }

    /// Returns the address for people.
    pub(crate) fn place(&self) -> String {
        match &self.address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp {
                tls,
                authority,
                prefix,
            } => {
                let scheme = if *tls { "https" } else { "http" };
                format!("{scheme}://{authority}{prefix}")
            }
        }
    }

    /// Connects ahead of the first request, to see whether anybody listens.
    pub(crate) async fn connect_now(&self) -> io::Result<()> {
        let sender = self.connect().await?;
        *self.connection.lock().await = Some(sender);
        Ok(())
    }

    /// Sends one request and reads the whole answer; the connection is opened if there is none.
    pub(crate) async fn request(
        &self,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let request = self.prepared(method, path_and_query, headers, body)?;
        timeout(ANSWER_TIMEOUT, self.exchange(request))
            .await
            .unwrap_or_else(|_| {
                Err(self.lost(
                    format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
                    true,
                ))
            })
    }

    /// Gets a path on a connection of its own, whose answer may take as long as it likes once it has begun.
    pub(crate) async fn open_stream(
        &self,
        path_and_query: &str,
        headers: HeaderMap,
    ) -> Result<Response<AnswerBody>, ClientError> {
        let request = self.prepared(Method::GET, path_and_query, headers, Bytes::new())?;
        let beginning = async {
            let mut sender = self
                .connect()
                .await
                .map_err(|error| self.no_server(&error))?;
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| self.lost(in_words(&error), true))?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        };
        timeout(ANSWER_TIMEOUT, beginning)
            .await
            .unwrap_or_else(|_| Err(self.lost("no answer began".to_owned(), true)))
    }

    fn prepared(
        &self,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let (host, prefix) = match &self.address {
            Address::Unix(_) => ("localhost", ""),
            Address::Tcp {
                authority, prefix, ..
            } => (authority.as_str(), prefix.as_str()),
        };
        let mut request = prepared(method, &format!("{prefix}{path_and_query}"), headers, body)?;
        let host = HeaderValue::try_from(host)
            .map_err(|_| ClientError::Usage(format!("{host} cannot be the name of a host")))?;
        request.headers_mut().insert(header::HOST, host);
        Ok(request)
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let mut slot = self.connection.lock().await;
        // A kept connection that the server has closed shows that only when it is used. hyper hands the request back
        // if not one byte of it was sent: then it goes out on a new connection, and nothing happens twice.
        loop {
            let (mut sender, kept) = match slot.take() {
                Some(sender) => (sender, true),
                None => (
                    self.connect()
                        .await
                        .map_err(|error| self.no_server(&error))?,
                    false,
                ),
            };
            if let Err(error) = sender.ready().await {
                if kept {
                    continue;
                }
                return Err(self.lost(error.to_string(), false));
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = body
                        .collect()
                        .await
                        .map_err(|error| self.lost(in_words(&error), true))?
                        .to_bytes();
                    *slot = Some(sender);
                    return Ok(Answer {
                        status: parts.status,
                        headers: parts.headers,
                        body,
                    });
                }
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) if kept => request = unsent,
                    unsent => return Err(self.lost(in_words(refused.error()), unsent.is_none())),
                },
            }
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let connecting = async {
            match &self.address {
                Address::Unix(path) => start(UnixStream::connect(path).await?).await,
                Address::Tcp { tls, authority, .. } => {
                    let stream = TcpStream::connect(authority).await?;
                    stream.set_nodelay(true)?;
                    if *tls {
                        start(tls::greet(authority, stream).await?).await
                    } else {
                        start(stream).await
                    }
                }
            }
        };
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn no_server(&self, error: &io::Error) -> ClientError {
        ClientError::NoServer {
            place: self.place(),
            cause: error.to_string(),
        }
    }

    fn lost(&self, cause: String, may_have_arrived: bool) -> ClientError {
        ClientError::Lost {
            place: self.place(),
            cause,
            may_have_arrived,
        }
    }
}

async fn start<S>(stream: S) -> io::Result<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Ends with the sender or with the stream; what went wrong reaches the request that waits for it.
    tokio::spawn(connection);
    Ok(sender)
}

fn in_words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_and_wrong_ones_explained() {
        let tcp = |authority: &str, prefix: &str| Address::Tcp {
            tls: false,
            authority: authority.into(),
            prefix: prefix.into(),
        };
        assert_eq!(
            Address::parse_http("http://127.0.0.1:8001"),
            Ok(tcp("127.0.0.1:8001", ""))
        );
        assert_eq!(
            Address::parse_http("http://eye.example/"),
            Ok(tcp("eye.example:80", ""))
        );
        assert_eq!(
            Address::parse_http("http://[::1]:9/eye/"),
            Ok(tcp("[::1]:9", "/eye"))
        );
        let secure = Address::Tcp {
            tls: true,
            authority: "eye.example:443".into(),
            prefix: String::new(),
        };
        assert_eq!(Address::parse_http("https://eye.example"), Ok(secure));
        for wrong in [
            "127.0.0.1:8001",
            "http://",
            "http://h:99999",
            "http://h:",
            "http://token@h:1",
            "ftp://h",
        ] {
            assert!(
                Address::parse_http(wrong)
                    .unwrap_err()
                    .contains("http://HOST:PORT"),
                "{wrong}"
            );
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_said_with_the_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let wire = Wire::new(Address::parse_http(&format!("http://{address}")).unwrap());
        let error = wire
            .request(Method::GET, "/me", HeaderMap::new(), Bytes::new())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("no server answers on http://{address}")),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_connection_closed_by_the_server_is_opened_again() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await.unwrap();
                // No `Connection: close`: the client learns of it only from the end of the stream.
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await
                    .unwrap();
            }
        });
        let wire = Wire::new(Address::parse_http(&format!("http://{address}")).unwrap());
        for _ in 0..2 {
            let answer = wire
                .request(Method::GET, "/", HeaderMap::new(), Bytes::new())
                .await
                .unwrap();
            assert_eq!(&answer.body[..], b"ok");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.await.unwrap();
    }
}
