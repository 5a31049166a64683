//! What comes before the first use of a tenant's database.

use async_trait::async_trait;

use crate::{BoxError, Connection, DatabaseConfig, DatabaseDriver, TenantId};

/// How far the migrations of a database are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The highest version that was applied, such as `0004`.
    pub version: Option<String>,
    /// How many files are left.
    pub pending: usize,
}

/// A database is below the version that is served. An error of [`OnConnect::prepare`] that is one of
/// these is [`DatabaseErrorKind::SchemaBehind`](crate::DatabaseErrorKind::SchemaBehind).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema is at version `{}`, and `{required}` is required", found.version.as_deref().unwrap_or("none"))]
pub struct SchemaBehind {
    /// How far the database is.
    pub found: SchemaVersion,
    /// The lowest version that is served.
    pub required: String,
}

/// What is done on a tenant's first connection to a database, before anything else: migrations.
#[async_trait]
pub trait OnConnect: Send + Sync {
    /// Prepares the database. Returns how far its migrations are, if that is known.
    ///
    /// # Errors
    /// Why it cannot be used; the connection is closed, and the next one tries again.
    async fn prepare(
        &self,
        tenant: &TenantId,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError>;

    /// Returns how far the database's migrations are, for a health check. It changes nothing. By default
    /// that is not known.
    ///
    /// # Errors
    /// [`SchemaBehind`] if requests would be refused for it.
    async fn look(
        &self,
        _driver: &dyn DatabaseDriver,
        _connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, SchemaBehind> {
        Ok(None)
    }
}
