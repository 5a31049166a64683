//! The engine itself: its tenants, admission, and the housekeeping.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{sync::watch, time::Instant};
use tracing::{Instrument as _, field::Empty};

use super::{
    budget::Budget,
    database::TenantDatabase,
    measure::{observer::EngineObserver, tally::RequestTally, usage::UsageAccount},
    pool::PoolParts,
    secrets::Secrets,
    settings::EngineSettings,
    tenant::{Held, Refused, Tenant, directory::Directory},
};
use crate::{
    DatabaseDriver, SecretProvider, TenantId, acquire_error::AcquireError, on_connect::OnConnect, trace::trace_span,
};

/// How often worn-out connections, unused pools and due secrets are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The answer to a tenant that is too busy.
const BUSY: AcquireError = AcquireError::Busy {
    retry_after: Duration::from_secs(1),
};

/// What an engine is made of.
pub struct TenantsParts {
    /// Holds the secrets.
    pub provider: Arc<dyn SecretProvider>,
    /// The provider's `type`, for `TenantInfo`.
    pub provider_type: String,
    /// The drivers that are enabled, each with its `type`.
    pub drivers: Vec<(String, Arc<dyn DatabaseDriver>)>,
    /// The settings.
    pub settings: EngineSettings,
    /// What comes before a tenant's first use.
    pub on_connect: Option<Arc<dyn OnConnect>>,
    /// Observes what the engine does.
    pub observer: Option<Arc<dyn EngineObserver>>,
}

pub(crate) struct Engine {
    pub(crate) tenants: Directory,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) pools: Arc<PoolParts>,
    /// What those used that are no longer known.
    pub(super) forgotten: Arc<UsageAccount>,
    started: Instant,
    pub(super) closed: AtomicBool,
}

impl Engine {
    /// Starts an engine and its housekeeping.
    pub(super) fn start(parts: TenantsParts) -> Arc<Self> {
        let changes = parts.provider.changes();
        let engine = Arc::new_cyclic(|engine: &Weak<Engine>| {
            let pools = &parts.settings.pools;
            let budget = Budget::new(pools.max_connections, pools.max);
            let secrets = Secrets::new(parts.provider, parts.provider_type, parts.drivers, parts.settings);
            let secrets = Arc::new(secrets);
            // Weak, since the engine holds its pools.
            let engine = engine.clone();
            let pools = PoolParts {
                budget,
                secrets: secrets.clone(),
                refused: Box::new(move |id, generation| after_refusal(engine.clone(), id, generation).boxed()),
                on_connect: parts.on_connect,
                observer: parts.observer,
            };
            Engine {
                tenants: Directory::default(),
                secrets,
                pools: Arc::new(pools),
                forgotten: Arc::default(),
                started: Instant::now(),
                closed: AtomicBool::new(false),
            }
        });
        tokio::spawn(keep_house(Arc::downgrade(&engine)));
        if let Some(changes) = changes {
            tokio::spawn(follow_changes(Arc::downgrade(&engine), changes));
        }
        engine
    }

    /// Counts a request in, unless it may not run now.
    pub(super) fn admit(&self, id: &TenantId, tally: Option<&Arc<RequestTally>>) -> Result<Held, AcquireError> {
        loop {
            let tenant = self.find_or_create(id)?;
            let refused = match Held::enter(tenant.clone()) {
                Ok(admitted) => match admitted.take_turn() {
                    Ok(()) => return Ok(admitted),
                    Err(retry_after) => AcquireError::RateLimited { retry_after },
                },
                Err(Refused::Suspended) => AcquireError::Suspended,
                Err(Refused::Busy) => BUSY,
                Err(Refused::Forgotten) => continue,
            };
            // A refusal is an answer of its tenant's, too.
            if let Some(tally) = tally {
                tally.set_usage(&tenant.usage);
            }
            return Err(refused);
        }
    }

    /// [`acquire_for`](super::Tenants::acquire_for) if the secret or the pool is not at hand.
    pub(super) async fn open(
        &self,
        tenant: Held,
        now: Instant,
        tally: Option<Arc<RequestTally>>,
    ) -> Result<TenantDatabase, AcquireError> {
        if !tenant.was_used() {
            self.make_room();
        }
        tenant.touch(now);
        let span = trace_span!(
            "secret",
            otel.status_code = Empty,
            tenant.id = tenant.id.as_str(),
            secret.cache = Empty,
            secret.version = Empty,
        );
        let read = tenant.secret(&self.secrets, now).instrument(span.clone()).await;
        match &read {
            Ok(secret) => span.record("secret.version", tracing::field::display(&secret.version)),
            Err(_) => span.record("otel.status_code", "ERROR"),
        };
        if let Err(AcquireError::Unknown) = read {
            // The request counts for no tenant.
            let id = tenant.id;
            drop(tenant);
            self.forget_if_gone(&id);
            return Err(AcquireError::Unknown);
        }
        if let Some(tally) = &tally {
            tally.set_usage(&tenant.usage);
        }
        let (secret, pool) = tenant.open_pool(read?, &self.pools);
        Ok(TenantDatabase::new(tenant, secret, pool, tally))
    }

    /// The tenant, which is not forgotten while it is held. That takes no other tenant's place.
    pub(crate) fn hold(&self, id: &TenantId) -> Result<Held, AcquireError> {
        loop {
            if let Ok(held) = Held::new(self.find_or_create(id)?) {
                return Ok(held);
            }
        }
    }

