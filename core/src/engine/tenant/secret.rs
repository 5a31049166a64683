//! Reading a tenant's secret: at most one fetch at a time, and all requests wait for its answer.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tracing::{Instrument as _, Span, field::Empty};

use super::{Held, Holdings, Tenant};
use crate::{
    ProviderError,
    engine::{
        measure::observer::FetchOutcome,
        secrets::{AfterRefusal, Fetched, Read, Secret, SecretError, Secrets, Stored, Turn, count},
    },
    trace::trace_span,
};

/// How often a fetch begins anew because a refresh made what it read too old.
const MOST_SUPERSEDED: u32 = 16;
/// The field of the span around a read that says where the secret came from.
const CACHE: &str = "secret.cache";

type Outcome = Result<Arc<Secret>, SecretError>;
/// Receives the answer of a fetch.
pub(crate) type Flight = watch::Receiver<Option<Outcome>>;

impl Tenant {
    /// The secret: at once while it is fresh, or past its time while one fetch renews it.
    pub(crate) async fn secret(self: &Arc<Self>, secrets: &Arc<Secrets>, now: Instant) -> Outcome {
        let note = |from| {
            Span::current().record(CACHE, from);
        };
        let serve_stale = |secret| {
            note("stale");
            count(&self.usage.secret_hits);
            count(&secrets.counters.stale_served);
            Ok(secret)
        };
        let (flight, fallback) = {
            let mut holdings = self.holdings();
            match holdings.secret.read(now) {
                Read::Fresh(secret) => {
                    count(&self.usage.secret_hits);
                    note("hit");
                    return Ok(secret);
                }
                Read::Refused(error) => return Err(error),
                Read::Stale(secret) => {
                    if holdings.secret.may_fetch(now) {
                        self.begin_fetch(&mut holdings, secrets, true);
                    }
                    return serve_stale(secret);
                }
                Read::Fetch { fallback } => {
                    note("miss");
                    let is_kept = holdings.secret.kept().is_some();
                    let flight = match holdings.secret.fetch().cloned() {
                        Some(running) => {
                            (!is_kept).then(|| count(&self.usage.secret_hits));
                            running
                        }
                        None => {
                            (!is_kept).then(|| count(&secrets.counters.misses));
                            self.begin_fetch(&mut holdings, secrets, true)
                        }
                    };
                    (flight, fallback)
                }
            }
        };
        match (landed(flight).await, fallback) {
            (Err(SecretError::Unavailable { .. } | SecretError::Invalid { .. }), Some(secret)) => serve_stale(secret),
            (outcome, _) => outcome,
        }
    }

    /// Reads the secret now, whatever is kept, and waits for it. A fetch that runs already may have
    /// read the old value: it reads once more.
    pub(crate) async fn refresh(self: &Arc<Self>, secrets: &Arc<Secrets>) -> Outcome {
        let flight = {
            let mut holdings = self.holdings();
            holdings.secret.refresh();
            secrets.forget_unknown(Some(&self.id));
            match holdings.secret.fetch().cloned() {
                Some(running) => running,
                None => self.begin_fetch(&mut holdings, secrets, false),
            }
        };
        landed(flight).await
    }

    /// Renews a kept secret whose time is over, in the background.
    pub(crate) fn renew_if_due(self: &Arc<Self>, secrets: &Arc<Secrets>, now: Instant) {
        let mut holdings = self.holdings();
        if holdings.secret.is_due(now) {
            self.begin_fetch(&mut holdings, secrets, true);
        }
    }

    /// Reads the secret anew because its user was refused, and waits for the answer. Returns
    /// whether another try to log in is worthwhile.
    pub(crate) async fn refresh_after_refusal(self: &Arc<Self>, secrets: &Arc<Secrets>, refused: u64) -> bool {
        let flight = {
            let mut holdings = self.holdings();
            match holdings.secret.after_refusal(refused, Instant::now()) {
                AfterRefusal::TryAgain => return true,
                AfterRefusal::GiveUp => return false,
                AfterRefusal::Wait(running) => running,
                AfterRefusal::Fetch => self.begin_fetch(&mut holdings, secrets, false),
            }
        };
        if let Err(error) = landed(flight).await {
            tracing::warn!(tenant_id = %self.id, error = %error, "reading the secret anew after a refused login failed");
        }
        true
    }

