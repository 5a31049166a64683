//! Whether a database can be reached, by what became of the last tries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{backoff::Backoff, budget::ProbePermit};
use crate::{DatabaseError, DriverError, TenantId};

/// After so many failures to connect in a row, the database is left alone for a while.
const FAILURES_TO_BREAK: u32 = 3;
/// For how long: short, since a database that comes back is to be used at once.
const BREAK_FIRST: Duration = Duration::from_millis(250);
const BREAK_LONGEST: Duration = Duration::from_secs(1);

/// After migrations failed, the database is left alone for longer: they may be slow, and nothing but a change mends them.
const PREPARE_FIRST: Duration = Duration::from_secs(1);
const PREPARE_LONGEST: Duration = Duration::from_secs(30);

/// Counts the failures to connect to one tenant's database. Closed, requests may open connections; open, they fail at once; once it was
/// open for long enough, one of them probes while the others still fail at once.
pub(crate) struct Breaker {
    tenant: TenantId,
    /// Whether the last try succeeded.
    proven: AtomicBool,
    state: Mutex<State>,
}

struct State {
    backoff: Backoff,
    prepare_backoff: Backoff,
    failures: u32,
    /// Until then nothing is tried.
    until: Option<Instant>,
    probing: bool,
    last: Option<DatabaseError>,
}

/// The right to try a database that failed before; while it is held, all others fail at once.
pub(crate) struct Probe {
    breaker: Arc<Breaker>,
    _permit: ProbePermit,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.breaker.state.lock().probing = false;
    }
}

impl Breaker {
    pub(crate) fn new(tenant: TenantId) -> Self {
        let state = State {
            backoff: Backoff::new(BREAK_FIRST, BREAK_LONGEST),
            prepare_backoff: Backoff::new(PREPARE_FIRST, PREPARE_LONGEST),
            failures: 0,
            until: None,
            probing: false,
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

    /// Lets a request try the database: freely while the breaker is closed, as the one that probes once it was open for long enough.
    /// `permit` limits the probes over all tenants.
    ///
    /// # Errors
    /// Why the last try failed, if this request may not try now.
    pub(crate) fn admit(
        self: &Arc<Self>,
        now: Instant,
        permit: impl FnOnce() -> Option<ProbePermit>,
    ) -> Result<Option<Probe>, DatabaseError> {
        let mut state = self.state.lock();
        let error = match &state.last {
            Some(error) if state.failures >= FAILURES_TO_BREAK => error.clone(),
            _ => return Ok(None),
        };
        if state.probing || state.until.is_some_and(|until| now < until) {
            return Err(error);
        }
        let permit = permit().ok_or(error)?;
        state.probing = true;
        Ok(Some(Probe {
            breaker: self.clone(),
            _permit: permit,
        }))
    }

    /// Fails if the breaker is open, for what waited while it opened.
    pub(crate) fn check(&self) -> Result<(), DatabaseError> {
        let state = self.state.lock();
        match &state.last {
            Some(error) if state.failures >= FAILURES_TO_BREAK => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Notes a failure. After one that took the whole time-out the breaker opens at once: each further try would cost as much.
    pub(crate) fn failed(&self, error: &DriverError, timed_out: bool) {
        self.note(
            error.clone().into(),
            if timed_out { FAILURES_TO_BREAK } else { 1 },
            |state| state.backoff.fail(Instant::now()),
        );
    }

    /// Notes that the database could not be prepared; the breaker opens at once.
    pub(crate) fn not_prepared(&self, error: &DatabaseError) {
        self.note(error.clone(), FAILURES_TO_BREAK, |state| {
            state.prepare_backoff.fail(Instant::now())
        });
    }

    fn note(&self, error: DatabaseError, weight: u32, pause: impl FnOnce(&mut State) -> Duration) {
        self.doubt();
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1).max(weight);
        if state.failures >= FAILURES_TO_BREAK {
            let pause = pause(&mut state);
            state.until = Some(Instant::now() + pause);
        }
        // Once per outage, and again now and then while it lasts.
        if state.failures.is_power_of_two() || state.last.is_none() {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(
                tenant_id = %self.tenant, kind = error.kind.as_str(), cause, failures = state.failures, "cannot connect to the database"
            );
        }
        state.last = Some(error);
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
        state.prepare_backoff.succeed();
        state.until = None;
        state.last = None;
        std::mem::take(&mut state.failures)
    }

    /// Why the last try failed, where it did.
    pub(crate) fn last_error(&self) -> Option<DatabaseError> {
        self.state.lock().last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::budget::Budget, *};
    use crate::DriverErrorKind;

    #[tokio::test(start_paused = true)]
    async fn after_three_failures_one_request_at_a_time_probes() {
        let breaker = Arc::new(Breaker::new("tenant1".parse().unwrap()));
        let budget = Budget::new(4);
        let error = DriverError::new(DriverErrorKind::Unreachable, std::io::Error::other("no route"));
        let admit = |now| breaker.admit(now, || budget.try_probe());
        for _ in 1..FAILURES_TO_BREAK {
            breaker.failed(&error, false);
            assert!(matches!(admit(Instant::now()), Ok(None)) && breaker.check().is_ok());
        }
        breaker.failed(&error, false);
        assert!(admit(Instant::now()).is_err() && breaker.check().is_err());
        let later = Instant::now() + BREAK_FIRST;
        let probe = admit(later).unwrap();
        assert!(probe.is_some() && admit(later).is_err(), "one probes");
        drop(probe);
        // Of four connections one may be a probe's.
        let other = budget.try_probe().unwrap();
        assert!(admit(later).is_err(), "another tenant probes");
        drop(other);
        assert!(admit(later).unwrap().is_some());
        breaker.succeeded();
        assert!(breaker.is_proven() && breaker.last_error().is_none());
        breaker.failed(&error, true);
        assert!(!breaker.is_proven() && admit(Instant::now()).is_err(), "it was silent");
    }
}
