//! One pooled connection, and the lease under which it is used.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use deadpool::managed::Object;
use sea_orm::{ExecResult, QueryResult, Statement, TransactionOptions};
use tokio::time::Instant;

use super::{
    budget::ConnectionPermit,
    pool::{ConnectionManager, PoolShared},
    secret_cache::Secret,
    sql,
};
use crate::{Connection, DatabaseError, ServerVersion};

/// How long an idle connection has to show that it still works.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);

/// How long a connection may take to close before it is just dropped. A driver returns at once for a connection at rest; if a
/// statement was left in the middle, it returns once the server has ended the session.
const CLOSE_DEADLINE: Duration = Duration::from_secs(60);

/// The longest that a server is given to end a session it was asked to end.
const LONGEST_LINGERING: Duration = Duration::from_millis(500);

/// A connection with what the engine must know of it. Dropping it closes it, in the background, and gives its permit back when it is
/// closed: so there is no way to lose one, and none to have more open than there are permits.
pub(crate) struct PooledConnection {
    open: Option<(Box<dyn Connection>, ConnectionPermit)>,
    shared: Arc<PoolShared>,
    pub(crate) generation: u64,
    pub(crate) opened_at: Instant,
    /// What opening it took.
    pub(crate) opening: Duration,
    pub(crate) retire_at: Instant,
    pub(crate) used_at: Instant,
}

/// The same as it changes hands, a dozen times for each request: as a pointer.
pub(crate) type Pooled = Box<PooledConnection>;

impl PooledConnection {
    /// One that was opened with `secret` from `started` until now.
    pub(crate) fn new(
        connection: Box<dyn Connection>,
        permit: ConnectionPermit,
        shared: Arc<PoolShared>,
        secret: &Secret,
        started: Instant,
    ) -> Pooled {
        shared.open.fetch_add(1, Ordering::AcqRel);
        let now = Instant::now();
        // Connections that were opened together are not closed together.
        let lifetime = Duration::from(secret.limits.max_lifetime).mul_f64(1.0 - 0.1 * fastrand::f64());
        Box::new(Self {
            open: Some((connection, permit)),
            shared,
            generation: secret.generation,
            opened_at: now,
            opening: now - started,
            retire_at: now + lifetime,
            used_at: now,
        })
    }

    /// The connection; it is there until this is dropped.
    pub(crate) fn connection(&mut self) -> Result<&mut dyn Connection, DatabaseError> {
        match &mut self.open {
            Some((connection, _)) => Ok(&mut **connection),
            None => Err(DatabaseError::new(crate::DatabaseErrorKind::Closed)),
        }
    }

    /// Whether the server answers on it; if so it counts as used just now.
    pub(crate) async fn is_alive(&mut self) -> bool {
        let Ok(connection) = self.connection() else {
            return false;
        };
        let answered = tokio::time::timeout(CHECK_DEADLINE, connection.ping()).await;
        let alive = matches!(answered, Ok(Ok(_)));
        if alive {
            self.used_at = Instant::now();
        }
        alive
    }

    /// Whether it may be used (again) at all.
    pub(crate) fn is_current(&self, now: Instant) -> bool {
        self.generation == self.shared.generation() && now < self.retire_at
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some((connection, permit)) = self.open.take() else {
            return;
        };
        self.shared.open.fetch_sub(1, Ordering::AcqRel);
        // Without a runtime there is nothing left to take leave with: the socket closes as it is dropped.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let tenant = self.shared.tenant;
            // A session ends with less work and fewer round trips than it began.
            let lingering = self.opening.min(LONGEST_LINGERING);
            let permit = permit.leave();
            runtime.spawn(async move {
                if tokio::time::timeout(CLOSE_DEADLINE, connection.close()).await.is_err() {
                    tracing::debug!(tenant_id = %tenant, "a connection did not close in time and was dropped");
                }
                // Taking leave is a word without an answer, and until the server has heard it the session counts there.
                tokio::time::sleep(lingering).await;
                drop(permit);
            });
        }
    }
}

/// A connection in use. It goes back to its pool when it is dropped, unless it was in the middle of something or is worn out.
pub(crate) struct Lease {
    object: Option<Object<ConnectionManager>>,
    shared: Arc<PoolShared>,
    /// A call has begun and did not end: its future was dropped, so what the server does now nobody knows.
    busy: bool,
    /// Not to be used again.
    broken: bool,
    /// How many transactions and save points are open.
    depth: usize,
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
    /// The statement's text, where it is one.
    pub(crate) fn sql(&self) -> Option<&str> {
        match self {
            Self::Execute(statement) | Self::One(statement) | Self::All(statement) => Some(&statement.sql),
            Self::Script(sql) => Some(sql),
            Self::Begin(_) | Self::Commit | Self::Rollback | Self::Ping => None,
        }
    }
}

impl Call<'_> {
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
    pub(crate) fn new(object: Object<ConnectionManager>, shared: Arc<PoolShared>) -> Self {
        shared.in_use.fetch_add(1, Ordering::AcqRel);
        Self {
            object: Some(object),
            shared,
            busy: false,
            broken: false,
            depth: 0,
        }
    }

    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let Some(object) = &mut self.object else {
            return Err(DatabaseError::new(crate::DatabaseErrorKind::Closed));
        };
        self.busy = true;
        let connection = object.connection()?;
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
            (Ok(_), Call::Begin(_)) => self.depth += 1,
            (Ok(_), Call::Commit | Call::Rollback) => self.depth = self.depth.saturating_sub(1),
            (Ok(_), Call::Script(script)) if self.depth == 0 && sql::leaves_session_state(script) => self.broken = true,
            // A part of it may have run, such as a `BEGIN`.
            (Err(_), Call::Script(_)) => self.broken = true,
            _ => {}
        }
        if let Err(error) = &answer {
            if error.kind.breaks_connection() {
                self.shared.suspect_idle();
            }
            self.broken |= error.kind.breaks_connection() || self.is_unfit_after(error);
        }
        answer
    }

    /// Whether the session cannot serve the next request, though the server answers on it: it became read-only in a failover, or is in
    /// a transaction that the engine knows nothing of.
    fn is_unfit_after(&self, error: &DatabaseError) -> bool {
        let in_transaction = matches!(error.code.as_deref(), Some("25P01" | "25P02"));
        error.kind == crate::DatabaseErrorKind::ReadOnly || (in_transaction && self.depth == 0)
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
        let Some(mut object) = self.object.take() else {
            return;
        };
        self.shared.in_use.fetch_sub(1, Ordering::AcqRel);
        let now = Instant::now();
        let keep = !self.busy
            && !self.broken
            && self.depth == 0
            && object.is_current(now)
            && self.shared.keeps_returned(&object, now);
        if !keep {
            drop(Object::take(object));
            return;
        }
        object.used_at = now;
        if let Some(first) = self.shared.line.first()
            && let Err(unwanted) = first.send(Object::take(object))
        {
            // Who was first went away just now.
            self.shared.give(unwanted);
        }
    }
}
