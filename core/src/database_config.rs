//! A tenant's secret, read: which database, where, as whom.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::{HumanDuration, SecretInvalid, SecretValue, TenantId, UNIT_MISSING, is_bare_number};

/// How to reach one tenant's database. It prints neither password nor key.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// The tenant whose secret it is, if that is known.
    pub tenant: Option<TenantId>,
    /// The `type` or `engine` as the secret writes it, in lower case; [`DatabaseDriver::aliases`](crate::DatabaseDriver::aliases)
    /// tells what it stands for.
    pub driver: String,
    /// The server's host name or address.
    pub host: Option<String>,
    /// The server's port.
    pub port: Option<u16>,
    /// The database's name.
    pub database: Option<String>,
    /// The file, for a database that is one.
    pub path: Option<String>,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// What the secret says of the tenant's pool.
    pub pool: PoolOverrides,
    /// What the secret says of statements.
    pub query: QueryConfig,
    /// What the tenant may ask for at once.
    pub limits: LimitOverrides,
    /// Whether a connection pooler stands between the engine and the server; `None` leaves it to the
    /// driver's default.
    pub pooler: Option<Pooler>,
    /// How the connection is encrypted.
    pub tls: TlsConfig,
    /// The whole secret, for what only one driver knows, such as `oracle.service.name`.
    pub document: SecretValue,
}

/// A tenant's own pool limits; what is `None` comes from `tenancy.pools.defaults`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolOverrides {
    /// `pool.max.connections`: the most connections.
    pub max_connections: Option<usize>,
    /// `pool.idle.connections`: how many are kept open without use.
    pub idle_connections: Option<usize>,
    /// `pool.idle.time`: how long one is kept without use.
    pub idle_time: Option<Duration>,
    /// `pool.lifetime.max`: how long one is kept at all.
    pub max_lifetime: Option<Duration>,
}

/// A tenant's own limits; what is `None` comes from `tenancy.limits`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitOverrides {
    /// `limits.concurrent_requests`: the most requests that run at once.
    pub concurrent_requests: Option<usize>,
    /// `limits.requests_per_second`: the most requests per second.
    pub requests_per_second: Option<u32>,
}

/// A connection pooler between the engine and the server (`pooler`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pooler {
    /// None, or one that keeps a server session for each connection.
    #[default]
    None,
    /// One that may run each transaction in another server session, such as PgBouncer in transaction
    /// mode or Amazon RDS Proxy: no named statements, no session settings, no session locks.
    Transaction,
}

/// What is noticed of statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryConfig {
    /// `query.timeout`: how long a statement may run; `None` for the driver's own setting.
    pub timeout: Option<Duration>,
    /// From when on a statement counts as slow; `None` when `query.slow.enabled` is false.
    pub slow_threshold: Option<Duration>,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            timeout: None,
            slow_threshold: Some(Duration::from_millis(200)),
        }
    }
}

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

impl TlsConfig {
    /// Whether a `ca`, `cert` or `key` is PEM text itself, not the path of a file.
    pub fn is_pem(text: &str) -> bool {
        text.trim_start().starts_with("-----BEGIN ")
    }
}

/// What is demanded of the encryption, as libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// None.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Encrypted, the server's certificate unchecked.
    Require,
    /// Encrypted, and the certificate is from an authority that is trusted.
    VerifyCa,
    /// And it is this host's.
    VerifyFull,
}

impl TlsMode {
    /// Reads `verify-full` and its kin, and what MySQL and libpq call them.
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

impl DatabaseConfig {
    /// Reads a secret in any of the contract's forms: native, AWS RDS, or a `url`. Unknown keys are ignored.
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
            host: fields.text("host")?,
            port: fields.port("port")?,
            database: fields.first_text(&["database", "dbname"])?,
            path: fields.text("path")?,
            username: fields.first_text(&["username", "user"])?,
            password: fields.text("password")?.map(SecretString::from),
            pool: PoolOverrides::parse(&fields)?,
            query: QueryConfig::parse(&fields)?,
            limits: LimitOverrides::parse(&fields)?,
            pooler: Pooler::parse(&fields)?,
            tls: TlsConfig::parse(&fields)?,
            document: secret.clone(),
        };
        if let Some(url) = fields.text("url")? {
            config.complete_from_url(&SecretString::from(url))?;
        }
        match fields.first_text(&["type", "engine"])? {
            Some(driver) => config.driver = driver.to_ascii_lowercase(),
            None if config.driver.is_empty() => return Err(SecretInvalid::new("type", "is missing")),
            None => {}
        }
        Ok(config)
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

