//! A tenant's secret, read and checked, with the driver and the lease that belong to it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::{
    DatabaseConfig, DatabaseDriver, Encryption, HumanDuration, SecretDocument, SecretInvalid, SecretProvider,
    SecretVersion, ServerVersion, TenantId, driver_named,
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

impl Secret {
    /// Whether both lead to the same server.
    pub(crate) fn is_at_server_of(&self, other: &Self) -> bool {
        self.driver_type == other.driver_type
            && self.config.host == other.config.host
            && self.driver.port(&self.config) == other.driver.port(&other.config)
    }
}

/// The drivers, each by its `type`.
pub(super) struct Drivers(Vec<(Arc<str>, Arc<dyn DatabaseDriver>)>);

impl Drivers {
    pub(super) fn new(
        drivers: Vec<(String, Arc<dyn DatabaseDriver>)>,
        provider: &Arc<dyn SecretProvider>,
        connect_timeout: Duration,
    ) -> Self {
        let drivers = drivers.into_iter().map(|(name, driver)| {
            let driver: Arc<dyn DatabaseDriver> = Arc::new(LoginDriver {
                driver,
                provider: provider.clone(),
                connect_timeout,
            });
            (name.into(), driver)
        });
        Self(drivers.collect())
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
        let none = || SecretInvalid::new(config.driver_field(), "names no driver that is built in and enabled");
        let (driver_type, driver) = driver_named(&self.0, &config.driver).cloned().ok_or_else(none)?;
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
