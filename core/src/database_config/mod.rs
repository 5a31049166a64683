//! A tenant's parsed secret: the database, its server, and the login.

mod fields;
mod sections;
mod session;
mod tls;
mod url;

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use crate::{SecretInvalid, SecretValue, TenantId, is_this_machine};
use fields::Fields;
pub use sections::{LimitOverrides, PoolOverrides, Pooler, QueryConfig};
pub use session::{SessionConfig, SessionTarget};
pub(crate) use tls::is_tls;
pub use tls::{TlsConfig, TlsMode};

/// What a connection outside of a tenant's pool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The database may be changed.
    Change,
    /// The database is only looked at: opening the connection creates no database and changes none.
    /// A file that would be created looks empty. While it is open, SQLite may keep its own files
    /// beside the database; closing it may move what they hold into the database.
    Look,
}

/// How to reach one tenant's database. It prints neither password nor key.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// The tenant of the secret, if it is known.
    pub tenant: Option<TenantId>,
    /// The `type` or `engine` as the secret writes it, in lower case;
    /// [`DatabaseDriver::aliases`](crate::DatabaseDriver::aliases) says what it stands for.
    pub driver: String,
    /// The server's host name or address.
    pub host: Option<String>,
    /// The server's port.
    pub port: Option<u16>,
    /// Further servers, by host and port, for a driver that tries one after the other.
    pub other_servers: Vec<(String, Option<u16>)>,
    /// Whether the servers are tried in random order.
    pub load_balanced: bool,
    /// How long opening a connection to one server may take; `None` leaves it to the engine.
    pub connect_timeout: Option<Duration>,
    /// The database's name.
    pub database: Option<String>,
    /// The file, for a database that is one.
    pub path: Option<String>,
    /// Whether a missing file is created; `None` leaves it to the driver.
    pub create: Option<bool>,
    /// Whether the connection only looks at the database, as [`Purpose::Look`] says.
    pub looks_only: bool,
    /// Whether the connection, which looks only, is to fail if one that serves requests would.
    pub probes: bool,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// For `auth: rds-iam`, the region of the database. A token that is made for each login takes
    /// the password's place, and `tls.mode` is `require` at least.
    pub rds_iam: Option<String>,
    /// How a session begins.
    pub session: SessionConfig,
    /// The secret's settings for the tenant's pool.
    pub pool: PoolOverrides,
    /// The secret's settings for statements.
    pub query: QueryConfig,
    /// The secret's limits for the tenant's requests.
    pub limits: LimitOverrides,
    /// Whether a connection pooler is between the engine and the server; `None` for the driver's
    /// default.
    pub pooler: Option<Pooler>,
    /// How the connection is encrypted.
    pub tls: TlsConfig,
    /// The whole secret, for what only one driver knows, such as `oracle.service.name`.
    pub document: SecretValue,
}

impl DatabaseConfig {
    /// Reads a secret in any of the contract's forms: native, AWS RDS, or a `url`. Unknown keys are
    /// ignored, but for those that begin with `ssl` or `tls`.
    ///
    /// # Errors
    /// The first field that is missing or malformed, never its value.
    pub fn parse(secret: &SecretValue) -> Result<Self, SecretInvalid> {
        let object = secret
            .expose()
            .as_object()
            .ok_or_else(|| SecretInvalid::new("secret", "is not a JSON object"))?;
        let fields = Fields { object, at: "" };
        let mut config = Self {
            tenant: None,
            driver: String::new(),
            host: fields.host()?,
            port: fields.port("port")?,
            other_servers: Vec::new(),
            load_balanced: false,
            connect_timeout: None,
            database: fields.first_text(&["database", "dbname"])?,
            path: fields.text("path")?,
            create: fields.boolean("create")?,
            looks_only: false,
            probes: false,
            username: fields.first_text(&["username", "user"])?,
            password: fields.text("password")?.map(SecretString::from),
            rds_iam: None,
            session: SessionConfig {
                schema: fields.text("schema")?,
                ..SessionConfig::default()
            },
            pool: PoolOverrides::parse(&fields)?,
            query: QueryConfig::parse(&fields)?,
            limits: LimitOverrides::parse(&fields)?,
            pooler: Pooler::parse(&fields)?,
            tls: TlsConfig::parse(&fields)?,
            document: secret.clone(),
        };
        if let Some(driver) = fields.first_text(&["type", "engine"])? {
            config.driver = driver.to_ascii_lowercase();
        }
        if let Some(url) = fields.text("url")?.map(SecretString::from) {
            url::complete(&mut config, &url)?;
        }
        if config.driver.is_empty() {
            return Err(SecretInvalid::new("type", "is missing"));
        }
        config.tls.settle()?;
        match fields.text("auth")?.as_deref() {
            None | Some("password") => {}
            Some("rds-iam") => config.log_in_by_token(fields.text("region")?)?,
            Some(_) => return Err(SecretInvalid::new("auth", "is neither `password` nor `rds-iam`")),
        }
        Ok(config)
    }

