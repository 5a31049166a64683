//! Secrets, kept for a while: read once however many ask, served while they are renewed and while the provider fails.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use tracing::{Instrument as _, Span, field::Empty};

use super::{
    backoff::Backoff,
    counter::StripedCounter,
    entry::{Held, TenantEntry},
    observer::FetchOutcome,
    settings::{PoolDefaults, SecretsSettings},
    unknown::{UnknownTenants, Verdict},
};
use crate::{
    DatabaseConfig, DatabaseDriver, ProviderError, SecretDocument, SecretInvalid, SecretProvider, SecretVersion,
    TenantId, trace::trace_span,
};

/// The field of the span around a read that says where the secret came from.
const CACHE: &str = "secret.cache";
/// How long one fetch may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
/// How long the provider may take to name every tenant.
pub(crate) const LIST_DEADLINE: Duration = Duration::from_secs(30);
/// How often a caller waits for another fetch because a refresh made the one before it too old.
const MOST_SUPERSEDED: u32 = 16;
/// The most fetches at once, over all tenants.
const CONCURRENT_FETCHES: usize = 32;
/// How long the provider is left alone after a failure: from one second, doubling.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(128);

/// A tenant's secret, read and checked, with the driver that it names.
pub(crate) struct Secret {
    pub(crate) config: DatabaseConfig,
    pub(crate) driver: Arc<dyn DatabaseDriver>,
    /// The driver's `type`, whatever alias the secret used.
    pub(crate) driver_type: Arc<str>,
    pub(crate) limits: PoolDefaults,
    pub(crate) version: SecretVersion,
    /// Rises with each new version. A connection bears the generation of the secret that opened it.
    pub(crate) generation: u64,
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
    /// A value was read that a refresh no longer allows; it is read again, and no caller sees this.
    #[error("a newer value was asked for while the secret was read")]
    Superseded,
    #[error("the secret cannot be used")]
    Invalid {
        retry_after: Duration,
        #[source]
        source: SecretInvalid,
    },
}

type Outcome = Result<Arc<Secret>, SecretError>;
type Flight = watch::Receiver<Option<Outcome>>;

struct CachedSecret {
    secret: Arc<Secret>,
    fetched_at: Instant,
    fresh_until: Instant,
    /// Whether the last try to renew it failed.
    stale: bool,
}

/// The place for one tenant's secret.
#[derive(Default)]
pub(crate) struct SecretSlot {
    cached: ArcSwapOption<CachedSecret>,
    renewal: Mutex<Renewal>,
}

struct Renewal {
    /// The running fetch, and the epoch in which it began.
    flight: Option<(u64, Flight)>,
    /// Rises with each request for a value that is read from now on: a refresh, a clear, a change signal. A fetch that began in an
    /// earlier epoch stores nothing.
    epoch: u64,
    backoff: Backoff,
    last_error: Option<SecretError>,
    /// When the secret was read anew for nothing because its user was refused, since it last changed.
    fruitless: Vec<Instant>,
    generation: u64,
}

impl Default for Renewal {
    fn default() -> Self {
        Self {
            flight: None,
            epoch: 0,
            backoff: Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF),
            last_error: None,
            fruitless: Vec::new(),
            generation: 0,
        }
    }
}

impl SecretSlot {
    /// Forgets the secret; tells whether there was one. A running fetch goes on.
    pub(crate) fn clear(&self) -> bool {
        let mut renewal = self.renewal.lock();
        renewal.epoch += 1;
        renewal.backoff.succeed();
        self.cached.swap(None).is_some()
    }

    /// Whether the provider is left alone for now after failures.
    pub(crate) fn is_backing_off(&self) -> bool {
        self.renewal.lock().backoff.remaining(Instant::now()).is_some()
    }

    /// The secret, if it is within its time to live.
    pub(crate) fn fresh(&self, now: Instant) -> Option<Arc<Secret>> {
        let cached = self.cached.load();
        let cached = cached.as_ref().filter(|cached| now < cached.fresh_until)?;
        Some(cached.secret.clone())
    }

