//! The leases of the secrets that are in use. The engine holds a lease for as long as anything uses
//! its secret, extends it in time, and gives it back afterwards. A lease that could not be given
//! back is logged with its id, so that an operator can revoke it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, sleep},
};

use crate::{Cause, Lease, ProviderError, SecretDocument, SecretProvider, TenantId, provider::in_time};

/// How long one call of the provider may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many leases are released at once.
const RELEASED_AT_ONCE: usize = 32;
/// The pauses between tries to release a lease.
const RELEASE_PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16)];
/// No secret lasts longer as far as the engine is concerned.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A lease is at its maximum if a renewal extends it by less than this part of its first duration.
const WORTHWHILE: f64 = 0.9;
/// How long the last leases may take to be given back if the rest has taken all of the time.
const LAST_GRACE: Duration = Duration::from_secs(1);
/// How often it is looked whether they were.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long before its end a lease is extended at the latest.
const AHEAD: Duration = Duration::from_secs(2);

/// When a secret is replaced or its lease extended that may be used for `lasts`: after 80 % of that
/// time, two seconds before its end at the latest, and never before half of the time.
pub(crate) fn renew_after(lasts: Duration) -> Duration {
    let ahead = lasts.saturating_sub(AHEAD).max(lasts / 2);
    lasts.mul_f64(0.8).min(ahead)
}

/// Every lease that is held or being given back.
pub(crate) struct Leases {
    provider: Arc<dyn SecretProvider>,
    held: Mutex<BTreeMap<u64, (TenantId, Arc<str>)>>,
    next: AtomicU64,
    turns: Semaphore,
    /// How many secrets are being read.
    reading: AtomicUsize,
    /// The runtime on which leases are given back, whichever thread drops the last use.
    runtime: Handle,
}

/// A secret that is being read.
struct Reading<'a>(&'a AtomicUsize);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A lease of a secret. Dropping it gives the lease back.
pub(crate) struct HeldLease {
    lease: Lease,
    tenant: TenantId,
    number: u64,
    leases: Arc<Leases>,
    ends_at: Mutex<Instant>,
    /// Whether the provider could not be asked the last time.
    failed: AtomicBool,
}

impl Leases {
    /// It must be called within a tokio runtime, on which leases are given back.
    pub(crate) fn new(provider: Arc<dyn SecretProvider>) -> Arc<Self> {
        Arc::new(Self {
            provider,
            held: Mutex::default(),
            next: AtomicU64::new(0),
            turns: Semaphore::new(RELEASED_AT_ONCE),
            reading: AtomicUsize::new(0),
            runtime: Handle::current(),
        })
    }

    /// Reads a secret, and takes charge of its lease.
    ///
    /// # Errors
    /// As [`SecretProvider::fetch`].
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        tenant: TenantId,
    ) -> Result<(SecretDocument, Option<HeldLease>), ProviderError> {
        self.reading.fetch_add(1, Ordering::AcqRel);
        let _reading = Reading(&self.reading);
        let asked_at = Instant::now();
        let mut document = in_time(DEADLINE, self.provider.fetch(&tenant)).await?;
        let lease = document.lease.take();
        let held = lease.map(|lease| self.hold(tenant, lease, asked_at));
        Ok((document, held))
    }

    /// Renews and releases a lease from now on. It was requested at `asked_at`.
    fn hold(self: &Arc<Self>, tenant: TenantId, lease: Lease, asked_at: Instant) -> HeldLease {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.held.lock().insert(number, (tenant, lease.id.clone()));
        HeldLease {
            ends_at: Mutex::new(asked_at + lease.duration.min(LONGEST)),
            lease,
            tenant,
            number,
            leases: self.clone(),
            failed: AtomicBool::new(false),
        }
    }

    /// The tenants that hold a lease, or held one that is being given back.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let held = self.held.lock();
        held.values().map(|(tenant, _)| *tenant).collect()
    }

    /// Waits, until `deadline` and a second at least, until no secret is being read and every lease
    /// was given back; `let_go` drops what the engine holds. Returns whether all were, and logs
    /// each that was not.
    pub(crate) async fn end(&self, deadline: Instant, let_go: impl Fn()) -> bool {
        let deadline = deadline.max(Instant::now() + LAST_GRACE);
        loop {
            // In this order: a secret that was read is held before it no longer counts as being
            // read.
            let is_reading = self.reading.load(Ordering::Acquire) > 0;
            let_go();
            if !is_reading && self.held.lock().is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        for (tenant, lease) in self.held.lock().values() {
            tracing::warn!(
                tenant_id = %tenant, lease = %lease,
                "the lease of a secret was not released before the end: it ends by itself"
            );
        }
        false
    }

    async fn give_back(self: Arc<Self>, tenant: TenantId, number: u64, lease: Lease, ends_at: Instant) {
        let mut pauses = RELEASE_PAUSES.into_iter();
        let failure = loop {
            let turn = self.turns.acquire().await;
            let released = in_time(DEADLINE, self.provider.release(lease.clone())).await;
            drop(turn);
            let (error, pause) = match (released, pauses.next()) {
                (Ok(()) | Err(ProviderError::NotFound), _) => break None,
                (Err(error @ ProviderError::Denied(_)), _) | (Err(error), None) => break Some(error),
                (Err(error), Some(pause)) => (error, pause),
            };
            if Instant::now() + pause >= ends_at {
                break Some(error);
            }
            sleep(pause).await;
        };
        let left = ends_at.saturating_duration_since(Instant::now());
        // An expired lease also ends at the provider about now.
        if let Some(error) = failure.filter(|_| !left.is_zero()) {
            tracing::warn!(
                tenant_id = %tenant, lease = %lease.id, error = %Cause(&error), left_s = left.as_secs(),
                "the lease of a secret could not be released: it ends by itself"
            );
        }
        self.held.lock().remove(&number);
    }
}

impl HeldLease {
    /// When the secret ends unless the lease is extended.
    pub(crate) fn ends_at(&self) -> Instant {
        *self.ends_at.lock()
    }

    /// For how long the secret may be used from now on.
    pub(crate) fn left(&self) -> Duration {
        self.ends_at().saturating_duration_since(Instant::now())
    }

    /// Extends the lease; returns for how long the secret may be used from now on. Returns `None`
    /// if another secret is to be read: the lease cannot be extended, or is near its maximum.
    ///
    /// # Errors
    /// The provider cannot be asked now. The next time it fails, `None` is returned: reading
    /// another secret may work.
    pub(crate) async fn extend(&self) -> Result<Option<Duration>, ProviderError> {
        if !self.lease.renewable {
            return Ok(None);
        }
        let asked_at = Instant::now();
        match in_time(DEADLINE, self.leases.provider.renew(&self.lease)).await {
            Ok(granted) => {
                self.failed.store(false, Ordering::Relaxed);
                *self.ends_at.lock() = asked_at + granted.min(LONGEST);
                let worthwhile = granted >= self.lease.duration.mul_f64(WORTHWHILE);
                Ok(worthwhile.then(|| self.left()))
            }
            Err(error) => {
                tracing::info!(tenant_id = %self.tenant, error = %Cause(&error), "the lease of a secret is not extended");
                let is_outage = matches!(error, ProviderError::Unavailable(_) | ProviderError::Throttled { .. });
                if is_outage && !self.failed.swap(true, Ordering::Relaxed) {
                    return Err(error);
                }
                Ok(None)
            }
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        let leases = self.leases.clone();
        let given_back = leases.give_back(self.tenant, self.number, self.lease.clone(), self.ends_at());
        self.leases.runtime.spawn(given_back);
    }
}

#[cfg(test)]
mod tests;
