//! Reading a tenant's secret: at most one fetch at a time, and all requests wait for its answer.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::Shared};
use tokio::{sync::oneshot, time::Instant};
use tracing::{Instrument as _, Span, field::Empty};

use super::{Held, Holdings, Tenant};
use crate::{
    Cause,
    acquire_error::AcquireError,
    duration::milliseconds,
    engine::{
        measure::observer::FetchOutcome,
        secrets::{AfterRefusal, Fetched, Read, Secret, Secrets},
    },
    trace::trace_span,
};

/// How often a fetch asks the provider because a refresh made what it read too old.
const MOST_SUPERSEDED: u32 = 16;
/// How long a tenant keeps a secret that has a lease while it has no connection.
const KEPT_UNUSED: Duration = Duration::from_secs(10);
/// The field of a read's span with the source of the secret.
const CACHE: &str = "secret.cache";

type Outcome = Result<Arc<Secret>, AcquireError>;
/// Receives the answer of a fetch.
pub(crate) type Flight = Shared<oneshot::Receiver<Outcome>>;

impl Tenant {
    /// The secret: at once while it is fresh, or past its time while one fetch renews it.
    pub(crate) async fn secret(self: &Arc<Self>, secrets: &Arc<Secrets>, now: Instant) -> Outcome {
        let note = |from| {
            Span::current().record(CACHE, from);
        };
        let hit = || self.usage.lock().secret_hits += 1;
        let serve_stale = |secret| {
            note("stale");
            secrets.counters.lock().metrics.stale_served += 1;
            Ok(secret)
        };
        let (flight, fallback) = {
            let mut holdings = self.holdings();
            match holdings.secret.read(now) {
                Read::Fresh(secret) => {
                    note("hit");
                    hit();
                    return Ok(secret);
                }
                Read::Refused(error) => return Err(error),
                Read::Stale(secret) => {
                    hit();
                    self.renew_if_due(&mut holdings, secrets, now);
                    return serve_stale(secret);
                }
                Read::Fetch { fallback } => {
                    note("miss");
                    match holdings.secret.fetch() {
                        Some(_) => hit(),
                        None => secrets.counters.lock().metrics.misses += 1,
                    }
                    (self.join_fetch(&mut holdings, secrets, true), fallback)
                }
            }
        };
        match (landed(flight).await, fallback) {
            (Err(AcquireError::ProviderUnavailable { .. } | AcquireError::SecretInvalid { .. }), Some(secret)) => {
                serve_stale(secret)
            }
            (outcome, _) => outcome,
        }
    }

    /// Reads the secret now, whatever is kept, and waits for it. A fetch that runs already may have
    /// read the old value: it reads once more.
    pub(crate) async fn refresh(self: &Arc<Self>, secrets: &Arc<Secrets>) -> Outcome {
        let flight = {
            let mut holdings = self.holdings();
            holdings.secret.refresh();
            holdings.prepare_again();
            secrets.forget_unknown(Some(&self.id));
            self.join_fetch(&mut holdings, secrets, false)
        };
        landed(flight).await
    }

    /// Renews an expired cached secret in the background.
    pub(crate) fn renew_if_due(self: &Arc<Self>, holdings: &mut Holdings, secrets: &Arc<Secrets>, now: Instant) {
        if holdings.secret.is_due(now) {
            drop(self.join_fetch(holdings, secrets, true));
        }
    }

