//! The lease under which a request uses a connection.

use std::{sync::Arc, time::Duration};

use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use sea_orm::{AccessMode, ExecResult, QueryResult, Statement, TransactionOptions};
use tokio::time::{Instant, timeout};

use super::{
    Pool,
    connection::{Pooled, closed},
};
use crate::{Connection, DatabaseError, DatabaseErrorKind, ServerVersion, engine::sql};

/// The longest that an idle connection has to show that it still works.
const LONGEST_CHECK: Duration = Duration::from_secs(1);

/// A connection in use. When it is dropped the connection goes back to its pool, unless it was in
/// the middle of something or is worn out.
pub(crate) struct Lease {
    /// It is there until this is dropped.
    connection: Option<Pooled>,
    pool: Arc<Pool>,
    /// Whether a call was made: else the connection counts as idle since it was last used.
    used: bool,
    /// A call has begun and did not end: its future was dropped, so nobody knows what the server
    /// does now.
    busy: bool,
    /// Not to be used again by another request.
    broken: bool,
    /// Not to be used again at all: what the server made of the last call is not known.
    lost: bool,
    /// How many transactions and save points are open.
    depth: usize,
    /// Whether the transaction that is open was begun to read only.
    reads_only: bool,
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
            Self::Execute(_) | Self::One(_) | Self::All(_) | Self::Script(_) => {
                self.sql().map_or("OTHER", sql::operation)
            }
        }
    }
}

impl Lease {
    pub(super) fn new(connection: Pooled, pool: Arc<Pool>) -> Self {
        Self {
            connection: Some(connection),
            pool,
            used: false,
            busy: false,
            broken: false,
            lost: false,
            depth: 0,
            reads_only: false,
        }
    }

    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let connection = self.begin_call()?;
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
        self.busy = false;
        match (&answer, call) {
            (Ok(_), Call::Begin(options)) => {
                if self.depth == 0 {
                    self.reads_only = options.access_mode == Some(AccessMode::ReadOnly);
                }
                self.depth += 1;
            }
            (Ok(_), Call::Commit | Call::Rollback) => self.depth = self.depth.saturating_sub(1),
            (Ok(_), Call::Script(script)) if self.depth == 0 && sql::leaves_session_state(script) => self.broken = true,
            // A part of it may have run, such as a `BEGIN`.
            (Err(_), Call::Script(_)) => self.broken = true,
            _ => {}
        }
        if let Err(error) = &answer {
            self.note_failure(error);
        }
        answer
    }

    /// Runs a statement and returns its rows as they arrive. The lease is busy until the last one,
    /// so a stream that is dropped before its end closes the connection.
    pub(crate) fn stream<'a>(
        &'a mut self,
        statement: &'a Statement,
    ) -> impl Stream<Item = Result<QueryResult, DatabaseError>> + Send + 'a {
        try_stream! {
            let mut rows = self.begin_call()?.stream(statement);
            let failed = loop {
                match rows.next().await {
                    Some(Ok(row)) => yield row,
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            };
            drop(rows);
            self.busy = false;
            if let Some(error) = failed {
                self.note_failure(&error);
                Err(error)?;
            }
        }
    }

    /// The connection, which is busy from now on.
    fn begin_call(&mut self) -> Result<&mut dyn Connection, DatabaseError> {
        let pooled = self.connection.as_mut().filter(|_| !self.lost).ok_or_else(closed)?;
        (self.used, self.busy) = (true, true);
        pooled.connection()
    }

    fn note_failure(&mut self, error: &DatabaseError) {
        if error.kind.breaks_connection() {
            self.pool.suspect_idle();
            self.lost = true;
        }
        // Such a session, and the others, may lead to a server that became a standby in a failover.
        let read_only = error.kind == DatabaseErrorKind::ReadOnly && !(self.depth > 0 && self.reads_only);
        if read_only {
            self.pool.found_read_only();
        }
        // It is in a transaction that the engine knows nothing of.
        let in_transaction = self.depth == 0 && matches!(error.code.as_deref(), Some("25P01" | "25P02"));
        self.broken |= error.kind.breaks_connection() || read_only || in_transaction;
    }

    /// Whether the server answers on it; else it is closed when this is dropped.
    pub(super) async fn is_alive(&mut self) -> bool {
        // A request has time for another connection if this one does not answer.
        let deadline = LONGEST_CHECK.min(self.pool.acquire_timeout() / 4);
        self.busy = true;
        let alive = match self.connection.as_mut().map(|pooled| pooled.connection()) {
            Some(Ok(connection)) => matches!(timeout(deadline, connection.ping()).await, Ok(Ok(_))),
            _ => false,
        };
        (self.used, self.busy, self.broken) = (alive, false, !alive);
        alive
    }

    /// The era of the pool in which the connection was opened.
    pub(super) fn era(&self) -> Option<u64> {
        Some(self.connection.as_ref()?.facts.era)
    }

    /// When the connection was last used before this.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        Some(self.connection.as_ref()?.facts.used_at)
    }

    /// Closes the connection when the lease ends.
    pub(crate) fn discard(&mut self) {
        self.broken = true;
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let now = Instant::now();
        if self.used {
            connection.facts.used_at = now;
        }
        let fit = !self.busy && !self.broken && self.depth == 0;
        self.pool.give_back(connection, now, fit);
    }
}