    /// Ends a look at a tenant: if there are too many, it is forgotten unless it was ever used.
    pub(crate) fn end_look(&self, held: Held) {
        let id = held.id;
        drop(held);
        if self.tenants.len() > self.secrets.settings.secrets.max_entries {
            self.forget_if_unused(&id);
        }
    }

    /// Forgets a tenant that no request and no operator ever used.
    pub(super) fn forget_if_unused(&self, id: &TenantId) {
        self.tenants
            .forget(id, |tenant| tenant.was_used() || tenant.holdings().is_open());
    }

    /// The tenant; it is created if it is not known, unless it is remembered that it does not
    /// exist.
    fn find_or_create(&self, id: &TenantId) -> Result<Arc<Tenant>, AcquireError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(AcquireError::ShuttingDown);
        }
        if let Some(tenant) = self.tenants.get(id) {
            return Ok(tenant);
        }
        if self.secrets.is_known_to_be_unknown(id) {
            return Err(AcquireError::Unknown);
        }
        let (observer, forgotten) = (self.pools.observer.clone(), self.forgotten.clone());
        let new = || Tenant::new(*id, self.started, &self.secrets.settings.limits, observer, forgotten);
        Ok(self.tenants.get_or_create(id, new))
    }

    /// Forgets a tenant that the provider does not know. Returns false if that must wait, since
    /// something uses it or it is suspended.
    fn forget_if_gone(&self, id: &TenantId) -> bool {
        let Some(tenant) = self.tenants.get(id) else {
            return true;
        };
        // It may have been made anew.
        tenant.holdings().is_known() || self.tenants.forget(id, |tenant| tenant.holdings().is_known())
    }

    /// Forgets the tenants that the provider no longer knows, and keeps in mind those in use.
    fn forget_gone(&self) {
        let mut gone = std::mem::take(&mut *self.secrets.gone.lock());
        gone.retain(|id| !self.forget_if_gone(id));
        if !gone.is_empty() {
            self.secrets.gone.lock().extend(gone);
        }
    }

    /// Forgets the least recently used tenants if they are too many: a hundredth of them at once so
    /// that this is seldom, and those without a secret first, which a flood of made-up names leaves
    /// behind while the provider is down. One that has connections or a running request is not
    /// forgotten, so there may be more by as many.
    fn make_room(&self) {
        let capacity = self.secrets.settings.secrets.max_entries;
        if self.tenants.len() <= capacity {
            return;
        }
        let mut idle = self.tenants.all();
        let excess = (idle.len() + capacity / 100).saturating_sub(capacity);
        idle.retain(|tenant| tenant.admission.is_idle() && !tenant.holdings().is_open());
        let is_kept = |tenant: &Arc<Tenant>| tenant.holdings().secret.kept().is_some();
        // Each key is read once: requests change it meanwhile, and a sort panics if its order
        // changes.
        idle.sort_by_cached_key(|tenant| (is_kept(tenant), tenant.last_used()));
        for tenant in idle.into_iter().take(excess) {
            let was_kept = tenant.was_used() && is_kept(&tenant);
            // A request, an operator or a connection may have come to it meanwhile.
            let forgotten = self.tenants.forget(&tenant.id, |tenant| tenant.holdings().is_open());
            if forgotten && was_kept {
                self.secrets.counters.lock().metrics.evictions += 1;
            }
        }
    }

    /// Looks after connections and secrets that no request asks for.
    fn sweep(&self) {
        let now = Instant::now();
        let idle_timeout = Duration::from(self.secrets.settings.pools.idle_timeout);
        for pool in self.pools.budget.pools() {
            pool.sweep(now);
            // Even without requests, a tenant that was deleted at its provider loses its pool, and
            // a changed secret reaches its pool.
            if let Some(tenant) = self.tenants.get(&pool.tenant()) {
                tenant.renew_if_due(&mut tenant.holdings(), &self.secrets, now);
            }
            if let Some(since) = now.checked_sub(idle_timeout)
                && pool.close_unused(since)
            {
                tracing::debug!(tenant_id = %pool.tenant(), "a pool that nobody used is closed");
            }
        }
        self.pools.budget.trim();
        for id in self.secrets.leases.tenants() {
            if let Some(tenant) = self.tenants.get(&id) {
                tenant.look_after_lease(&self.secrets, now);
            }
        }
        self.forget_gone();
        self.make_room();
    }
}

/// Reads a tenant's secret anew because its user was refused; returns whether another try to log in
/// is worthwhile.
async fn after_refusal(engine: Weak<Engine>, id: TenantId, generation: u64) -> bool {
    let Some(engine) = engine.upgrade() else {
        return false;
    };
    match engine.tenants.get(&id).map(Held::new) {
        Some(Ok(held)) => held.refresh_after_refusal(&engine.secrets, generation).await,
        _ => false,
    }
}

async fn keep_house(engine: Weak<Engine>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match engine.upgrade() {
            Some(engine) => engine.sweep(),
            None => return,
        }
    }
}

async fn follow_changes(engine: Weak<Engine>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let now = Instant::now();
        for tenant in engine.tenants.all() {
            let mut holdings = tenant.holdings();
            holdings.secret.expire(now);
            tenant.renew_if_due(&mut holdings, &engine.secrets, now);
        }
        // After, so that a fetch that ran does not make a tenant remembered again.
        engine.secrets.forget_unknown(None);
    }
}
