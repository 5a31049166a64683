//! The address of a database server, the database and the login, read from a secret.

use secrecy::ExposeSecret as _;
use tenantry_core::{DatabaseConfig, SecretInvalid};

/// The fields that a database server needs.
#[derive(Clone, Copy)]
pub(crate) struct ServerAddress<'a> {
    /// A host name or an address. If it begins with `/`, the folder (PostgreSQL) or path (MySQL) of
    /// a socket.
    pub(crate) host: &'a str,
    /// The port; the driver's default if the secret names none.
    pub(crate) port: u16,
    /// The database.
    pub(crate) database: &'a str,
    /// The user.
    pub(crate) username: &'a str,
}

impl<'a> ServerAddress<'a> {
    /// Whether it is a Unix socket.
    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// # Errors
    /// The field that is missing, or that contains a NUL, which ends texts in the protocol.
    pub(crate) fn of(config: &'a DatabaseConfig, default_port: u16) -> Result<Self, SecretInvalid> {
        let password = config.password.as_ref().map(|password| password.expose_secret());
        if password.is_some_and(|password| password.contains('\0')) {
            return Err(SecretInvalid::new("password", "holds a NUL character"));
        }
        Ok(Self {
            host: text("host", config.host.as_deref())?,
            port: config.port.unwrap_or(default_port),
            database: text("database", config.database.as_deref())?,
            username: text("username", config.username.as_deref())?,
        })
    }
}

fn text<'a>(field: &str, value: Option<&'a str>) -> Result<&'a str, SecretInvalid> {
    match value {
        None => Err(SecretInvalid::new(field, "is missing")),
        Some(value) if value.contains('\0') => Err(SecretInvalid::new(field, "holds a NUL character")),
        Some(value) => Ok(value),
    }
}
