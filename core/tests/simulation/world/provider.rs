//! The scripted secret provider.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tenantry_core::{Lease, ProviderError, SecretDocument, SecretProvider, SecretValue, SecretVersion, TenantId};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    LeaseState, World,
    tenant::{SILENCE, index_of, tenant_id, user_name},
};

/// The provider of a world.
pub(crate) struct ScriptedProvider(pub(crate) Arc<World>);

/// A fetch that runs; the engine may drop it at any time.
struct Fetch<'a> {
    world: &'a World,
    tenant: usize,
    /// The lease that was granted, until the engine has the answer.
    lease: Option<u64>,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        if let Some(tenant) = state.tenants.get_mut(self.tenant) {
            tenant.fetches -= 1;
        }
        if let Some(lease) = self.lease.and_then(|lease| state.leases.get_mut(&lease)) {
            lease.state = LeaseState::Lost;
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
        let mut running = Fetch {
            world: &self.0,
            tenant: index,
            lease: None,
        };
        if plan.silent {
            // The engine's deadline ends this wait, or the end of the outage.
            drop(timeout(SILENCE, self.0.mended()).await);
        }
        sleep(plan.before).await;
        let read = self.read(index, plan.fails);
        let lease = read.as_ref().ok().and_then(|read| read.lease.as_ref());
        running.lease = lease.map(|lease| lease.series);
        // The value is on its way, and may be outdated when it arrives.
        sleep(plan.after).await;
        running.lease = None;
        read
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, ProviderError> {
        self.reach(lease.series).await?;
        self.0.lock().extend(lease.series)
    }

    async fn release(&self, lease: Lease) -> Result<(), ProviderError> {
        // Unless it is done in time.
        self.0.lock().begin_release(lease.series);
        let reached = self.reach(lease.series).await;
        self.0.lock().release(lease.series, reached.is_err())
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
        let lease = state.grant(index);
        let tenant = &state.tenants[index];
        let (version, secret, leasing) = (tenant.version, tenant.secret(lease), tenant.leasing);
        state.note(format_args!("tenant {index}: version {version} of the secret is read"));
        let version = SecretVersion::new(user_name(version, lease));
        let lease = lease.zip(leasing).map(|(number, leasing)| Lease {
            id: number.to_string().into(),
            duration: leasing.lasts,
            renewable: leasing.renewable,
            series: number,
        });
        Ok(SecretDocument {
            lease,
            ..SecretDocument::new(SecretValue::new(secret), version)
        })
    }

    /// A call about a lease reaches the provider, or fails as a fetch does.
    async fn reach(&self, number: u64) -> Result<(), ProviderError> {
        let (takes, fails, silent) = {
            let state = self.0.lock();
            let tenant = &state.tenants[state.leases[&number].tenant];
            let slowest = if state.faults.slow_fetches { 3_000 } else { 20 };
            let fails = tenant.provider_down || tenant.dice.percent(state.faults.fetches);
            let silent = tenant.provider_down && tenant.provider_silent;
            (tenant.dice.millis(0..slowest), fails, silent)
        };
        if silent {
            drop(timeout(SILENCE, self.0.mended()).await);
        }
        sleep(takes).await;
        if fails {
            return Err(ProviderError::Unavailable("it was told to fail".into()));
        }
        Ok(())
    }
}