    pub(crate) fn is_cached(&self) -> bool {
        self.cached.load().is_some()
    }

    /// The secret as it is kept, its age, and whether it is past its time or could not be renewed.
    pub(crate) fn peek(&self) -> Option<(Arc<Secret>, Duration, bool)> {
        let cached = self.cached.load_full()?;
        let now = Instant::now();
        let stale = cached.stale || now >= cached.fresh_until;
        Some((cached.secret.clone(), now - cached.fetched_at, stale))
    }
}

/// The counters of `/health/cache`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretMetrics {
    /// Reads that were answered without a fetch of their own.
    pub hits: u64,
    /// Reads that made a fetch.
    pub misses: u64,
    /// Secrets that are kept now.
    pub entries: usize,
    /// The most that are kept.
    pub capacity: usize,
    /// Secrets that went to make room.
    pub evictions: u64,
    /// Reads that were answered with a secret past its time to live.
    pub stale_served: u64,
    /// Kept secrets that were read anew.
    pub refreshes: u64,
    /// Fetches that failed, an unknown tenant not counted.
    pub refresh_failures: u64,
    /// Requests for unknown tenants that were answered from memory.
    pub not_found_hits: u64,
}

#[derive(Default)]
struct Counters {
    hits: StripedCounter,
    misses: AtomicU64,
    evictions: AtomicU64,
    stale_served: AtomicU64,
    refreshes: AtomicU64,
    refresh_failures: AtomicU64,
    not_found_hits: AtomicU64,
}

/// What the engine does when a secret changed or is gone.
pub(crate) trait SecretListener: Send + Sync {
    /// A new version was read.
    fn changed(&self, entry: &TenantEntry, secret: &Arc<Secret>);
    /// The provider no longer knows the tenant.
    fn gone(&self, entry: &TenantEntry);
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
}

/// Reads secrets and keeps the rules for how long each may be used; the secrets themselves are in their tenants' entries.
pub(crate) struct SecretCache {
    provider: Arc<dyn SecretProvider>,
    provider_type: Arc<str>,
    drivers: Drivers,
    settings: SecretsSettings,
    pool_defaults: PoolDefaults,
    unknown: Arc<UnknownTenants>,
    fetches: Semaphore,
    listener: Weak<dyn SecretListener>,
    counters: Counters,
}

impl SecretCache {
    pub(crate) fn new(
        provider: Arc<dyn SecretProvider>,
        provider_type: Arc<str>,
        drivers: Drivers,
        settings: SecretsSettings,
        pool_defaults: PoolDefaults,
        listener: Weak<dyn SecretListener>,
    ) -> Self {
        let unknown = UnknownTenants::new(provider.clone(), settings.not_found_ttl.into(), LIST_DEADLINE);
        Self {
            provider,
            provider_type,
            drivers,
            settings,
            pool_defaults,
            unknown: Arc::new(unknown),
            fetches: Semaphore::new(CONCURRENT_FETCHES),
            listener,
            counters: Counters::default(),
        }
    }

    pub(crate) fn provider(&self) -> &dyn SecretProvider {
        &*self.provider
    }

    pub(crate) fn provider_type(&self) -> &str {
        &self.provider_type
    }

    pub(crate) fn capacity(&self) -> usize {
        self.settings.max_entries
    }

    /// Whether it is known, without asking, that the provider knows no such tenant.
    pub(crate) fn is_known_to_be_unknown(&self, tenant: &TenantId) -> bool {
        let remembered = self.unknown.contains(tenant);
        if remembered {
            self.counters.not_found_hits.fetch_add(1, Ordering::Relaxed);
        }
        remembered
    }

    pub(crate) fn forget_unknown(&self, tenant: Option<&TenantId>) {
        match tenant {
            Some(tenant) => self.unknown.forget(tenant),
            None => self.unknown.forget_all(),
        }
    }

