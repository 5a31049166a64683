//! One call on a connection: how it is measured, whether it may be repeated, and what its failure
//! means.

use std::pin::pin;

use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use sea_orm::{QueryResult, Statement};
use tracing::Span;

use crate::{
    DatabaseError, DatabaseErrorKind,
    engine::{
        measure::{
            stopwatch::{Measured, Stopwatch, Subject, note_answer},
            tally::RequestTally,
        },
        pool::{Answer, Call, Lease, Pool},
        secrets::Secret,
        sql,
        tenant::Tenant,
    },
};

/// Starts to measure a statement of this tenant and this request.
pub(super) fn watch<'a>(entry: &'a Tenant, secret: &'a Secret, tally: Option<&'a RequestTally>) -> Stopwatch<'a> {
    let watch = Stopwatch::new(Subject {
        tenant: &entry.id,
        driver: &secret.driver_type,
        slow_threshold: secret.config.query.slow_threshold,
        usage: &entry.usage,
        observer: entry.observer.as_deref(),
        tally,
    });
    entry.touch(watch.started);
    watch
}

/// How a call is described.
pub(super) fn measured<'a>(call: &'a Call<'_>) -> Measured<'a> {
    Measured {
        operation: call.operation(),
        sql: call.sql(),
    }
}

/// The span of a call, if the request is traced. It is held but not entered: no connection opens a
/// span of its own, and every layer looks an entered span up.
fn span(call: Call<'_>, watch: &Stopwatch<'_>, traced: bool) -> Span {
    match traced {
        true => watch.span(measured(&call)),
        false => Span::none(),
    }
}

/// Waits for the answer of a call.
pub(super) async fn run(
    answer: impl Future<Output = Result<Answer, DatabaseError>>,
    call: Call<'_>,
    watch: &mut Stopwatch<'_>,
    traced: bool,
) -> Result<Answer, DatabaseError> {
    let span = span(call, watch, traced);
    let answer = answer.await;
    watch.ran();
    note_answer(&span, answer.as_ref().map(row_count));
    answer
}

/// Runs a statement and returns its rows as they arrive. The time that the caller takes between
/// them is not measured.
pub(super) fn rows<'a>(
    lease: &'a mut Lease,
    statement: &'a Statement,
    watch: &'a mut Stopwatch<'_>,
    traced: bool,
) -> impl Stream<Item = Result<QueryResult, DatabaseError>> + Send + 'a {
    try_stream! {
        let span = span(Call::All(statement), watch, traced);
        let mut rows = pin!(lease.stream(statement));
        let mut count = 0;
        loop {
            watch.lap();
            let row = rows.next().await.transpose();
            watch.ran();
            match row {
                Ok(Some(row)) => {
                    count += 1;
                    yield row;
                }
                Ok(None) => break note_answer(&span, Ok(Some(count))),
                Err(error) => {
                    note_answer(&span, Err(&error));
                    Err(error)?;
                }
            }
        }
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

/// Whether the call certainly changes nothing, outside a transaction.
fn changes_nothing(call: Call<'_>) -> bool {
    match call {
        Call::One(statement) | Call::All(statement) => sql::is_read(&statement.sql),
        Call::Begin(_) | Call::Ping => true,
        Call::Execute(_) | Call::Script(_) | Call::Commit | Call::Rollback => false,
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
            DatabaseErrorKind::ConnectionLostWithoutEffect => (&mut self.without_effect, pool.status().max + 1),
            DatabaseErrorKind::ConnectionLost if changes_nothing(call) => (&mut self.reads, READ_AGAIN),
            _ => return false,
        };
        *made += 1;
        *made <= most
    }
}

/// Marks the loss of a connection in the middle of a write as an unknown outcome: a client that
/// repeats the request could make the change twice.
pub(super) fn unknown_outcome(mut error: DatabaseError, call: Call<'_>) -> DatabaseError {
    let lost = matches!(
        error.kind,
        DatabaseErrorKind::ConnectionLost | DatabaseErrorKind::NoAnswer
    );
    if lost && !changes_nothing(call) {
        error.kind = DatabaseErrorKind::OutcomeUnknown;
    }
    error
}