    /// Begins a fetch in a task of its own: a request that goes away takes no one else's answer
    /// with it. `may_renew` is whether extending the lease of the secret that is kept is enough.
    fn begin_fetch(self: &Arc<Self>, holdings: &mut Holdings, secrets: &Arc<Secrets>, may_renew: bool) -> Flight {
        let (sender, flight) = watch::channel(None);
        // The caller has entered the tenant or holds it.
        let Ok(held) = Held::new(self.clone()) else {
            sender.send_replace(Some(Err(SecretError::lost("the tenant is forgotten"))));
            return flight;
        };
        holdings.secret.begin_fetch(flight.clone());
        let secrets = secrets.clone();
        let span = trace_span!(
            "fetch secret",
            otel.kind = "client",
            otel.status_code = Empty,
            tenant.id = self.id.as_str(),
            secret.provider = secrets.provider_type(),
            secret.version = Empty,
            secret.outcome = Empty,
        );
        let fetch = async move {
            let landing = Landing(held);
            let outcome = landing.0.fetch(&secrets, may_renew).await;
            drop(landing);
            sender.send_replace(Some(outcome));
        };
        tokio::spawn(fetch.instrument(span));
        flight
    }

    /// Asks the provider until no refresh has asked for a newer answer.
    async fn fetch(&self, secrets: &Secrets, may_renew: bool) -> Outcome {
        for attempt in 0..MOST_SUPERSEDED {
            if let Some(outcome) = self.fetch_once(secrets, may_renew && attempt == 0).await {
                return outcome;
            }
        }
        Err(SecretError::lost(
            "the secret was refreshed again and again while it was read",
        ))
    }

    /// Asks once; `None` if a newer answer was asked for meanwhile.
    async fn fetch_once(&self, secrets: &Secrets, may_renew: bool) -> Option<Outcome> {
        let (epoch, in_use, is_new) = {
            let holdings = self.holdings();
            let in_use = holdings.secret.kept().cloned().filter(|_| may_renew);
            (holdings.secret.epoch(), in_use, !holdings.is_known())
        };
        let turn = match secrets.turn(&self.id, is_new).await {
            Ok(turn) => turn,
            Err(error) => return Some(Err(error)),
        };
        let started = Instant::now();
        let fetched = match &turn {
            Turn::Ask { .. } => secrets.ask(&self.id, in_use.as_deref()).await,
            Turn::Unknown => Err(ProviderError::NotFound),
        };
        let took = started.elapsed();
        // Unknown tenants are counted while the permit is held, so that no more ask in vain than
        // there are permits before it shows.
        let landed = self.land(secrets, epoch, fetched, matches!(turn, Turn::Ask { .. }), took);
        drop(turn);
        let told = landed.as_ref().map_or(FetchOutcome::Superseded, |(_, told)| *told);
        let failed = landed.as_ref().is_some_and(|(outcome, _)| outcome.is_err());
        self.usage.secret_fetches.record(took, failed);
        if let Some(observer) = &self.observer {
            observer.secret_fetched(took, told);
        }
        let span = Span::current();
        span.record("secret.outcome", told.as_str());
        let (outcome, _) = landed?;
        match &outcome {
            Ok(secret) => span.record("secret.version", tracing::field::display(&secret.version)),
            Err(_) => span.record("otel.status_code", "ERROR"),
        };
        Some(outcome)
    }

    /// Takes the provider's answer, unless a newer one was asked for meanwhile.
    fn land(
        &self,
        secrets: &Secrets,
        epoch: u64,
        fetched: Result<Fetched, ProviderError>,
        asked: bool,
        took: Duration,
    ) -> Option<(Outcome, FetchOutcome)> {
        let told = match &fetched {
            Ok(Fetched::Secret(_) | Fetched::Renewed(_)) => None,
            Ok(Fetched::Invalid(_)) | Err(ProviderError::Invalid { .. }) => Some(FetchOutcome::Invalid),
            Err(ProviderError::NotFound) => Some(FetchOutcome::NotFound),
            Err(error) => Some(FetchOutcome::Failed(error.kind())),
        };
        let landed = match fetched {
            Ok(Fetched::Secret(secret)) => {
                let lease = Secrets::lease_of(&secret);
                Ok(self.keep(secrets, epoch, Some(*secret), lease, took)?)
            }
            Ok(Fetched::Renewed(lease)) => Ok(self.keep(secrets, epoch, None, Some(lease), took)?),
            Err(ProviderError::NotFound) => Err(self.not_found(secrets, epoch, asked)?),
            Ok(Fetched::Invalid(invalid)) => {
                Err(self.failed(secrets, epoch, |delay| SecretError::invalid(invalid, delay))?)
            }
            Err(error) => Err(self.failed(secrets, epoch, |delay| SecretError::of_provider(error, delay))?),
        };
        Some(match landed {
            Ok(Stored {
                secret, changed: true, ..
            }) => (Ok(secret), FetchOutcome::Changed),
            Ok(Stored { secret, .. }) => (Ok(secret), FetchOutcome::Unchanged),
            Err(error) => (Err(error), told.unwrap_or(FetchOutcome::Unchanged)),
        })
    }

