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
    /// The connection that a tool or a health check opens could not be opened or did not answer.
    /// [`Tenants::acquire`](crate::engine::Tenants::acquire) opens none, so it never returns this:
    /// a request gets the failure from its first statement.
    #[error("the tenant's database is unavailable")]
    Database(#[source] DatabaseError),
    /// The server stops: 503 `shutting_down`.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// When to come again if nothing says anything else.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest wait that a provider's own words can ask of a client.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(128);

impl AcquireError {
    /// A secret that was not read for a reason that is not the provider's.
    pub(crate) fn lost(reason: &'static str) -> Self {
        ProviderError::Unavailable(reason.into()).into()
    }

    /// The same with another time to come again.
    pub(crate) fn with_retry_after(mut self, left: Duration) -> Self {
        if let Self::ProviderUnavailable { retry_after, .. } | Self::SecretInvalid { retry_after, .. } = &mut self {
            *retry_after = left;
        }
        self
    }

    /// When to read the secret again.
    pub(crate) fn retry_after(&self) -> Duration {
        match self {
            Self::ProviderUnavailable { retry_after, .. } | Self::SecretInvalid { retry_after, .. } => *retry_after,
            _ => RETRY_AFTER,
        }
    }

    /// Returns the kind in a word or two, and for a secret the field.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::SecretInvalid { source, .. } => format!("secret_invalid: {source}"),
            Self::ProviderUnavailable { source, .. } => format!("provider_{}", source.kind()),
            Self::Database(error) => error.summary(),
            other => other.to_string(),
        }
    }
}

impl From<ProviderError> for AcquireError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::NotFound => Self::Unknown,
            ProviderError::Invalid { reason } => SecretInvalid::new("secret", reason).into(),
            error => Self::ProviderUnavailable {
                retry_after: match &error {
                    ProviderError::Throttled {
                        retry_after: Some(asked),
                        ..
                    } => (*asked).min(LONGEST_RETRY_AFTER),
                    _ => RETRY_AFTER,
                },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseErrorKind;

    #[test]
    fn a_summary_names_the_kind_and_nothing_secret() {
        let invalid = SecretInvalid::new("port", "is not a number");
        assert_eq!(
            AcquireError::from(invalid).summary(),
            "secret_invalid: `port` is not a number"
        );
        let outage = ProviderError::Unavailable("http://hunter2@vault".into());
        assert_eq!(AcquireError::from(outage).summary(), "provider_unavailable");
        let failed = DatabaseError::new(DatabaseErrorKind::ConnectionLost);
        assert_eq!(AcquireError::Database(failed).summary(), "connection_lost");
        assert_eq!(AcquireError::from(ProviderError::NotFound).summary(), "no such tenant");
    }

    #[test]
    fn only_what_may_mend_itself_has_a_time_to_come_again() {
        let later = Duration::from_secs(7);
        let outage = AcquireError::lost("the engine is closed").with_retry_after(later);
        assert!(matches!(outage, AcquireError::ProviderUnavailable { retry_after, .. } if retry_after == later));
        let unknown = AcquireError::Unknown.with_retry_after(later);
        assert!(matches!(unknown, AcquireError::Unknown));
    }
}
