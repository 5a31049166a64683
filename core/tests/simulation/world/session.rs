//! The server's side of one session: its transaction, and what its statements do.

use std::fmt;

use tenantry_core::{DatabaseError, DatabaseErrorKind};
use tokio::time::Instant;

use super::{Call, State};
use crate::dice::Dice;

/// Where a session is between the call of `connect` and the end of `close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Opening,
    Open,
    Closing,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) tenant: usize,
    /// The version of the secret that opened it.
    pub(crate) version: u64,
    /// The lease of that secret.
    pub(crate) lease: Option<u64>,
    pub(crate) phase: Phase,
    pub(crate) opened_at: Instant,
    /// The server has ended it.
    pub(crate) lost: bool,
    /// Its packets are dropped.
    pub(crate) silent: bool,
    /// The writes of each open transaction and save point, from the outermost on.
    pub(crate) levels: Vec<Vec<u64>>,
    /// At which depth a statement failed, until that level is rolled back.
    pub(crate) aborted_at: Option<usize>,
    /// A statement has begun and its answer was not read.
    pub(crate) running: bool,
    /// The unit of work that used it last.
    pub(crate) unit: Option<u64>,
    /// Since when nothing uses it, as far as the server can see.
    pub(crate) idle_since: Option<Instant>,
    /// Since when nothing had used it before the call that runs.
    pub(crate) was_idle_since: Option<Instant>,
    /// It was opened by an operator's check, outside of the pool.
    pub(crate) is_probe: bool,
    /// It may belong to a pool that was closed, whose last requests are running.
    pub(crate) maybe_retired: bool,
}

impl Session {
    pub(crate) fn new(
        tenant: usize,
        (version, lease): (u64, Option<u64>),
        is_probe: bool,
        maybe_retired: bool,
    ) -> Self {
        Self {
            tenant,
            version,
            lease,
            phase: Phase::Opening,
            opened_at: Instant::now(),
            lost: false,
            silent: false,
            levels: Vec::new(),
            aborted_at: None,
            running: false,
            unit: None,
            idle_since: None,
            was_idle_since: None,
            is_probe,
            maybe_retired,
        }
    }

    /// Whether the next request may use it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Open && self.levels.is_empty() && self.aborted_at.is_none() && !self.running
    }

    fn abort(&mut self) {
        if !self.levels.is_empty() {
            self.aborted_at.get_or_insert(self.levels.len());
        }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenant,
            version,
            phase,
            levels,
            ..
        } = self;
        write!(
            f,
            "{phase:?}, of tenant {tenant} with version {version}, depth {}",
            levels.len()
        )?;
        if let Some(idle) = self.idle_since {
            write!(f, ", idle for {:?}", idle.elapsed())?;
        }
        let marks = [
            (self.aborted_at.is_some(), "aborted"),
            (self.running, "in a statement"),
            (self.lost, "lost"),
            (self.silent, "silent"),
            (self.is_probe, "a probe"),
            (self.maybe_retired, "maybe of a closed pool"),
        ];
        marks
            .iter()
            .filter(|(is, _)| *is)
            .try_for_each(|(_, mark)| write!(f, ", {mark}"))
    }
}

fn failed(kind: DatabaseErrorKind, code: &str) -> DatabaseError {
    DatabaseError::new(kind).with_code(code)
}

impl State {
    /// The session; it is there for as long as the engine holds its connection.
    pub(crate) fn session(&mut self, id: u64) -> &mut Session {
        self.sessions.get_mut(&id).expect("the session is open")
    }

    /// The dice of the session's tenant.
    pub(super) fn dice(&self, id: u64) -> &Dice {
        &self.tenants[self.sessions[&id].tenant].dice
    }

    /// Does on the server what the call asks for.
    pub(super) fn perform(&mut self, id: u64, call: &Call<'_>) -> Result<(), DatabaseError> {
        match call {
            Call::Sql(sql) => self.run(id, sql),
            Call::Script(script) => script.split(';').try_for_each(|sql| match sql.trim() {
                "BEGIN" => self.begin(id),
                "COMMIT" => self.commit(id),
                sql => self.run(id, sql),
            }),
            Call::Begin => self.begin(id),
            Call::Commit => self.commit(id),
            Call::Rollback => self.roll_back(id),
            Call::Ping => Ok(()),
        }
    }

    fn run(&mut self, id: u64, sql: &str) -> Result<(), DatabaseError> {
        let session = self.session(id);
        refuse_if_aborted(session)?;
        if sql.contains("broken") {
            session.abort();
            return Err(failed(DatabaseErrorKind::UniqueViolation, "23505"));
        }
        if let Some(number) = effect_of(sql) {
            match session.levels.last_mut() {
                Some(level) => level.push(number),
                None => self.apply(id, vec![number]),
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: u64) -> Result<(), DatabaseError> {
        let session = self.session(id);
        refuse_if_aborted(session)?;
        session.levels.push(Vec::new());
        Ok(())
    }

    fn commit(&mut self, id: u64) -> Result<(), DatabaseError> {
        let session = self.session(id);
        if session.aborted_at.is_some() {
            // A server answers the commit of a failed transaction by rolling it back.
            if session.levels.len() == 1 {
                session.levels.clear();
                session.aborted_at = None;
            }
            return Err(failed(DatabaseErrorKind::Other, "25P02"));
        }
        let Some(mut effects) = session.levels.pop() else {
            return Err(failed(DatabaseErrorKind::Other, "25P01"));
        };
        match session.levels.last_mut() {
            Some(outer) => outer.append(&mut effects),
            None => self.apply(id, effects),
        }
        Ok(())
    }

    fn roll_back(&mut self, id: u64) -> Result<(), DatabaseError> {
        let session = self.session(id);
        if session.levels.pop().is_none() {
            return Err(failed(DatabaseErrorKind::Other, "25P01"));
        }
        let depth = session.levels.len();
        session.aborted_at = session.aborted_at.filter(|at| *at <= depth);
        Ok(())
    }

    fn apply(&mut self, id: u64, numbers: Vec<u64>) {
        let tenant = self.session(id).tenant;
        for number in numbers {
            self.check_effect(number, tenant);
        }
    }
}

fn refuse_if_aborted(session: &Session) -> Result<(), DatabaseError> {
    match session.aborted_at {
        Some(_) => Err(failed(DatabaseErrorKind::Other, "25P02")),
        None => Ok(()),
    }
}

/// The number of the write that a statement makes.
fn effect_of(sql: &str) -> Option<u64> {
    let writes = sql.starts_with("INSERT") || sql.starts_with("SELECT charge");
    let number = sql.split(['(', ')']).nth(1).filter(|_| writes)?;
    number.parse().ok()
}
