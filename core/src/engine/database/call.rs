//! One statement on its way: the time it takes, its span in a trace, and how often it may be sent.

use std::{sync::Arc, time::Duration};

use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use sea_orm::{DbBackend, QueryResult, Statement};
use tokio::time::Instant;
use tracing::{Span, field::Empty};

use crate::{
    DatabaseError, DatabaseErrorKind,
    duration::milliseconds,
    engine::{
        measure::{note_error, observer::StatementEnd, tally::RequestTally},
        pool::{Answer, Call, Lease, Pool},
        secrets::Secret,
        tenant::Held,
    },
    sql,
    trace::{TRACE_TARGET, database_system, is_traced},
};

/// The request that statements belong to. Its tenant counts it as running until the last of its
/// database, transactions and pinned connections is dropped.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) tenant: Arc<Held>,
    pub(super) secret: Arc<Secret>,
    pub(super) tally: Option<Arc<RequestTally>>,
}

impl Request {
    /// Times a statement that wants a connection now.
    pub(super) fn watch<'a>(&'a self, call: Call<'a>) -> Stopwatch<'a> {
        let last = Instant::now();
        self.tenant.touch(last);
        Stopwatch {
            request: self,
            call,
            lap: Lap::Waits,
            last,
            waited: Duration::ZERO,
            ran: Duration::ZERO,
        }
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.secret.driver.backend()
    }
}

/// What a statement does at the moment.
#[derive(Clone, Copy)]
enum Lap {
    /// It waits for a connection.
    Waits,
    /// The database works on it.
    Runs,
    /// The caller has its answer, or a row of it.
    Rests,
    /// It is over and recorded.
    Over,
}

/// Times one statement from the moment it wants a connection. If it is dropped before the statement
/// is over, because its request was cut off, it records the statement as it is then.
pub(super) struct Stopwatch<'a> {
    request: &'a Request,
    call: Call<'a>,
    lap: Lap,
    /// The end of the last wait or call.
    last: Instant,
    /// The waits for connections so far.
    pub(super) waited: Duration,
    ran: Duration,
}

impl<'a> Stopwatch<'a> {
    /// Ends a lap, adds its time to what it was spent on, and returns it.
    fn begin(&mut self, next: Lap) -> Duration {
        let now = Instant::now();
        let time = now - std::mem::replace(&mut self.last, now);
        match std::mem::replace(&mut self.lap, next) {
            Lap::Waits => self.waited += time,
            Lap::Runs => self.ran += time,
            Lap::Rests | Lap::Over => {}
        }
        time
    }

    /// Notes that it waits for a connection from now on.
    pub(super) fn wait(&mut self) {
        self.lap = Lap::Waits;
    }

    /// Records a wait for a connection, which may have ended with an error.
    pub(super) fn waited(&mut self, error: Option<&DatabaseError>) {
        let waited = self.begin(Lap::Runs);
        let Request { tenant, secret, .. } = self.request;
        tenant.usage.lock().connection_waits.record(waited, error.is_some());
        if let Some(observer) = &tenant.observer {
            observer.connection_acquired(&secret.driver_type, waited, error.map(|error| error.kind));
        }
    }

    /// Waits for the answer of the call.
    pub(super) async fn run(
        &mut self,
        answer: impl Future<Output = Result<Answer, DatabaseError>>,
    ) -> Result<Answer, DatabaseError> {
        self.lap = Lap::Runs;
        let span = self.span(self.call);
        let answer = answer.await;
        self.begin(Lap::Rests);
        note_answer(&span, answer.as_ref().map(row_count));
        answer
    }

