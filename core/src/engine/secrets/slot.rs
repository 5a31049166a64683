//! The place for one tenant's secret: what is kept, whether it is being fetched, and for how long
//! it may be used.
//!
//! A plain data structure under its tenant's lock; the time is a parameter. `S` is the secret, `F`
//! what one waits on for the running fetch.

use std::time::Duration;

use tokio::time::Instant;

use crate::{acquire_error::AcquireError, engine::pace::Backoff};

/// How long the provider is left alone after a failure: the first time, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(128));
/// After a refused login the secret is read anew: at once, then after the first of these pauses,
/// which doubles up to the longest unless the secret changes. So a corrected one is found soon, and
/// one that stays wrong costs the provider little.
const REFUSED: (Duration, Duration) = (Duration::from_millis(1_200), Duration::from_secs(6));
/// For how many reads requests wait, and try to log in meanwhile. Then they fail until the next.
const REFUSED_TRIES: u32 = 3;

pub(crate) struct SecretSlot<S, F> {
    kept: Option<CachedSecret<S>>,
    fetch: Option<F>,
    /// Whether a value was asked for since the running fetch asked the provider: by a refresh, a
    /// clear or a change signal. What it has read is not stored then.
    superseded: bool,
    backoff: Backoff,
    last_error: Option<AcquireError>,
    /// Paces the reads that follow refused logins.
    refusals: Backoff,
    generation: u64,
}

struct CachedSecret<S> {
    secret: S,
    fetched_at: Instant,
    times: Times,
    /// Whether the last try to renew it failed.
    stale: bool,
    /// Whether it is only used if the provider fails to return another one.
    cleared: bool,
}

/// For how long a secret is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Until then it is used without a question.
    pub(crate) fresh_until: Instant,
    /// From then on a request waits for the answer of the provider rather than use it.
    pub(crate) old_from: Instant,
    /// Until then it is used while the provider fails.
    pub(crate) serve_until: Instant,
}

/// What a request is to do for its secret.
#[derive(Debug)]
pub(crate) enum Read<S> {
    Fresh(S),
    /// It is past its time, and used while it is renewed in the background.
    Stale(S),
    /// Wait for a fetch. If it fails, `fallback` is used.
    Fetch {
        fallback: Option<S>,
    },
    Refused(AcquireError),
}

/// What to do after a login was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterRefusal {
    /// Try again: the secret changed already, or was read just now.
    TryAgain,
    /// Wait for a fetch first.
    Fetch,
    /// What was read lately is the secret that is refused, and the next read is not due.
    GiveUp,
}

impl<S: Clone, F: Clone> Default for SecretSlot<S, F> {
    fn default() -> Self {
        Self {
            kept: None,
            fetch: None,
            superseded: false,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            last_error: None,
            refusals: Backoff::new(REFUSED.0, REFUSED.1),
            generation: 0,
        }
    }
}

impl<S: Clone, F: Clone> SecretSlot<S, F> {
    /// The secret, if it is within its time.
    pub(crate) fn fresh(&self, now: Instant) -> Option<&S> {
        let kept = self.kept.as_ref().filter(|kept| now < kept.times.fresh_until)?;
        Some(&kept.secret)
    }

    /// The secret that is kept, unless it was cleared since it was read.
    pub(crate) fn cached(&self) -> Option<&S> {
        self.kept.as_ref().filter(|kept| !kept.cleared).map(|kept| &kept.secret)
    }

    /// The secret that is kept, however old.
    pub(crate) fn kept(&self) -> Option<&S> {
        self.kept.as_ref().map(|kept| &kept.secret)
    }

    /// The secret as it is kept, its age, and whether it is past its time or could not be renewed.
    pub(crate) fn peek(&self, now: Instant) -> Option<(&S, Duration, bool)> {
        let kept = self.kept.as_ref()?;
        let stale = kept.stale || now >= kept.times.fresh_until;
        Some((&kept.secret, now - kept.fetched_at, stale))
    }