    /// The tenant's secret: at once when it is kept and fresh, or served past its time while one fetch renews it.
    pub(crate) async fn get(self: &Arc<Self>, entry: &Arc<TenantEntry>, now: Instant) -> Outcome {
        let slot = &entry.secret;
        if let Some(cached) = &*slot.cached.load()
            && now < cached.fresh_until
        {
            self.count_hit();
            Span::current().record(CACHE, "hit");
            return Ok(cached.secret.clone());
        }
        self.get_slowly(entry, now).await
    }

    async fn get_slowly(self: &Arc<Self>, entry: &Arc<TenantEntry>, now: Instant) -> Outcome {
        let slot = &entry.secret;
        let kept = slot.cached.load_full();
        Span::current().record(CACHE, "miss");
        let flight = self.renew_unless_backing_off(entry, now, kept.is_none());
        match (kept, flight) {
            // Not used for a time to live and more: it may have changed long ago, so this request waits for the answer, and
            // gets what is kept only if there is none. Where the last try failed nobody waits for the next.
            (Some(cached), Ok(flight))
                if !cached.stale && now > cached.fresh_until + Duration::from(self.settings.ttl) =>
            {
                match self.landed(entry, flight).await {
                    Err(SecretError::Unavailable { .. } | SecretError::Invalid { .. })
                        if self.may_serve(&cached, now) =>
                    {
                        self.serve_stale(&cached)
                    }
                    outcome => outcome,
                }
            }
            (Some(cached), _) if self.may_serve(&cached, now) => self.serve_stale(&cached),
            (_, Ok(flight)) => self.landed(entry, flight).await,
            (_, Err(error)) => Err(error),
        }
    }

    fn may_serve(&self, cached: &CachedSecret, now: Instant) -> bool {
        now < cached.fresh_until + Duration::from(self.settings.stale_if_error)
    }

    fn serve_stale(&self, cached: &CachedSecret) -> Outcome {
        self.count_hit();
        Span::current().record(CACHE, "stale");
        self.counters.stale_served.fetch_add(1, Ordering::Relaxed);
        Ok(cached.secret.clone())
    }

    /// The running fetch, or a new one, or the reason not to try yet. `counted` is whether a new one counts as a miss, one that
    /// is running already as a hit.
    fn renew_unless_backing_off(
        self: &Arc<Self>,
        entry: &Arc<TenantEntry>,
        now: Instant,
        counted: bool,
    ) -> Result<Flight, SecretError> {
        let mut renewal = entry.secret.renewal.lock();
        if let Some((_, flight)) = &renewal.flight {
            if counted {
                self.count_hit();
            }
            return Ok(flight.clone());
        }
        if counted
            && let Some(landed) = entry
                .secret
                .cached
                .load_full()
                .filter(|cached| now < cached.fresh_until)
        {
            // A fetch landed between the caller's look and this one.
            self.count_hit();
            return Ok(watch::channel(Some(Ok(landed.secret.clone()))).1);
        }
        if let (Some(left), Some(error)) = (renewal.backoff.remaining(now), &renewal.last_error) {
            return Err(error.clone().retry_after(left));
        }
        if counted {
            self.counters.misses.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.start(entry, &mut renewal))
    }

    /// Reads the secret now, whatever is kept, and waits for it.
    pub(crate) async fn refresh(self: &Arc<Self>, entry: &Arc<TenantEntry>) -> Outcome {
        let flight = {
            let mut renewal = entry.secret.renewal.lock();
            // A fetch that runs already may have read the old value: it is waited for, and another one follows.
            renewal.epoch += 1;
            self.unknown.forget(&entry.id);
            match &renewal.flight {
                Some((_, flight)) => flight.clone(),
                None => self.start(entry, &mut renewal),
            }
        };
        self.landed(entry, flight).await
    }

