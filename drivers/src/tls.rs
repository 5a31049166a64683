//! The certificates of a secret's `tls`, read.

use std::path::Path;

use secrecy::{ExposeSecret, SecretSlice};
use tenantry_core::{DatabaseConfig, DriverError, DriverErrorKind, SecretInvalid, TlsConfig};

/// The certificates of a secret's `tls`, as PEM text.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    /// The authorities to trust beside the public ones.
    pub(crate) ca: Option<Vec<u8>>,
    /// The client's certificate and key.
    pub(crate) client: Option<(Vec<u8>, SecretSlice<u8>)>,
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
    /// Reads them; a path is taken from `base_dir` where it is relative.
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
        Ok(Self { ca, client })
    }
}

async fn pem(field: &'static str, text: &str, base_dir: &Path) -> Result<Vec<u8>, DriverError> {
    let pem = if TlsConfig::is_pem(text) {
        text.as_bytes().to_vec()
    } else {
        tokio::fs::read(base_dir.join(text))
            .await
            .map_err(|error| invalid(field, &format!("cannot be read: {}", error.kind())))?
    };
    // A file that holds nothing of the kind would leave the connection with no certificate, and nobody the wiser.
    if pem.windows(11).any(|window| window == b"-----BEGIN ") {
        Ok(pem)
    } else {
        Err(invalid(field, "holds no PEM text"))
    }
}

fn invalid(field: &str, reason: &str) -> DriverError {
    DriverError::new(DriverErrorKind::Invalid, SecretInvalid::new(field, reason))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenantry_core::SecretValue;

    use super::*;

    fn config(tls: Value) -> DatabaseConfig {
        DatabaseConfig::parse(&SecretValue::new(json!({"type": "postgresql", "tls": tls}))).unwrap()
    }

    #[tokio::test]
    async fn a_certificate_is_pem_text_or_a_file_below_the_base_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "# mine\n-----BEGIN CERTIFICATE-----\n").unwrap();
        let from_file = Certificates::read(&config(json!({"ca": "ca.pem", "mode": "verify-full"})), folder.path())
            .await
            .unwrap();
        assert!(from_file.ca.unwrap().starts_with(b"# mine"));
        let text = "-----BEGIN CERTIFICATE-----\nx";
        let from_text = Certificates::read(&config(json!({"ca": text, "mode": "verify-full"})), folder.path())
            .await
            .unwrap();
        assert_eq!(from_text.ca.unwrap(), text.as_bytes());
    }

    #[tokio::test]
    async fn a_certificate_that_cannot_be_read_is_named_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "canary").unwrap();
        for (ca, reason) in [
            ("absent-canary", "cannot be read: entity not found"),
            ("empty", "holds no PEM text"),
        ] {
            let Err(error) = Certificates::read(&config(json!({"ca": ca, "mode": "verify-full"})), folder.path()).await
            else {
                panic!("{ca} was read");
            };
            assert_eq!(error.kind, DriverErrorKind::Invalid);
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(source, format!("`tls.ca` {reason}"));
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