    /// Runs a statement and returns its rows as they arrive. The time that the caller takes between
    /// them is not measured. The lease is busy until the last one, so a stream that is dropped
    /// before its end closes the connection.
    pub(super) fn rows<'b>(
        &'b mut self,
        lease: &'b mut Lease,
        statement: &'b Statement,
    ) -> impl Stream<Item = Result<QueryResult, DatabaseError>> + Send + 'b {
        try_stream! {
            let call = Call::All(statement);
            let span = self.span(call);
            let mut rows = lease.begin_call(call)?.stream(statement);
            let mut count = 0;
            let ended = loop {
                self.begin(Lap::Runs);
                let row = rows.next().await.transpose();
                self.begin(Lap::Rests);
                match row {
                    Ok(Some(row)) => {
                        count += 1;
                        yield row;
                    }
                    Ok(None) => break Ok(Some(count)),
                    Err(error) => break Err(error),
                }
            };
            drop(rows);
            let ended = lease.end_call(call, ended);
            note_answer(&span, ended.as_ref().copied());
            ended?;
        }
    }

    /// Records the statement, which is over.
    pub(super) fn stop(mut self, error: Option<&DatabaseError>) {
        self.lap = Lap::Over;
        self.record(error);
    }

    fn record(&self, error: Option<&DatabaseError>) {
        let (Request { tenant, secret, tally }, elapsed) = (self.request, self.ran);
        let query = &secret.config.query;
        let slow = query.slow_threshold.is_some_and(|threshold| elapsed >= threshold);
        let mut usage = tenant.usage.lock();
        usage.statements.record(elapsed, error.is_some());
        usage.slow_statements += u64::from(slow);
        drop(usage);
        if let Some(tally) = tally {
            tally.record(self.waited + elapsed, error.is_some());
        }
        if let Some(observer) = &tenant.observer {
            observer.statement(&StatementEnd {
                driver: &secret.driver_type,
                operation: self.call.operation(),
                elapsed,
                slow,
                error: error.map(|error| error.kind),
            });
        }
        if slow || error.is_some() {
            self.log(slow, error);
        }
    }

    #[cold]
    fn log(&self, slow: bool, error: Option<&DatabaseError>) {
        let call = self.call;
        let tenant_id = &self.request.tenant.id;
        let dialect = sql::Dialect::of(&self.request.secret.driver_type);
        let statement = call.sql().map(|sql| sql::normalized(sql, dialect));
        let statement = statement.as_deref().unwrap_or(call.operation());
        if slow {
            tracing::warn!(
                %tenant_id, duration_ms = milliseconds(self.ran),
                waited_ms = milliseconds(self.waited), statement, "slow statement"
            );
        }
        if let Some(error) = error {
            let (kind, code) = (error.kind.as_str(), error.code.as_deref());
            match error.kind {
                // A caller may look for a table that way, or ask for more than an answer may hold.
                DatabaseErrorKind::TableMissing | DatabaseErrorKind::AnswerTooLarge => {
                    tracing::warn!(%tenant_id, kind, code, statement, "a statement failed");
                }
                defect if defect.is_defect() => {
                    tracing::error!(%tenant_id, kind, code, statement, "a statement failed");
                }
                _ => tracing::debug!(%tenant_id, kind, code, statement, "a statement failed"),
            }
        }
    }

    /// The span of a call, if the request is traced (OpenTelemetry's semantic conventions for
    /// database client spans). It holds the text without its values. It is not entered: no
    /// connection opens a span of its own, and every layer looks an entered span up.
    fn span(&self, call: Call<'_>) -> Span {
        if !is_traced() {
            return Span::none();
        }
        let Request { tenant, secret, .. } = self.request;
        let dialect = sql::Dialect::of(&secret.driver_type);
        let description = call.sql().map(|sql| sql::described(sql, dialect));
        let description = description.as_deref();
        let operation = call.operation();
        tracing::info_span!(
            target: TRACE_TARGET,
            "statement",
            otel.name = description.map_or(operation, |description| &description.summary),
            otel.kind = "client",
            otel.status_code = Empty,
            tenant.id = tenant.id.as_str(),
            db.system.name = database_system(&secret.driver_type),
            db.operation.name = operation,
            db.collection.name = description.and_then(|description| description.collection.as_deref()),
            db.query.text = description.map(|description| description.normalized.as_str()),
            db.response.returned_rows = Empty,
            error.type = Empty,
        )
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        if !matches!(self.lap, Lap::Over) {
            self.begin(Lap::Over);
            self.record(None);
        }
    }
}

/// Records in a statement's span the number of rows, if it returns rows, or the error.
fn note_answer(span: &Span, answer: Result<Option<usize>, &DatabaseError>) {
    match answer {
        Ok(Some(rows)) => drop(span.record("db.response.returned_rows", rows as i64)),
        Ok(None) => {}
        Err(error) => note_error(span, error.kind.as_str()),
    }
}

/// The number of rows, if the answer consists of rows.
fn row_count(answer: &Answer) -> Option<usize> {
    match answer {
        Answer::All(rows) => Some(rows.len()),
        Answer::One(row) => Some(usize::from(row.is_some())),
        Answer::Executed(_) | Answer::Done | Answer::Version(_) => None,
    }
}

/// How often a read is sent again after a loss in the middle of it. It may be what breaks the
/// connections.
const READ_AGAIN: usize = 2;

/// How often one call was sent again, each time on another connection.
#[derive(Default)]
pub(super) struct Repeats {
    reads: usize,
    without_effect: usize,
}

impl Repeats {
    /// Whether the call is sent again. A call that timed out never is: the database may still be
    /// busy with it.
    pub(super) fn again(&mut self, error: &DatabaseError, call: Call<'_>, pool: &Pool) -> bool {
        let (made, most) = match error.kind {
            // If all sessions of a pool are ended one after the other, a call may meet every one of
            // them.
            DatabaseErrorKind::ConnectionLostWithoutEffect => (&mut self.without_effect, pool.health().status.max + 1),
            DatabaseErrorKind::ConnectionLost if call.changes_nothing() => (&mut self.reads, READ_AGAIN),
            _ => return false,
        };
        *made += 1;
        *made <= most
    }
}