    /// Waits for a fetch; if it began before a refresh was requested, for the next one.
    async fn landed(self: &Arc<Self>, entry: &Arc<TenantEntry>, mut flight: Flight) -> Outcome {
        for _ in 0..MOST_SUPERSEDED {
            match landed(flight).await {
                Err(SecretError::Superseded) => {}
                outcome => return outcome,
            }
            let mut renewal = entry.secret.renewal.lock();
            flight = match &renewal.flight {
                Some((_, flight)) => flight.clone(),
                None => self.start(entry, &mut renewal),
            };
        }
        Err(SecretError::lost(
            "the secret was refreshed again and again while it was read",
        ))
    }

    /// Renews a kept secret whose time is over, in the background.
    pub(crate) fn renew_if_due(self: &Arc<Self>, entry: &Arc<TenantEntry>, now: Instant) {
        let due = entry
            .secret
            .cached
            .load()
            .as_ref()
            .is_some_and(|cached| now >= cached.fresh_until);
        if due && self.renew_unless_backing_off(entry, now, false).is_err() {
            tracing::trace!(tenant_id = %entry.id, "the secret is due, but its provider is left alone after a failure");
        }
    }

    /// Lets every kept secret be read anew at its next use: the provider said that something changed.
    pub(crate) fn expire(&self, entry: &TenantEntry, now: Instant) {
        let mut renewal = entry.secret.renewal.lock();
        renewal.epoch += 1;
        if let Some(cached) = entry.secret.cached.load_full() {
            entry.secret.cached.store(Some(Arc::new(CachedSecret {
                secret: cached.secret.clone(),
                fetched_at: cached.fetched_at,
                fresh_until: now.min(cached.fresh_until),
                stale: cached.stale,
            })));
        }
    }

