//! One token of Vault's, and when it is renewed.

use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::http::Granted;

/// How long a token that could not be renewed is left alone.
pub(super) const RENEW_AGAIN: Duration = Duration::from_secs(1);
/// Which part of its time is over when a token is renewed.
const RENEW_AT: f64 = 2.0 / 3.0;
/// A token is at its maximum if it is renewed for less than this part of what it had at first.
const WORTHWHILE: f64 = 0.9;
/// A token that has more than this part of its time is not renewed for the sake of a lease.
const FULL: f64 = 0.95;
/// No token lasts longer as far as this is concerned.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// One token, as it was when it was granted or renewed.
#[derive(Clone)]
pub(super) struct Session {
    /// Which login it is. A token that is renewed stays the same.
    pub(super) number: u64,
    pub(super) token: SecretString,
    /// For how long it was granted at first; zero for one that does not end.
    pub(super) first: Duration,
    ends_at: Option<Instant>,
    /// When it is renewed, or replaced by another login.
    pub(super) renew_at: Option<Instant>,
    pub(super) renewable: bool,
    /// When it was granted or renewed, or that was tried in vain.
    tried_at: Instant,
}

impl Session {
    /// A token that was granted just now for so many seconds; 0 for one that does not end.
    pub(super) fn new(number: u64, token: SecretString, seconds: u64, renewable: bool) -> Self {
        let now = Instant::now();
        let lasts = Duration::from_secs(seconds).min(LONGEST);
        let ends = !lasts.is_zero();
        Self {
            number,
            token,
            first: lasts,
            ends_at: ends.then(|| now + lasts),
            renew_at: ends.then(|| now + lasts.mul_f64(RENEW_AT)),
            renewable,
            tried_at: now,
        }
    }

    /// `lasts`, but no longer than the token: a lease ends with it.
    pub(super) fn clip(&self, lasts: Duration) -> Duration {
        lasts.min(self.left())
    }

    pub(super) fn left(&self) -> Duration {
        let left = |ends_at: Instant| ends_at.saturating_duration_since(Instant::now());
        self.ends_at.map_or(Duration::MAX, left)
    }

    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Whether it is to be renewed now: its time has come, or a lease that is `wanted` is longer
    /// than what is left of it.
    pub(super) fn is_due(&self, wanted: Option<Duration>) -> bool {
        let Some(renew_at) = self.renew_at.filter(|_| self.tried_at.elapsed() >= RENEW_AGAIN) else {
            return false;
        };
        let left = self.left();
        let is_short = wanted.is_some_and(|wanted| wanted > left) && left < self.first.mul_f64(FULL);
        renew_at <= Instant::now() || (is_short && self.renewable)
    }

    /// The same token after it was renewed, as Vault answered `asked_for` after it was asked.
    pub(super) fn renewed(&self, granted: Granted, asked_for: Duration) -> Self {
        let mut renewed = Self::new(
            self.number,
            granted.client_token,
            granted.lease_duration,
            granted.renewable,
        );
        renewed.first = self.first;
        renewed.ends_at = renewed.ends_at.map(|ends_at| ends_at - asked_for);
        renewed
    }

    /// Whether a renewal gave it about as much time as it had at first. If not, it is at its
    /// maximum.
    pub(super) fn is_worthwhile(&self) -> bool {
        self.left() >= self.first.mul_f64(WORTHWHILE)
    }

    /// The same one after a renewal or a replacement failed just now; that is tried again at
    /// `renew_at`.
    pub(super) fn postponed(&self, renew_at: Option<Instant>) -> Self {
        Self {
            renew_at,
            tried_at: Instant::now(),
            ..self.clone()
        }
    }
}
