//! The engine's settings: `tenancy.secrets`, `tenancy.pools` and `tenancy.limits`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::HumanDuration;

/// How long secrets are kept, and what happens when they cannot be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsSettings {
    /// How long a secret is used before it is read again. It stays in use meanwhile.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub ttl: HumanDuration,
    /// The most secrets in the cache; the least recently used one is evicted first.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_entries: usize,
    /// The fraction of `ttl` that varies at random from secret to secret, so that they are not all
    /// read at once.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// How long after its `ttl` a secret is still used while the provider fails.
    pub stale_if_error: HumanDuration,
    /// How long the answer "unknown tenant" is cached.
    pub not_found_ttl: HumanDuration,
}

impl Default for SecretsSettings {
    fn default() -> Self {
        Self {
            ttl: HumanDuration::from_secs(5 * 60),
            max_entries: 1000,
            jitter: 0.1,
            stale_if_error: HumanDuration::from_secs(60 * 60),
            not_found_ttl: HumanDuration::from_secs(30),
        }
    }
}

/// How many databases and connections are open at once, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolsSettings {
    /// The most tenants with idle connections; those of the least recently used tenant are closed
    /// first. A tenant without connections does not count.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: usize,
    /// The most connections that are open at once, over all tenants. The last tenth of them is for
    /// tenants that have none yet.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: usize,
    /// The most connections to one tenant's database, whatever its secret asks for; `null` for no
    /// limit but `max_connections`.
    #[schemars(range(min = 1, max = 65_535))]
    pub max_per_tenant: Option<usize>,
    /// A tenant's connections are closed after this time without a request.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub idle_timeout: HumanDuration,
    /// How long opening one connection may take.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub connect_timeout: HumanDuration,
    /// How long a request waits for a connection.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub acquire_timeout: HumanDuration,
    /// The defaults for tenants with no such setting in their secret.
    pub defaults: PoolDefaults,
}

impl Default for PoolsSettings {
    fn default() -> Self {
        Self {
            max: 100,
            max_connections: 200,
            max_per_tenant: None,
            idle_timeout: HumanDuration::from_secs(30 * 60),
            connect_timeout: HumanDuration::from_secs(5),
            acquire_timeout: HumanDuration::from_secs(5),
            defaults: PoolDefaults::default(),
        }
    }
}

/// One tenant's pool, unless its secret says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolDefaults {
    /// The most connections to one tenant's database.
    #[schemars(range(min = 1, max = 65_535))]
    pub max_connections: usize,
    /// How many idle connections stay open; more are closed soon after a burst.
    pub idle_connections: usize,
    /// How long an idle connection stays open.
    pub idle_time: HumanDuration,
    /// How long a connection stays open at most.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub max_lifetime: HumanDuration,
}

impl Default for PoolDefaults {
    fn default() -> Self {
        Self {
            max_connections: 20,
            idle_connections: 5,
            idle_time: HumanDuration::from_secs(30 * 60),
            max_lifetime: HumanDuration::from_secs(60 * 60),
        }
    }
}

/// What one tenant may ask for at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSettings {
    /// The most requests of one tenant that run at once; one more is answered 429 `tenant_busy`.
    #[schemars(range(min = 1))]
    pub concurrent_requests: usize,
    /// The most requests of one tenant per second, bursts of one second's worth allowed; one more
    /// is answered 429 `rate_limited`. `null` for no limit.
    #[schemars(range(min = 1))]
    pub requests_per_second: Option<u32>,
}

impl Default for LimitsSettings {
    fn default() -> Self {
        Self {
            concurrent_requests: 1000,
            requests_per_second: None,
        }
    }
}

/// All of the engine's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSettings {
    /// `tenancy.secrets`.
    pub secrets: SecretsSettings,
    /// `tenancy.pools`.
    pub pools: PoolsSettings,
    /// `tenancy.limits`.
    pub limits: LimitsSettings,
    /// `migrations.timeout`: how long preparing one tenant's database may take.
    pub migrations_timeout: HumanDuration,
}

/// The default of `migrations.timeout`.
pub const DEFAULT_MIGRATIONS_TIMEOUT: HumanDuration = HumanDuration::from_secs(10 * 60);

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            secrets: SecretsSettings::default(),
            pools: PoolsSettings::default(),
            limits: LimitsSettings::default(),
            migrations_timeout: DEFAULT_MIGRATIONS_TIMEOUT,
        }
    }
}