    /// Whether both name the same database, whoever connects to it and how.
    pub fn is_same_database(&self, other: &Self) -> bool {
        self.driver == other.driver
            && self.host == other.host
            && self.port == other.port
            && self.database == other.database
            && self.path == other.path
            && self.option("/schema") == other.option("/schema")
            && self.option("/oracle/service/name") == other.option("/oracle/service/name")
            && self.option("/oracle/service/sid") == other.option("/oracle/service/sid")
            && self.option("/oracle/sid") == other.option("/oracle/sid")
    }

    /// Fills what the secret does not say itself from its `url`.
    fn complete_from_url(&mut self, url: &SecretString) -> Result<(), SecretInvalid> {
        use secrecy::ExposeSecret;
        let invalid = |reason: &str| SecretInvalid::new("url", reason);
        // `sqlite:tenant1.db` and `sqlite://tenant1.db` name a file, not a host.
        if let Some(path) = url.expose_secret().strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            self.driver = "sqlite".to_owned();
            self.path
                .get_or_insert_with(|| path.split('?').next().unwrap_or(path).to_owned());
            return Ok(());
        }
        let url = Url::parse(url.expose_secret()).map_err(|_| invalid("is not a URL"))?;
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(|_| invalid("is not UTF-8"))
        };
        self.driver = url.scheme().to_ascii_lowercase();
        if self.host.is_none() {
            self.host = url.host_str().map(str::to_owned);
        }
        if self.port.is_none() {
            self.port = url.port();
        }
        let database = url.path().trim_start_matches('/');
        if self.database.is_none() && !database.is_empty() {
            self.database = Some(decode(database)?);
        }
        if self.username.is_none() && !url.username().is_empty() {
            self.username = Some(decode(url.username())?);
        }
        if let (None, Some(password)) = (&self.password, url.password()) {
            self.password = Some(SecretString::from(decode(password)?));
        }
        for (name, value) in url.query_pairs() {
            if matches!(name.as_ref(), "sslmode" | "ssl-mode" | "tls") && self.tls.mode.is_none() {
                let mode = TlsMode::parse(&value).ok_or_else(|| invalid("has an unknown `sslmode`"))?;
                self.tls.mode = Some(mode);
            }
        }
        Ok(())
    }
}

impl PoolOverrides {
    fn parse(fields: &Fields<'_>) -> Result<Self, SecretInvalid> {
        let Some(pool) = fields.object("pool")? else {
            return Ok(Self::default());
        };
        let pool = Fields {
            object: pool,
            at: "pool.",
        };
        let section = |name: &'static str, at: &'static str| Ok(pool.object(name)?.map(|object| Fields { object, at }));
        let max = section("max", "pool.max.")?;
        let idle = section("idle", "pool.idle.")?;
        let lifetime = section("lifetime", "pool.lifetime.")?;
        let max_connections = max.map(|f| f.count("connections")).transpose()?.flatten();
        if max_connections == Some(0) {
            return Err(SecretInvalid::new("pool.max.connections", "is 0"));
        }
        Ok(Self {
            max_connections,
            idle_connections: idle.as_ref().map(|f| f.count("connections")).transpose()?.flatten(),
            idle_time: idle.as_ref().map(|f| f.duration("time")).transpose()?.flatten(),
            max_lifetime: lifetime.map(|f| f.duration("max")).transpose()?.flatten(),
        })
    }
}

impl QueryConfig {
    fn parse(fields: &Fields<'_>) -> Result<Self, SecretInvalid> {
        let mut config = Self::default();
        let Some(query) = fields.object("query")? else {
            return Ok(config);
        };
        let query = Fields {
            object: query,
            at: "query.",
        };
        config.timeout = query.duration("timeout")?;
        // PostgreSQL counts milliseconds in 31 bits, Oracle's client library in 32, and both read 0 as
        // no limit.
        let possible = Duration::from_millis(1)..=Duration::from_secs(24 * 24 * 60 * 60);
        if config.timeout.is_some_and(|timeout| !possible.contains(&timeout)) {
            return Err(SecretInvalid::new("query.timeout", "is not from 1ms to 24 days"));
        }
        let Some(slow) = query.object("slow")? else {
            return Ok(config);
        };
        let slow = Fields {
            object: slow,
            at: "query.slow.",
        };
        if let Some(threshold) = slow.duration("threshold")? {
            config.slow_threshold = Some(threshold);
        }
        if slow.boolean("enabled")? == Some(false) {
            config.slow_threshold = None;
        }
        Ok(config)
    }
}

