//! TLS to a server, whose certificate must be signed by somebody the system trusts.

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::{io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Greets the server at `authority` (`HOST:PORT`). `SSL_CERT_FILE` names certificates to trust instead of the system's.
pub(crate) async fn greet(authority: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    TlsConnector::from(config()?).connect(name, stream).await
}

fn config() -> io::Result<Arc<ClientConfig>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        let why = found.errors.first().map(ToString::to_string);
        return Err(io::Error::other(format!(
            "this system trusts no certificates ({}); install ca-certificates, or name a file with SSL_CERT_FILE",
            why.unwrap_or_else(|| "none were found".to_owned())
        )));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
