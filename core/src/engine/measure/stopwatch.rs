//! Times one statement, the wait for its connection apart, and tells of it.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;
use tracing::{Span, field::Empty};

use super::{
    observer::StatementEnd,
    pool::{Answer, Call},
    secrets::Secret,
    sql,
    tally::RequestTally,
    tenant::Tenant,
};
use crate::{
    DatabaseError,
    trace::{TRACE_TARGET, database_system},
};

/// One statement of one tenant, from when a connection is wanted for it.
pub(crate) struct Stopwatch<'a> {
    entry: &'a Tenant,
    secret: &'a Secret,
    tally: Option<&'a RequestTally>,
    pub(crate) started: Instant,
    /// The end of the last wait or call.
    last: Instant,
    waited: Duration,
    ran: Duration,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn new(entry: &'a Tenant, secret: &'a Secret, tally: Option<&'a RequestTally>) -> Self {
        let started = Instant::now();
        entry.touch(started);
        Self {
            entry,
            secret,
            tally,
            started,
            last: started,
            waited: Duration::ZERO,
            ran: Duration::ZERO,
        }
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.last, now)
    }

    /// A connection was had, or could not be.
    pub(crate) fn waited(&mut self, error: Option<&DatabaseError>) {
        let waited = self.lap();
        self.waited += waited;
        self.entry.usage.connection_waits.record(waited, error.is_some());
        if let Some(observer) = &self.entry.observer {
            observer.connection_acquired(&self.secret.driver_type, waited, error.map(|error| error.kind));
        }
    }

    /// The connection answered.
    pub(crate) fn ran(&mut self) {
        let ran = self.lap();
        self.ran += ran;
    }

    pub(crate) fn stop(self, call: Call<'_>, error: Option<&DatabaseError>) {
        let (entry, secret, elapsed) = (self.entry, self.secret, self.ran);
        let threshold = secret.config.query.slow_threshold;
        let slow = threshold.is_some_and(|threshold| elapsed >= threshold);
        entry.usage.statements.record(elapsed, error.is_some());
        if let Some(tally) = self.tally {
            tally.record(self.waited + elapsed, error.is_some());
        }
        if let Some(observer) = &entry.observer {
            observer.statement(&StatementEnd {
                driver: &secret.driver_type,
                operation: call.operation(),
                elapsed,
                slow,
                error: error.map(|error| error.kind),
            });
        }
        if slow {
            self.tell_slow(call);
        }
        if let Some(error) = error {
            self.tell_failed(error);
        }
    }

    #[cold]
    fn tell_slow(&self, call: Call<'_>) {
        self.entry.usage.slow_statements.fetch_add(1, Ordering::Relaxed);
        let statement = call.sql().map(sql::normalized).unwrap_or_default();
        tracing::warn!(
            tenant_id = %self.entry.id, duration_ms = self.ran.as_secs_f64() * 1e3,
            waited_ms = self.waited.as_secs_f64() * 1e3, statement, "slow statement"
        );
    }

    #[cold]
    fn tell_failed(&self, error: &DatabaseError) {
        tracing::debug!(
            tenant_id = %self.entry.id, kind = error.kind.as_str(), code = error.code.as_deref(), "a statement failed"
        );
    }
}

/// The span of one statement in a trace (semantic conventions for database client spans). It holds the text without its values.
#[cold]
pub(crate) fn statement_span(entry: &Tenant, secret: &Secret, call: Call<'_>) -> Span {
    let description = call.sql().map(sql::described);
    let description = description.as_deref();
    tracing::info_span!(
        target: TRACE_TARGET,
        "statement",
        otel.name = description.map_or(call.operation(), |description| &description.summary),
        otel.kind = "client",
        otel.status_code = Empty,
        tenant.id = entry.id.as_str(),
        db.system.name = database_system(&secret.driver_type),
        db.operation.name = call.operation(),
        db.collection.name = description.and_then(|description| description.collection.as_deref()),
        db.query.text = description.map(|description| description.normalized.as_str()),
        db.response.returned_rows = Empty,
        error.type = Empty,
    )
}

/// Notes in a statement's span what came of it.
pub(crate) fn note_answer(span: &Span, answer: &Result<Answer, DatabaseError>) {
    if !span.is_disabled() {
        note_in(span, answer);
    }
}

#[cold]
fn note_in(span: &Span, answer: &Result<Answer, DatabaseError>) {
    match answer {
        Ok(Answer::All(rows)) => {
            span.record("db.response.returned_rows", rows.len() as i64);
        }
        Ok(Answer::One(row)) => {
            span.record("db.response.returned_rows", i64::from(row.is_some()));
        }
        Ok(_) => {}
        Err(error) => note_error(span, error.kind.as_str()),
    }
}

/// Notes in a span that it failed, with the kind of the error.
pub(crate) fn note_error(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}
