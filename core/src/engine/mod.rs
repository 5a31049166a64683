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
//! Each piece of state is a plain data structure, tested against a model. It has one owner and one
//! lock, and the code around it does what it decides. A thread that holds one of these locks may
//! take those below it:
//!
//! | Lock | What it guards |
//! | --- | --- |
//! | a shard of `Directory` | the known tenants by their ids |
//! | `Tenant::holdings` | a tenant's secret, and which pool it has |
//! | `Secrets::unknown` | the ids that the provider does not know, and its list |
//! | `Pool::inner` | a pool's connections and waiting requests, and the secret it logs in with |
//! | `Budget::state` | the permits of all pools, and the pools that wait for one |
//! | `Secrets::counters`, `UsageAccount` | counters |
//!
//! The other locks, such as `Leases::held` and `Secret::encryption`, are held for one step, and no
//! lock is taken under them. None of all these is held across an `.await`. Those that are, are
//! tokio's: `Pool::preparing` (migrations run under it), `Secrets::listed` (the provider's list is
//! read under it), `Secret::server_version`, and the two of a transaction's session. Under the lock
//! of a pool nothing is opened, closed or sent; the driver's `secret_changed` is called there.
//!
//! While a tenant's secret is fresh and its pool is there, a request takes one look-up in the
//! directory, one atomic count in the tenant's admission, two short locks of its tenant and one
//! read of the clock; from then on it shares nothing with other tenants' requests.
//!
//! Two words have two meanings. A *lease* is a request's use of one connection (`pool`), and the
//! time for which a provider lends a secret (`crate::leases`). A *probe* is the next try of a
//! database that failed (`pool::breaker`), and the question of a health check.
//!
//! `docs/architecture.md` shows which code handles which failure, and what bounds everything.

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
#[cfg(test)]
mod tests;

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
