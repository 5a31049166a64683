//! The address of a tenant's Oracle: the connect descriptor of Oracle's network layer.

use std::{path::Path, time::Duration};

use tenantry_core::{DatabaseConfig, SecretInvalid, TlsMode};

const DEFAULT_PORT: u16 = 1521;
const DEFAULT_TLS_PORT: u16 = 2484;

/// The checked address of a server from a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    host: &'a str,
    port: u16,
    database: Database<'a>,
    pub(crate) username: &'a str,
    tls: Option<Tls<'a>>,
}

/// How the listener knows the database.
#[derive(Debug, PartialEq, Eq)]
enum Database<'a> {
    Service(&'a str),
    Sid(&'a str),
}

#[derive(Debug, PartialEq, Eq)]
struct Tls<'a> {
    /// Whether the server's certificate must bear the host's name.
    checks_name: bool,
    /// The folder of the wallet.
    wallet: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// # Errors
    /// The field that is missing, or that contains a special character of connect descriptors.
    pub(crate) fn of(config: &'a DatabaseConfig, wallet: Option<&'a Path>) -> Result<Self, SecretInvalid> {
        let own = |pointer: &str| {
            config
                .option(pointer)
                .and_then(|value| value.as_str())
                .filter(|text| !text.is_empty())
        };
        let service = own("/oracle/service/name");
        let sid = own("/oracle/service/sid").or_else(|| own("/oracle/sid"));
        let database = match (service, sid, config.database.as_deref()) {
            (Some(service), _, _) => Database::Service(plain("oracle.service.name", service)?),
            (None, Some(sid), _) => Database::Sid(plain("oracle.service.sid", sid)?),
            (None, None, Some(database)) => Database::Service(plain("database", database)?),
            (None, None, None) => return Err(SecretInvalid::new("database", "is missing")),
        };
        let tls = match config.tls.mode.unwrap_or(TlsMode::Disable) {
            // Oracle's listener has one port for each; it offers nothing to prefer.
            TlsMode::Disable | TlsMode::Prefer => None,
            mode => {
                let wallet = match own("/oracle/wallet/location") {
                    Some(own) => Some(own),
                    None => match wallet.map(Path::to_str) {
                        Some(None) => return Err(SecretInvalid::new("oracle.wallet.location", "is not UTF-8")),
                        Some(wallet) => wallet,
                        None => None,
                    },
                };
                Some(Tls {
                    checks_name: mode == TlsMode::VerifyFull,
                    wallet: wallet
                        .map(|path| plain_path("oracle.wallet.location", path))
                        .transpose()?,
                })
            }
        };
        let default_port = if tls.is_some() { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        Ok(Self {
            host: plain("host", required("host", config.host.as_deref())?)?,
            port: config.port.unwrap_or(default_port),
            database,
            username: no_nul("username", required("username", config.username.as_deref())?)?,
            tls,
        })
    }

    /// Whether the connection is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// The server, whatever database of it.
    pub(crate) fn server(&self) -> (String, u16) {
        (self.host.to_owned(), self.port)
    }

    /// The descriptor (Oracle Database Net Services Reference, "Local Naming Parameters").
    pub(crate) fn descriptor(&self, connect_timeout: Duration) -> String {
        let seconds = connect_timeout.as_secs_f64().ceil().max(1.0);
        let protocol = if self.tls.is_some() { "TCPS" } else { "TCP" };
        let database = match self.database {
            Database::Service(name) => format!("SERVICE_NAME={name}"),
            Database::Sid(sid) => format!("SID={sid}"),
        };
        let security = match &self.tls {
            None => String::new(),
            Some(tls) => {
                let wallet = tls
                    .wallet
                    .map_or(String::new(), |path| format!("(MY_WALLET_DIRECTORY={path})"));
                let checks_name = if tls.checks_name { "TRUE" } else { "FALSE" };
                format!("(SECURITY=(SSL_SERVER_DN_MATCH={checks_name}){wallet})")
            }
        };
        format!(
            "(DESCRIPTION=(CONNECT_TIMEOUT={seconds})(TRANSPORT_CONNECT_TIMEOUT={seconds})(RETRY_COUNT=0)\
             (ADDRESS=(PROTOCOL={protocol})(HOST={})(PORT={}))(CONNECT_DATA=({database})){security})",
            self.host, self.port
        )
    }
}

fn required<'a>(field: &str, value: Option<&'a str>) -> Result<&'a str, SecretInvalid> {
    value.ok_or_else(|| SecretInvalid::new(field, "is missing"))
}

