//! Measures one statement: the time it took, the wait for its connection, and its span in a trace.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;
use tracing::{Span, field::Empty};

use super::{
    observer::{EngineObserver, StatementEnd},
    tally::RequestTally,
    usage::TenantUsageCounters,
};
use crate::{
    DatabaseError, TenantId,
    engine::sql,
    trace::{TRACE_TARGET, database_system},
};

/// Whose statements are measured, and what receives the measurements.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) tenant: &'a TenantId,
    /// The driver's type, such as `postgresql`.
    pub(crate) driver: &'a str,
    /// The time from which a statement counts as slow.
    pub(crate) slow_threshold: Option<Duration>,
    pub(crate) usage: &'a TenantUsageCounters,
    pub(crate) observer: Option<&'a dyn EngineObserver>,
    pub(crate) tally: Option<&'a RequestTally>,
}

/// A statement as it is described: what it does in one word, and its text if it has one.
#[derive(Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) operation: &'static str,
    pub(crate) sql: Option<&'a str>,
}

/// Times one statement from the moment it wants a connection.
pub(crate) struct Stopwatch<'a> {
    subject: Subject<'a>,
    pub(crate) started: Instant,
    /// The end of the last wait or call.
    last: Instant,
    /// The waits for connections so far.
    pub(crate) waited: Duration,
    ran: Duration,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn new(subject: Subject<'a>) -> Self {
        let started = Instant::now();
        Self {
            subject,
            started,
            last: started,
            waited: Duration::ZERO,
            ran: Duration::ZERO,
        }
    }

    /// Ends a lap: the time since the last one.
    pub(crate) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.last, now)
    }

    /// Records a wait for a connection, which may have ended with an error.
    pub(crate) fn waited(&mut self, error: Option<&DatabaseError>) {
        let waited = self.lap();
        self.waited += waited;
        let Subject {
            driver,
            usage,
            observer,
            ..
        } = self.subject;
        usage.connection_waits.record(waited, error.is_some());
        if let Some(observer) = observer {
            observer.connection_acquired(driver, waited, error.map(|error| error.kind));
        }
    }

    /// Adds the time since the last lap to the statement's own time.
    pub(crate) fn ran(&mut self) {
        let ran = self.lap();
        self.ran += ran;
    }

    /// Records the statement, which is over.
    pub(crate) fn stop(&self, statement: Measured<'_>, error: Option<&DatabaseError>) {
        let (subject, elapsed) = (self.subject, self.ran);
        let slow = subject.slow_threshold.is_some_and(|threshold| elapsed >= threshold);
        subject.usage.statements.record(elapsed, error.is_some());
        if let Some(tally) = subject.tally {
            tally.record(self.waited + elapsed, error.is_some());
        }
        if let Some(observer) = subject.observer {
            observer.statement(&StatementEnd {
                driver: subject.driver,
                operation: statement.operation,
                elapsed,
                slow,
                error: error.map(|error| error.kind),
            });
        }
        if slow {
            self.log_slow(statement);
        }
        if let Some(error) = error {
            self.log_failed(error);
        }
    }

    #[cold]
    fn log_slow(&self, statement: Measured<'_>) {
        self.subject.usage.slow_statements.fetch_add(1, Ordering::Relaxed);
        let dialect = sql::Dialect::of(self.subject.driver);
        let statement = statement
            .sql
            .map(|sql| sql::normalized(sql, dialect))
            .unwrap_or_default();
        tracing::warn!(
            tenant_id = %self.subject.tenant, duration_ms = self.ran.as_secs_f64() * 1e3,
            waited_ms = self.waited.as_secs_f64() * 1e3, statement, "slow statement"
        );
    }

    #[cold]
    fn log_failed(&self, error: &DatabaseError) {
        tracing::debug!(
            tenant_id = %self.subject.tenant, kind = error.kind.as_str(), code = error.code.as_deref(),
            "a statement failed"
        );
    }

    /// Opens the span of the statement in a trace (OpenTelemetry's semantic conventions for
    /// database client spans). It holds the text without its values.
    #[cold]
    pub(crate) fn span(&self, statement: Measured<'_>) -> Span {
        let dialect = sql::Dialect::of(self.subject.driver);
        let description = statement.sql.map(|sql| sql::described(sql, dialect));
        let description = description.as_deref();
        tracing::info_span!(
            target: TRACE_TARGET,
            "statement",
            otel.name = description.map_or(statement.operation, |description| &description.summary),
            otel.kind = "client",
            otel.status_code = Empty,
            tenant.id = self.subject.tenant.as_str(),
            db.system.name = database_system(self.subject.driver),
            db.operation.name = statement.operation,
            db.collection.name = description.and_then(|description| description.collection.as_deref()),
            db.query.text = description.map(|description| description.normalized.as_str()),
            db.response.returned_rows = Empty,
            error.type = Empty,
        )
    }
}

/// Records in a statement's span the number of rows, if it returns rows, or the error.
pub(crate) fn note_answer(span: &Span, answer: Result<Option<usize>, &DatabaseError>) {
    if span.is_disabled() {
        return;
    }
    match answer {
        Ok(Some(rows)) => {
            span.record("db.response.returned_rows", rows as i64);
        }
        Ok(None) => {}
        Err(error) => note_error(span, error.kind.as_str()),
    }
}

/// Records in a span that it failed, with the kind of the error.
pub(crate) fn note_error(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}
