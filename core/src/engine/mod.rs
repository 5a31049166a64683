//! Between a tenant's name and its database: secrets are cached, pools opened and closed, connections counted.
//!
//! ```text
//! TenantId -> Tenants::acquire -+- SecretCache   time to live, one fetch at a time, served while stale, unknown remembered
//!                               +- PoolCache     pools in order of use, a budget of connections over all of them
//!                                     -> TenantDatabase
//! ```
//!
//! All that belongs to one tenant is in its `TenantEntry`, which the directory creates once. While its secret is fresh and its pool is
//! open, a request takes one look-up in the directory, one atomic count in the tenant's admission and one read of the clock; from then
//! on it shares nothing with other tenants' requests.

mod backoff;
mod breaker;
mod budget;
mod connection;
mod counter;
mod database;
mod entry;
mod health;
mod line;
mod observer;
mod opening;
mod pool;
mod pool_cache;
mod secret_cache;
mod settings;
mod sql;
mod stopwatch;
mod tally;
mod tenant;
mod tenants;
mod transaction;
mod unknown;
mod usage;

pub use database::TenantDatabase;
pub use health::{SecretSnapshot, TenantSnapshot, TenantStatus};
pub use observer::{EngineObserver, FetchOutcome, StatementEnd};
pub use opening::OnConnect;
pub use pool::PoolStatus;
pub use pool_cache::PoolMetrics;
pub use secret_cache::SecretMetrics;
pub use settings::{
    DEFAULT_MIGRATIONS_TIMEOUT, EngineSettings, LimitsSettings, PoolDefaults, PoolsSettings, SecretsSettings,
};
pub use tally::RequestTally;
pub use tenants::{AcquireError, CacheSnapshot, OpenedConnection, Tenants, TenantsParts};
pub use transaction::TenantTransaction;
pub use usage::{KnownTenant, TenantUsage, Usage, UsageSnapshot};
