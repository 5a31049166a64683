//! Between a tenant's name and its database: secrets are cached, pools opened and closed,
//! connections counted.
//!
//! ```text
//! TenantId -> Tenants::acquire -> Tenant -+- secrets   TTL, one fetch at a time, used while it is
//!                                         |            renewed, unknown tenants cached
//!                                         +- pool      idle connections, waiting requests,
//!                                              |       openings
//!                                              `- budget   the ceiling over all pools
//!                -> TenantDatabase
//! ```
//!
//! Each piece of state has one owner and one lock: the directory of tenants, a tenant's secret and
//! pool, what is known of unknown tenants, a pool's connections, the budget's account. Locks are
//! taken in this order, and those of counters last. The states are plain data structures, tested
//! against models; the code around them does what they say.
//!
//! While a tenant's secret is fresh and its pool is there, a request takes one look-up in the
//! directory, one atomic count in the tenant's admission and one read of the clock; from then on it
//! shares nothing with other tenants' requests.

mod budget;
mod database;
mod health;
mod house;
mod measure;
mod pace;
mod pool;
mod secrets;
mod settings;
mod tenant;
mod tenants;

pub use database::{TenantConnection, TenantDatabase, TenantTransaction};
pub use health::{KnownTenant, UsageSnapshot};
pub use house::TenantsParts;
pub use measure::{
    cache::{CacheSnapshot, PoolMetrics, SecretMetrics},
    observer::{EngineObserver, FetchOutcome, StatementEnd},
    tally::RequestTally,
    usage::{TenantUsage, Usage},
};
pub use settings::{
    DEFAULT_MIGRATIONS_TIMEOUT, EngineSettings, LimitsSettings, PoolDefaults, PoolsSettings, SecretsSettings,
};
pub use tenants::{OpenedConnection, Tenants};

pub use crate::{
    acquire_error::AcquireError,
    health::{HealthPage, HealthQuery, PoolStatus, SecretSnapshot, StatusCounts, TenantSnapshot, TenantStatus},
    on_connect::{OnConnect, SchemaBehind, SchemaVersion},
};

/// Runs random histories against a model: as many as `TENANTRY_HISTORIES` says, 100,000 by default.
/// A history that fails names its seed.
#[cfg(test)]
fn histories(history: fn(u64)) {
    let count = std::env::var("TENANTRY_HISTORIES")
        .ok()
        .and_then(|count| count.parse().ok());
    (0..count.unwrap_or(100_000)).for_each(history);
}
