//! Which tenant gives a connection to another if there are fewer connections than all tenants
//! together want.
//!
//! The rules, from the first to the last:
//! 1. A permit that is free goes to the pool that holds the fewest, and among those to the one that
//!    asked first. The last tenth of all permits goes only to pools that hold none, so that a burst
//!    of one tenant leaves the others their first connections.
//! 2. An idle connection goes before a busy one, and one of several before a tenant's only one.
//! 3. A busy connection goes only if its tenant holds at least two more than the one that asks, or
//!    the one that asks has none; and only after a tenure, so that opening is not all that is done.
//!
//! | Time | Value | What it bounds |
//! | --- | --- | --- |
//! | `PATIENCE` | 100 ms | how long a pool asks before a busy connection is closed for it |
//! | `SHORTEST_TENURE`..`LONGEST_TENURE` | 250 ms to 1 s | how long a busy connection stays |
//! | `FIRST_PATIENCE` | 5 ms | how long a pool waits for one of its own before it opens another |
//! | `SHORT_PATIENCE` | 50 ms | and how long before it takes a spare one |
//! | `LEAST_PATIENCE`..`MOST_PATIENCE` | 250 ms to 1 s | and how long until it takes a busy one |
//! | `SPARE_AFTER` | 1 s | how long a connection is idle before its tenant can do without it |
//! | `FORGOTTEN_AFTER` | 30 s | the same for an only connection, unless the other pool has none |
//! | `LOOK_AGAIN`, `BETWEEN_LOOKS` | 100 ms, 10 ms | how often pools look, each and together |
//!
//! Tenure and the longest patience are four times as long as an opening took, the two short ones as
//! long as it took, all within these bounds. No patience is longer than a quarter of
//! `acquire_timeout`.

use std::time::Duration;

use tokio::time::Instant;

use super::state::{HolderId, State};

/// Which part of all permits is for pools that hold none.
pub(super) const RESERVED_PART: usize = 10;
const PATIENCE: Duration = Duration::from_millis(100);
const SHORTEST_TENURE: Duration = Duration::from_millis(250);
const LONGEST_TENURE: Duration = Duration::from_secs(1);
const FIRST_PATIENCE: Duration = Duration::from_millis(5);
const SHORT_PATIENCE: Duration = Duration::from_millis(50);
const LEAST_PATIENCE: Duration = Duration::from_millis(250);
const MOST_PATIENCE: Duration = Duration::from_secs(1);
pub(super) const SPARE_AFTER: Duration = Duration::from_secs(1);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// How long a pool that has connections waits for one of its own: before it opens another, then
/// before it asks for another tenant's spare one, and then before it asks for one that was used
/// just now.
pub(super) fn patience(opening: Duration, longest: Duration) -> (Duration, Duration, Duration) {
    let first = opening.min(FIRST_PATIENCE).min(longest);
    let short = opening.min(SHORT_PATIENCE).min(longest);
    let long = (opening * 4).clamp(LEAST_PATIENCE, MOST_PATIENCE).min(longest);
    (first, short - first, long.saturating_sub(short))
}

/// An idle connection, as the search for the one that is missed least sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Idle {
    /// When it was last used.
    pub(crate) since: Instant,
    /// Whether its tenant has several connections.
    pub(crate) several: bool,
}

impl Idle {
    /// Whether it may be closed for another pool: it was unused for `unused`, or, if it is its
    /// tenant's only one and the other pool has a connection (`none` is false), for
    /// `FORGOTTEN_AFTER`.
    pub(super) fn may_go(&self, now: Instant, unused: Duration, none: bool) -> bool {
        let least = if self.several || none { unused } else { FORGOTTEN_AFTER };
        now.saturating_duration_since(self.since) >= least
    }

    /// The greater, the less it is missed.
    pub(super) fn rank(&self, now: Instant) -> (bool, Duration) {
        (self.several, now.saturating_duration_since(self.since))
    }
}

/// A connection that comes back while others wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Returned {
    /// How many connections its pool has open.
    pub(crate) open: usize,
    /// For how long it has been open.
    pub(crate) held_for: Duration,
    /// How long opening it took.
    pub(crate) opening: Duration,
    /// Whether a request of its own tenant waits for it.
    pub(crate) wanted_at_home: bool,
}

impl<P, W> State<P, W> {
    /// Whether a returned connection is closed for the sake of another pool. At most as many are
    /// closed as other pools wait.
    pub(super) fn wants_back(&self, holder: HolderId, returned: Returned, now: Instant) -> bool {
        let tenure = (returned.opening * 4).clamp(SHORTEST_TENURE, LONGEST_TENURE);
        if !self.is_short() || (returned.wanted_at_home && returned.held_for < tenure) {
            return false;
        }
        let own = self.held_by(holder);
        let others = self.waiting().filter(|waiter| waiter.holder != holder);
        let mut entitled: Vec<HolderId> = Vec::new();
        let mut count = 0;
        for waiter in others {
            let (theirs, impatient) = (self.held_by(waiter.holder), now - waiter.since > PATIENCE);
            let counts = if returned.wanted_at_home {
                let first = !entitled.contains(&waiter.holder);
                impatient && first && (theirs == 0 || theirs + 1 < own)
            } else {
                // No request waits for it at home. An only one goes to a pool without any: at once
                // if no pool holds several, else after `PATIENCE`.
                returned.open > 1 || (theirs == 0 && (impatient || self.is_one_each()))
            };
            if counts {
                entitled.push(waiter.holder);
                count += 1;
                if count > self.closing() {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
#[path = "fairness_tests.rs"]
mod tests;
