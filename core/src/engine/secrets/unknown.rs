//! Tenants that the provider does not know: remembered one by one for a while, and told by the
//! provider's list while many of them are asked for.

use std::{collections::HashSet, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use cached::ShardedLruCache;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, time::Instant};

use crate::{
    SecretProvider, TenantId,
    engine::pace::{Backoff, RateLimiter},
};

/// The most tenants that are remembered as unknown one by one.
const REMEMBERED: usize = 10_000;
/// How many tenants, within one `not_found_ttl`, the provider is asked for in vain before its list
/// is read instead.
const IN_VAIN: u32 = 16;
/// How many tenants a second are looked for while they are many and the list cannot be had.
const UNLISTED_PER_SECOND: u32 = 100;
/// How long the list is left alone after a failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(128);

/// Whether to ask the provider for a tenant of which nothing is kept.
pub(crate) enum Verdict {
    /// Ask.
    Ask,
    /// The provider's list is fresh and does not name it.
    Unknown,
    /// The list is being read; then the verdict is another one.
    Wait(watch::Receiver<bool>),
    /// Too many are asked for, and there is no list to tell the good from the bad.
    TooMany(Duration),
}

/// The provider's list as it was at some time.
struct Roll {
    names: RwLock<HashSet<TenantId>>,
    /// Before the list was asked for, so that what was created meanwhile counts as later.
    taken_at: Instant,
}

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    in_vain: u32,
}

struct Reading {
    flight: Option<watch::Receiver<bool>>,
    backoff: Backoff,
}

/// What is known of tenants that do not exist. A tenant that was created is told unknown for at
/// most `ttl` after that.
pub(crate) struct UnknownTenants {
    provider: Arc<dyn SecretProvider>,
    ttl: Duration,
    list_deadline: Duration,
    remembered: ShardedLruCache<TenantId, Instant>,
    window: Mutex<Window>,
    roll: ArcSwapOption<Roll>,
    reading: Mutex<Reading>,
    unlisted: RateLimiter,
    started: Instant,
}

