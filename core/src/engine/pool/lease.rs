//! The lease under which a request uses a connection.
//!
//! No reset is sent when a connection comes back: a transaction that is still open is rolled back,
//! and everything else of the session would stay for the next request of the tenant. So the
//! connection is closed instead if its state is unknown (a call was dropped or broke it), or if a
//! call may have left something in the session: a transaction, a setting, a lock or a temporary
//! table ([`sql::leaves_session_state`]). A handler that wants state of a session uses
//! [`TenantDatabase::connection`](crate::engine::TenantDatabase::connection).

use std::{sync::Arc, time::Duration};

use sea_orm::{AccessMode, DbErr, ExecResult, QueryResult, Statement, TransactionOptions};
use tokio::time::{Instant, timeout};

use super::{
    Pool,
    connection::{Pooled, closed},
};
use crate::{Connection, DatabaseError, DatabaseErrorKind, ServerVersion, engine::measure::tally::RequestTally, sql};

/// The longest that an idle connection has to show that it still works.
const LONGEST_CHECK: Duration = Duration::from_secs(1);
/// How long rolling back a transaction that was dropped may take before its connection is closed
/// instead.
const ROLLBACK_DEADLINE: Duration = Duration::from_secs(2);

/// A connection in use. When it is dropped the connection goes back to its pool, unless it was in
/// the middle of something or is worn out.
pub(crate) struct Lease {
    /// It is there until this is dropped, or until a call breaks it.
    connection: Option<Pooled>,
    pool: Arc<Pool>,
    /// Whether a call was made: else the connection counts as idle since it was last used.
    used: bool,
    /// A health check, which is no use either: an unused pool is closed however often it is
    /// checked.
    pub(super) is_check: bool,
    /// A call has begun and did not end: its future was dropped, so the state of the server is
    /// unknown.
    busy: bool,
    /// Not to be used again by another request.
    broken: bool,
    /// How many transactions and save points are open.
    depth: usize,
    /// Whether the transaction that is open was begun to read only.
    reads_only: bool,
    /// Whether a statement may have committed a part of the transaction.
    committed: bool,
    /// What counts the effects of its calls, if they are of a request that may have any.
    tally: Option<Arc<RequestTally>>,
    /// The same tally, if the last call was counted in it.
    counted: Option<Arc<RequestTally>>,
}