    /// Looks after a secret that has a lease, though no request asks for it. The lease is extended
    /// in time. A secret that nothing has used for a while is let go, and its lease given back.
    /// After the end of its lease a secret is not used, and its connections are closed.
    pub(crate) fn look_after_lease(self: &Arc<Self>, secrets: &Arc<Secrets>, now: Instant) {
        let mut holdings = self.holdings();
        let in_use = holdings.in_use();
        let Some(lease) = in_use.as_ref().and_then(|secret| secret.lease.as_ref()) else {
            return;
        };
        let used_at = self.start + Duration::from_millis(self.last_used());
        let is_unused = !holdings.is_open() && self.admission.is_unused() && now >= used_at + KEPT_UNUSED;
        if is_unused {
            holdings.let_go();
        } else if now < lease.ends_at() {
            self.renew_if_due(&mut holdings, secrets, now);
        } else {
            holdings.secret.let_go();
            holdings.pool.iter().for_each(|pool| pool.close());
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
                AfterRefusal::Fetch => self.join_fetch(&mut holdings, secrets, false),
            }
        };
        if let Err(error) = landed(flight).await {
            tracing::warn!(tenant_id = %self.id, error = %Cause(&error), "reading the secret anew after a refused login failed");
        }
        true
    }

    /// The running fetch. If there is none, one begins in a task of its own: a request that goes
    /// away takes no one else's answer with it. `may_renew` is whether extending the lease of the
    /// secret that is kept is enough.
    fn join_fetch(self: &Arc<Self>, holdings: &mut Holdings, secrets: &Arc<Secrets>, may_renew: bool) -> Flight {
        if let Some(running) = holdings.secret.fetch() {
            return running.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let flight = receiver.shared();
        // The caller has entered the tenant or holds it; if not, nothing waits for the answer.
        let Ok(held) = Held::new(self.clone()) else {
            return flight;
        };
        holdings.secret.begin_fetch(flight.clone());
        let in_use = holdings.secret.cached().cloned().filter(|_| may_renew);
        let is_new = !holdings.is_known();
        let runtime = secrets.runtime.clone();
        let secrets = secrets.clone();
        let span = trace_span!(
            "fetch secret",
            otel.kind = "client",
            otel.status_code = Empty,
            tenant.id = self.id.as_str(),
            secret.provider = secrets.provider_type,
            secret.version = Empty,
            secret.outcome = Empty,
        );
        let own = flight.clone();
        let fetch = async move {
            let outcome = AssertUnwindSafe(held.fetch(&secrets, in_use, is_new))
                .catch_unwind()
                .await;
            let outcome = outcome.unwrap_or_else(|_| Err(AcquireError::lost("the fetch panicked")));
            // One that stored its answer has ended, and another one may run by now.
            held.holdings().secret.give_up_fetch(|running| running.ptr_eq(&own));
            let id = held.id;
            drop(held);
            if matches!(outcome, Err(AcquireError::Unknown)) {
                secrets.gone.lock().insert(id);
            }
            // The waiting requests may have gone away.
            drop(sender.send(outcome));
        };
        runtime.spawn(fetch.instrument(span));
        flight
    }

    /// Asks the provider until no refresh has asked for a newer answer.
    async fn fetch(&self, secrets: &Arc<Secrets>, mut in_use: Option<Arc<Secret>>, is_new: bool) -> Outcome {
        let span = Span::current();
        for _ in 0..MOST_SUPERSEDED {
            let permit = secrets.turn(&self.id, is_new).await?;
            let started = Instant::now();
            let fetched = secrets.ask(&self.id, in_use.take().as_deref()).await;
            let took = started.elapsed();
            // Unknown tenants are counted while the permit is held, so that no more ask in vain
            // than there are permits before it shows.
            let landed = match fetched {
                Ok(fetched) => self.keep(secrets, fetched, took).map(Ok),
                Err(error) => self.fail(secrets, error).map(Err),
            };
            drop(permit);
            let ended = match &landed {
                None => FetchOutcome::Superseded,
                Some(Ok((_, true))) => FetchOutcome::Changed,
                Some(Ok((_, false))) => FetchOutcome::Unchanged,
                Some(Err(AcquireError::Unknown)) => FetchOutcome::NotFound,
                Some(Err(AcquireError::ProviderUnavailable { source, .. })) => FetchOutcome::Failed(source.kind()),
                Some(Err(_)) => FetchOutcome::Invalid,
            };
            let failed = matches!(landed, Some(Err(_)));
            self.usage.lock().secret_fetches.record(took, failed);
            if let Some(observer) = &self.observer {
                observer.secret_fetched(took, ended);
            }
            span.record("secret.outcome", ended.as_str());
            match landed {
                None => {}
                Some(Ok((secret, _))) => {
                    span.record("secret.version", tracing::field::display(&secret.version));
                    return Ok(secret);
                }
                Some(Err(error)) => {
                    span.record("otel.status_code", "ERROR");
                    return Err(error);
                }
            }
        }
        Err(AcquireError::lost(
            "the secret was refreshed again and again while it was read",
        ))
    }

    /// Keeps a secret that was read, or the one that is in use if only its lease was extended; a
    /// changed one goes to the pool. Returns it, and whether it changed.
    fn keep(&self, secrets: &Secrets, (read, times): Fetched, took: Duration) -> Option<(Arc<Secret>, bool)> {
        let mut holdings = self.holdings();
        // A secret with a lease of its own is another one, whatever its version says.
        let is_same = |kept: &Arc<Secret>| match &read {
            Some(read) => kept.version == read.version && read.lease.is_none(),
            None => true,
        };
        let same = holdings.in_use().filter(is_same);
        let was_kept = holdings.secret.cached().is_some();
        let (secret, changed) = holdings.secret.store(Instant::now(), times, same, |generation| {
            let secret = read.map(|read| Secret { generation, ..read });
            secret.map(Arc::new)
        })?;
        self.set_limits(&secrets.settings.limits, secret.config.limits);
        let rotated = changed && rotate(&mut holdings, &secret);
        drop(holdings);
        secrets.forget_unknown(Some(&self.id));
        let mut counters = secrets.counters.lock();
        counters.metrics.refreshes += u64::from(was_kept);
        counters.pools.rotations += u64::from(rotated);
        drop(counters);
        tracing::info!(
            tenant_id = %self.id, driver = %secret.driver_type, version = %secret.version, changed, rotated,
            duration_ms = milliseconds(took), "secret fetched"
        );
        Some((secret, changed))
    }

    /// Takes the provider's failure to answer. If it knows no such tenant, the secret is forgotten
    /// and the pool closed.
    fn fail(&self, secrets: &Secrets, error: AcquireError) -> Option<AcquireError> {
        let mut holdings = self.holdings();
        let was_known = holdings.is_known();
        let now = Instant::now();
        let (error, failures) = holdings.secret.fail(error, now)?;
        if !matches!(error, AcquireError::Unknown) {
            let retry_after_ms = holdings.secret.pause(now).map(|pause| pause.as_millis() as u64);
            drop(holdings);
            secrets.counters.lock().metrics.refresh_failures += 1;
            let cause = std::error::Error::source(&error).map(|source| Cause(source).to_string());
            tracing::warn!(
                tenant_id = %self.id, error = %error, cause, failures, retry_after_ms, "the secret could not be read"
            );
            return Some(error);
        }
        secrets.unknown.lock().remember(self.id, Instant::now());
        holdings.let_go();
        drop(holdings);
        if was_known {
            tracing::warn!(tenant_id = %self.id, "the provider no longer knows this tenant; its pool is closed");
        }
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

/// Waits for a fetch. It always lands, since each part of it has a deadline, unless the runtime
/// shuts down.
async fn landed(flight: Flight) -> Outcome {
    let outcome = flight.await;
    outcome.unwrap_or_else(|_| Err(AcquireError::lost("the fetch was abandoned")))
}
