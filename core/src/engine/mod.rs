//! Between a tenant's name and its database: secrets are cached, pools opened and closed, connections counted.
//!
//! ```text
//! TenantId -> Tenants::acquire -+- SecretCache   time to live, one fetch at a time, served while stale, unknown remembered
//!                               +- PoolCache     pools in order of use, a budget of connections over all of them
//!                                     -> TenantDatabase
//! ```
//!
//! All that belongs to one tenant is in its `TenantEntry`. While its secret is within its time and its pool is open, a request finds all it
//! needs in one `OpenTenant`, by one look-up without a lock; from then on it shares nothing with other tenants' requests. Whatever changes
//! the secret or the pool raises the entry's epoch, and what was put together before it no longer holds.

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
mod open_tenants;
mod opening;
mod pool;
mod pool_cache;
mod running;
mod secret_cache;
mod settings;
mod sql;
mod stopwatch;
mod tally;
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
pub use settings::{EngineSettings, LimitsSettings, PoolDefaults, PoolsSettings, SecretsSettings};
pub use tally::RequestTally;
pub use tenants::{AcquireError, CacheSnapshot, OpenedConnection, Tenants, TenantsParts};
pub use transaction::TenantTransaction;
pub use usage::{KnownTenant, TenantUsage, Usage, UsageSnapshot};