    /// Keeps a secret that was read, or the one that is in use if only its lease was extended; a
    /// changed one goes to the pool.
    fn keep(
        &self,
        secrets: &Secrets,
        epoch: u64,
        read: Option<Secret>,
        lease: Option<Duration>,
        took: Duration,
    ) -> Option<Stored<Arc<Secret>>> {
        let now = Instant::now();
        let mut holdings = self.holdings();
        // A secret with a lease of its own is another one, whatever its version says.
        let is_same = |kept: &Arc<Secret>| match &read {
            Some(read) => kept.version == read.version && read.lease.is_none(),
            None => true,
        };
        let same = holdings.in_use().filter(is_same);
        let times = secrets.times(now, lease);
        let stored = holdings.secret.store(epoch, now, times, same, |generation| {
            let secret = read.map(|read| Secret { generation, ..read });
            secret.map(Arc::new)
        })?;
        self.set_limits(stored.secret.config.limits);
        let rotated = stored.changed && rotate(&mut holdings, &stored.secret);
        drop(holdings);
        secrets.forget_unknown(Some(&self.id));
        if stored.replaced {
            count(&secrets.counters.refreshes);
        }
        tracing::info!(
            tenant_id = %self.id, driver = %stored.secret.driver_type, version = %stored.secret.version,
            changed = stored.changed, duration_ms = took.as_secs_f64() * 1e3, "secret fetched"
        );
        if rotated {
            count(&secrets.counters.rotations);
            tracing::info!(tenant_id = %self.id, version = %stored.secret.version, "the pool uses the changed secret");
        }
        Some(stored)
    }

    /// The provider knows no such tenant: its secret is forgotten and its pool closed.
    fn not_found(&self, secrets: &Secrets, epoch: u64, asked: bool) -> Option<SecretError> {
        let mut holdings = self.holdings();
        let was_kept = holdings.secret.not_found(epoch)?;
        if asked {
            secrets.unknown.remember(&self.id);
        }
        let was_open = holdings.is_open();
        let pool = holdings.pool.take();
        drop(holdings);
        if let Some(pool) = pool {
            pool.close();
        }
        if was_kept || was_open {
            tracing::warn!(tenant_id = %self.id, "the provider no longer knows this tenant; its pool is closed");
        }
        // What still uses it leaves it for the housekeeping; a name that a client makes up is
        // cleared away by its own request.
        if was_open || self.in_flight() == 0 {
            secrets.gone.lock().push(self.id);
        }
        Some(SecretError::NotFound)
    }

    fn failed(
        &self,
        secrets: &Secrets,
        epoch: u64,
        error: impl FnOnce(Duration) -> SecretError,
    ) -> Option<SecretError> {
        let (error, failures) = self.holdings().secret.failed(epoch, Instant::now(), error)?;
        count(&secrets.counters.refresh_failures);
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::warn!(
            tenant_id = %self.id, error = %error, cause, failures, retry_after_ms = error.delay().as_millis() as u64,
            "the secret could not be read"
        );
        Some(error)
    }
}

/// Gives a changed secret to the pool; another kind of database gets another pool. Returns whether
/// there was one.
fn rotate(holdings: &mut Holdings, secret: &Arc<Secret>) -> bool {
    match &holdings.pool {
        None => false,
        Some(pool) if pool.secret().driver_type == secret.driver_type => pool.rotate(secret.clone()),
        Some(pool) => {
            pool.close();
            holdings.pool = None;
            true
        }
    }
}

/// Takes the flight off its slot when the fetch has ended, even by a panic of the provider: the
/// next request begins another.
struct Landing(Held);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.holdings().secret.end_fetch();
    }
}

/// Waits for a fetch. It always lands: each part of it has a deadline.
async fn landed(mut flight: Flight) -> Outcome {
    let lost = || SecretError::lost("the fetch was abandoned");
    match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(lost())),
        // The task is gone without an answer: the runtime shuts down, or the provider panicked.
        Err(_) => Err(lost()),
    }
}
