//! The server's certificate: read and checked before any socket is bound, and again when it is
//! renewed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

pub(crate) use tokio_rustls::TlsAcceptor;

use crate::config::{Fault, Loaded, ServerTls};

/// Why a certificate cannot be shown to clients.
pub(crate) type TlsError = rustls::Error;

/// The certificate that is shown to clients. Connections that are open keep the one they were
/// shown.
#[derive(Debug)]
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<Current>,
    provider: Arc<CryptoProvider>,
}

/// A certificate and its key.
#[derive(Debug)]
struct Current {
    files: Files,
    certified: Arc<CertifiedKey>,
}

/// What the files hold. It prints nothing of it.
#[derive(PartialEq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files")
    }
}

/// What is wrong with the files: the key that names the file, and a reason that repeats nothing of
/// it.
type Wrong = Vec<(&'static str, String)>;

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// What is wrong with them, each at the key that names it; nothing that is in them is repeated.
    pub(crate) async fn load(loaded: &Loaded, tls: &ServerTls) -> Result<Arc<Self>, Vec<Fault>> {
        let (cert, key) = (loaded.path(&tls.cert), loaded.path(&tls.key));
        let at = |wrong: Wrong| {
            let faults = wrong.into_iter();
            faults
                .map(|(key, reason)| loaded.fault_at(&["server", "tls", key], reason))
                .collect::<Vec<_>>()
        };
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let files = Files::read(&cert, &key).await.map_err(at)?;
        let certified = files.certified(&provider).map_err(at)?;
        let current = Current {
            files,
            certified: Arc::new(certified),
        };
        Ok(Arc::new(Self {
            cert,
            key,
            current: ArcSwap::from_pointee(current),
            provider,
        }))
    }

    /// What a listener shows it with.
    ///
    /// # Errors
    /// The cryptography has no protocol version that is safe.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files, and shows what they hold from now on if it is new.
    async fn renew(&self) -> Result<(), Wrong> {
        let files = Files::read(&self.cert, &self.key).await?;
        if files == self.current.load().files {
            return Ok(());
        }
        let certified = Arc::new(files.certified(&self.provider)?);
        self.current.store(Arc::new(Current { files, certified }));
        tracing::info!("the renewed certificate of `server.tls` is in use");
        Ok(())
    }
}

/// Reads the files of a certificate again.
pub(crate) struct Renewal {
    certificate: Arc<Certificate>,
    /// What was wrong with the files at the last reading.
    wrong: Wrong,
    is_reported: bool,
}

impl Renewal {
    pub(crate) fn new(certificate: Arc<Certificate>) -> Self {
        Self {
            certificate,
            wrong: Wrong::new(),
            is_reported: false,
        }
    }

    /// Loads the files if they have changed. Unusable files change nothing. Certificate and key are
    /// often written one after the other, so a fault is reported only if the next reading finds it
    /// too, or if an operator requested this reading.
    pub(crate) async fn read(&mut self, is_asked: bool) {
        let wrong = self.certificate.renew().await.err().unwrap_or_default();
        let is_same = wrong == self.wrong;
        if !wrong.is_empty() && (is_asked || (is_same && !self.is_reported)) {
            for (key, reason) in &wrong {
                tracing::error!(
                    "the file of `server.tls.{key}` {reason}; the certificate that was loaded before stays in use"
                );
            }
            self.is_reported = true;
        } else if !is_same {
            self.is_reported = false;
        }
        self.wrong = wrong;
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }
}

impl Files {
    async fn read(cert: &Path, key: &Path) -> Result<Self, Wrong> {
        let unreadable = |error: io::Error| format!("names a file that cannot be read: {error}");
        let (cert, key) = tokio::join!(tokio::fs::read(cert), tokio::fs::read(key));
        match (cert, key) {
            (Ok(cert), Ok(key)) => Ok(Self { cert, key }),
            (cert, key) => {
                let cert = cert.err().map(|error| ("cert", unreadable(error)));
                let key = key.err().map(|error| ("key", unreadable(error)));
                Err(cert.into_iter().chain(key).collect())
            }
        }
    }

    /// What a server can show.
    fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, Wrong> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.cert).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let key = PrivateKeyDer::from_pem_slice(&self.key).ok();
        let (Some(chain), Some(key)) = (&chain, key.as_ref()) else {
            let cert = chain
                .is_none()
                .then(|| ("cert", "contains no certificate in PEM".to_owned()));
            let key = key
                .is_none()
                .then(|| ("key", "contains no private key in PEM".to_owned()));
            return Err(cert.into_iter().chain(key).collect());
        };
        CertifiedKey::from_der(chain.clone(), key.clone_key(), provider).map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => "is not the certificate's key",
                _ => "cannot be used with the certificate",
            };
            vec![("key", reason.to_owned())]
        })
    }
}
