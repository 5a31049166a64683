//! The operator's actions.

use std::sync::Arc;

use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    types::Example,
};
use serde::Serialize;
use tenantry_core::{TenantIdPattern, engine::Tenants};

use crate::{
    Failure, Json, Operator, Problem,
    input::{Body, Faults, Parsed},
    log_level::{LogControl, LogSettings},
    operator_input::{TenantIdText, read_tenant},
    tags::ApiTags,
    tenant_health::TenantHealth,
};

/// The number of cleared secrets.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
struct CacheCleared {
    /// The number.
    cleared: u64,
}

impl Example for CacheCleared {
    fn example() -> Self {
        Self { cleared: 2 }
    }
}

#[derive(ApiResponse)]
enum Done {
    /// Done.
    #[oai(status = 204)]
    Done,
}

/// The operators' operations that change something.
#[derive(Clone)]
pub struct AdminApi {
    /// The engine.
    pub tenants: Tenants,
    /// The rule for tenant ids.
    pub id_pattern: TenantIdPattern,
    /// Sets the log level.
    pub log: Arc<dyn LogControl>,
}

#[OpenApi(prefix_path = "/admin", tag = "ApiTags::Administration")]
impl AdminApi {
    /// Clear cached secrets
    ///
    /// All cached secrets, or those of one tenant. The next request reads them again. Pools stay
    /// open until their secret has changed.
    #[oai(path = "/cache/clear", method = "post", operation_id = "clearCache")]
    async fn clear_cache(
        &self,
        _operator: Operator,
        /// The tenant. Without it, the secrets of all tenants.
        tenant: Query<Option<Parsed<TenantIdText>>>,
    ) -> Result<Json<CacheCleared>, Failure> {
        let tenant = match tenant.0 {
            Some(given) => Some(read_tenant(&self.id_pattern, "tenant", given)?),
            None => None,
        };
        let cleared = self.tenants.clear_secrets(tenant.as_ref()) as u64;
        tracing::info!(
            tenant_id = tenant.map(tracing::field::display),
            cleared,
            "cached secrets were cleared"
        );
        Ok(Json(CacheCleared { cleared }))
    }

    /// Refresh a tenant's secret
    ///
    /// Reads the secret from the provider now. If it has changed, new connections use it.
    #[oai(path = "/tenants/:id/refresh", method = "post", operation_id = "refreshTenant")]
    async fn refresh(
        &self,
        _operator: Operator,
        /// The tenant's id.
        id: Path<Parsed<TenantIdText>>,
    ) -> Result<Json<TenantHealth>, Failure<404, 503>> {
        let tenant = read_tenant(&self.id_pattern, "id", id.0)?;
        let snapshot = self.tenants.refresh(&tenant).await;
        Ok(Json(
            snapshot.map_err(|error| Problem::of_tenant(&tenant, error))?.into(),
        ))
    }

    /// Close a tenant's pool
    ///
    /// The pool is closed when the tenant's running requests have ended. The next request opens
    /// another.
    #[oai(path = "/tenants/:id/pool", method = "delete", operation_id = "closeTenantPool")]
    async fn close_pool(
        &self,
        _operator: Operator,
        /// The tenant's id.
        id: Path<Parsed<TenantIdText>>,
    ) -> Result<Done, Failure<404, 503>> {
        let tenant = read_tenant(&self.id_pattern, "id", id.0)?;
        let closed = self.tenants.close_pool(&tenant).await;
        closed.map_err(|error| Problem::of_tenant(&tenant, error))?;
        Ok(Done::Done)
    }

    /// Suspend a tenant
    ///
    /// New requests of the tenant get 403. Running requests continue.
    #[oai(path = "/tenants/:id/suspend", method = "post", operation_id = "suspendTenant")]
    async fn suspend(
        &self,
        _operator: Operator,
        /// The tenant's id.
        id: Path<Parsed<TenantIdText>>,
    ) -> Result<Done, Failure<404, 503>> {
        let tenant = read_tenant(&self.id_pattern, "id", id.0)?;
        let suspended = self.tenants.suspend(&tenant).await;
        suspended.map_err(|error| Problem::of_tenant(&tenant, error))?;
        Ok(Done::Done)
    }

    /// Resume a tenant
    ///
    /// The tenant's requests are accepted again.
    #[oai(path = "/tenants/:id/resume", method = "post", operation_id = "resumeTenant")]
    async fn resume(
        &self,
        _operator: Operator,
        /// The tenant's id.
        id: Path<Parsed<TenantIdText>>,
    ) -> Result<Done, Failure<404, 503>> {
        let tenant = read_tenant(&self.id_pattern, "id", id.0)?;
        let resumed = self.tenants.resume(&tenant).await;
        resumed.map_err(|error| Problem::of_tenant(&tenant, error))?;
        Ok(Done::Done)
    }

    /// Set the log level
    ///
    /// The level holds until the server stops. The configuration does not change.
    #[oai(path = "/log-level", method = "put", operation_id = "setLogLevel")]
    async fn set_log_level(
        &self,
        _operator: Operator,
        settings: Body<LogSettings>,
    ) -> Result<Json<LogSettings>, Failure> {
        let mut faults = Faults::default();
        let Some(settings) = faults.body(settings) else {
            return Err(faults.into());
        };
        self.log.set(settings.level).map_err(|lost| {
            tracing::error!(error = %lost, "the log level cannot be set");
            Problem::internal()
        })?;
        tracing::warn!(level = settings.level.as_str(), "the log level was set");
        Ok(Json(settings))
    }
}
