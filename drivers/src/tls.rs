//! The certificates of a secret's `tls`, read.

use std::{
    io,
    path::{Component, Path},
};

use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret, SecretSlice};
use tenantry_core::{DatabaseConfig, DriverError, DriverErrorKind, Encryption, SecretInvalid, TlsConfig, TlsMode};
use tokio::io::AsyncReadExt as _;

use crate::server_address::ServerAddress;

/// The largest file that is read, in bytes. The bundles of all public authorities are smaller.
const LARGEST: u64 = 1 << 20;

/// The certificates of a secret's `tls`, as PEM text.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    /// The authorities to trust in addition to the public ones.
    pub(crate) ca: Option<Vec<u8>>,
    /// The client's certificate and key.
    pub(crate) client: Option<(Vec<u8>, SecretSlice<u8>)>,
}

/// How a connection is protected that the server took. With `prefer` that is not certain: `asked`
/// is what the server says, `None` if it was not asked.
pub(crate) fn encryption(config: &DatabaseConfig, address: &ServerAddress<'_>, asked: Option<bool>) -> Encryption {
    match config.tls.mode.unwrap_or(TlsMode::Prefer) {
        _ if address.is_socket() => Encryption::None,
        TlsMode::Disable => Encryption::None,
        TlsMode::Prefer if asked == Some(true) => Encryption::Encrypted,
        TlsMode::Prefer => Encryption::None,
        TlsMode::Require => Encryption::Encrypted,
        TlsMode::VerifyCa | TlsMode::VerifyFull => Encryption::Verified,
    }
}

/// Whether a query to the server is needed to know if a connection is encrypted.
pub(crate) fn is_uncertain(config: &DatabaseConfig, address: &ServerAddress<'_>) -> bool {
    config.tls.mode.unwrap_or(TlsMode::Prefer) == TlsMode::Prefer && !address.is_socket()
}

/// Checks what can be checked without reading a file.
pub(crate) fn validate(tls: &TlsConfig) -> Result<(), SecretInvalid> {
    match (&tls.cert, &tls.key) {
        (Some(_), None) => Err(SecretInvalid::new("tls.key", "is missing beside `tls.cert`")),
        (None, Some(_)) => Err(SecretInvalid::new("tls.cert", "is missing beside `tls.key`")),
        _ => Ok(()),
    }
}

impl Certificates {
    /// Reads and checks them, for one login: a file that was renewed is used for the next one. A
    /// path is taken from `base_dir` if it is relative.
    pub(crate) async fn read(config: &DatabaseConfig, base_dir: &Path) -> Result<Self, DriverError> {
        let tls = &config.tls;
        let ca = match &tls.ca {
            Some(ca) => Some(pem("tls.ca", ca, base_dir).await?),
            None => None,
        };
        let client = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => Some((
                pem("tls.cert", cert, base_dir).await?,
                SecretSlice::from(pem("tls.key", key.expose_secret(), base_dir).await?),
            )),
            _ => None,
        };
        let certificates = Self { ca, client };
        let invalid = |error| DriverError::new(DriverErrorKind::Invalid, error);
        certificates.check().map_err(invalid)?;
        Ok(certificates)
    }

    /// Checks what sqlx would report without the field, or with all of the file.
    fn check(&self) -> Result<(), SecretInvalid> {
        if let Some(ca) = &self.ca {
            let mut roots = RootCertStore::empty();
            for certificate in chain("tls.ca", ca)? {
                let added = roots.add(certificate);
                added.map_err(|_| SecretInvalid::new("tls.ca", "holds a certificate that is malformed"))?;
            }
        }
        if let Some((cert, key)) = &self.client {
            let chain = chain("tls.cert", cert)?;
            let key = PrivateKeyDer::from_pem_slice(key.expose_secret())
                .map_err(|_| SecretInvalid::new("tls.key", "contains no private key in PEM that is not encrypted"))?;
            match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
                Ok(_) => {}
                Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                    return Err(SecretInvalid::new("tls.key", "is not the key of `tls.cert`"));
                }
                Err(_) => return Err(SecretInvalid::new("tls.key", "cannot be used with `tls.cert`")),
            }
        }
        Ok(())
    }
}

/// The certificates of a text, at least one.
fn chain(field: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SecretInvalid> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(SecretInvalid::new(
            field,
            "contains no certificate in PEM, or one that is cut short",
        )),
    }
}

