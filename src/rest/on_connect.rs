//! Compares a tenant's catalogue with the declared tables when its pool is opened.

use std::sync::Arc;

use async_trait::async_trait;
use tenantry_core::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, DatabaseError, TenantId,
    engine::{OnConnect, SchemaVersion},
};
use tenantry_tables::Rest;

/// Applies the migrations, and compares then.
pub(crate) struct ComparedOnConnect {
    first: Arc<dyn OnConnect>,
    rest: Arc<Rest>,
}

impl ComparedOnConnect {
    pub(crate) fn new(first: Arc<dyn OnConnect>, rest: Arc<Rest>) -> Self {
        Self { first, rest }
    }
}

#[async_trait]
impl OnConnect for ComparedOnConnect {
    async fn prepare(
        &self,
        tenant: &TenantId,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        let mut version = self.first.prepare(tenant, driver, config, connection).await?;
        if version.is_none() && self.rest.needs_version() {
            version = self.first.look(driver, connection).await?;
        }
        let (name, backend) = (driver.migration_dialect(), driver.backend());
        let compared = self
            .rest
            .compare_on(tenant, name, backend, version.as_ref(), connection)
            .await;
        if let Err(error) = compared {
            let failed = error.downcast_ref::<DatabaseError>();
            if failed.is_some_and(|failed| failed.kind.is_lost()) {
                return Err(error);
            }
            // What is missing is found out by the requests that need it.
            tracing::debug!(tenant_id = %tenant, error = %error, "the tenant's catalogue cannot be read");
        }
        Ok(version)
    }

    async fn look(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        self.first.look(driver, connection).await
    }
}
