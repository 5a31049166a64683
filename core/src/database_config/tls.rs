//! How a connection is encrypted, in a secret's JSON and in its URL.

use std::fmt;

use secrecy::SecretString;
use serde_json::{Map, Value};

use super::fields::Fields;
use crate::SecretInvalid;

/// How a connection is encrypted.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// How much is demanded; `None` leaves it to the driver's default.
    pub mode: Option<TlsMode>,
    /// The authorities to trust: PEM text or the path of a file.
    pub ca: Option<String>,
    /// The client's certificate: PEM text or the path of a file.
    pub cert: Option<String>,
    /// The client's key: PEM text or the path of a file.
    pub key: Option<SecretString>,
}

/// The demands on encryption, as in libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// None.
    Disable,
    /// Encrypted if the server offers it.
    Prefer,
    /// Encrypted, the server's certificate unchecked.
    Require,
    /// Encrypted, and the certificate is from an authority that is trusted.
    VerifyCa,
    /// And it is this host's.
    VerifyFull,
}

impl TlsMode {
    /// Reads `verify-full` and its kin, and what MySQL's clients and libpq call them.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "disable" | "disabled" => Self::Disable,
            "prefer" | "preferred" | "allow" => Self::Prefer,
            "require" | "required" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" | "verify-identity" => Self::VerifyFull,
            _ => return None,
        })
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}

/// Why a setting cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no setting of this name.
    Unknown,
    /// The setting has no such value.
    Value,
    /// The reason, which follows the setting's name.
    Because(&'static str),
}

/// The reason for refusing two contradictory settings.
const CONTRADICTS: Refusal = Refusal::Because("contradicts another setting of TLS");

impl TlsConfig {
    /// Whether a `ca`, `cert` or `key` is PEM text itself, not the path of a file.
    pub fn is_pem(text: &str) -> bool {
        text.trim_start().starts_with("-----BEGIN ")
    }

    /// Reads `tls` and every other key of the secret that is about encryption.
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, SecretInvalid> {
        let mut config = Self::default();
        for (name, value) in fields.object.iter().filter(|(_, value)| !value.is_null()) {
            match (name.as_str(), value) {
                ("tls" | "ssl", Value::Object(members)) => {
                    let named = |(member, refusal): (&str, _)| refused(&format!("{name}.{member}"), refusal);
                    config.set_members(members, name == "ssl").map_err(named)?;
                }
                _ if is_tls(name) => config.set_json(name, value).map_err(|refusal| refused(name, refusal))?,
                _ => {}
            }
        }
        Ok(config)
    }