impl LimitOverrides {
    fn parse(fields: &Fields<'_>) -> Result<Self, SecretInvalid> {
        let Some(object) = fields.object("limits")? else {
            return Ok(Self::default());
        };
        let limits = Fields { object, at: "limits." };
        let limit = |name: &str| match limits.integer(name)?.map(u32::try_from) {
            None => Ok(None),
            Some(Ok(limit)) if limit > 0 => Ok(Some(limit)),
            Some(_) => limits.wrong(name, "is not a whole number from 1 to 4294967295"),
        };
        Ok(Self {
            concurrent_requests: limit("concurrent_requests")?.map(|limit| limit as usize),
            requests_per_second: limit("requests_per_second")?,
        })
    }
}

impl Pooler {
    fn parse(fields: &Fields<'_>) -> Result<Option<Self>, SecretInvalid> {
        match fields.text("pooler")?.as_deref() {
            None => Ok(None),
            Some("none") => Ok(Some(Self::None)),
            Some("transaction") => Ok(Some(Self::Transaction)),
            Some(_) => fields.wrong("pooler", "is neither `none` nor `transaction`"),
        }
    }
}

impl TlsConfig {
    fn parse(fields: &Fields<'_>) -> Result<Self, SecretInvalid> {
        let mut config = Self::default();
        if let Some(tls) = fields.object("tls")? {
            let tls = Fields {
                object: tls,
                at: "tls.",
            };
            if let Some(mode) = tls.text("mode")? {
                let unknown = || {
                    SecretInvalid::new(
                        "tls.mode",
                        "is not `disable`, `prefer`, `require`, `verify-ca` or `verify-full`",
                    )
                };
                config.mode = Some(TlsMode::parse(&mode).ok_or_else(unknown)?);
            }
            config.ca = tls.text("ca")?;
            config.cert = tls.text("cert")?;
            config.key = tls.text("key")?.map(SecretString::from);
        }
        // Amazon RDS writes `"ssl": true`, as a boolean or as text.
        if config.mode.is_none() && fields.boolean("ssl")? == Some(true) {
            config.mode = Some(TlsMode::Require);
        }
        Ok(config)
    }
}

/// The members of one object of the secret, and where it stands.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    at: &'static str,
}

