//! How a tenant is, as an operator sees it.

use poem_openapi::{Enum, Object, types::Example};
use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};
use tenantry_core::{
    Encryption,
    engine::{HealthPage, SchemaVersion, SecretSnapshot, StatusCounts, TenantSnapshot, TenantStatus},
    milliseconds,
};

use crate::{Nullable, Timestamp, health_query::After, tenant_info::PoolState};

/// How a tenant is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, EnumString, IntoStaticStr, Serialize, VariantArray)]
#[oai(rename = "TenantStatus", rename_all = "lowercase", remote = "TenantStatus")]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Status {
    /// Its database answers.
    Healthy,
    /// Its secret or its database is unavailable.
    Unhealthy,
    /// It is known, and no pool is open.
    Idle,
    /// An operator suspended it.
    Suspended,
    /// Its migrations run on its first connection.
    Migrating,
    /// Its database is below the version that is served.
    Behind,
}

/// How a connection to a database is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "Tls", rename_all = "lowercase", remote = "Encryption")]
#[serde(rename_all = "lowercase")]
enum Tls {
    /// It is not encrypted, or not for certain.
    None,
    /// It is encrypted; the server's certificate was not verified.
    Encrypted,
    /// It is encrypted, and the server's certificate was verified.
    Verified,
}

/// A tenant's secret without its content.
#[derive(Debug, Object, Serialize)]
struct SecretStatus {
    /// The provider's version id.
    version: String,
    /// How many milliseconds ago it was read.
    age_ms: f64,
    /// Whether it is past its time, or could not be renewed.
    stale: bool,
    /// For how many milliseconds it may still be used unless its lease is extended; null if it does
    /// not expire.
    expires_in_ms: Nullable<f64>,
}

impl From<SecretSnapshot> for SecretStatus {
    fn from(secret: SecretSnapshot) -> Self {
        Self {
            version: secret.version,
            age_ms: milliseconds(secret.age),
            stale: secret.stale,
            expires_in_ms: secret.expires_in.map(milliseconds).into(),
        }
    }
}

/// How far the migrations of a tenant's database are.
#[derive(Debug, Object, Serialize)]
struct SchemaState {
    /// The highest version that was applied.
    version: Nullable<String>,
    /// How many migrations are left.
    pending: u64,
}

impl From<SchemaVersion> for SchemaState {
    fn from(schema: SchemaVersion) -> Self {
        Self {
            version: schema.version.into(),
            pending: schema.pending as u64,
        }
    }
}

/// How a tenant is.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
pub(crate) struct TenantHealth {
    /// The tenant's id.
    id: String,
    /// How it is.
    pub(crate) status: Status,
    /// The kind of its database, if its secret is cached.
    driver: Nullable<String>,
    /// How many milliseconds the database took to answer, if it was probed.
    latency_ms: Nullable<f64>,
    /// When it was asked.
    checked_at: Nullable<Timestamp>,
    /// Its connections.
    pool: PoolState,
    /// Its secret, if it is cached.
    secret: Nullable<SecretStatus>,
    /// How the last connection to its database is protected, if one was opened: verified if the
    /// server's certificate was verified.
    tls: Nullable<Tls>,
    /// The last known state of its migrations, if there is one.
    schema: Nullable<SchemaState>,
    /// The error, in a word or two: of the database, or of a secret that could not be read the last
    /// time. While the secret from before is in use, a healthy tenant can have one.
    error: Nullable<String>,
}

impl From<TenantSnapshot> for TenantHealth {
    fn from(tenant: TenantSnapshot) -> Self {
        Self {
            id: tenant.id.to_string(),
            status: tenant.status.into(),
            driver: tenant.driver.into(),
            latency_ms: tenant.latency.map(milliseconds).into(),
            checked_at: tenant.checked_at.map(Timestamp).into(),
            pool: tenant.pool.into(),
            secret: tenant.secret.map(SecretStatus::from).into(),
            tls: tenant.encryption.map(Tls::from).into(),
            schema: tenant.schema.map(SchemaState::from).into(),
            error: tenant.error.or(tenant.secret_error).into(),
        }
    }
}