async fn pem(field: &'static str, text: &str, base_dir: &Path) -> Result<Vec<u8>, DriverError> {
    if TlsConfig::is_pem(text) {
        return Ok(text.as_bytes().to_vec());
    }
    // An author of secrets learns nothing of other files, not even whether they exist.
    let outside = || invalid(field, "names a file outside of the configuration's folder");
    let is_within = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    let base_dir = tokio::fs::canonicalize(base_dir).await.map_err(|_| outside())?;
    let relative = Path::new(text).strip_prefix(&base_dir).unwrap_or(Path::new(text));
    if !relative.components().all(is_within) {
        return Err(outside());
    }
    let unreadable = |error: io::Error| invalid(field, &format!("cannot be read: {}", error.kind()));
    // A symbolic link may lead out.
    let path = tokio::fs::canonicalize(base_dir.join(relative))
        .await
        .map_err(unreadable)?;
    if !path.starts_with(&base_dir) {
        return Err(outside());
    }
    // Looked at first: opening a pipe would wait for its writer.
    let found = tokio::fs::metadata(&path).await.map_err(unreadable)?;
    if !found.is_file() {
        return Err(invalid(field, "is not a regular file"));
    }
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    let read = file
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(unreadable)?;
    if read as u64 > LARGEST {
        return Err(invalid(field, "is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn invalid(field: &str, reason: &str) -> DriverError {
    DriverError::new(DriverErrorKind::Invalid, SecretInvalid::new(field, reason))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenantry_core::SecretValue;
    use tenantry_test_support::Certificates as Made;

    use super::*;

    fn config(tls: Value) -> DatabaseConfig {
        DatabaseConfig::parse(&SecretValue::new(json!({"type": "postgresql", "tls": tls}))).unwrap()
    }

    async fn read(tls: Value, folder: &Path) -> Result<Certificates, String> {
        let outcome = Certificates::read(&config(tls), folder).await;
        outcome.map_err(|error| {
            assert_eq!(error.kind, DriverErrorKind::Invalid);
            std::error::Error::source(&error).unwrap().to_string()
        })
    }

    #[tokio::test]
    async fn a_certificate_is_pem_text_or_a_file_below_the_base_folder() {
        let folder = tempfile::tempdir().unwrap();
        let made = Made::make().unwrap();
        let commented = format!("# mine\n{}", made.ca_pem);
        std::fs::write(folder.path().join("ca.pem"), &commented).unwrap();
        for (ca, expected) in [("ca.pem", &commented), (made.ca_pem.as_str(), &made.ca_pem)] {
            let tls = json!({"ca": ca, "mode": "verify-full"});
            assert_eq!(read(tls, folder.path()).await.unwrap().ca.unwrap(), expected.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Made::make().unwrap(), Made::make().unwrap());
        let files = [
            ("empty", ""),
            ("canary", "canary"),
            ("half", &one.ca_pem[..200]),
            (
                "wrong",
                "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n",
            ),
            ("cert", &one.client_cert_pem),
            ("key", &one.client_key_pem),
            ("other", &other.client_key_pem),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let no_certificate = "contains no certificate in PEM, or one that is cut short";
        let no_key = "contains no private key in PEM that is not encrypted";
        let client = |cert: &str, key: &str| json!({"mode": "require", "cert": cert, "key": key});
        let authority = |ca: &str| json!({"mode": "verify-full", "ca": ca});
        let cases = [
            (authority("absent-canary"), "tls.ca", "cannot be read: entity not found"),
            (authority("empty"), "tls.ca", no_certificate),
            (authority("canary"), "tls.ca", no_certificate),
            (authority("half"), "tls.ca", no_certificate),
            (authority("key"), "tls.ca", no_certificate),
            (authority("wrong"), "tls.ca", "holds a certificate that is malformed"),
            (client("empty", "key"), "tls.cert", no_certificate),
            (client("cert", "cert"), "tls.key", no_key),
            (client("cert", "canary"), "tls.key", no_key),
            (client("cert", "other"), "tls.key", "is not the key of `tls.cert`"),
        ];
        for (tls, field, reason) in cases {
            let error = read(tls, folder.path()).await.err().unwrap();
            assert_eq!(error, format!("`{field}` {reason}"));
        }
        assert!(read(client("cert", "key"), folder.path()).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_file_of_a_certificate_s_size_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = Made::make().unwrap();
        let large = format!("{}{}", made.ca_pem, "\n".repeat(1 << 20));
        std::fs::write(folder.path().join("large"), large).unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let pipe = std::process::Command::new("mkfifo")
            .arg(folder.path().join("pipe"))
            .status();
        assert!(pipe.unwrap().success());
        for (ca, reason) in [
            ("large", "is larger than 1 MiB"),
            ("folder", "is not a regular file"),
            ("pipe", "is not a regular file"),
        ] {
            let read = read(json!({"ca": ca, "mode": "verify-full"}), folder.path());
            let read = tokio::time::timeout(std::time::Duration::from_secs(10), read).await;
            let error = read.expect("it waits for the writer of a pipe").err();
            assert_eq!(error.as_deref(), Some(format!("`tls.ca` {reason}").as_str()));
        }
    }

    #[tokio::test]
    async fn a_file_outside_of_the_folder_is_always_refused() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("folder");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        let made = Made::make().unwrap();
        let [inside, outside] = [folder.join("sub/ca.pem"), around.path().join("ca.pem")];
        for file in [&inside, &outside] {
            std::fs::write(file, &made.ca_pem).unwrap();
        }
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
        link(&outside, "out.pem");
        link(&inside, "in.pem");
        let outcome = async |ca: &str| read(json!({"ca": ca, "mode": "verify-full"}), &folder).await.map(drop);
        for ca in ["sub/ca.pem", "./sub/ca.pem", "in.pem", inside.to_str().unwrap()] {
            assert_eq!(outcome(ca).await, Ok(()), "{ca}");
        }
        let refused = Err("`tls.ca` names a file outside of the configuration's folder".to_owned());
        for ca in [
            "../ca.pem",
            "../absent.pem",
            "sub/../sub/ca.pem",
            "out.pem",
            outside.to_str().unwrap(),
            "/absent",
            "/etc/passwd",
        ] {
            assert_eq!(outcome(ca).await, refused, "{ca}");
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        assert_eq!(
            validate(&config(json!({"cert": "c"})).tls).unwrap_err().field,
            "tls.key"
        );
        assert_eq!(
            validate(&config(json!({"key": "k"})).tls).unwrap_err().field,
            "tls.cert"
        );
        assert!(validate(&config(json!({"cert": "c", "key": "k"})).tls).is_ok());
    }
}