    /// Reads the secret anew because its user was refused: at once, then after one and after three more seconds, and no more within
    /// a minute unless it changed meanwhile. Waits for the answer; without one to wait for it returns at once. Tells whether another
    /// try to log in is worth while: not once all that was read in this minute was the secret that is refused.
    pub(crate) async fn refresh_after_refusal(self: &Arc<Self>, entry: &Arc<TenantEntry>, refused: u64) -> bool {
        const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(1_200), Duration::from_secs(3)];
        let flight = {
            let mut renewal = entry.secret.renewal.lock();
            if renewal.generation != refused {
                return true;
            }
            match &renewal.flight {
                Some((_, flight)) => flight.clone(),
                None => {
                    let now = Instant::now();
                    renewal.fruitless.retain(|at| now - *at < Duration::from_secs(60));
                    let Some(pause) = PAUSES.get(renewal.fruitless.len()) else {
                        return false;
                    };
                    if renewal.fruitless.last().is_some_and(|last| now - *last < *pause) {
                        return true;
                    }
                    renewal.fruitless.push(now);
                    self.start(entry, &mut renewal)
                }
            }
        };
        if let Err(error) = self.landed(entry, flight).await {
            tracing::warn!(tenant_id = %entry.id, error = %error, "reading the secret anew after a refused login failed");
        }
        true
    }

    fn start(self: &Arc<Self>, entry: &Arc<TenantEntry>, renewal: &mut Renewal) -> Flight {
        let (sender, receiver) = watch::channel(None);
        let epoch = renewal.epoch;
        // The caller has entered the tenant or holds it.
        let Ok(held) = Held::new(entry.clone()) else {
            sender.send_replace(Some(Err(SecretError::lost("the tenant is forgotten"))));
            return receiver;
        };
        renewal.flight = Some((epoch, receiver.clone()));
        let cache = self.clone();
        let span = trace_span!(
            "fetch secret",
            otel.kind = "client",
            otel.status_code = Empty,
            tenant.id = entry.id.as_str(),
            secret.provider = &*self.provider_type,
            secret.version = Empty,
            secret.outcome = Empty,
        );
        // A task of its own: a request that goes away takes no one else's answer with it.
        let fetch = async move {
            let landing = Landing(held);
            let outcome = cache.fetch(&landing.0, epoch).await;
            drop(landing);
            sender.send_replace(Some(outcome));
        };
        tokio::spawn(fetch.instrument(span));
        receiver
    }

    async fn fetch(&self, entry: &TenantEntry, epoch: u64) -> Outcome {
        // Waiting for a turn is no failure of the provider: nothing is noted, and the next request tries again.
        let crowded = |_| Err(SecretError::lost("too many secrets are being read at once"));
        let turn = tokio::time::timeout(FETCH_DEADLINE, self.may_ask(entry)).await;
        let turn = turn.unwrap_or_else(crowded)?;
        let started = Instant::now();
        let fetched = match &turn {
            Turn::Ask(_permit) => tokio::time::timeout(FETCH_DEADLINE, self.provider.fetch(&entry.id))
                .await
                .unwrap_or_else(|elapsed| Err(ProviderError::Unavailable(elapsed.into()))),
            Turn::Unknown => Err(ProviderError::NotFound),
        };
        {
            let renewal = entry.secret.renewal.lock();
            if renewal.epoch != epoch {
                return Err(SecretError::Superseded);
            }
            // Counted while the permit is held, so that no more ask in vain than there are permits before it shows.
            if matches!((&turn, &fetched), (Turn::Ask(_), Err(ProviderError::NotFound))) {
                self.unknown.remember(&entry.id);
            }
        }
        drop(turn);
        let now = Instant::now();
        let took = now - started;
        let (outcome, told) = match fetched {
            Ok(document) => match self.read(document) {
                Ok(secret) => match self.keep(entry, secret, epoch, now, took) {
                    Some((secret, told)) => (Ok(secret), told),
                    None => return Err(SecretError::Superseded),
                },
                Err(source) => (
                    Err(self.failed(entry, epoch, now, |retry_after| SecretError::Invalid {
                        retry_after,
                        source,
                    })),
                    FetchOutcome::Invalid,
                ),
            },
            Err(ProviderError::NotFound) => {
                if !self.forget(entry, epoch) {
                    return Err(SecretError::Superseded);
                }
                (Err(SecretError::NotFound), FetchOutcome::NotFound)
            }
            Err(ProviderError::Invalid { reason }) => {
                let source = SecretInvalid::new("secret", reason);
                (
                    Err(self.failed(entry, epoch, now, |retry_after| SecretError::Invalid {
                        retry_after,
                        source,
                    })),
                    FetchOutcome::Invalid,
                )
            }
            Err(error) => {
                let told = FetchOutcome::Failed(error.kind());
                let source = Arc::new(error);
                let failed = self.failed(entry, epoch, now, |retry_after| SecretError::Unavailable {
                    retry_after,
                    source,
                });
                (Err(failed), told)
            }
        };
        entry.usage.secret_fetches.record(took, outcome.is_err());
        if let Some(observer) = &entry.observer {
            observer.secret_fetched(took, told);
        }
        let span = Span::current();
        span.record("secret.outcome", told.as_str());
        match &outcome {
            Ok(secret) => span.record("secret.version", tracing::field::display(&secret.version)),
            Err(_) => span.record("otel.status_code", "ERROR"),
        };
        outcome
    }

    /// Waits for the turn to ask the provider, unless this is one of many tenants that were never seen and its list does not name it.
    async fn may_ask(&self, entry: &TenantEntry) -> Result<Turn<'_>, SecretError> {
        loop {
            let permit = self.fetches.acquire().await;
            let permit = permit.map_err(|_| SecretError::lost("the engine is closed"))?;
            let is_new = !entry.secret.is_cached() && entry.pool.load().is_none();
            let verdict = if is_new {
                self.unknown.verdict(&entry.id)
            } else {
                Verdict::Ask
            };
            match verdict {
                Verdict::Ask => return Ok(Turn::Ask(permit)),
                Verdict::Unknown => {
                    self.counters.not_found_hits.fetch_add(1, Ordering::Relaxed);
                    return Ok(Turn::Unknown);
                }
                Verdict::Wait(mut list) => {
                    drop(permit);
                    let read = list.wait_for(|read| *read).await;
                    read.map_err(|_| SecretError::lost("the provider's list was abandoned"))?;
                }
                Verdict::TooMany(retry_after) => {
                    let source = ProviderError::Throttled {
                        retry_after: Some(retry_after),
                        source: "too many unknown tenants are asked for at once".into(),
                    };
                    let source = Arc::new(source);
                    return Err(SecretError::Unavailable { retry_after, source });
                }
            }
        }
    }

    fn read(&self, document: SecretDocument) -> Result<Secret, SecretInvalid> {
        let config = DatabaseConfig::parse(&document.value)?;
        let (driver_type, driver) = self.drivers.find(&config.driver)?;
        driver.validate(&config)?;
        let defaults = &self.pool_defaults;
        let own = config.pool;
        let limits = PoolDefaults {
            max_connections: own.max_connections.unwrap_or(defaults.max_connections),
            idle_connections: own.idle_connections.unwrap_or(defaults.idle_connections),
            idle_time: own.idle_time.map_or(defaults.idle_time, crate::HumanDuration),
            max_lifetime: own.max_lifetime.map_or(defaults.max_lifetime, crate::HumanDuration),
        };
        Ok(Secret {
            config,
            driver,
            driver_type,
            limits,
            version: document.version,
            generation: 0,
        })
    }

    fn keep(
        &self,
        entry: &TenantEntry,
        mut secret: Secret,
        epoch: u64,
        now: Instant,
        took: Duration,
    ) -> Option<(Arc<Secret>, FetchOutcome)> {
        let slot = &entry.secret;
        let pool_secret = entry.pool.load().as_ref().map(|pool| pool.secret());
        let kept = slot
            .cached
            .load_full()
            .map(|cached| cached.secret.clone())
            .or(pool_secret);
        let known = kept.filter(|kept| kept.version == secret.version);
        let changed = known.is_none();
        let ttl =
            Duration::from(self.settings.ttl).mul_f64(1.0 - self.settings.jitter.clamp(0.0, 1.0) * fastrand::f64());
        let (secret, replaced) = {
            let mut renewal = slot.renewal.lock();
            if renewal.epoch != epoch {
                return None;
            }
            renewal.backoff.succeed();
            renewal.last_error = None;
            let secret = known.unwrap_or_else(|| {
                renewal.generation += 1;
                renewal.fruitless.clear();
                secret.generation = renewal.generation;
                Arc::new(secret)
            });
            let replaced = slot.cached.swap(Some(Arc::new(CachedSecret {
                secret: secret.clone(),
                fetched_at: now,
                fresh_until: now + ttl,
                stale: false,
            })));
            (secret, replaced)
        };
        entry.set_limits(secret.config.limits);
        if replaced.is_some() {
            self.counters.refreshes.fetch_add(1, Ordering::Relaxed);
        }
        self.forget_unknown(Some(&entry.id));
        tracing::info!(
            tenant_id = %entry.id, driver = %secret.driver_type, version = %secret.version, changed,
            duration_ms = took.as_secs_f64() * 1e3, "secret fetched"
        );
        if changed && let Some(listener) = self.listener.upgrade() {
            listener.changed(entry, &secret);
        }
        let outcome = if changed {
            FetchOutcome::Changed
        } else {
            FetchOutcome::Unchanged
        };
        Some((secret, outcome))
    }

    /// Forgets a secret that the provider no longer has, unless a refresh was requested meanwhile; returns whether it did.
    fn forget(&self, entry: &TenantEntry, epoch: u64) -> bool {
        let was_kept = {
            let mut renewal = entry.secret.renewal.lock();
            if renewal.epoch != epoch {
                return false;
            }
            renewal.backoff.succeed();
            renewal.last_error = None;
            entry.secret.cached.swap(None).is_some()
        };
        if was_kept || entry.pool.load().is_some() {
            tracing::warn!(tenant_id = %entry.id, "the provider no longer knows this tenant; its pool is closed");
        }
        if let Some(listener) = self.listener.upgrade() {
            listener.gone(entry);
        }
        true
    }

    fn failed(
        &self,
        entry: &TenantEntry,
        epoch: u64,
        now: Instant,
        error: impl FnOnce(Duration) -> SecretError,
    ) -> SecretError {
        self.counters.refresh_failures.fetch_add(1, Ordering::Relaxed);
        let (error, failures) = {
            let mut renewal = entry.secret.renewal.lock();
            if renewal.epoch != epoch {
                return SecretError::Superseded;
            }
            let error = error(renewal.backoff.fail(now));
            renewal.last_error = Some(error.clone());
            if let Some(cached) = entry.secret.cached.load_full() {
                entry.secret.cached.store(Some(Arc::new(CachedSecret {
                    secret: cached.secret.clone(),
                    fetched_at: cached.fetched_at,
                    fresh_until: cached.fresh_until,
                    stale: true,
                })));
            }
            (error, renewal.backoff.failures())
        };
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::warn!(
            tenant_id = %entry.id, error = %error, cause, failures, retry_after_ms = error.delay().as_millis() as u64,
            "the secret could not be read"
        );
        error
    }

    /// Counts a read that was answered without a fetch.
    pub(crate) fn count_hit(&self) {
        self.counters.hits.increment();
    }

    /// Counts a kept secret that went to make room.
    pub(crate) fn count_eviction(&self) {
        self.counters.evictions.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters, with the `entries` that are kept now.
    pub(crate) fn metrics(&self, entries: usize) -> SecretMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SecretMetrics {
            hits: self.counters.hits.sum(),
            misses: read(&self.counters.misses),
            entries,
            capacity: self.settings.max_entries,
            evictions: read(&self.counters.evictions),
            stale_served: read(&self.counters.stale_served),
            refreshes: read(&self.counters.refreshes),
            refresh_failures: read(&self.counters.refresh_failures),
            not_found_hits: read(&self.counters.not_found_hits),
        }
    }
}

