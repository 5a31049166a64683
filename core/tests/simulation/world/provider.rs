//! The scripted secret provider.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tenantry_core::{ProviderError, SecretDocument, SecretProvider, SecretValue, SecretVersion, TenantId};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    World,
    tenant::{SILENCE, index_of, tenant_id},
};

/// The provider of a world.
pub(crate) struct ScriptedProvider(pub(crate) Arc<World>);

/// A fetch that runs; the engine may drop it at any time.
struct Fetch<'a> {
    world: &'a World,
    tenant: usize,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        if let Some(tenant) = self.world.lock().tenants.get_mut(self.tenant) {
            tenant.fetches -= 1;
        }
    }
}

/// What becomes of a fetch.
#[derive(Default)]
struct Plan {
    before: Duration,
    after: Duration,
    fails: bool,
    silent: bool,
}

#[async_trait]
impl SecretProvider for ScriptedProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        let index = index_of(tenant.as_str());
        let plan = self.begin(index);
        let _running = Fetch {
            world: &self.0,
            tenant: index,
        };
        if plan.silent {
            // The engine's deadline ends this wait, or the end of the outage.
            drop(timeout(SILENCE, self.0.mended()).await);
        }
        sleep(plan.before).await;
        let read = self.read(index, plan.fails);
        // The value is on its way, and may be outdated when it arrives.
        sleep(plan.after).await;
        read
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        let tenants = self.0.lock().tenants.len();
        Ok((0..tenants).map(tenant_id).collect())
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.0.signals_changes.then(|| self.0.changes.subscribe())
    }
}

impl ScriptedProvider {
    fn begin(&self, index: usize) -> Plan {
        let mut state = self.0.lock();
        state.note(format_args!("tenant {index}: a fetch begins"));
        state.check_one_fetch(index);
        let (chance, slow) = (state.faults.fetches, state.faults.slow_fetches);
        let slowest = if slow { 3_000 } else { 20 };
        let Some(tenant) = state.tenants.get_mut(index) else {
            return Plan::default();
        };
        tenant.fetches += 1;
        Plan {
            before: tenant.dice.millis(0..slowest),
            after: tenant.dice.millis(0..slowest),
            fails: tenant.dice.percent(chance),
            silent: tenant.provider_down && tenant.provider_silent,
        }
    }

    fn read(&self, index: usize, fails: bool) -> Result<SecretDocument, ProviderError> {
        let mut state = self.0.lock();
        let Some(tenant) = state.tenants.get(index) else {
            return Err(ProviderError::NotFound);
        };
        if tenant.provider_down || fails {
            state.note(format_args!("tenant {index}: the provider fails"));
            return Err(ProviderError::Unavailable("it was told to fail".into()));
        }
        let (version, secret) = (tenant.version, tenant.secret());
        state.note(format_args!("tenant {index}: version {version} of the secret is read"));
        Ok(SecretDocument {
            value: SecretValue::new(secret),
            version: SecretVersion::new(version.to_string()),
            lease: None,
        })
    }
}
