//! A secret provider that counts how often it is asked, and the program in this process over it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tenantry::{
    App, RunningServer,
    core::{BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, TenantId},
};

use crate::client::Client;

/// Gives `tenant1`, `tenant2` and so on a SQLite file each, has no other tenants, and counts its
/// calls.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountingConfig {
    /// Under which name it counts.
    name: String,
}

pub(crate) struct Counting(Arc<AtomicUsize>);

static COUNTS: Mutex<BTreeMap<String, Arc<AtomicUsize>>> = Mutex::new(BTreeMap::new());

fn count(name: &str) -> Arc<AtomicUsize> {
    COUNTS.lock().unwrap().entry(name.to_owned()).or_default().clone()
}

impl Plugin<dyn SecretProvider> for Counting {
    const TYPE: &'static str = "counting";
    const EXAMPLE: &'static str = "type: counting\nname: here\n";
    type Config = CountingConfig;

    async fn build(config: CountingConfig, _: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self(count(&config.name)))
    }
}

#[async_trait]
impl SecretProvider for Counting {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        // As slow as a real one, so that other requests arrive meanwhile.
        tokio::time::sleep(Duration::from_millis(200)).await;
        if !tenant.as_str().starts_with("tenant") {
            return Err(ProviderError::NotFound);
        }
        Ok(SecretDocument::from_value(
            json!({"type": "sqlite", "path": format!("{tenant}.db")}),
        ))
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }
}

/// The program in this process, with its own secrets counted.
pub(crate) struct Counted {
    pub(crate) server: RunningServer,
    pub(crate) client: Client,
    name: String,
    _folder: TempDir,
}

impl Counted {
    /// With this resolver; `name` is one that no other test has.
    pub(crate) async fn start(name: &str, resolver: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let config = format!(
            "server: {{ listen: \"127.0.0.1:0\" }}\n\
             tenancy:\n  resolver: {resolver}\n  provider: {{ type: counting, name: {name} }}\n\
             migrations: {{ on_connect: true }}\n"
        );
        tokio::fs::write(&file, config).await.unwrap();
        let app = App::new().plugins(|registry| {
            registry.provider::<Counting>();
        });
        let server = app.start(&file).await.unwrap();
        Self {
            client: Client::at(format!("http://{}", server.address())),
            server,
            name: name.to_owned(),
            _folder: folder,
        }
    }

    /// How often the provider was asked for anything.
    pub(crate) fn asked(&self) -> usize {
        count(&self.name).load(Ordering::SeqCst)
    }
}