    /// For how long the provider is left alone after failures, if it is.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        self.backoff.remaining(now)
    }

    /// Why the secret could not be read the last time, and whether requests fail for it.
    pub(crate) fn failure(&self, now: Instant) -> Option<(&AcquireError, bool)> {
        let is_served = self.kept.as_ref().is_some_and(|kept| now < kept.times.serve_until);
        Some((self.last_error.as_ref()?, !is_served))
    }

    /// The running fetch.
    pub(crate) fn fetch(&self) -> Option<&F> {
        self.fetch.as_ref()
    }

    pub(crate) fn begin_fetch(&mut self, fetch: F) {
        self.fetch = Some(fetch);
        self.superseded = false;
    }

    /// A fetch has ended without an answer to store.
    pub(crate) fn give_up_fetch(&mut self, is_it: impl FnOnce(&F) -> bool) {
        self.fetch.take_if(|fetch| is_it(fetch));
    }

    /// Whether a fetch may begin now.
    pub(crate) fn may_fetch(&self, now: Instant) -> bool {
        self.fetch.is_none() && self.pause(now).is_none()
    }

    /// Whether a kept secret is past its time and may be renewed now. One that was cleared waits
    /// for its next use.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let is_renewed = self.kept.as_ref().is_some_and(|kept| kept.stale || !kept.cleared);
        is_renewed && self.fresh(now).is_none() && self.may_fetch(now)
    }

    /// What a request is to do.
    pub(crate) fn read(&self, now: Instant) -> Read<S> {
        let left = self.pause(now).filter(|_| self.fetch.is_none());
        match (&self.kept, left, &self.last_error) {
            (Some(kept), ..) if now < kept.times.fresh_until => Read::Fresh(kept.secret.clone()),
            (Some(kept), left, _) if now < kept.times.serve_until => {
                let secret = kept.secret.clone();
                // It may have changed long ago, so the request waits for the provider, unless the
                // last try failed or the provider is left alone now.
                if kept.stale || (now <= kept.times.old_from && !kept.cleared) || left.is_some() {
                    Read::Stale(secret)
                } else {
                    Read::Fetch { fallback: Some(secret) }
                }
            }
            (_, Some(left), Some(error)) => Read::Refused(error.clone().with_retry_after(left)),
            _ => Read::Fetch { fallback: None },
        }
    }

    /// Asks for a value that is read from now on.
    pub(crate) fn refresh(&mut self) {
        self.superseded = true;
    }

    /// Takes the secret out of the cache; returns whether it was there. Its next use waits for the
    /// provider, and only if that fails the secret goes on in use.
    pub(crate) fn clear(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.kept.as_mut().is_some_and(|kept| {
            kept.stale = false;
            !std::mem::replace(&mut kept.cleared, true)
        })
    }

    /// Forgets the secret, and nothing of the failures to read it.
    pub(crate) fn let_go(&mut self) {
        self.kept = None;
    }

    /// Lets the secret be read anew at its next use. It may have changed, so an earlier failure
    /// does not count.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.superseded = true;
        self.backoff.succeed();
        if let Some(kept) = &mut self.kept {
            kept.times.fresh_until = kept.times.fresh_until.min(now);
        }
    }

    /// Stores what the fetch has read, which ends it: `same`, if it is the version that is in use
    /// already, else what `new` makes with the next generation. Returns it, and whether it changed.
    /// Returns `None`, and stores nothing, if `new` has nothing or another value was asked for
    /// meanwhile: the fetch asks once more.
    pub(crate) fn store(
        &mut self,
        now: Instant,
        times: Times,
        same: Option<S>,
        new: impl FnOnce(u64) -> Option<S>,
    ) -> Option<(S, bool)> {
        if std::mem::take(&mut self.superseded) {
            return None;
        }
        let changed = same.is_none();
        let secret = same.or_else(|| new(self.generation + 1))?;
        self.fetch = None;
        self.note_success();
        self.generation += u64::from(changed);
        // Refusals are counted anew after a change, and after a renewal that was due by time.
        if changed || self.fresh(now).is_none() {
            self.refusals.succeed();
        }
        self.kept = Some(CachedSecret {
            secret: secret.clone(),
            fetched_at: now,
            times,
            stale: false,
            cleared: false,
        });
        Some((secret, changed))
    }

    /// The fetch failed and has ended. Returns the error with the time to ask again, and the
    /// failures in a row; `None` as [`store`](Self::store). That there is no such tenant is an
    /// answer and no failure: the secret is forgotten.
    pub(crate) fn fail(&mut self, error: AcquireError, now: Instant) -> Option<(AcquireError, u32)> {
        if std::mem::take(&mut self.superseded) {
            return None;
        }
        self.fetch = None;
        if matches!(error, AcquireError::Unknown) {
            self.note_success();
            self.kept = None;
            return Some((error, 0));
        }
        let wait = self.backoff.fail_for(error.retry_after(), now);
        let error = error.with_retry_after(wait);
        self.last_error = Some(error.clone());
        if let Some(kept) = &mut self.kept {
            kept.stale = true;
        }
        Some((error, self.backoff.failures()))
    }

    fn note_success(&mut self) {
        self.backoff.succeed();
        self.last_error = None;
    }

    /// What to do after the user of the secret of generation `refused` was refused.
    pub(crate) fn after_refusal(&mut self, refused: u64, now: Instant) -> AfterRefusal {
        match self.refusals.remaining(now) {
            _ if self.generation != refused => AfterRefusal::TryAgain,
            _ if self.fetch.is_some() => AfterRefusal::Fetch,
            None => {
                self.refusals.fail(now);
                AfterRefusal::Fetch
            }
            Some(_) if self.refusals.failures() < REFUSED_TRIES => AfterRefusal::TryAgain,
            Some(_) => AfterRefusal::GiveUp,
        }
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
