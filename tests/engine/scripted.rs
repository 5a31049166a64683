//! A scripted secret provider that counts its calls.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry_core::{
    BuildContext, DatabaseConfig, DatabaseDriver, Lease, Plugin, ProviderError, Registry, SecretDocument,
    SecretProvider, TenantId,
    engine::{EngineSettings, OnConnect, Tenants, TenantsParts},
};
use tenantry_drivers::SqliteDriver;
use tokio::time::Instant;

/// Secrets in memory; `down` makes every fetch fail and `list_down` every list, `delay` slows each
/// fetch.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) secrets: Mutex<BTreeMap<String, Value>>,
    pub(crate) fetches: AtomicUsize,
    pub(crate) down: AtomicBool,
    /// After which time it asks to be called again, if it throttles.
    pub(crate) throttled: Mutex<Option<Duration>>,
    pub(crate) lists: AtomicUsize,
    pub(crate) list_down: AtomicBool,
    pub(crate) list_delay: Mutex<Duration>,
    pub(crate) delay: Mutex<Duration>,
    /// Made for the next logins.
    password: Mutex<Option<String>>,
    /// For how long a secret may be used, and whether that can be extended.
    pub(crate) lease: Mutex<Option<(Duration, bool)>>,
    /// How long each lease lasts however often it is extended, and when each was granted, by its
    /// id.
    pub(crate) longest_lease: Mutex<Option<Duration>>,
    granted: Mutex<BTreeMap<String, Instant>>,
    pub(crate) renewals: AtomicUsize,
    pub(crate) release_down: AtomicBool,
    pub(crate) released: Mutex<Vec<String>>,
    /// How long an answer is on its way after the value was read.
    pub(crate) reads_late: Mutex<Duration>,
}

impl Scripted {
    pub(crate) fn with(tenants: impl IntoIterator<Item = String>) -> Arc<Self> {
        let secrets = tenants.into_iter().map(|id| (id.clone(), sqlite(&id))).collect();
        Arc::new(Self {
            secrets: Mutex::new(secrets),
            ..Self::default()
        })
    }

    pub(crate) fn put(&self, id: &str, secret: Value) {
        self.secrets.lock().unwrap().insert(id.to_owned(), secret);
    }

    pub(crate) fn remove(&self, id: &str) {
        self.secrets.lock().unwrap().remove(id);
    }

    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    pub(crate) fn lists(&self) -> usize {
        self.lists.load(Ordering::SeqCst)
    }

    pub(crate) fn set_list_down(&self, down: bool) {
        self.list_down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn set_password(&self, password: Option<&str>) {
        *self.password.lock().unwrap() = password.map(str::to_owned);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

#[async_trait]
impl SecretProvider for Scripted {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let delay = *self.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        if self.down.load(Ordering::SeqCst) {
            return Err(ProviderError::Unavailable("told to be down".into()));
        }
        if let Some(retry_after) = *self.throttled.lock().unwrap() {
            return Err(ProviderError::Throttled {
                retry_after: Some(retry_after),
                source: "told to throttle".into(),
            });
        }
        let secret = self.secrets.lock().unwrap().get(tenant.as_str()).cloned();
        let late = *self.reads_late.lock().unwrap();
        tokio::time::sleep(late).await;
        let mut document = secret.map(SecretDocument::from_value).ok_or(ProviderError::NotFound)?;
        document.lease = self.lease.lock().unwrap().map(|(duration, renewable)| Lease {
            id: self.fetches().to_string().into(),
            duration,
            renewable,
            series: 0,
        });
        if let Some(lease) = &document.lease {
            let mut granted = self.granted.lock().unwrap();
            granted.insert(lease.id.to_string(), Instant::now());
        }
        Ok(document)
    }

    async fn password(&self, _: &TenantId, _: &DatabaseConfig) -> Result<Option<SecretString>, ProviderError> {
        Ok(self.password.lock().unwrap().clone().map(SecretString::from))
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, ProviderError> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(ProviderError::Unavailable("told to be down".into()));
        }
        let since = self.granted.lock().unwrap()[&*lease.id].elapsed();
        let longest = self.longest_lease.lock().unwrap().unwrap_or(Duration::MAX);
        Ok(lease.duration.min(longest.saturating_sub(since)))
    }

    async fn release(&self, lease: Lease) -> Result<(), ProviderError> {
        if self.release_down.load(Ordering::SeqCst) {
            return Err(ProviderError::Unavailable("told to be down".into()));
        }
        self.released.lock().unwrap().push(lease.id.to_string());
        Ok(())
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let delay = *self.list_delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        if self.list_down.load(Ordering::SeqCst) {
            return Err(ProviderError::Denied("told to name nobody".into()));
        }
        let secrets = self.secrets.lock().unwrap();
        Ok(secrets.keys().map(|id| id.parse().unwrap()).collect())
    }
}

pub(crate) fn sqlite(id: &str) -> Value {
    json!({"type": "sqlite", "path": format!("{id}.db")})
}

/// An engine over SQLite files in a folder of its own.
pub(crate) struct World {
    pub(crate) tenants: Tenants,
    pub(crate) provider: Arc<Scripted>,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn new(provider: Arc<Scripted>, settings: EngineSettings) -> Self {
        Self::prepared_by(None, provider, settings).await
    }

    /// One in which `on_connect` comes before the first use of a database.
    pub(crate) async fn prepared_by(
        on_connect: Option<Arc<dyn OnConnect>>,
        provider: Arc<Scripted>,
        settings: EngineSettings,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut context = BuildContext::for_tests(Registry::new());
        context.base_dir = folder.path().to_owned();
        let config = serde_json::from_value(json!({"root": "data"})).unwrap();
        let driver = <SqliteDriver as Plugin<dyn DatabaseDriver>>::build(config, &context)
            .await
            .unwrap();
        let tenants = Tenants::new(TenantsParts {
            provider: provider.clone(),
            provider_type: "scripted".to_owned(),
            drivers: vec![("sqlite".to_owned(), Arc::new(driver))],
            settings,
            on_connect,
            observer: None,
        });
        Self {
            tenants,
            provider,
            _folder: folder,
        }
    }
}

pub(crate) fn id(text: &str) -> TenantId {
    text.parse().unwrap()
}
