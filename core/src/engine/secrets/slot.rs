//! The place for one tenant's secret: what is kept, whether it is being fetched, and for how long
//! it may be used.
//!
//! A plain data structure under its tenant's lock; the time is a parameter. `S` is the secret, `F`
//! what one waits on for the running fetch.

use std::time::Duration;

use tokio::time::Instant;

use super::secret::SecretError;
use crate::engine::pace::Backoff;

/// How long the provider is left alone after a failure: the first time, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(128));
/// After a refused login the secret is read anew: at once, then after these pauses, and no more
/// within `REFUSED_WINDOW` unless it changed.
const REFUSED_PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(1_200), Duration::from_secs(3)];
const REFUSED_WINDOW: Duration = Duration::from_secs(60);

pub(crate) struct SecretSlot<S, F> {
    kept: Option<Kept<S>>,
    fetch: Option<F>,
    /// Rises with each request for a value that is read from now on: a refresh, a clear, a change
    /// signal. A fetch that began in an earlier epoch stores nothing.
    epoch: u64,
    backoff: Backoff,
    last_error: Option<SecretError>,
    /// When the secret was read anew in vain after a refused login, since it last changed.
    fruitless: Vec<Instant>,
    generation: u64,
}

struct Kept<S> {
    secret: S,
    fetched_at: Instant,
    times: Times,
    /// Whether the last try to renew it failed.
    stale: bool,
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
    Refused(SecretError),
}

/// What became of a secret that was read.
#[derive(Debug)]
pub(crate) struct Stored<S> {
    pub(crate) secret: S,
    /// Whether it is another version than before.
    pub(crate) changed: bool,
    /// Whether one was kept.
    pub(crate) replaced: bool,
}

/// What to do after a login was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterRefusal<F> {
    /// Try again: the secret changed already, or was read just now.
    TryAgain,
    /// Wait for this fetch first.
    Wait(F),
    /// Read it anew first.
    Fetch,
    /// All that was read lately is the secret that is refused.
    GiveUp,
}

impl<S: Clone, F: Clone> Default for SecretSlot<S, F> {
    fn default() -> Self {
        Self {
            kept: None,
            fetch: None,
            epoch: 0,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            last_error: None,
            fruitless: Vec::new(),
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

    /// Whether the provider is left alone for now after failures.
    pub(crate) fn is_backing_off(&self, now: Instant) -> bool {
        self.backoff.remaining(now).is_some()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The running fetch.
    pub(crate) fn fetch(&self) -> Option<&F> {
        self.fetch.as_ref()
    }

    pub(crate) fn begin_fetch(&mut self, fetch: F) {
        self.fetch = Some(fetch);
    }

    /// The fetch has ended, however it did.
    pub(crate) fn end_fetch(&mut self) {
        self.fetch = None;
    }

    /// Whether a fetch may begin now.
    pub(crate) fn may_fetch(&self, now: Instant) -> bool {
        self.fetch.is_none() && !self.is_backing_off(now)
    }

    /// Whether a kept secret is past its time and may be renewed now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.kept.is_some() && self.fresh(now).is_none() && self.may_fetch(now)
    }

    /// What a request is to do.
    pub(crate) fn read(&self, now: Instant) -> Read<S> {
        let left = self.backoff.remaining(now).filter(|_| self.fetch.is_none());
        match (&self.kept, left, &self.last_error) {
            (Some(kept), ..) if now < kept.times.fresh_until => Read::Fresh(kept.secret.clone()),
            (Some(kept), left, _) if now < kept.times.serve_until => {
                let secret = kept.secret.clone();
                // It may have changed long ago. If the last try failed, no request waits for the next.
                if kept.stale || now <= kept.times.old_from || left.is_some() {
                    Read::Stale(secret)
                } else {
                    Read::Fetch { fallback: Some(secret) }
                }
            }
            (_, Some(left), Some(error)) => Read::Refused(error.clone().retry_after(left)),
            _ => Read::Fetch { fallback: None },
        }
    }

    /// Asks for a value that is read from now on.
    pub(crate) fn refresh(&mut self) {
        self.epoch += 1;
    }

    /// Forgets the secret; returns whether there was one.
    pub(crate) fn clear(&mut self) -> bool {
        self.epoch += 1;
        self.backoff.succeed();
        self.kept.take().is_some()
    }

    /// Lets the secret be read anew at its next use.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.epoch += 1;
        if let Some(kept) = &mut self.kept {
            kept.times.fresh_until = kept.times.fresh_until.min(now);
        }
    }

    /// Stores what a fetch of `epoch` has read: `same`, if it is the version that is in use
    /// already, else what `new` makes with the next generation. Returns `None`, and stores nothing,
    /// if another value was asked for meanwhile or `new` has nothing.
    pub(crate) fn store(
        &mut self,
        epoch: u64,
        now: Instant,
        times: Times,
        same: Option<S>,
        new: impl FnOnce(u64) -> Option<S>,
    ) -> Option<Stored<S>> {
        if epoch != self.epoch {
            return None;
        }
        let changed = same.is_none();
        let secret = same.or_else(|| new(self.generation + 1))?;
        self.note_success();
        if changed {
            self.generation += 1;
            self.fruitless.clear();
        }
        let kept = Kept {
            secret: secret.clone(),
            fetched_at: now,
            times,
            stale: false,
        };
        let replaced = self.kept.replace(kept).is_some();
        Some(Stored {
            secret,
            changed,
            replaced,
        })
    }

    /// The provider said that there is no such tenant. Returns whether a secret was kept; `None`,
    /// if another answer was asked for meanwhile.
    pub(crate) fn not_found(&mut self, epoch: u64) -> Option<bool> {
        if epoch != self.epoch {
            return None;
        }
        self.note_success();
        Some(self.kept.take().is_some())
    }

    /// A fetch failed; `error` is made with the time to ask again. Returns it with the failures in
    /// a row; `None`, if another answer was asked for meanwhile.
    pub(crate) fn failed(
        &mut self,
        epoch: u64,
        now: Instant,
        error: impl FnOnce(Duration) -> SecretError,
    ) -> Option<(SecretError, u32)> {
        if epoch != self.epoch {
            return None;
        }
        let error = error(self.backoff.fail(now));
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
    pub(crate) fn after_refusal(&mut self, refused: u64, now: Instant) -> AfterRefusal<F> {
        if self.generation != refused {
            return AfterRefusal::TryAgain;
        }
        if let Some(fetch) = &self.fetch {
            return AfterRefusal::Wait(fetch.clone());
        }
        self.fruitless.retain(|at| now - *at < REFUSED_WINDOW);
        let Some(pause) = REFUSED_PAUSES.get(self.fruitless.len()) else {
            return AfterRefusal::GiveUp;
        };
        if self.fruitless.last().is_some_and(|last| now - *last < *pause) {
            return AfterRefusal::TryAgain;
        }
        self.fruitless.push(now);
        AfterRefusal::Fetch
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
