//! Why a request gets no database.

use std::{sync::Arc, time::Duration};

use crate::{DatabaseError, ProviderError, SecretInvalid};

/// Why a request gets no database.
#[derive(Debug, Clone, thiserror::Error)]
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

/// When to come again if nothing says anything else.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl AcquireError {
    /// A secret that was not read for a reason that is not the provider's.
    pub(super) fn lost(reason: &'static str) -> Self {
        ProviderError::Unavailable(reason.into()).into()
    }

    /// The same with another time to come again.
    pub(super) fn with_retry_after(mut self, left: Duration) -> Self {
        if let Self::ProviderUnavailable { retry_after, .. } | Self::SecretInvalid { retry_after, .. } = &mut self {
            *retry_after = left;
        }
        self
    }
}

impl From<ProviderError> for AcquireError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::NotFound => Self::Unknown,
            ProviderError::Invalid { reason } => SecretInvalid::new("secret", reason).into(),
            error => Self::ProviderUnavailable {
                retry_after: RETRY_AFTER,
                source: Arc::new(error),
            },
        }
    }
}

impl From<SecretInvalid> for AcquireError {
    fn from(source: SecretInvalid) -> Self {
        Self::SecretInvalid {
            retry_after: RETRY_AFTER,
            source,
        }
    }
}
