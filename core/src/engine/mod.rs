//! Between a tenant's name and its database: secrets are cached, pools opened and closed, connections counted.
//!
//! ```text
//! TenantId -> Tenants::acquire -+- SecretCache   time to live, one fetch at a time, served while stale, unknown remembered
//!                               +- PoolCache     pools in order of use, a budget of connections over all of them
//!                                     -> TenantDatabase
//! ```
//!
//! All that belongs to one tenant is in its `TenantEntry`; a request looks it up once, in a sharded map, and from then on shares nothing
//! with other tenants' requests.

mod backoff;
mod budget;
mod connection;
mod database;
mod entry;
mod health;
mod pool;
mod pool_cache;
mod secret_cache;
mod settings;
mod sql;
mod tenants;
mod transaction;
mod unknown;

pub use database::TenantDatabase;
pub use entry::QueryStats;
pub use health::{SecretSnapshot, TenantSnapshot, TenantStatus};
pub use pool::{OnConnect, PoolStatus};
pub use pool_cache::PoolMetrics;
pub use secret_cache::SecretMetrics;
pub use settings::{EngineSettings, LimitsSettings, PoolDefaults, PoolsSettings, SecretsSettings};
pub use tenants::{AcquireError, CacheSnapshot, OpenedConnection, Tenants, TenantsParts};
pub use transaction::TenantTransaction;
