//! TLS: a certificate and its key, read from files, and read again when the files change.
//!
//! What must stay true: a pair is taken only when it can be used; until then the one before stays in use.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::Settings;
use crate::metrics::Metrics;
use crate::shutdown::Hangups;

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A pair that can be used, and where it came from.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
    seen: RwLock<Stamp>,
}

/// What tells that a file is not the one that was read.
type Stamp = [Option<(u64, i64, i64, u64)>; 2];

impl Tls {
    /// Reads the pair that the settings name, if they do. The error says what is wrong with which file.
    pub(crate) fn of(settings: &Settings) -> Result<Option<Arc<Self>>, String> {
        let (certificate, key) = (&settings.tls_certificate, &settings.tls_key);
        match (
            certificate.as_os_str().is_empty(),
            key.as_os_str().is_empty(),
        ) {
            (true, true) => Ok(None),
            (false, false) => {
                let seen = stamp(certificate, key);
                let config = read(certificate, key)?;
                Ok(Some(Arc::new(Self {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    current: RwLock::new(config),
                    seen: RwLock::new(seen),
                })))
            }
            _ => {
                Err("tls_certificate and tls_key belong together: set both, or neither".to_owned())
            }
        }
    }

    /// Returns what answers a handshake with the pair that is in use now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    /// Reads the files again, and goes on with the old pair if the new one cannot be used. Blocks.
    fn reload(&self, metrics: &Metrics) {
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) =
            stamp(&self.certificate, &self.key);
        let read = read(&self.certificate, &self.key);
        metrics.read_certificate(read.is_ok());
        match read {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!(certificate = %self.certificate.display(), "the certificate was read again");
            }
            Err(why) => tracing::error!(
                why,
                "the new certificate cannot be used; the old one stays in use"
            ),
        }
    }

    /// Returns whether the files are not those that were read last.
    fn has_changed(&self) -> bool {
        *self.seen.read().unwrap_or_else(PoisonError::into_inner)
            != stamp(&self.certificate, &self.key)
    }
}

/// Reads the certificate again on SIGHUP, and when its files have changed. Never returns.
pub(crate) async fn keep_current(
    tls: Option<Arc<Tls>>,
    mut hangups: Hangups,
    metrics: Arc<Metrics>,
) {
    let Some(tls) = tls else {
        loop {
            hangups.next().await;
            tracing::info!("SIGHUP: there is no certificate to read again");
        }
    };
    loop {
        let asked = tokio::select! {
            () = hangups.next() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let (tls, metrics) = (Arc::clone(&tls), Arc::clone(&metrics));
        let looked = tokio::task::spawn_blocking(move || {
            if asked || tls.has_changed() {
                tls.reload(&metrics);
            }
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "the certificate could not be looked at");
        }
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    // Through links: certificates are often exchanged by turning one.
    [certificate, key].map(|file| {
        let facts = std::fs::metadata(file).ok()?;
        Some((facts.ino(), facts.mtime(), facts.mtime_nsec(), facts.size()))
    })
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let at = |file: &Path, why: String| format!("{}: {why}", file.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| at(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(at(certificate, "there is no certificate in it".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| at(key, error.to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| at(key, format!("does not go with the certificate: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Greets a client within `patience`.
pub(super) async fn greet<S: super::Stream>(
    acceptor: TlsAcceptor,
    stream: S,
    patience: Duration,
) -> io::Result<tokio_rustls::server::TlsStream<S>> {
    tokio::time::timeout(patience, acceptor.accept(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