    /// The field of the secret that names the driver: `type`, or `url` by its scheme.
    pub fn driver_field(&self) -> &'static str {
        let object = self.document.expose().as_object();
        let is_set = |name| {
            let value = object
                .and_then(|object| object.get(name))
                .and_then(|value| value.as_str());
            value.is_some_and(|text| !text.is_empty())
        };
        if is_set("type") || is_set("engine") {
            "type"
        } else {
            "url"
        }
    }

    /// Completes `auth: rds-iam`. Without a `region` in the secret, it is taken from the host's
    /// name.
    fn log_in_by_token(&mut self, region: Option<String>) -> Result<(), SecretInvalid> {
        let wrong = |field: &str, reason: &str| Err(SecretInvalid::new(field, reason));
        if self.password.is_some() {
            return wrong("password", "is not used with `auth: rds-iam`: remove it");
        }
        let mut hosts = self.host.iter().chain(self.other_servers.iter().map(|(host, _)| host));
        if hosts.any(|host| host.starts_with('/')) {
            return wrong("host", "is a Unix socket, which `auth: rds-iam` cannot use");
        }
        if *self.tls.mode.get_or_insert(TlsMode::Require) < TlsMode::Require {
            return wrong("tls.mode", "must be `require` or stricter with `auth: rds-iam`");
        }
        let in_name = |host: &String| {
            let name = host.strip_suffix(".rds.amazonaws.com")?;
            name.rsplit_once('.').map(|(_, region)| region.to_owned())
        };
        match region.or_else(|| self.host.as_ref().and_then(in_name)) {
            None => wrong("region", "is missing"),
            region => {
                self.rds_iam = region;
                Ok(())
            }
        }
    }

    /// The same for a connection that only looks at the database.
    pub(crate) fn to_look(&self) -> Self {
        Self {
            looks_only: true,
            ..self.clone()
        }
    }

    /// The same for a connection that only looks, to find out whether requests can be served.
    pub(crate) fn to_probe(&self) -> Self {
        Self {
            probes: true,
            ..self.to_look()
        }
    }

    /// A driver's own field below the secret's root, by JSON pointer, such as `/oracle/sid`.
    pub fn option(&self, pointer: &str) -> Option<&Value> {
        self.document.expose().pointer(pointer)
    }

    /// Refuses `pooler: transaction` for a driver that needs a server session of its own.
    ///
    /// # Errors
    /// The secret has `pooler: transaction`.
    pub fn refuse_transaction_pooler(&self) -> Result<(), SecretInvalid> {
        match self.pooler {
            Some(Pooler::Transaction) => Err(SecretInvalid::new(
                "pooler",
                "is `transaction`, which works with the driver `postgresql` only: remove it",
            )),
            Some(Pooler::None) | None => Ok(()),
        }
    }

    /// Refuses `auth: rds-iam` for a driver without token logins on Amazon RDS.
    ///
    /// # Errors
    /// The secret has `auth: rds-iam`.
    pub fn refuse_rds_iam(&self) -> Result<(), SecretInvalid> {
        match self.rds_iam {
            Some(_) => Err(SecretInvalid::new(
                "auth",
                "is `rds-iam`, which works with the drivers `postgresql` and `mysql` only",
            )),
            None => Ok(()),
        }
    }

    /// Refuses the names of TLS files for a driver that has no use for them.
    ///
    /// # Errors
    /// The secret names an authority, a certificate or a key.
    pub fn refuse_certificates(&self, reason: &str) -> Result<(), SecretInvalid> {
        let TlsConfig { ca, cert, key, .. } = &self.tls;
        let named = [
            ("tls.ca", ca.is_some()),
            ("tls.cert", cert.is_some()),
            ("tls.key", key.is_some()),
        ];
        match named.iter().find(|(_, is_named)| *is_named) {
            Some((field, _)) => Err(SecretInvalid::new(*field, reason)),
            None => Ok(()),
        }
    }

    /// Whether a server is on another machine, as far as its name says.
    pub fn leaves_machine(&self) -> bool {
        let is_here = |host: &String| host.starts_with('/') || is_this_machine(host);
        let others = self.other_servers.iter().map(|(host, _)| host);
        !self.host.iter().chain(others).all(is_here)
    }

    /// Whether both name the same database, whatever the login and the other settings.
    pub fn is_same_database(&self, other: &Self) -> bool {
        self.driver == other.driver
            && self.host == other.host
            && self.port == other.port
            && self.other_servers == other.other_servers
            && self.database == other.database
            && self.path == other.path
            && self.session.schema == other.session.schema
            && self.option("/oracle/service/name") == other.option("/oracle/service/name")
            && self.option("/oracle/service/sid") == other.option("/oracle/service/sid")
            && self.option("/oracle/sid") == other.option("/oracle/sid")
    }
}

#[cfg(test)]
mod tests;
