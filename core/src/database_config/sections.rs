//! A secret's settings for the tenant's pool, statements and limits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::Fields;
use crate::SecretInvalid;

/// A tenant's own pool limits; what is `None` comes from `tenancy.pools.defaults`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolOverrides {
    /// `pool.max.connections`: the most connections.
    pub max_connections: Option<usize>,
    /// `pool.idle.connections`: how many idle connections stay open.
    pub idle_connections: Option<usize>,
    /// `pool.idle.time`: how long an idle connection stays open.
    pub idle_time: Option<Duration>,
    /// `pool.lifetime.max`: how long a connection stays open at most.
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
    /// One that may run each transaction in another server session, such as PgBouncer in
    /// transaction mode or Amazon RDS Proxy: no named statements, no session settings, no session
    /// locks.
    Transaction,
}

/// Settings for slow statements and time-outs.
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

impl PoolOverrides {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, SecretInvalid> {
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
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, SecretInvalid> {
        let mut config = Self::default();
        let Some(query) = fields.object("query")? else {
            return Ok(config);
        };
        let query = Fields {
            object: query,
            at: "query.",
        };
        config.timeout = query.duration("timeout")?;
        // PostgreSQL counts milliseconds in 31 bits, Oracle's client library in 32, and both read 0
        // as no limit.
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
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, SecretInvalid> {
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
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Option<Self>, SecretInvalid> {
        match fields.text("pooler")?.as_deref() {
            None => Ok(None),
            Some("none") => Ok(Some(Self::None)),
            Some("transaction") => Ok(Some(Self::Transaction)),
            Some(_) => fields.wrong("pooler", "is neither `none` nor `transaction`"),
        }
    }
}