/// The right to ask the provider for a secret.
enum Turn<'a> {
    Ask(tokio::sync::SemaphorePermit<'a>),
    /// It is known that there is no such tenant.
    Unknown,
}

impl SecretError {
    /// A secret that was not read for a reason that is not the provider's.
    pub(crate) fn lost(reason: &'static str) -> Self {
        Self::Unavailable {
            retry_after: FIRST_BACKOFF,
            source: Arc::new(ProviderError::Unavailable(reason.into())),
        }
    }

    fn retry_after(mut self, left: Duration) -> Self {
        if let Self::Unavailable { retry_after, .. } | Self::Invalid { retry_after, .. } = &mut self {
            *retry_after = left;
        }
        self
    }

    fn delay(&self) -> Duration {
        match self {
            Self::NotFound | Self::Superseded => Duration::ZERO,
            Self::Unavailable { retry_after, .. } | Self::Invalid { retry_after, .. } => *retry_after,
        }
    }
}

/// Takes the flight off its slot when the fetch is over, even by a panic of the provider: the next request starts another.
struct Landing(Held);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.secret.renewal.lock().flight = None;
    }
}

/// Waits for a fetch. It always lands: the fetch has a deadline of its own.
async fn landed(mut flight: Flight) -> Outcome {
    let lost = || SecretError::lost("the fetch was abandoned");
    match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(lost())),
        // The task is gone without an answer: the runtime shuts down, or the provider panicked.
        Err(_) => Err(lost()),
    }
}
