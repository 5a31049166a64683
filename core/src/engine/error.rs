//! Why a request gets no database.

use std::{sync::Arc, time::Duration};

use super::secrets::SecretError;
use crate::{DatabaseError, ProviderError, SecretInvalid};

/// Why a request gets no database.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// The provider knows no such tenant: 404 `tenant_unknown`.
    #[error("no such tenant")]
    Unknown,
    /// An operator suspended it: 403 `tenant_suspended`.
    #[error("the tenant is suspended")]
    Suspended,
    /// It has as many requests running as it may: 429 `tenant_busy`.
    #[error("the tenant has too many requests running")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// It made more requests this second than it may: 429 `rate_limited`.
    #[error("the tenant makes too many requests")]
    RateLimited {
        /// When to come again.
        retry_after: Duration,
    },
    /// Its secret cannot be read now: 503 `provider_unavailable`.
    #[error("the secret provider is unavailable")]
    ProviderUnavailable {
        /// When to come again.
        retry_after: Duration,
        /// What the provider answered.
        #[source]
        source: Arc<ProviderError>,
    },
    /// Its secret cannot be used: 503 `secret_invalid`.
    #[error("the tenant's secret is not valid")]
    SecretInvalid {
        /// When it is read anew.
        retry_after: Duration,
        /// Which field is wrong.
        #[source]
        source: SecretInvalid,
    },
    /// Its pool could not be made: 503 `database_unavailable`.
    #[error("the tenant's database is unavailable")]
    Database(#[source] DatabaseError),
    /// The server stops: 503 `shutting_down`.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl From<SecretError> for AcquireError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::NotFound => Self::Unknown,
            SecretError::Unavailable { retry_after, source } => Self::ProviderUnavailable { retry_after, source },
            SecretError::Invalid { retry_after, source } => Self::SecretInvalid { retry_after, source },
        }
    }
}
