//! Whether a database can be reached, by what became of the last tries.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::backoff::Backoff;
use crate::{DatabaseError, DriverError, TenantId};

/// After so many failures to connect in a row, the database is left alone for a while.
const FAILURES_TO_BREAK: u32 = 3;
/// For how long: short, since a database that comes back is to be used at once.
const BREAK_FIRST: Duration = Duration::from_millis(250);
const BREAK_LONGEST: Duration = Duration::from_secs(1);

/// Counts the failures to connect to one tenant's database.
pub(crate) struct Breaker {
    tenant: TenantId,
    /// Whether the last try succeeded.
    proven: AtomicBool,
    state: Mutex<State>,
}

struct State {
    backoff: Backoff,
    failures: u32,
    last: Option<DriverError>,
}

impl Breaker {
    pub(crate) fn new(tenant: TenantId) -> Self {
        let state = State {
            backoff: Backoff::new(BREAK_FIRST, BREAK_LONGEST),
            failures: 0,
            last: None,
        };
        Self {
            tenant,
            proven: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Whether the last try to connect succeeded.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    /// It is not known any more whether the next try succeeds.
    pub(crate) fn doubt(&self) {
        self.proven.store(false, Ordering::Release);
    }

    /// Whether a try may be made now.
    ///
    /// # Errors
    /// Why the last one failed, while the database is left alone.
    pub(crate) fn check(&self, now: Instant) -> Result<(), DatabaseError> {
        let state = self.state.lock();
        match (&state.last, state.backoff.remaining(now)) {
            (Some(error), Some(_)) if state.failures >= FAILURES_TO_BREAK => Err(error.clone().into()),
            _ => Ok(()),
        }
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, error: &DriverError) {
        self.doubt();
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_TO_BREAK {
            state.backoff.fail(Instant::now());
        }
        // Once per outage, and again now and then while it lasts.
        if state.failures.is_power_of_two() {
            let cause = std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(
                tenant_id = %self.tenant, kind = error.kind.as_str(), cause, failures = state.failures, "cannot connect to the database"
            );
        }
        state.last = Some(error.clone());
    }

    /// Notes a success.
    pub(crate) fn succeeded(&self) {
        if !self.proven.swap(true, Ordering::AcqRel) {
            let failures = self.forgive();
            if failures > 0 {
                tracing::info!(tenant_id = %self.tenant, failures, "the database can be reached again");
            }
        }
    }

    /// Forgets the failures; tells how many there were.
    pub(crate) fn forgive(&self) -> u32 {
        let mut state = self.state.lock();
        state.backoff.succeed();
        state.last = None;
        std::mem::take(&mut state.failures)
    }

    /// Why the last try failed, where it did.
    pub(crate) fn last_error(&self) -> Option<DriverError> {
        self.state.lock().last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DriverErrorKind;

    #[tokio::test(start_paused = true)]
    async fn a_database_is_left_alone_after_three_failures_and_for_no_longer_than_told() {
        let breaker = Breaker::new("tenant1".parse().unwrap());
        let error = DriverError::new(DriverErrorKind::Unreachable, std::io::Error::other("no route"));
        for _ in 1..FAILURES_TO_BREAK {
            breaker.failed(&error);
            assert!(breaker.check(Instant::now()).is_ok());
        }
        breaker.failed(&error);
        assert!(breaker.check(Instant::now()).is_err());
        assert!(breaker.check(Instant::now() + BREAK_FIRST).is_ok());
        breaker.succeeded();
        assert!(breaker.is_proven() && breaker.last_error().is_none());
        breaker.failed(&error);
        assert!(!breaker.is_proven() && breaker.check(Instant::now()).is_ok());
    }
}
