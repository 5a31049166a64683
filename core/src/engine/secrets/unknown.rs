//! What is known of tenants that the provider does not know: they are remembered one by one for a
//! while, and looked up in the provider's list while many of them are asked for.
//!
//! A plain data structure under one lock; the time is a parameter. `F` is what one waits on while
//! the list is being read.

use std::{collections::HashSet, time::Duration};

use cached::{Cached as _, LruCache};
use tokio::time::Instant;

use crate::{
    TenantId,
    engine::pace::{Backoff, RateLimiter},
};

/// The most tenants that are remembered as unknown one by one.
const REMEMBERED: usize = 10_000;
/// How many tenants, within one `not_found_ttl` and at least this time, the provider is asked for
/// in vain before its list is read instead.
const IN_VAIN: u32 = 16;
const COUNTED: Duration = Duration::from_secs(1);
/// How long requests wait for the list. AWS takes some 100 seconds for 100,000 names.
pub(super) const LIST_PATIENCE: Duration = Duration::from_secs(1);
/// How many tenants a second are looked for while they are many and there is no list.
const UNLISTED_PER_SECOND: u32 = 100;
/// How long the list is left alone after a failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(128);

/// Whether to ask the provider for a tenant of which nothing is kept.
#[derive(Debug)]
pub(super) enum Verdict<F> {
    Ask,
    /// It is remembered, or the provider's list is fresh and does not name it.
    Unknown,
    /// The list is being read; then, or after [`LIST_PATIENCE`], the verdict is another one.
    Wait(F),
    /// Too many are requested, and there is no list of existing tenants to check them.
    TooMany(Duration),
}

/// A tenant that was created is called unknown for at most `ttl` after that.
pub(crate) struct UnknownTenants<F> {
    ttl: Duration,
    /// Until when each is remembered.
    remembered: LruCache<TenantId, Instant>,
    /// When the count began of those that were asked for in vain, and the count.
    in_vain: (Instant, u32),
    /// The names in the provider's list, and when it was asked for: what was created meanwhile
    /// counts as later.
    list: Option<(HashSet<TenantId>, Instant)>,
    /// Present while the list is being read, with the time at which it was asked for.
    reading: Option<(F, Instant)>,
    backoff: Backoff,
    unlisted: RateLimiter,
    start: Instant,
}

impl<F: Clone> UnknownTenants<F> {
    pub(super) fn new(ttl: Duration, now: Instant) -> Self {
        Self {
            ttl,
            remembered: LruCache::new(REMEMBERED),
            in_vain: (now, 0),
            list: None,
            reading: None,
            backoff: Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF),
            unlisted: RateLimiter::default(),
            start: now,
        }
    }

    /// Whether it is known without asking that there is no such tenant.
    pub(super) fn contains(&mut self, tenant: &TenantId, now: Instant) -> bool {
        let remembered = self.remembered.cache_get(tenant).is_some_and(|until| now < *until);
        remembered || (self.are_many(now) && self.list(now).is_some_and(|names| !names.contains(tenant)))
    }

    /// Whether to ask for this tenant, of which nothing is kept, and whether the list is to be read
    /// from now on: then requests wait for `reading`.
    pub(super) fn verdict(&mut self, tenant: &TenantId, now: Instant, reading: F) -> (Verdict<F>, bool) {
        // Another request may have asked and had the answer just now, after this one looked.
        let verdict = if self.contains(tenant, now) {
            Verdict::Unknown
        } else if !self.are_many(now) || self.list(now).is_some() {
            Verdict::Ask
        } else if let Some((reading, since)) = &self.reading
            && now < *since + LIST_PATIENCE
        {
            Verdict::Wait(reading.clone())
        } else if self.reading.is_some() || self.backoff.remaining(now).is_some() {
            match self.unlisted.take(UNLISTED_PER_SECOND, now - self.start) {
                Ok(()) => Verdict::Ask,
                Err(retry_after) => Verdict::TooMany(retry_after),
            }
        } else {
            self.reading = Some((reading.clone(), now));
            return (Verdict::Wait(reading), true);
        };
        (verdict, false)
    }

    /// The list was read that was asked for at `asked_at`, or could not be read.
    pub(super) fn listed(&mut self, names: Option<HashSet<TenantId>>, asked_at: Instant, now: Instant) {
        self.reading = None;
        // A list that took longer than it holds is of no use.
        match names.filter(|_| now < asked_at + self.ttl) {
            Some(names) => {
                self.backoff.succeed();
                self.list = Some((names, asked_at));
            }
            None => {
                self.backoff.fail(now);
            }
        }
    }

    /// The provider answered that there is no such tenant.
    pub(crate) fn remember(&mut self, tenant: TenantId, now: Instant) {
        self.remembered.cache_set(tenant, now + self.ttl);
        if now >= self.in_vain.0 + self.ttl.max(COUNTED) {
            self.in_vain = (now, 0);
        }
        self.in_vain.1 = self.in_vain.1.saturating_add(1);
    }

    /// The tenant exists, or is to be asked for whatever is known; without a tenant, all are.
    pub(super) fn forget(&mut self, tenant: Option<&TenantId>) {
        let Some(tenant) = tenant else {
            self.remembered.cache_clear();
            self.list = None;
            self.in_vain.1 = 0;
            return;
        };
        let _until = self.remembered.cache_remove(tenant);
        if let Some((names, _)) = &mut self.list {
            names.insert(*tenant);
        }
    }

    fn are_many(&self, now: Instant) -> bool {
        let (since, count) = self.in_vain;
        count >= IN_VAIN && now < since + self.ttl.max(COUNTED)
    }

    fn list(&self, now: Instant) -> Option<&HashSet<TenantId>> {
        let (names, asked_at) = self.list.as_ref()?;
        (now < *asked_at + self.ttl).then_some(names)
    }
}

#[cfg(test)]
#[path = "unknown_tests.rs"]
mod tests;
