//! Keeps two runs from applying the same file.
//!
//! [`Run::take`] takes the lock before each file. No statement releases a session's lock:
//! [`Run::renew`] ends the session after each file, and closing the connection does so after a
//! failure. A transaction's lock ends with its transaction.

use std::time::Duration;

use sea_orm::{IsolationLevel, SqliteTransactionMode, Statement, TransactionOptions};
use tenantry_core::{DatabaseError, DatabaseErrorKind, MigrationLock};
use tokio::time::{Instant, sleep};

use super::{applied::Progress, error::MigrationError, run::Run};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How long a run waits for another one before it reports that.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a file is retried while its tables are in use.
const TABLE_DEADLINE: Duration = Duration::from_secs(120);

/// How long a run may show no sign of life before it counts as killed, if no lock shows that it is
/// alive.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Takes the lock. If the lock is a transaction's, that transaction is open afterwards.
    pub(super) async fn take(&mut self, lock: &MigrationLock) -> Result<(), MigrationError> {
        match lock {
            MigrationLock::Session { lock, prepare } => {
                let mut waiting = self.waiting();
                while !self.is_one(lock).await? {
                    self.wait(&mut waiting).await?;
                }
                let prepared = self.connection.execute_script(prepare).await;
                prepared.map(drop).map_err(MigrationError::Table)
            }
            MigrationLock::EachTransaction { lock, .. } => self.begin_locked(lock).await,
            MigrationLock::Transaction => {
                let options = TransactionOptions {
                    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                    ..Default::default()
                };
                let mut waiting = self.waiting();
                loop {
                    match self.connection.begin(&options).await {
                        Err(error) if is_busy(&error) => {
                            // It may be a statement of the run that is watched.
                            self.watched = None;
                            self.wait(&mut waiting).await?;
                        }
                        begun => return begun.map_err(MigrationError::Table),
                    }
                }
            }
        }
    }

    /// Begins a transaction that holds the lock. Between two tries no transaction is open.
    pub(super) async fn begin_locked(&mut self, lock: &str) -> Result<(), MigrationError> {
        // Each statement sees what was committed before it, also before the lock was taken.
        let options = TransactionOptions {
            isolation_level: Some(IsolationLevel::ReadCommitted),
            ..Default::default()
        };
        let mut waiting = self.waiting();
        loop {
            self.connection.begin(&options).await.map_err(MigrationError::Table)?;
            match self.is_one(lock).await {
                Ok(true) => return Ok(()),
                Ok(false) => self.connection.rollback().await.map_err(MigrationError::Table)?,
                Err(error) => {
                    self.roll_back().await;
                    return Err(error);
                }
            }
            self.wait(&mut waiting).await?;
        }
    }

    /// For another run that migrates the same database.
    pub(super) fn waiting(&self) -> Waiting {
        let began = Instant::now();
        Waiting {
            began,
            give_up: began + self.migrations.longest_wait,
            is_reported: false,
            pause: FIRST_PAUSE,
            longest: LONGEST_PAUSE,
        }
    }

    /// Waits for another run, and reports which one.
    pub(super) async fn wait(&mut self, waiting: &mut Waiting) -> Result<(), MigrationError> {
        if !waiting.pause().await {
            return Err(MigrationError::Locked {
                waited: self.migrations.longest_wait,
                holder: self.holder().await,
            });
        }
        if !waiting.is_reported && waiting.began.elapsed() >= PATIENCE {
            waiting.is_reported = true;
            let holder = self.holder().await.unwrap_or_default();
            tracing::warn!(tenant_id = %self.tenant, holder, "waiting for another run that migrates this database");
        }
        Ok(())
    }

    /// Which session the other run has, if the database says so.
    async fn holder(&mut self) -> Option<String> {
        let query = self.driver.migration_queries().holder?;
        let statement = Statement::from_string(self.driver.backend(), query);
        let row = self.connection.query_one(&statement).await.ok()??;
        row.try_get_by_index(0).ok()
    }

    /// Whether the first column of a query's first row is 1.
    async fn is_one(&mut self, query: &str) -> Result<bool, MigrationError> {
        let statement = Statement::from_string(self.driver.backend(), query);
        let row = self.connection.query_one(&statement).await;
        let one: Option<i64> = match row.map_err(MigrationError::Table)? {
            Some(row) => row.try_get_by_index(0).map_err(MigrationError::Unreadable)?,
            None => None,
        };
        Ok(one == Some(1))
    }

    /// Whether another run may be at this file, of which it has recorded `progress`. With a
    /// session's lock none can be, since this run has the lock. Otherwise the other run counts as
    /// gone if for [`LONGEST_SILENCE`] it has recorded nothing and no statement of it was seen.
    pub(super) async fn may_be_running(
        &mut self,
        lock: &MigrationLock,
        progress: &Progress,
    ) -> Result<bool, MigrationError> {
        if !progress.running || matches!(lock, MigrationLock::Session { .. }) {
            return Ok(false);
        }
        let is_seen = match lock {
            MigrationLock::EachTransaction { running, .. } => self.is_one(running).await?,
            _ => false,
        };
        let since = match &self.watched {
            // A statement that was seen may have ended and not be recorded yet.
            Some((watched, since)) if watched == progress && !is_seen => *since,
            _ => Instant::now(),
        };
        self.watched = Some((progress.clone(), since));
        Ok(since.elapsed() < LONGEST_SILENCE)
    }
}

/// Whether another connection is writing: SQLite's SQLITE_BUSY.
fn is_busy(error: &DatabaseError) -> bool {
    error.kind == DatabaseErrorKind::StatementTimeout && error.code.as_deref() == Some("5")
}

/// Waits until something else has released a lock, in pauses that grow.
pub(super) struct Waiting {
    began: Instant,
    give_up: Instant,
    is_reported: bool,
    pause: Duration,
    longest: Duration,
}

impl Waiting {
    /// Pauses between tries while requests use a table. They are long, so that requests have the
    /// table most of the time.
    pub(super) fn for_tables() -> Self {
        let began = Instant::now();
        Self {
            began,
            give_up: began + TABLE_DEADLINE,
            is_reported: false,
            pause: Duration::from_millis(500),
            longest: Duration::from_secs(8),
        }
    }

    /// Returns false if it has waited as long as it may.
    pub(super) async fn pause(&mut self) -> bool {
        if Instant::now() + self.pause > self.give_up {
            return false;
        }
        // Runs that began together do not try again together.
        sleep(self.pause.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        self.pause = (self.pause * 2).min(self.longest);
        true
    }
}
