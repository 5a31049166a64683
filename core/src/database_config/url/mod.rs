//! A secret's `url`, read as libpq reads it, or as MySQL's clients do.
//!
//! Every parameter is honoured or refused by its name. A password that was pasted without escaping
//! works if its `/` does not end what libpq takes for the password; else the URL is refused, and no
//! part of it is taken for a host. In such a URL an `@` follows the host; it is refused for that.

mod common;
mod mysql;
mod parts;
mod postgresql;
mod sqlite;
#[cfg(test)]
mod tests;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{DatabaseConfig, Pooler, SessionConfig, TlsConfig, tls::Refusal};
use crate::SecretInvalid;
use parts::Parts;

/// The settings of a URL, in the terms of a secret.
#[derive(Default)]
struct UrlSettings {
    servers: Vec<(String, Option<u16>)>,
    load_balanced: bool,
    connect_timeout: Option<Duration>,
    database: Option<String>,
    username: Option<String>,
    password: Option<SecretString>,
    session: SessionConfig,
    max_connections: Option<usize>,
    pooler: Option<Pooler>,
    tls: TlsConfig,
}

/// A kind of database, as far as its URLs differ from others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Postgresql,
    Mysql,
    Sqlite,
    Other,
}

impl Family {
    /// By the URL's scheme, without `jdbc:` and what SQLAlchemy writes after a `+`, or by `type`.
    fn of(name: &str) -> Self {
        match name {
            "postgres" | "postgresql" | "aurora-postgresql" | "pgsql" | "psql" | "postgis" => Self::Postgresql,
            "mysql" | "mysql2" | "mariadb" | "aurora-mysql" => Self::Mysql,
            "sqlite" | "sqlite3" => Self::Sqlite,
            _ => Self::Other,
        }
    }

    /// The driver that a URL with this scheme is for.
    fn driver(self, scheme: &str) -> String {
        match self {
            Self::Postgresql => "postgresql".to_owned(),
            Self::Mysql => "mysql".to_owned(),
            Self::Sqlite => "sqlite".to_owned(),
            Self::Other => scheme.to_owned(),
        }
    }
}

fn invalid(reason: impl Into<String>) -> SecretInvalid {
    SecretInvalid::new("url", reason)
}

/// Fills in from its `url` what the secret does not say itself.
///
/// # Errors
/// The URL is malformed, or has a parameter that is not known or cannot be honoured.
pub(super) fn complete(config: &mut DatabaseConfig, url: &SecretString) -> Result<(), SecretInvalid> {
    let parts = Parts::split(url.expose_secret())?;
    let family = Family::of(&parts.scheme);
    if config.driver.is_empty() {
        config.driver = family.driver(&parts.scheme);
    } else if Family::of(&config.driver) != family {
        return Err(SecretInvalid::new(
            "type",
            "is another kind of database than `url` names",
        ));
    }
    if family == Family::Sqlite {
        return sqlite::complete(config, &parts);
    }
    let settings = UrlSettings::read(family, &parts)?;
    settings.complete(config)?;
    // As libpq does it.
    if family == Family::Postgresql && config.database.is_none() {
        config.database = config.username.clone();
    }
    Ok(())
}

impl UrlSettings {
    fn read(family: Family, parts: &Parts<'_>) -> Result<Self, SecretInvalid> {
        let place = parts.place()?;
        let mut settings = Self {
            servers: place.servers,
            database: place.database,
            username: place.username,
            password: place.password,
            ..Self::default()
        };
        if family != Family::Postgresql && settings.servers.len() > 1 {
            return Err(invalid("names several hosts, which only the driver `postgresql` tries"));
        }
        for parameter in parts.parameters()? {
            let (name, value) = (parameter.name.as_str(), parameter.value.expose_secret());
            let outcome = match family {
                Family::Postgresql => postgresql::set(&mut settings, name, value, parts.is_jdbc),
                Family::Mysql => mysql::set(&mut settings, name, value, parts.is_jdbc),
                Family::Sqlite | Family::Other => settings.set_common(name, value),
            };
            outcome.map_err(|refusal| parts.refused(name, refusal))?;
        }
        Ok(settings)
    }

    fn complete(self, config: &mut DatabaseConfig) -> Result<(), SecretInvalid> {
        let mut servers = self.servers.into_iter();
        if config.host.is_none() {
            if let Some((host, port)) = servers.next() {
                config.host = Some(host);
                config.port = config.port.or(port);
            }
            config.other_servers = servers.collect();
        } else if config.port.is_none() {
            config.port = servers.next().and_then(|(_, port)| port);
        }
        config.load_balanced = self.load_balanced;
        config.connect_timeout = self.connect_timeout;
        config.database = config.database.take().or(self.database);
        config.username = config.username.take().or(self.username);
        config.password = config.password.take().or(self.password);
        let schema = config.session.schema.take().or(self.session.schema);
        config.session = SessionConfig { schema, ..self.session };
        config.pool.max_connections = config.pool.max_connections.or(self.max_connections);
        config.pooler = config.pooler.or(self.pooler);
        config
            .tls
            .add(self.tls)
            .map_err(|_| invalid("contradicts what the secret says of TLS"))
    }
}
