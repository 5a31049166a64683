//! How a tenant is, as an operator sees it.

use poem_openapi::{Enum, Object, types::Example};
use serde::Serialize;
use tenantry_core::{
    Encryption,
    engine::{SecretSnapshot, TenantSnapshot, TenantStatus},
};

use crate::{
    Nullable, Timestamp,
    tenant_info::{PoolState, milliseconds},
};

/// How a tenant is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "TenantStatus", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Its database answers.
    Healthy,
    /// Its secret or its database cannot be had.
    Unhealthy,
    /// It is known, and no pool is open.
    Idle,
    /// An operator suspended it.
    Suspended,
}

impl From<TenantStatus> for Status {
    fn from(status: TenantStatus) -> Self {
        match status {
            TenantStatus::Healthy => Self::Healthy,
            TenantStatus::Unhealthy => Self::Unhealthy,
            TenantStatus::Idle => Self::Idle,
            TenantStatus::Suspended => Self::Suspended,
        }
    }
}

/// How a connection to a database is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "Tls", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum Tls {
    /// It is not encrypted, or not for certain.
    None,
    /// It is encrypted; the server's certificate was not verified.
    Encrypted,
    /// It is encrypted, and the server's certificate was verified.
    Verified,
}

impl From<Encryption> for Tls {
    fn from(encryption: Encryption) -> Self {
        match encryption {
            Encryption::None => Self::None,
            Encryption::Encrypted => Self::Encrypted,
            Encryption::Verified => Self::Verified,
        }
    }
}

/// A tenant's secret, less its content.
#[derive(Debug, Object, Serialize)]
struct SecretStatus {
    /// The provider's version id.
    version: String,
    /// How many milliseconds ago it was read.
    age_ms: f64,
    /// Whether it is past its time, or could not be renewed.
    stale: bool,
    /// For how many milliseconds it may still be used unless its lease is extended; null if it does not
    /// expire.
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

/// How a tenant is.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
pub(crate) struct TenantHealth {
    /// The tenant's id.
    id: String,
    /// How it is.
    pub(crate) status: Status,
    /// The kind of its database, where its secret is at hand.
    driver: Nullable<String>,
    /// How many milliseconds the database took to answer, where it was asked.
    latency_ms: Nullable<f64>,
    /// When it was asked.
    checked_at: Nullable<Timestamp>,
    /// Its connections.
    pool: PoolState,
    /// Its secret, where it is at hand.
    secret: Nullable<SecretStatus>,
    /// How the last connection to its database is protected, if one was opened: verified if the server's
    /// certificate was verified.
    tls: Nullable<Tls>,
    /// What is wrong, in a word or two.
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
            error: tenant.error.into(),
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
            error: None.into(),
        }
    }
}

impl TenantHealth {
    /// One whose database does not answer.
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
    /// Those whose databases answer.
    healthy: u64,
    /// Those whose secret or database cannot be had.
    unhealthy: u64,
    /// Those with no pool open.
    idle: u64,
    /// Those that are suspended.
    suspended: u64,
}

/// How all tenants are.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
pub(crate) struct TenantsHealth {
    /// In numbers.
    summary: HealthSummary,
    /// Each of them, by id.
    tenants: Vec<TenantHealth>,
}

impl From<Vec<TenantSnapshot>> for TenantsHealth {
    fn from(tenants: Vec<TenantSnapshot>) -> Self {
        let mut summary = HealthSummary::default();
        let tenants: Vec<TenantHealth> = tenants.into_iter().map(TenantHealth::from).collect();
        for tenant in &tenants {
            summary.total += 1;
            *match tenant.status {
                Status::Healthy => &mut summary.healthy,
                Status::Unhealthy => &mut summary.unhealthy,
                Status::Idle => &mut summary.idle,
                Status::Suspended => &mut summary.suspended,
            } += 1;
        }
        Self { summary, tenants }
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
            },
            tenants: vec![TenantHealth::example()],
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
            error: None,
        }
    }

    #[test]
    fn the_summary_counts_what_is_listed() {
        let health = TenantsHealth::from(vec![
            snapshot("a", TenantStatus::Idle),
            snapshot("b", TenantStatus::Idle),
            snapshot("c", TenantStatus::Suspended),
        ]);
        let HealthSummary {
            total,
            healthy,
            unhealthy,
            idle,
            suspended,
        } = health.summary;
        assert_eq!((total, healthy, unhealthy, idle, suspended), (3, 0, 0, 2, 1));
    }

    #[test]
    fn what_is_not_known_is_null() {
        use poem_openapi::types::ToJSON;
        let health = TenantHealth::from(snapshot("a", TenantStatus::Idle)).to_json().unwrap();
        for field in ["driver", "latency_ms", "checked_at", "secret", "tls", "error"] {
            assert_eq!(health.get(field), Some(&serde_json::Value::Null), "{field}");
        }
    }
}