impl<'a> Fields<'a> {
    fn wrong<T>(&self, name: &str, reason: &str) -> Result<T, SecretInvalid> {
        Err(SecretInvalid::new(format!("{}{name}", self.at), reason))
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, SecretInvalid> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => self.wrong(name, "is not a string"),
        }
    }

    fn first_text(&self, names: &[&str]) -> Result<Option<String>, SecretInvalid> {
        for name in names {
            if let Some(text) = self.text(name)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, SecretInvalid> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => self.wrong(name, "is not an object"),
        }
    }

    /// A whole number, or a text that holds one.
    fn integer(&self, name: &str) -> Result<Option<u64>, SecretInvalid> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_u64(),
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => self.wrong(name, "is not a whole number"),
        }
    }

    fn port(&self, name: &str) -> Result<Option<u16>, SecretInvalid> {
        match self.integer(name)?.map(u16::try_from) {
            None => Ok(None),
            Some(Ok(port)) if port > 0 => Ok(Some(port)),
            Some(_) => self.wrong(name, "is not a port from 1 to 65535"),
        }
    }

    fn count(&self, name: &str) -> Result<Option<usize>, SecretInvalid> {
        match self.integer(name)?.map(u16::try_from) {
            None => Ok(None),
            Some(Ok(count)) => Ok(Some(usize::from(count))),
            Some(Err(_)) => self.wrong(name, "is more than 65535"),
        }
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, SecretInvalid> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => self.wrong(name, "is neither true nor false"),
        }
    }

    fn duration(&self, name: &str) -> Result<Option<Duration>, SecretInvalid> {
        let duration = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) if is_bare_number(text) => return self.wrong(name, UNIT_MISSING),
            Some(Value::String(text)) => HumanDuration::parse(text).map(Duration::from),
            Some(value) => value.as_u64().map(Duration::from_nanos),
        };
        match duration {
            Some(duration) if !duration.is_zero() && duration < Duration::from_millis(1) => self.wrong(
                name,
                "is below one millisecond, as a number without a unit is: write `30s`",
            ),
            Some(duration) => Ok(Some(duration)),
            None => self.wrong(name, "is not a duration such as `30m`, nor whole nanoseconds"),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<DatabaseConfig, SecretInvalid> {
        DatabaseConfig::parse(&SecretValue::new(value))
    }

    #[test]
    fn the_native_form_is_read() {
        let config = parse(json!({
            "type": "postgresql", "host": "h", "port": 5432, "database": "d", "username": "u", "password": "p",
            "pool": {"max": {"connections": 20}, "idle": {"connections": 5, "time": "30m"}, "lifetime": {"max": 3_600_000_000_000u64}},
            "query": {"slow": {"threshold": "100ms", "enabled": true}, "log": {"parameters": false}},
            "tls": {"mode": "verify-full", "ca": "/ca.pem"}, "unknown": [1]
        }))
        .unwrap();
        assert_eq!(config.driver, "postgresql");
        assert_eq!(config.port, Some(5432));
        assert_eq!(config.pool.max_connections, Some(20));
        assert_eq!(config.pool.idle_time, Some(Duration::from_secs(1800)));
        assert_eq!(config.pool.max_lifetime, Some(Duration::from_secs(3600)));
        assert_eq!(config.query.slow_threshold, Some(Duration::from_millis(100)));
        assert_eq!(config.tls.mode, Some(TlsMode::VerifyFull));
    }

    #[test]
    fn the_rds_form_is_read() {
        let config = parse(json!({
            "engine": "aurora-postgresql", "host": "h", "port": "5432", "dbname": "d", "username": "u", "password": "p", "ssl": true
        }))
        .unwrap();
        assert_eq!(config.driver, "aurora-postgresql");
        assert_eq!((config.port, config.database.as_deref()), (Some(5432), Some("d")));
        assert_eq!(config.tls.mode, Some(TlsMode::Require));
    }

    #[test]
    fn a_url_is_read() {
        let config = parse(json!({"url": "postgres://us%40er:p%2Fw@db.example:6543/data?sslmode=verify-ca"})).unwrap();
        assert_eq!(config.driver, "postgres");
        assert_eq!(config.host.as_deref(), Some("db.example"));
        assert_eq!(config.port, Some(6543));
        assert_eq!(config.username.as_deref(), Some("us@er"));
        assert_eq!(config.password.unwrap().expose_secret(), "p/w");
        assert_eq!(config.tls.mode, Some(TlsMode::VerifyCa));
        let sqlite = parse(json!({"url": "sqlite://a/b.db"})).unwrap();
        assert_eq!(
            (sqlite.driver.as_str(), sqlite.path.as_deref()),
            ("sqlite", Some("a/b.db"))
        );
    }

    #[test]
    fn a_malformed_secret_names_the_field_and_never_its_value() {
        let canary = "canary-7";
        let cases = [
            (json!([canary]), "secret"),
            (json!({"host": canary}), "type"),
            (json!({"type": [canary]}), "type"),
            (json!({"type": "postgresql", "port": canary}), "port"),
            (json!({"type": "postgresql", "port": 70000}), "port"),
            (json!({"type": "postgresql", "port": 0}), "port"),
            (json!({"type": "postgresql", "password": {"x": canary}}), "password"),
            (json!({"type": "postgresql", "pool": canary}), "pool"),
            (
                json!({"type": "postgresql", "pool": {"max": {"connections": canary}}}),
                "pool.max.connections",
            ),
            (
                json!({"type": "postgresql", "pool": {"max": {"connections": 0}}}),
                "pool.max.connections",
            ),
            (
                json!({"type": "postgresql", "pool": {"idle": {"time": canary}}}),
                "pool.idle.time",
            ),
            (
                json!({"type": "postgresql", "query": {"slow": {"threshold": canary}}}),
                "query.slow.threshold",
            ),
            (
                json!({"type": "postgresql", "query": {"timeout": "30"}}),
                "query.timeout",
            ),
            (json!({"type": "postgresql", "query": {"timeout": 30}}), "query.timeout"),
            (
                json!({"type": "postgresql", "query": {"timeout": "0s"}}),
                "query.timeout",
            ),
            (
                json!({"type": "postgresql", "query": {"timeout": "25d"}}),
                "query.timeout",
            ),
            (
                json!({"type": "postgresql", "limits": {"concurrent_requests": 0}}),
                "limits.concurrent_requests",
            ),
            (
                json!({"type": "postgresql", "limits": {"requests_per_second": canary}}),
                "limits.requests_per_second",
            ),
            (json!({"type": "postgresql", "pooler": canary}), "pooler"),
            (json!({"type": "postgresql", "tls": {"mode": canary}}), "tls.mode"),
            (json!({"url": format!("no url {canary}")}), "url"),
        ];
        for (secret, field) in cases {
            let error = parse(secret).unwrap_err();
            assert_eq!(error.field, field);
            assert!(!error.to_string().contains(canary), "{error}");
        }
    }

    #[test]
    fn a_config_prints_neither_password_nor_key() {
        let config = parse(json!({
            "type": "postgresql", "password": "canary", "tls": {"key": "canary"}, "more": "canary"
        }))
        .unwrap();
        assert!(!format!("{config:?}").contains("canary"));
    }
}