fn no_nul<'a>(field: &str, value: &'a str) -> Result<&'a str, SecretInvalid> {
    if value.contains('\0') {
        return Err(SecretInvalid::new(field, "holds a NUL character"));
    }
    Ok(value)
}

/// A host, a service or a SID without characters that end a value in a connect descriptor.
fn plain<'a>(field: &str, value: &'a str) -> Result<&'a str, SecretInvalid> {
    let known = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '$' | '#' | '%' | '/');
    if value.is_empty() || !value.chars().all(known) {
        return Err(SecretInvalid::new(
            field,
            "holds a character that a connect descriptor cannot",
        ));
    }
    Ok(value)
}

fn plain_path<'a>(field: &str, value: &'a str) -> Result<&'a str, SecretInvalid> {
    if value.contains(|c: char| c.is_control() || matches!(c, '(' | ')' | '=' | '"' | '\'')) {
        return Err(SecretInvalid::new(
            field,
            "holds a character that a connect descriptor cannot",
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenantry_core::SecretValue;

    use super::*;

    fn config(secret: Value) -> DatabaseConfig {
        DatabaseConfig::parse(&SecretValue::new(secret)).unwrap()
    }

    fn descriptor(secret: Value) -> String {
        let config = config(secret);
        Address::of(&config, Some(Path::new("/wallets/one")))
            .unwrap()
            .descriptor(Duration::from_millis(1500))
    }

    #[test]
    fn a_service_comes_before_a_sid_before_the_database() {
        let secret =
            |own: Value| json!({"type": "oracle", "host": "h", "database": "d", "username": "u", "oracle": own});
        let cases = [
            (json!({"service": {"name": "XE", "sid": "S"}}), "(SERVICE_NAME=XE)"),
            (json!({"service": {"name": "", "sid": "S"}}), "(SID=S)"),
            (json!({"service": {"name": "", "sid": ""}}), "(SERVICE_NAME=d)"),
            (json!({}), "(SERVICE_NAME=d)"),
        ];
        for (own, expected) in cases {
            let descriptor = descriptor(secret(own));
            assert!(descriptor.contains(expected), "{descriptor}");
            assert!(descriptor.contains("(PROTOCOL=TCP)(HOST=h)(PORT=1521)"), "{descriptor}");
            assert!(descriptor.contains("(CONNECT_TIMEOUT=2)"), "{descriptor}");
            assert!(!descriptor.contains("SECURITY"), "{descriptor}");
        }
    }

    #[test]
    fn tls_has_its_own_port_and_a_wallet() {
        let secret = |mode: &str| json!({"type": "oracle", "host": "h", "database": "d", "username": "u", "tls": {"mode": mode}});
        let full = descriptor(secret("verify-full"));
        assert!(full.contains("(PROTOCOL=TCPS)(HOST=h)(PORT=2484)"), "{full}");
        assert!(
            full.contains("(SSL_SERVER_DN_MATCH=TRUE)(MY_WALLET_DIRECTORY=/wallets/one)"),
            "{full}"
        );
        let ca = descriptor(secret("verify-ca"));
        assert!(ca.contains("(SSL_SERVER_DN_MATCH=FALSE)"), "{ca}");
        assert!(descriptor(secret("prefer")).contains("(PROTOCOL=TCP)"));
    }

    #[test]
    fn a_secret_s_text_cannot_leave_its_place_in_the_descriptor() {
        let good = json!({"type": "oracle", "host": "h", "database": "d", "username": "u", "tls": {"mode": "require"}});
        let bad = [
            ("/host", "canary)(PORT=1"),
            ("/database", "canary=x"),
            ("/host", "canary x"),
            ("/username", "canary\0"),
        ];
        for (place, value) in bad {
            let mut secret = good.clone();
            *secret.pointer_mut(place).unwrap() = json!(value);
            let error = Address::of(&config(secret), None).unwrap_err();
            assert_eq!(format!("/{}", error.field), place);
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        let mut secret = good;
        secret["oracle"] = json!({"wallet": {"location": "/canary)(x=y"}});
        assert_eq!(
            Address::of(&config(secret), None).unwrap_err().field,
            "oracle.wallet.location"
        );
    }
}