    /// Reads the object `tls`, or `ssl` as Node's clients write it. Node's clients verify by
    /// default.
    fn set_members<'a>(&mut self, members: &'a Map<String, Value>, is_node: bool) -> Result<(), (&'a str, Refusal)> {
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            self.set_member(name, value)
                .map_err(|refusal| (name.as_str(), refusal))?;
        }
        match is_node && !members.contains_key("rejectUnauthorized") {
            true => self
                .demand(TlsMode::VerifyFull)
                .map_err(|refusal| ("rejectUnauthorized", refusal)),
            false => Ok(()),
        }
    }

    fn set_member(&mut self, name: &str, value: &Value) -> Result<(), Refusal> {
        match name {
            "mode" | "ca" | "cert" | "key" => self.set_json(&format!("tls{name}"), value),
            "rejectUnauthorized" => match value.as_bool().ok_or(Refusal::Value)? {
                true => self.demand(TlsMode::VerifyFull),
                false => self.demand(TlsMode::Require),
            },
            _ => Err(Refusal::Unknown),
        }
    }

    fn set_json(&mut self, name: &str, value: &Value) -> Result<(), Refusal> {
        match value {
            // Amazon RDS writes an empty text for what is not set.
            Value::String(text) if text.is_empty() => Ok(()),
            Value::String(text) => self.set(name, text),
            Value::Bool(_) | Value::Number(_) => self.set(name, &value.to_string()),
            _ => Err(Refusal::Value),
        }
    }

    /// Sets what the key or parameter `name` says, which begins with `ssl` or `tls`.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        if value.is_empty() {
            return Err(Refusal::Value);
        }
        match plain(name).as_str() {
            "ssl" | "tls" => match value.to_ascii_lowercase().as_str() {
                "true" | "1" => self.demand(TlsMode::Require),
                "false" | "0" => Ok(()),
                // Node's clients of MySQL write an object.
                _ if value.starts_with('{') => self.set_object(value),
                _ => self.demand(TlsMode::parse(value).ok_or(Refusal::Value)?),
            },
            "sslmode" | "tlsmode" => self.demand(TlsMode::parse(value).ok_or(Refusal::Value)?),
            "sslaccept" => match value {
                "strict" => self.demand(TlsMode::VerifyFull),
                "accept_invalid_certs" => self.demand(TlsMode::Require),
                _ => Err(Refusal::Value),
            },
            "sslrootcert" | "sslca" | "tlsca" => once(&mut self.ca, value.to_owned()),
            "sslcert" | "tlscert" => once(&mut self.cert, value.to_owned()),
            "sslkey" | "tlskey" => match &self.key {
                Some(_) => Err(CONTRADICTS),
                None => {
                    self.key = Some(SecretString::from(value));
                    Ok(())
                }
            },
            _ => Err(Refusal::Unknown),
        }
    }

    fn set_object(&mut self, text: &str) -> Result<(), Refusal> {
        let object: Value = serde_json::from_str(text).map_err(|_| Refusal::Value)?;
        let members = object.as_object().ok_or(Refusal::Value)?;
        self.set_members(members, true).map_err(|(_, refusal)| refusal)
    }

    /// Demands a mode. Of all demanded modes, the strictest one is used.
    pub(super) fn demand(&mut self, mode: TlsMode) -> Result<(), Refusal> {
        let before = self.mode.unwrap_or(mode);
        if before.min(mode) == TlsMode::Disable && before.max(mode) > TlsMode::Prefer {
            return Err(CONTRADICTS);
        }
        self.mode = Some(before.max(mode));
        Ok(())
    }

    /// Adds the settings of a URL to those of the secret. If both name a file, the secret's is
    /// used.
    pub(super) fn add(&mut self, other: Self) -> Result<(), Refusal> {
        if let Some(mode) = other.mode {
            self.demand(mode)?;
        }
        self.ca = self.ca.take().or(other.ca);
        self.cert = self.cert.take().or(other.cert);
        self.key = self.key.take().or(other.key);
        Ok(())
    }

    /// Has the authorities that are named checked, as libpq does, or refuses them.
    pub(super) fn settle(&mut self) -> Result<(), SecretInvalid> {
        const UNUSED: &str = "(`sslrootcert` in a URL) is used only if `tls.mode` (`sslmode`) is `verify-full`, `verify-ca` or \
                              `require`: set it";
        if self.mode == Some(TlsMode::Disable) && (self.cert.is_some() || self.key.is_some()) {
            return Err(SecretInvalid::new(
                "tls.cert",
                "is not used, since `tls.mode` is `disable`",
            ));
        }
        match (&self.ca, self.mode) {
            (Some(_), None | Some(TlsMode::Disable | TlsMode::Prefer)) => Err(SecretInvalid::new("tls.ca", UNUSED)),
            (Some(_), Some(TlsMode::Require)) => {
                self.mode = Some(TlsMode::VerifyCa);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn once(place: &mut Option<String>, value: String) -> Result<(), Refusal> {
    match place.replace(value) {
        Some(before) if place.as_ref() != Some(&before) => Err(CONTRADICTS),
        _ => Ok(()),
    }
}

/// Whether a key or parameter is about encryption.
pub(crate) fn is_tls(name: &str) -> bool {
    // `useSSL`, `requireSSL` and `verifyServerCertificate` of Connector/J among them, and not
    // `access_level`.
    let words = ["ssl", "Ssl", "SSL", "tls", "Tls", "TLS"];
    words.iter().any(|word| name.contains(word)) || plain(name) == "verifyservercertificate"
}

/// A name without what its users write differently: `ssl-mode`, `ssl_mode` and `sslMode` are one.
pub(super) fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '_'], "")
}

fn refused(field: &str, refusal: Refusal) -> SecretInvalid {
    let reason = match refusal {
        Refusal::Unknown => {
            "is not known, and no setting of TLS is ignored: write `tls.mode`, `tls.ca`, `tls.cert` and `tls.key`"
        }
        Refusal::Value if plain(field).ends_with("mode") || field == "ssl" || field == "tls" => {
            "is not `disable`, `prefer`, `require`, `verify-ca` or `verify-full`"
        }
        Refusal::Value => "has no such value",
        Refusal::Because(reason) => reason,
    };
    SecretInvalid::new(field, reason)
}