impl Example for TenantHealth {
    fn example() -> Self {
        Self {
            id: "tenant1".to_owned(),
            status: Status::Healthy,
            driver: Some("postgresql".to_owned()).into(),
            latency_ms: Some(1.2).into(),
            checked_at: chrono::DateTime::from_timestamp(1_767_323_045, 0).map(Timestamp).into(),
            pool: PoolState::example(),
            secret: Some(SecretStatus {
                version: "5f0c2a".to_owned(),
                age_ms: 1200.0,
                stale: false,
                expires_in_ms: None.into(),
            })
            .into(),
            tls: Some(Tls::Verified).into(),
            schema: Some(SchemaState {
                version: Some("0004".to_owned()).into(),
                pending: 0,
            })
            .into(),
            error: None.into(),
        }
    }
}

impl TenantHealth {
    /// The example of a tenant with a database that does not answer.
    pub(crate) fn unhealthy_example() -> Self {
        Self {
            status: Status::Unhealthy,
            latency_ms: None.into(),
            error: Some("unreachable".to_owned()).into(),
            ..Self::example()
        }
    }
}

/// How many tenants are how.
#[derive(Debug, Default, Object, Serialize)]
struct HealthSummary {
    /// All that are known.
    total: u64,
    /// Tenants with a database that answers.
    healthy: u64,
    /// Tenants without an available secret or database.
    unhealthy: u64,
    /// Tenants without an open pool.
    idle: u64,
    /// Suspended tenants.
    suspended: u64,
    /// Tenants with migrations running on their first connection.
    migrating: u64,
    /// Tenants below the version that is served.
    behind: u64,
}

impl From<StatusCounts> for HealthSummary {
    fn from(counts: StatusCounts) -> Self {
        let of = |status| counts.of(status) as u64;
        Self {
            total: counts.total() as u64,
            healthy: of(TenantStatus::Healthy),
            unhealthy: of(TenantStatus::Unhealthy),
            idle: of(TenantStatus::Idle),
            suspended: of(TenantStatus::Suspended),
            migrating: of(TenantStatus::Migrating),
            behind: of(TenantStatus::Behind),
        }
    }
}

/// How the tenants are: one page of them, by id.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
pub(crate) struct TenantsHealth {
    /// The numbers of all tenants, including those on other pages.
    summary: HealthSummary,
    /// The tenants of this page.
    tenants: Vec<TenantHealth>,
    /// The value of `after` for the next page; null on the last page.
    next: Nullable<String>,
    /// Only while the provider cannot list the tenants: why tenants may be missing.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<String>,
}

impl From<HealthPage> for TenantsHealth {
    fn from(page: HealthPage) -> Self {
        let last = page.tenants.last().filter(|_| page.has_more);
        Self {
            summary: page.counts.into(),
            incomplete: page.list_error.map(|kind| {
                format!(
                    "The secret provider cannot list the tenants ({kind}): only those are shown that this server knows."
                )
            }),
            next: last.map(|tenant| After::of(&tenant.id).to_text()).into(),
            tenants: page.tenants.into_iter().map(TenantHealth::from).collect(),
        }
    }
}

impl Example for TenantsHealth {
    fn example() -> Self {
        Self {
            summary: HealthSummary {
                total: 3,
                healthy: 2,
                unhealthy: 0,
                idle: 1,
                suspended: 0,
                migrating: 0,
                behind: 0,
            },
            tenants: vec![TenantHealth::example()],
            next: None.into(),
            incomplete: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tenantry_core::engine::PoolStatus;

    use super::*;

    fn snapshot(id: &str, status: TenantStatus) -> TenantSnapshot {
        TenantSnapshot {
            id: id.parse().unwrap(),
            status,
            driver: None,
            latency: None,
            checked_at: None,
            pool: PoolStatus::default(),
            secret: None,
            encryption: None,
            schema: None,
            error: None,
            secret_error: None,
            cause: None,
        }
    }

    #[test]
    fn only_a_page_with_more_after_it_has_a_next_one() {
        let page = |has_more| HealthPage {
            counts: StatusCounts::default(),
            tenants: vec![snapshot("a", TenantStatus::Idle), snapshot("b", TenantStatus::Behind)],
            has_more,
            list_error: None,
        };
        assert_eq!(TenantsHealth::from(page(false)).next.0, None);
        assert_eq!(TenantsHealth::from(page(true)).next.0.as_deref(), Some("62"));
    }

    #[test]
    fn what_is_not_known_is_null() {
        use poem_openapi::types::ToJSON;
        let health = TenantHealth::from(snapshot("a", TenantStatus::Idle)).to_json().unwrap();
        for field in ["driver", "latency_ms", "checked_at", "secret", "tls", "schema", "error"] {
            assert_eq!(health.get(field), Some(&serde_json::Value::Null), "{field}");
        }
    }
}
