//! A tenant's secret, read and checked, with the driver and the lease that belong to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::{
    DatabaseConfig, DatabaseDriver, Encryption, HumanDuration, SecretDocument, SecretInvalid, SecretProvider,
    SecretVersion, ServerVersion, TenantId,
    engine::settings::{PoolDefaults, PoolsSettings},
    leases::HeldLease,
    login::LoginDriver,
    on_connect::LastSchema,
};

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
    /// Given back once nothing uses the secret any more.
    pub(crate) lease: Option<HeldLease>,
    /// How the last connection that it opened is protected.
    pub(crate) encryption: Mutex<Option<Encryption>>,
    /// How far the migrations of its database were when it was looked at last.
    pub(crate) schema: LastSchema,
    /// The version of its server, which is asked once.
    pub(crate) server_version: OnceCell<ServerVersion>,
}

/// The drivers by every word that a secret may use for them.
pub(super) struct Drivers(BTreeMap<String, (Arc<str>, Arc<dyn DatabaseDriver>)>);

impl Drivers {
    pub(super) fn new(
        drivers: Vec<(String, Arc<dyn DatabaseDriver>)>,
        provider: &Arc<dyn SecretProvider>,
        connect_timeout: Duration,
    ) -> Self {
        let mut words = BTreeMap::new();
        for (name, driver) in drivers {
            let name: Arc<str> = name.into();
            let provider = provider.clone();
            let driver: Arc<dyn DatabaseDriver> = Arc::new(LoginDriver {
                driver,
                provider,
                connect_timeout,
            });
            for alias in driver.aliases() {
                words.insert((*alias).to_owned(), (name.clone(), driver.clone()));
            }
            words.insert(name.to_string(), (name, driver));
        }
        Self(words)
    }

    /// Reads and checks a document; the generation is still to be set. The lease is given back also
    /// if the secret turns out to be invalid.
    pub(super) fn read(
        &self,
        document: SecretDocument,
        lease: Option<HeldLease>,
        pools: &PoolsSettings,
        tenant: TenantId,
    ) -> Result<Secret, SecretInvalid> {
        let mut config = DatabaseConfig::parse(&document.value)?;
        config.tenant = Some(tenant);
        // The word is not repeated: it is a part of the secret.
        let none = || SecretInvalid::new("type", "names no driver that is built in and enabled");
        let (driver_type, driver) = self.0.get(&config.driver).cloned().ok_or_else(none)?;
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
            schema: LastSchema::default(),
            server_version: OnceCell::new(),
        })
    }
}
