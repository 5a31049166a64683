//! A scripted connection: each call takes a while on the server and may be lost before, in the
//! middle or after.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sea_orm::{ExecResult, QueryResult, Statement, TransactionOptions, Value};
use tenantry_core::{
    Connection, DatabaseError, DatabaseErrorKind, ServerVersion,
    rows::{exec_result, query_results},
};
use tokio::time::{Instant, sleep, timeout};

use super::{Phase, State, UNIT, World};

/// How long a silent server keeps a connection from closing; the engine gives a close 60 seconds.
const SILENT_CLOSE: Duration = Duration::from_secs(90);

/// What is asked of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call<'a> {
    Sql(&'a str),
    Script(&'a str),
    Begin,
    Commit,
    Rollback,
    Ping,
}

/// When the connection breaks during a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Not,
    /// The driver notices before it has sent anything.
    BeforeSending,
    /// The server ends the session before it does what it was asked.
    BeforeEffect,
    /// The answer is lost.
    AfterEffect,
    /// The server stops answering, having done it or not.
    Silence {
        done: bool,
    },
    /// It became a replica.
    ReadOnly,
}

struct Plan {
    before: Duration,
    after: Duration,
    breaks: Break,
    statement_timeout: Duration,
}

pub(crate) struct ScriptedConnection {
    world: Arc<World>,
    id: u64,
}

impl Drop for ScriptedConnection {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        if let Some(session) = state.sessions.remove(&self.id) {
            state.note(format_args!("tenant {}: session {} has ended", session.tenant, self.id));
        }
    }
}

/// A call that has begun. If it is dropped before its end, its request was cut off, and the server
/// may do it all the same.
struct InFlight<'a> {
    connection: &'a ScriptedConnection,
    call: Call<'a>,
    performed: bool,
    ended: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (mut state, id) = (self.connection.world.lock(), self.connection.id);
        let survives = !self.performed && !state.session(id).lost && state.dice(id).flip();
        if survives {
            // What it answers is read by nobody.
            drop(state.perform(id, &self.call));
        }
        let call = self.call;
        let (tenant, was_idle_since) = (state.session(id).tenant, state.session(id).was_idle_since);
        if let (Call::Ping, Some(since)) = (call, was_idle_since) {
            // Its request had no time left to check those that have been idle as long.
            state.tenants[tenant].found_dead = Some((Instant::now(), since));
        }
        state.note(format_args!(
            "session {id}: {call:?} was cut off, and was done all the same: {survives}"
        ));
    }
}

impl ScriptedConnection {
    pub(super) fn new(world: Arc<World>, id: u64) -> Self {
        Self { world, id }
    }

    async fn call(&self, call: Call<'_>) -> Result<(), DatabaseError> {
        let began = Instant::now();
        let unit = UNIT.try_with(|unit| *unit).ok();
        let plan = self.begin(call, unit);
        let mut in_flight = InFlight {
            connection: self,
            call,
            performed: false,
            ended: false,
        };
        let answer = self.exchange(&plan, &mut in_flight).await;
        in_flight.ended = true;
        self.end(call, unit, began, &answer);
        answer
    }

    fn begin(&self, call: Call<'_>, unit: Option<u64>) -> Plan {
        let (mut state, id) = (self.world.lock(), self.id);
        state.check_handed_over(id, call, unit);
        state.check_refreshed(id, call, unit);
        state.check_lease(id, call, unit);
        let session = state.session(id);
        session.running = true;
        session.was_idle_since = session.idle_since.take();
        if unit.is_some() && call != Call::Ping {
            session.unit = unit;
        }
        state.note(format_args!("session {id}: {call:?} begins for unit {unit:?}"));
        state.plan(id, call)
    }

    async fn exchange(&self, plan: &Plan, in_flight: &mut InFlight<'_>) -> Result<(), DatabaseError> {
        let id = self.id;
        let call = in_flight.call;
        let lost = |kind| {
            let mut state = self.world.lock();
            state.session(id).lost = true;
            state.counts.lost += 1;
            Err(DatabaseError::new(kind))
        };
        if self.world.lock().session(id).silent {
            return self.silence(plan).await;
        }
        if plan.breaks == Break::BeforeSending || self.world.lock().session(id).lost {
            let notices = plan.breaks == Break::BeforeSending;
            return lost(match notices {
                true => DatabaseErrorKind::ConnectionLostWithoutEffect,
                false => DatabaseErrorKind::ConnectionLost,
            });
        }
        sleep(plan.before).await;
        if plan.breaks == (Break::Silence { done: false }) {
            self.world.lock().session(id).silent = true;
            return self.silence(plan).await;
        }
        if plan.breaks == Break::BeforeEffect || self.world.lock().session(id).lost {
            return lost(DatabaseErrorKind::ConnectionLost);
        }
        if plan.breaks == Break::ReadOnly {
            in_flight.performed = true;
            self.world.lock().note_read_only(id);
            return Err(DatabaseError::new(DatabaseErrorKind::ReadOnly).with_code("25006"));
        }
        in_flight.performed = true;
        let answer = self.world.lock().perform(id, &call);
        if plan.breaks == (Break::Silence { done: true }) {
            self.world.lock().session(id).silent = true;
            return self.silence(plan).await;
        }
        sleep(plan.after).await;
        if plan.breaks == Break::AfterEffect || self.world.lock().session(id).lost {
            return lost(DatabaseErrorKind::ConnectionLost);
        }
        answer
    }

