//! The facts that a tenant may know about itself.

use std::sync::Arc;

use poem_openapi::{Object, OpenApi, types::Example};
use sea_orm::{EntityTrait, PaginatorTrait};
use serde::Serialize;
use tenantry_core::{
    engine::{PoolStatus, TenantUsage},
    milliseconds,
};

use crate::{
    Failure, Json, Problem, Tenant,
    tags::ApiTags,
    users::{entity::Entity, failed},
};

/// A tenant and its database.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
struct TenantInfo {
    /// The tenant's id.
    id: String,
    /// The kind of its database.
    driver: String,
    /// The database's name; for SQLite the file.
    database: String,
    /// The database server's version.
    server_version: String,
    /// How the request named the tenant.
    resolver: String,
    /// The type of the secret provider.
    provider: String,
}

impl Example for TenantInfo {
    fn example() -> Self {
        Self {
            id: "tenant1".to_owned(),
            driver: "postgresql".to_owned(),
            database: "tenant1_db".to_owned(),
            server_version: "15.8".to_owned(),
            resolver: "header".to_owned(),
            provider: "aws-secrets-manager".to_owned(),
        }
    }
}

/// The connections of a tenant's pool.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "PoolStatus")]
pub(crate) struct PoolState {
    /// The most it may have.
    max: u64,
    /// Open connections.
    open: u64,
    /// Those of them that wait for use.
    idle: u64,
    /// Those of them that are used.
    in_use: u64,
}

impl From<PoolStatus> for PoolState {
    fn from(status: PoolStatus) -> Self {
        Self {
            max: status.max as u64,
            open: status.open as u64,
            idle: status.idle as u64,
            in_use: status.in_use as u64,
        }
    }
}

impl Example for PoolState {
    fn example() -> Self {
        Self {
            max: 20,
            open: 2,
            idle: 1,
            in_use: 1,
        }
    }
}

/// A tenant's statements since the server started.
#[derive(Debug, Object, Serialize)]
struct QueryStatus {
    /// All of them.
    total: u64,
    /// Those over the tenant's threshold for slow ones.
    slow: u64,
    /// Those that failed.
    failed: u64,
    /// How many milliseconds one took on average, the wait for its connection not counted.
    mean_ms: f64,
}

impl From<TenantUsage> for QueryStatus {
    fn from(usage: TenantUsage) -> Self {
        Self {
            total: usage.statements.count,
            slow: usage.slow_statements,
            failed: usage.statements.failed,
            mean_ms: milliseconds(usage.statements.mean()),
        }
    }
}

/// A tenant in numbers.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
struct TenantStats {
    /// The tenant's id.
    id: String,
    /// How many users it has.
    users: u64,
    /// Its connections.
    pool: PoolState,
    /// Its statements.
    queries: QueryStatus,
}

impl Example for TenantStats {
    fn example() -> Self {
        Self {
            id: "tenant1".to_owned(),
            users: 3,
            pool: PoolState::example(),
            queries: QueryStatus {
                total: 120,
                slow: 1,
                failed: 0,
                mean_ms: 1.9,
            },
        }
    }
}

/// The operations on the tenant itself.
#[derive(Debug, Clone)]
pub struct TenantApi {
    /// The resolver's `type`.
    pub resolver_type: Arc<str>,
    /// The provider's `type`.
    pub provider_type: String,
}

#[OpenApi(prefix_path = "/api/v1/tenant", tag = "ApiTags::Tenant")]
impl TenantApi {
    /// Get the tenant
    ///
    /// The tenant of the request, and the kind and name of its database.
    #[oai(path = "/info", method = "get", operation_id = "getTenantInfo")]
    async fn info(&self, tenant: Tenant) -> Result<Json<TenantInfo>, Failure> {
        let version = tenant.server_version().await;
        let version = version.map_err(|error| Problem::from(error.into_db_err()))?;
        Ok(Json(TenantInfo {
            id: tenant.tenant().to_string(),
            driver: tenant.driver().to_owned(),
            database: tenant.database().to_owned(),
            server_version: version.to_string(),
            resolver: self.resolver_type.to_string(),
            provider: self.provider_type.clone(),
        }))
    }
}

/// A tenant in numbers, its users among them.
#[derive(Debug, Clone, Copy)]
pub struct TenantStatsApi;

#[OpenApi(prefix_path = "/api/v1/tenant", tag = "ApiTags::Tenant")]
impl TenantStatsApi {
    /// Get the tenant's statistics
    #[oai(path = "/stats", method = "get", operation_id = "getTenantStats")]
    async fn stats(&self, tenant: Tenant) -> Result<Json<TenantStats>, Failure> {
        let users = Entity::find().count(&*tenant).await.map_err(failed)?;
        Ok(Json(TenantStats {
            id: tenant.tenant().to_string(),
            users,
            pool: tenant.pool_status().into(),
            queries: tenant.usage().into(),
        }))
    }
}
