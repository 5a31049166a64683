//! The server's certificate, read and checked before any socket is bound.

use std::{io, path::Path, sync::Arc};

use poem::listener::{RustlsCertificate, RustlsConfig};
use rustls::{
    InconsistentKeys, ServerConfig, crypto,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::config::{Fault, Loaded, ServerTls};

/// A certificate and its key, as PEM.
pub(crate) struct Certificate {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// What is wrong with them, each at the key that names it; nothing that is in them is repeated.
    pub(crate) async fn load(loaded: &Loaded, tls: &ServerTls) -> Result<Self, Vec<Fault>> {
        let at = |key: &str, reason: String| loaded.fault_at(&["server", "tls", key], reason);
        let (cert, key) = tokio::join!(read(loaded, &tls.cert), read(loaded, &tls.key));
        let chain = cert.and_then(|pem| {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            match chain {
                Ok(chain) if !chain.is_empty() => Ok((pem, chain)),
                _ => Err("holds no certificate in PEM".to_owned()),
            }
        });
        let key = key.and_then(|pem| match PrivateKeyDer::from_pem_slice(&pem) {
            Ok(key) => Ok((pem, key)),
            Err(_) => Err("holds no private key in PEM".to_owned()),
        });
        match (chain, key) {
            (Ok((cert, chain)), Ok((pem, key))) => match check(chain, key) {
                Ok(()) => Ok(Self { cert, key: pem }),
                Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                    Err(vec![at("key", "is not the certificate's key".to_owned())])
                }
                Err(_) => Err(vec![at("key", "cannot be used with the certificate".to_owned())]),
            },
            (chain, key) => {
                let (chain, key) = (chain.err(), key.err());
                let faults = chain.map(|reason| at("cert", reason)).into_iter();
                Err(faults.chain(key.map(|reason| at("key", reason))).collect())
            }
        }
    }

    /// What poem's listener takes.
    pub(crate) fn to_config(&self) -> RustlsConfig {
        let certificate = RustlsCertificate::new().cert(self.cert.clone()).key(self.key.clone());
        RustlsConfig::new().fallback(certificate)
    }
}

async fn read(loaded: &Loaded, path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("names a file that cannot be read: {error}");
    tokio::fs::read(loaded.path(path)).await.map_err(unreadable)
}

/// Whether a server can show this chain with this key.
fn check(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), rustls::Error> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map(drop)
}