impl UnknownTenants {
    pub(crate) fn new(provider: Arc<dyn SecretProvider>, ttl: Duration, list_deadline: Duration) -> Self {
        Self {
            provider,
            ttl,
            list_deadline,
            remembered: ShardedLruCache::new(REMEMBERED),
            window: Mutex::default(),
            roll: ArcSwapOption::empty(),
            reading: Mutex::new(Reading {
                flight: None,
                backoff: Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF),
            }),
            unlisted: RateLimiter::default(),
            started: Instant::now(),
        }
    }

    /// Whether it is known without asking that there is no such tenant.
    pub(crate) fn contains(&self, tenant: &TenantId) -> bool {
        let now = Instant::now();
        self.is_remembered(tenant, now)
            || self.are_many(now) && self.roll(now).is_some_and(|roll| !roll.names.read().contains(tenant))
    }

    fn is_remembered(&self, tenant: &TenantId, now: Instant) -> bool {
        self.remembered.get(tenant).is_some_and(|until| now < until)
    }

    /// Whether to ask for this tenant, of which nothing is kept.
    pub(crate) fn verdict(self: &Arc<Self>, tenant: &TenantId) -> Verdict {
        let now = Instant::now();
        // Another request may have asked and been told just now, after this one looked.
        if self.is_remembered(tenant, now) {
            return Verdict::Unknown;
        }
        if !self.are_many(now) {
            return Verdict::Ask;
        }
        if let Some(roll) = self.roll(now) {
            return if roll.names.read().contains(tenant) {
                Verdict::Ask
            } else {
                Verdict::Unknown
            };
        }
        let mut reading = self.reading.lock();
        if let Some(flight) = &reading.flight {
            return Verdict::Wait(flight.clone());
        }
        if reading.backoff.remaining(now).is_some() {
            return match self.unlisted.take(UNLISTED_PER_SECOND, now - self.started) {
                Ok(()) => Verdict::Ask,
                Err(retry_after) => Verdict::TooMany(retry_after),
            };
        }
        // It may have landed between the look at it and the lock.
        if self.roll(now).is_some() {
            drop(reading);
            return self.verdict(tenant);
        }
        tracing::warn!("many tenants that do not exist are asked for: the provider's list tells who does");
        Verdict::Wait(self.read_list(&mut reading, now))
    }

    /// The provider answered that there is no such tenant.
    pub(crate) fn remember(&self, tenant: &TenantId) {
        let now = Instant::now();
        self.remembered.set(*tenant, now + self.ttl);
        let mut window = self.window.lock();
        if window.began.is_none_or(|began| now >= began + self.ttl) {
            *window = Window {
                began: Some(now),
                in_vain: 0,
            };
        }
        window.in_vain = window.in_vain.saturating_add(1);
    }

    /// The tenant exists, or is to be asked for whatever is known.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.remembered.remove(tenant);
        if let Some(roll) = &*self.roll.load()
            && !roll.names.read().contains(tenant)
        {
            roll.names.write().insert(*tenant);
        }
    }

    pub(crate) fn forget_all(&self) {
        self.remembered.clear();
        self.roll.store(None);
        *self.window.lock() = Window::default();
    }

    fn are_many(&self, now: Instant) -> bool {
        let window = self.window.lock();
        window.in_vain >= IN_VAIN && window.began.is_some_and(|began| now < began + self.ttl)
    }

    fn roll(&self, now: Instant) -> Option<Arc<Roll>> {
        self.roll.load_full().filter(|roll| now < roll.taken_at + self.ttl)
    }

    /// Reads the list in a task of its own: it may take longer than a request has.
    fn read_list(self: &Arc<Self>, reading: &mut Reading, now: Instant) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        reading.flight = Some(receiver.clone());
        let landing = Landing {
            unknown: self.clone(),
            taken_at: now,
            names: None,
            sender,
        };
        tokio::spawn(async move {
            let mut landing = landing;
            let unknown = landing.unknown.clone();
            match tokio::time::timeout(unknown.list_deadline, unknown.provider.list()).await {
                Ok(Ok(names)) => landing.names = Some(names.into_iter().collect()),
                Ok(Err(error)) => tracing::warn!(kind = error.kind(), "the provider's list cannot be read"),
                Err(_) => tracing::warn!(kind = "timeout", "the provider's list cannot be read"),
            }
        });
        receiver
    }
}

/// Ends the reading of the list, even by a panic of the provider.
struct Landing {
    unknown: Arc<UnknownTenants>,
    taken_at: Instant,
    names: Option<HashSet<TenantId>>,
    sender: watch::Sender<bool>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut reading = self.unknown.reading.lock();
        reading.flight = None;
        // A list that took longer than it holds is of no use.
        match self.names.take().filter(|_| now < self.taken_at + self.unknown.ttl) {
            Some(names) => {
                reading.backoff.succeed();
                self.unknown.roll.store(Some(Arc::new(Roll {
                    names: RwLock::new(names),
                    taken_at: self.taken_at,
                })));
            }
            None => {
                reading.backoff.fail(now);
            }
        }
        drop(reading);
        self.sender.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{ProviderError, SecretDocument};

    struct Nobody;

    #[async_trait]
    impl SecretProvider for Nobody {
        async fn fetch(&self, _: &TenantId) -> Result<SecretDocument, ProviderError> {
            Err(ProviderError::NotFound)
        }

        async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_unknown_just_now_is_not_asked_for_again() {
        const TTL: Duration = Duration::from_secs(30);
        let unknown = Arc::new(UnknownTenants::new(Arc::new(Nobody), TTL, Duration::from_secs(5)));
        let tenant = "nobody".parse().unwrap();
        assert!(matches!(unknown.verdict(&tenant), Verdict::Ask));
        unknown.remember(&tenant);
        assert!(unknown.contains(&tenant) && matches!(unknown.verdict(&tenant), Verdict::Unknown));
        // An operator who has its secret read anew has it asked for.
        unknown.forget(&tenant);
        assert!(matches!(unknown.verdict(&tenant), Verdict::Ask));
        unknown.remember(&tenant);
        tokio::time::advance(TTL).await;
        assert!(matches!(unknown.verdict(&tenant), Verdict::Ask));
    }
}
