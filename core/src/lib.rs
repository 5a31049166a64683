//! The plugin traits of Tenantry, their types, the registry, and the engine between them.
//!
//! A request's head goes to a [`TenantResolver`], which finds a [`TenantId`]. A [`SecretProvider`]
//! holds that tenant's [`SecretDocument`], which is read into a [`DatabaseConfig`]. A
//! [`DatabaseDriver`] opens [`Connection`]s to it. The engine caches, pools and counts between
//! them. This crate does no input or output of its own and names no plugin.

mod acquire_error;
mod as_sea_orm;
mod byte_size;
#[cfg(feature = "conformance")]
pub mod conformance;
mod constraint;
mod database_config;
mod driver;
pub mod driver_settings;
mod duration;
mod endpoint;
pub mod engine;
mod error;
mod health;
mod leases;
mod login;
mod on_connect;
mod plugin;
mod provider;
mod registry;
mod request;
mod resolver;
pub mod rows;
mod script;
mod secret;
mod section;
mod sql;
mod tenant_id;
mod timer;
mod trace;

#[cfg(any(test, feature = "conformance"))]
pub use as_sea_orm::tenant_database;
pub use byte_size::ByteSize;
pub use database_config::{
    DatabaseConfig, LimitOverrides, PoolOverrides, Pooler, Purpose, QueryConfig, SessionConfig, SessionTarget,
    TlsConfig, TlsMode,
};
pub use driver::{
    Connection, DatabaseDriver, Encryption, MigrationLock, MigrationQueries, RowStream, ServerVersion, driver_named,
};
pub use duration::{HumanDuration, TOO_LONG, UNIT_MISSING, is_bare_number, milliseconds};
pub use endpoint::{http_url, is_this_machine};
pub use error::{
    BoxError, Cause, DatabaseError, DatabaseErrorKind, DriverError, DriverErrorKind, SecretInvalid, database_words,
};
pub use plugin::{BuildContext, BuildError, Plugin};
pub use provider::{ProviderError, SecretProvider};
pub use registry::{Registered, Registry, nearest, without_value};
pub use request::{ForwardedHeader, RequestHead, TrustedProxies};
pub use resolver::{ApiKeyPlace, Claims, MalformedReason, Resolution, ResolveError, TenantLocation, TenantResolver};
pub use script::{ScriptFault, ScriptStatement, StatementEffect};
pub use secret::{Lease, SecretDocument, SecretValue, SecretVersion};
pub use section::{RegisteredSection, Sections};
pub use tenant_id::{DEFAULT_TENANT_ID_PATTERN, MAX_TENANT_ID_BYTES, TenantId, TenantIdError, TenantIdPattern};
pub use timer::Timer;
pub use trace::{TRACE_TARGET, database_system, is_traced};
