//! The trait for secret providers, and their errors.

use std::{panic::AssertUnwindSafe, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use secrecy::SecretString;
use tokio::{sync::watch, time::timeout};

use crate::{BoxError, DatabaseConfig, Lease, SecretDocument, TenantId};

/// Holds every tenant's secret.
///
/// What every provider keeps, and `conformance::provider` checks:
/// * a tenant it does not know is [`ProviderError::NotFound`], and an outage is never that;
/// * the same content has the same version, a changed one another;
/// * `list` names each tenant that `fetch` finds, once, and none that breaks the rule for tenant
///   ids;
/// * a place that is asked too often is [`ProviderError::Throttled`], with the time it says;
/// * an answer or a list of which a part is missing is [`ProviderError::Unavailable`];
/// * no error repeats a part of a secret;
/// * it keeps no copy of its own: caching is the engine's.
#[async_trait]
pub trait SecretProvider: Send + Sync {
    /// Reads one tenant's secret as it is now.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError>;

    /// Names every tenant that has a secret.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn list(&self) -> Result<Vec<TenantId>, ProviderError>;

    /// Makes a password for one login, such as a token of a cloud's access management. It takes the
    /// place of the secret's. By default the secret's own password is used.
    ///
    /// # Errors
    /// See [`ProviderError`]. The engine takes it for a database that cannot be reached.
    async fn password(
        &self,
        _tenant: &TenantId,
        _config: &DatabaseConfig,
    ) -> Result<Option<SecretString>, ProviderError> {
        Ok(None)
    }

    /// Extends a lease; returns for how long the secret may be used from now on. A provider that
    /// cannot extend it any further returns what is left. By default no lease can be extended.
    ///
    /// # Errors
    /// See [`ProviderError`]. The engine then reads another secret before the lease ends.
    async fn renew(&self, _lease: &Lease) -> Result<Duration, ProviderError> {
        Err(ProviderError::Unavailable("this provider renews no leases".into()))
    }

    /// Releases a lease when its secret is no longer used. A lease that has already ended is not an
    /// error. The place may end it a moment later, once it has taken note of it for good. By
    /// default this does nothing.
    ///
    /// # Errors
    /// See [`ProviderError`]. The engine tries again a few times, then logs the lease's id.
    async fn release(&self, _lease: Lease) -> Result<(), ProviderError> {
        Ok(())
    }

    /// A channel that changes its value after each change of a secret, for a provider that notices
    /// changes by itself. The engine then reads its cached secrets again without waiting for the
    /// end of their TTL.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// What is allowed and yet unsafe in this provider's configuration, one sentence each. The
    /// server logs them as it starts, and `tenantry check` prints them.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Why a secret could not be read. Display never repeats the source.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The provider has no secret for this tenant. The engine caches that briefly, and the client
    /// gets 404 `tenant_unknown`.
    #[error("the provider holds no secret for this tenant")]
    NotFound,
    /// The provider denies access, or cannot decrypt. An operator must correct a policy or a key.
    #[error("the provider denies access")]
    Denied(#[source] BoxError),
    /// Asked too often; the engine backs off.
    #[error("the provider is throttling")]
    Throttled {
        /// How long the provider asks to wait.
        retry_after: Option<Duration>,
        /// What it answered.
        #[source]
        source: BoxError,
    },
    /// The provider did not answer, or says that it cannot answer now.
    #[error("the provider is unavailable")]
    Unavailable(#[source] BoxError),
    /// The provider answered, and what it holds is not a JSON object. The engine goes on with the
    /// secret that it has, as in an outage.
    #[error("the secret {reason}")]
    Invalid {
        /// What is wrong, to go on after "the secret": `is not a JSON object`. Never a part of the
        /// secret.
        reason: String,
    },
}

impl ProviderError {
    /// A secret that is not a JSON object, or not readable.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }

    /// One word for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Denied(_) => "denied",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable(_) => "unavailable",
            Self::Invalid { .. } => "invalid",
        }
    }
}

/// Waits for the provider's answer. A provider that takes longer than `deadline`, or panics, is
/// unavailable.
pub(crate) async fn in_time<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    let unavailable = |why: &'static str| Err(ProviderError::Unavailable(why.into()));
    match timeout(deadline, AssertUnwindSafe(answer).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => unavailable("the provider panicked"),
        Err(_) => unavailable("the provider did not answer in time"),
    }
}