/// What is asked of a connection.
#[derive(Clone, Copy)]
pub(crate) enum Call<'a> {
    Execute(&'a Statement),
    Script(&'a str),
    One(&'a Statement),
    All(&'a Statement),
    Begin(&'a TransactionOptions),
    Commit,
    Rollback,
    Ping,
}

/// What it answered.
pub(crate) enum Answer {
    Executed(ExecResult),
    One(Option<QueryResult>),
    All(Vec<QueryResult>),
    Done,
    Version(ServerVersion),
}

impl Call<'_> {
    /// The statement's text, if it is a statement.
    pub(crate) fn sql(&self) -> Option<&str> {
        match self {
            Self::Execute(statement) | Self::One(statement) | Self::All(statement) => Some(&statement.sql),
            Self::Script(sql) => Some(sql),
            Self::Begin(_) | Self::Commit | Self::Rollback | Self::Ping => None,
        }
    }

    /// What it does, in one word of SQL.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Begin(_) => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
            Self::Ping => "PING",
            _ => self.sql().map_or("OTHER", sql::operation),
        }
    }

    /// Its error, as SeaORM's own connection returns it.
    pub(crate) fn db_err(&self, error: DatabaseError) -> DbErr {
        match self {
            Self::Execute(_) | Self::Script(_) => error.into_exec_err(),
            _ => error.into_db_err(),
        }
    }

    /// Whether it certainly changes nothing, outside a transaction.
    pub(crate) fn changes_nothing(&self) -> bool {
        match self {
            Self::One(statement) | Self::All(statement) => sql::is_read(&statement.sql),
            Self::Begin(_) | Self::Rollback | Self::Ping => true,
            Self::Execute(_) | Self::Script(_) | Self::Commit => false,
        }
    }
}

impl Lease {
    pub(super) fn new(connection: Pooled, pool: Arc<Pool>) -> Self {
        Self {
            connection: Some(connection),
            pool,
            used: false,
            is_check: false,
            busy: false,
            broken: false,
            depth: 0,
            reads_only: false,
            committed: false,
            tally: None,
            counted: None,
        }
    }

    /// Has the effects of its calls counted, unless the request is safe.
    pub(crate) fn counted_by(mut self, tally: Option<&Arc<RequestTally>>) -> Self {
        self.tally = tally.filter(|tally| !tally.is_safe).cloned();
        self
    }

    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let connection = self.begin_call(call)?;
        let answer = match call {
            Call::Execute(statement) => connection.execute(statement).await.map(Answer::Executed),
            Call::Script(sql) => connection.execute_script(sql).await.map(Answer::Executed),
            Call::One(statement) => connection.query_one(statement).await.map(Answer::One),
            Call::All(statement) => connection.query(statement).await.map(Answer::All),
            Call::Begin(options) => connection.begin(options).await.map(|()| Answer::Done),
            Call::Commit => connection.commit().await.map(|()| Answer::Done),
            Call::Rollback => connection.rollback().await.map(|()| Answer::Done),
            Call::Ping => connection.ping().await.map(Answer::Version),
        };
        self.end_call(call, answer)
    }

    /// The connection, which is busy from now on until [`end_call`](Self::end_call). A request that
    /// ends before that may have changed something.
    pub(crate) fn begin_call(&mut self, call: Call<'_>) -> Result<&mut dyn Connection, DatabaseError> {
        let tally = self.tally.clone().filter(|_| self.takes_effect(call));
        let pooled = self.connection.as_mut().ok_or_else(closed)?;
        self.counted = tally.inspect(|tally| tally.may_take_effect());
        (self.used, self.busy) = (true, true);
        pooled.connection()
    }

    /// Notes what a call did to the session. Its error says whether the outcome is known.
    pub(crate) fn end_call<T>(&mut self, call: Call<'_>, answer: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        self.busy = false;
        let depth = self.depth;
        // A call that failed may have left something too, such as a lock that it took first.
        self.broken |= self.leaves_session_state(call);
        let unsent = DatabaseErrorKind::ConnectionLostWithoutEffect;
        let was_sent = !answer.as_ref().is_err_and(|error| error.kind == unsent);
        self.committed |= depth > 0 && was_sent && self.may_commit(call);
        match (&answer, call) {
            (Ok(_), Call::Begin(options)) if depth == 0 => {
                (self.depth, self.reads_only) = (1, options.access_mode == Some(AccessMode::ReadOnly));
            }
            (Ok(_), Call::Begin(_)) => self.depth += 1,
            (Ok(_), Call::Commit | Call::Rollback) => {
                self.depth = depth.saturating_sub(1);
                self.committed &= self.depth > 0;
            }
            // A part of it may have run, such as a `BEGIN`.
            (Err(_), Call::Script(_)) => self.broken = true,
            _ => {}
        }
        answer.map_err(|error| self.failed(call, error))
    }

    fn leaves_session_state(&self, call: Call<'_>) -> bool {
        self.shows(call, sql::leaves_session_state)
    }

    fn may_commit(&self, call: Call<'_>) -> bool {
        self.shows(call, sql::may_commit)
    }

    /// Whether a call is a statement with a text that shows something.
    fn shows(&self, call: Call<'_>, what: fn(&str, sql::Dialect) -> bool) -> bool {
        let (Some(sql), Some(pooled)) = (call.sql(), &self.connection) else {
            return false;
        };
        what(sql, sql::Dialect::of(&pooled.secret.driver_type))
    }

    fn failed(&mut self, call: Call<'_>, mut error: DatabaseError) -> DatabaseError {
        // Such a session, and the others, may lead to a server that became a standby in a failover,
        // or to a database that took the place of the one that was prepared.
        let read_only = error.kind == DatabaseErrorKind::ReadOnly && !(self.depth > 0 && self.reads_only);
        let outdated = read_only || error.kind == DatabaseErrorKind::TableMissing;
        if outdated && self.pool.state().found_outdated(error.kind, Instant::now()) {
            self.pool.prepare_again();
        }
        // It is in a transaction that the engine knows nothing of.
        let in_transaction = self.depth == 0 && matches!(error.code.as_deref(), Some("25P01" | "25P02"));
        self.broken |= read_only || in_transaction;
        if error.kind.breaks_connection() {
            self.pool.state().suspect_idle(Instant::now());
            self.broken = true;
            self.give_back();
        }
        let was_sent = error.kind != DatabaseErrorKind::ConnectionLostWithoutEffect;
        let lost = error.kind.is_lost() || error.kind == DatabaseErrorKind::NoAnswer;
        if lost && (self.committed || (was_sent && self.takes_effect(call))) {
            // A client that repeats the request could make the change twice.
            error.kind = DatabaseErrorKind::OutcomeUnknown;
        }
        // Of a script some statements may have run.
        let is_partial = self.committed || matches!(call, Call::Script(_));
        let counted = self.counted.take().filter(|_| !is_partial);
        if let Some(tally) = counted.filter(|_| error.kind.had_no_effect()) {
            tally.had_no_effect();
        }
        error
    }

    /// Whether a call takes effect by itself. What a lost transaction did is undone, unless it was
    /// just being committed, or a statement may have committed it.
    fn takes_effect(&self, call: Call<'_>) -> bool {
        match call {
            Call::Commit => self.depth == 1 && !self.reads_only,
            _ if self.depth == 0 || self.committed => !call.changes_nothing(),
            _ => self.may_commit(call),
        }
    }

    /// Whether the server answers on it; else it is closed when this is dropped, and so are now all
    /// that are idle as long.
    pub(super) async fn is_alive(&mut self) -> bool {
        // A request has time for another connection if this one does not answer.
        let deadline = LONGEST_CHECK.min(self.pool.acquire_timeout() / 4);
        let Some(used_at) = self.connection.as_ref().map(|pooled| pooled.facts.used_at) else {
            return false;
        };
        let alive = matches!(timeout(deadline, self.call(Call::Ping)).await, Ok(Ok(_)));
        if !alive {
            self.broken = true;
            let dead = self.pool.state().found_dead(used_at, Instant::now());
            drop(dead);
        }
        alive
    }

    /// The era of the pool in which the connection was opened.
    pub(super) fn era(&self) -> Option<u64> {
        Some(self.connection.as_ref()?.facts.era)
    }

    /// Closes the connection when the lease ends.
    pub(crate) fn discard(&mut self) {
        self.broken = true;
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether its connection may be used again once no transaction is open on it.
    fn is_fit(&self) -> bool {
        !self.busy && !self.broken
    }

    /// How many transactions and save points are open.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Rolls back what is open, so that another request can use the connection.
    async fn roll_back(mut self) {
        while self.depth > 0 {
            if self.call(Call::Rollback).await.is_err() {
                return;
            }
        }
        self.broken = false;
    }

    fn give_back(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let now = Instant::now();
        if self.used && !self.is_check {
            connection.facts.used_at = now;
        }
        let fit = self.is_fit() && self.depth == 0;
        self.pool.give_back(connection, now, fit);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.depth > 0
            && self.is_fit()
            && let Some(connection) = self.connection.take()
        {
            let mut lease = Self::new(connection, self.pool.clone());
            (lease.depth, lease.used, lease.broken) = (self.depth, true, true);
            let runtime = self.pool.runtime().clone();
            // Inside, since a time-out can only be made on a runtime.
            runtime.spawn(async move { timeout(ROLLBACK_DEADLINE, lease.roll_back()).await });
        }
        self.give_back();
    }
}
