//! A tenant's secret, read and checked, and why there may be none.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    DatabaseConfig, DatabaseDriver, Encryption, HumanDuration, Lease, ProviderError, SecretDocument, SecretInvalid,
    SecretProvider, SecretVersion, TenantId,
    engine::settings::{PoolDefaults, PoolsSettings},
};

/// How long renewing or releasing a lease may take.
pub(super) const LEASE_DEADLINE: Duration = Duration::from_secs(5);

/// A secret, read and checked, with the driver that it names.
pub(crate) struct Secret {
    pub(crate) config: DatabaseConfig,
    pub(crate) driver: Arc<dyn DatabaseDriver>,
    /// The driver's `type`, whatever alias the secret used.
    pub(crate) driver_type: Arc<str>,
    pub(crate) limits: PoolDefaults,
    pub(crate) version: SecretVersion,
    /// Rises with each new version.
    pub(crate) generation: u64,
    pub(crate) lease: Option<HeldLease>,
    /// How the last connection that it opened is protected.
    pub(crate) encryption: Mutex<Option<Encryption>>,
}

/// Why there is no secret to use.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("the provider knows no such tenant")]
    NotFound,
    #[error("the secret cannot be had now")]
    Unavailable {
        retry_after: Duration,
        #[source]
        source: Arc<ProviderError>,
    },
    #[error("the secret cannot be used")]
    Invalid {
        retry_after: Duration,
        #[source]
        source: SecretInvalid,
    },
}

impl SecretError {
    /// A secret that was not read for a reason that is not the provider's.
    pub(crate) fn lost(reason: &'static str) -> Self {
        Self::Unavailable {
            retry_after: Duration::from_secs(1),
            source: Arc::new(ProviderError::Unavailable(reason.into())),
        }
    }

    /// The provider's answer, with when to ask again.
    pub(crate) fn of_provider(error: ProviderError, retry_after: Duration) -> Self {
        match error {
            ProviderError::NotFound => Self::NotFound,
            ProviderError::Invalid { reason } => Self::invalid(SecretInvalid::new("secret", reason), retry_after),
            error => Self::Unavailable {
                retry_after,
                source: Arc::new(error),
            },
        }
    }

    pub(crate) fn invalid(source: SecretInvalid, retry_after: Duration) -> Self {
        Self::Invalid { retry_after, source }
    }

    /// The same with another time to ask again.
    pub(super) fn retry_after(mut self, left: Duration) -> Self {
        if let Self::Unavailable { retry_after, .. } | Self::Invalid { retry_after, .. } = &mut self {
            *retry_after = left;
        }
        self
    }

    pub(crate) fn delay(&self) -> Duration {
        match self {
            Self::NotFound => Duration::ZERO,
            Self::Unavailable { retry_after, .. } | Self::Invalid { retry_after, .. } => *retry_after,
        }
    }
}

/// A lease of a secret. When nothing uses the secret any more, the lease is released.
pub(crate) struct HeldLease {
    pub(super) lease: Lease,
    tenant: TenantId,
    provider: Arc<dyn SecretProvider>,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        // Without a runtime the lease ends by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (lease, tenant, provider) = (self.lease.clone(), self.tenant, self.provider.clone());
        runtime.spawn(async move {
            let kind = match tokio::time::timeout(LEASE_DEADLINE, provider.release(lease)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.kind(),
                Err(_) => "timeout",
            };
            tracing::warn!(tenant_id = %tenant, kind, "the lease of a secret could not be released; it ends by itself");
        });
    }
}

/// The drivers by every word that a secret may use for them.
pub(crate) struct Drivers(BTreeMap<String, (Arc<str>, Arc<dyn DatabaseDriver>)>);

impl Drivers {
    pub(crate) fn new(drivers: impl IntoIterator<Item = (String, Arc<dyn DatabaseDriver>)>) -> Self {
        let mut words = BTreeMap::new();
        for (name, driver) in drivers {
            let name: Arc<str> = name.into();
            for alias in driver.aliases() {
                words.insert((*alias).to_owned(), (name.clone(), driver.clone()));
            }
            words.insert(name.to_string(), (name, driver));
        }
        Self(words)
    }

    fn find(&self, word: &str) -> Result<(Arc<str>, Arc<dyn DatabaseDriver>), SecretInvalid> {
        // The word is not repeated: it is a part of the secret.
        self.0
            .get(word)
            .cloned()
            .ok_or_else(|| SecretInvalid::new("type", "names no driver that is built in and enabled"))
    }

    /// Reads and checks a document; the generation is still to be set.
    pub(super) fn read(
        &self,
        document: SecretDocument,
        pools: &PoolsSettings,
        tenant: TenantId,
        provider: &Arc<dyn SecretProvider>,
    ) -> Result<Secret, SecretInvalid> {
        // Released also if the secret turns out to be invalid.
        let lease = document.lease.map(|lease| HeldLease {
            lease,
            tenant,
            provider: provider.clone(),
        });
        let mut config = DatabaseConfig::parse(&document.value)?;
        config.tenant = Some(tenant);
        let (driver_type, driver) = self.find(&config.driver)?;
        driver.validate(&config)?;
        let (own, defaults) = (config.pool, &pools.defaults);
        let ceiling = pools.max_per_tenant.unwrap_or(usize::MAX);
        let limits = PoolDefaults {
            max_connections: own.max_connections.unwrap_or(defaults.max_connections).min(ceiling),
            idle_connections: own.idle_connections.unwrap_or(defaults.idle_connections),
            idle_time: own.idle_time.map_or(defaults.idle_time, HumanDuration),
            max_lifetime: own.max_lifetime.map_or(defaults.max_lifetime, HumanDuration),
        };
        Ok(Secret {
            config,
            driver,
            driver_type,
            limits,
            version: document.version,
            generation: 0,
            lease,
            encryption: Mutex::new(None),
        })
    }
}
