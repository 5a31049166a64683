//! What comes before the first use of a tenant's database.

use async_trait::async_trait;

use crate::{BoxError, Connection, DatabaseConfig, DatabaseDriver, TenantId};

/// What is done on a tenant's first connection to a database, before anything else: migrations.
#[async_trait]
pub trait OnConnect: Send + Sync {
    /// Prepares the database.
    ///
    /// # Errors
    /// Why it cannot be used; the connection is closed, and the next one tries again.
    async fn prepare(
        &self,
        tenant: &TenantId,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<(), BoxError>;
}
