//! Whether a database can be reached, by what became of the last tries.

use std::time::Duration;

use tokio::time::Instant;

use crate::{DatabaseError, DatabaseErrorKind, engine::pace::doubled};

/// How long a database is left alone: short, since one that comes back is to be used at once.
const BREAK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// After migrations failed, the database is left alone for longer: they may be slow, and nothing
/// but a change mends them.
const PREPARE_BREAK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A database that is below the required version is looked at again this often: it is served soon
/// after its migration.
const BEHIND_BREAK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// Counts the failures to connect. While it is closed, connections may be opened. While it is open,
/// requests of a tenant without a connection fail at once; after a pause one request's opening
/// probes, and the others still fail at once.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Whether the last try succeeded.
    proven: bool,
    failures: u32,
    /// While the breaker is open: when the next try may be made.
    until: Option<Instant>,
    last: Option<DatabaseError>,
}

impl Breaker {
    /// Whether the last try to connect succeeded.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// It is no longer known whether the next try succeeds.
    pub(super) fn doubt(&mut self) {
        self.proven = false;
    }

    pub(super) fn is_open(&self) -> bool {
        self.until.is_some()
    }

    /// How long nothing is tried any more.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Why the last try failed, if it did.
    pub(super) fn last_error(&self) -> Option<&DatabaseError> {
        self.last.as_ref()
    }

    /// Notes a failure; more than `tolerated` in a row open the breaker. Returns the failures in a
    /// row if they are worth a line in the log: the first one, and then fewer and fewer.
    pub(super) fn failed(&mut self, error: DatabaseError, tolerated: u32, now: Instant) -> Option<u32> {
        self.doubt();
        self.failures = self.failures.saturating_add(1);
        if let Some(more) = self.failures.checked_sub(tolerated.saturating_add(1)) {
            let (first, longest) = match error.kind {
                DatabaseErrorKind::Migration => PREPARE_BREAK,
                DatabaseErrorKind::SchemaBehind => BEHIND_BREAK,
                _ => BREAK,
            };
            self.until = Some(now + doubled(first, more, longest));
        }
        self.last = Some(error);
        self.failures.is_power_of_two().then_some(self.failures)
    }

    /// Notes a success; returns how many failures came before it.
    pub(super) fn succeeded(&mut self) -> u32 {
        self.proven = true;
        self.forgive()
    }

    /// Forgets the failures; returns how many there were.
    pub(super) fn forgive(&mut self) -> u32 {
        self.until = None;
        self.last = None;
        std::mem::take(&mut self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DriverErrorKind;

    fn error() -> DatabaseError {
        DatabaseError::new(DatabaseErrorKind::Connect(DriverErrorKind::Unreachable))
    }

    #[test]
    fn more_failures_than_tolerated_open_it_and_a_success_closes_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.failed(error(), 2, now), Some(1));
        assert_eq!(breaker.failed(error(), 2, now), Some(2));
        assert!(!breaker.is_open());
        assert_eq!(breaker.failed(error(), 2, now), None);
        assert!(breaker.is_open() && breaker.last_error().is_some());
        assert_eq!(breaker.pause(now), BREAK.0);
        assert_eq!(breaker.succeeded(), 3);
        assert!(breaker.is_proven() && !breaker.is_open() && breaker.last_error().is_none());
        breaker.failed(error(), 0, now);
        assert!(breaker.is_open() && !breaker.is_proven());
        breaker.forgive();
        breaker.failed(DatabaseError::new(DatabaseErrorKind::Migration), 0, now);
        assert_eq!(breaker.pause(now), PREPARE_BREAK.0);
    }

    #[test]
    fn a_success_begins_the_count_of_failures_anew() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.failed(error(), 2, now), Some(1));
        assert_eq!(breaker.failed(error(), 2, now), Some(2));
        assert_eq!(breaker.succeeded(), 2);
        assert_eq!(breaker.failed(error(), 2, now), Some(1));
        assert!(!breaker.is_open() && !breaker.is_proven());
    }

    #[test]
    fn failures_that_are_all_tolerated_do_not_open_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.failed(error(), u32::MAX, now);
        }
        assert!(!breaker.is_open() && !breaker.is_proven());
    }
}