    /// The server does not answer. A driver waits so long for a statement, and no longer for a
    /// check.
    async fn silence(&self, plan: &Plan) -> Result<(), DatabaseError> {
        drop(timeout(plan.statement_timeout, self.world.mended()).await);
        Err(DatabaseError::new(DatabaseErrorKind::NoAnswer))
    }

    fn end(&self, call: Call<'_>, unit: Option<u64>, began: Instant, answer: &Result<(), DatabaseError>) {
        let (mut state, id) = (self.world.lock(), self.id);
        let session = state.session(id);
        let (tenant, was_idle_since) = (session.tenant, session.was_idle_since);
        session.running = false;
        session.idle_since = session.levels.is_empty().then(Instant::now);
        if let Some(unit) = unit.and_then(|unit| state.units.get_mut(&unit)) {
            if call != Call::Ping {
                unit.served += began.elapsed();
            }
            unit.last_answer = Instant::now();
            unit.calls += 1;
        }
        if let (Call::Ping, Err(_), Some(since)) = (call, answer, was_idle_since) {
            state.tenants[tenant].found_dead = Some((Instant::now(), since));
        }
        let outcome = answer.as_ref().map_err(|error| error.kind.as_str());
        state.note(format_args!("session {id}: {call:?} answers {outcome:?}"));
    }
}

impl State {
    fn plan(&self, id: u64, call: Call<'_>) -> Plan {
        let dice = self.dice(id);
        let slowest = if dice.percent(10) { 800 } else { 30 };
        let migrates = matches!(call, Call::Script(script) if script.starts_with("MIGRATE"));
        let breaks = if call == Call::Ping || migrates || !dice.percent(self.faults.statements) {
            Break::Not
        } else {
            let writes = matches!(call, Call::Sql(sql) if sql.starts_with("INSERT"));
            match dice.roll(6) {
                0 => Break::BeforeSending,
                1 => Break::BeforeEffect,
                2 => Break::AfterEffect,
                3 => Break::Silence { done: false },
                4 => Break::Silence { done: true },
                _ if writes => Break::ReadOnly,
                _ => Break::Not,
            }
        };
        Plan {
            before: dice.millis(0..slowest),
            after: dice.millis(0..slowest),
            breaks,
            statement_timeout: self.faults.statement_timeout,
        }
    }
}

fn rows(tenant: usize) -> Result<Vec<QueryResult>, DatabaseError> {
    let columns = ["tenant".to_owned()];
    query_results(&columns, vec![vec![Value::from(tenant as i64)]])
        .map_err(|error| DatabaseError::new(DatabaseErrorKind::Other).with_source(error))
}

fn touched() -> Result<ExecResult, DatabaseError> {
    exec_result(1).map_err(|error| DatabaseError::new(DatabaseErrorKind::Other).with_source(error))
}

#[async_trait]
impl Connection for ScriptedConnection {
    async fn execute(&mut self, statement: &Statement) -> Result<ExecResult, DatabaseError> {
        self.call(Call::Sql(&statement.sql)).await?;
        touched()
    }

    async fn execute_script(&mut self, sql: &str) -> Result<ExecResult, DatabaseError> {
        self.call(Call::Script(sql)).await?;
        touched()
    }

    async fn query(&mut self, statement: &Statement) -> Result<Vec<QueryResult>, DatabaseError> {
        self.call(Call::Sql(&statement.sql)).await?;
        let tenant = self.world.lock().session(self.id).tenant;
        rows(tenant)
    }

    async fn begin(&mut self, _: &TransactionOptions) -> Result<(), DatabaseError> {
        self.call(Call::Begin).await
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.call(Call::Commit).await
    }

    async fn rollback(&mut self) -> Result<(), DatabaseError> {
        self.call(Call::Rollback).await
    }

    async fn ping(&mut self) -> Result<ServerVersion, DatabaseError> {
        self.call(Call::Ping).await?;
        Ok(ServerVersion("1".into()))
    }

    async fn close(self: Box<Self>) {
        let (takes, hangs) = {
            let (mut state, id) = (self.world.lock(), self.id);
            let silent_closes = state.faults.silent_closes;
            let session = state.session(id);
            session.phase = Phase::Closing;
            session.idle_since = None;
            let (busy, hangs) = (session.running, session.silent && silent_closes);
            // A statement that was left in the middle is killed first.
            let slowest = if busy { 400 } else { 3 };
            let tenant = state.session(id).tenant;
            state.note(format_args!("tenant {tenant}: session {id} closes"));
            (state.dice(id).millis(0..slowest), hangs)
        };
        if hangs {
            drop(timeout(SILENT_CLOSE, self.world.mended()).await);
        }
        sleep(takes).await;
    }
}
