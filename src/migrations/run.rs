//! Applies the files to one database, one after another.
//!
//! Each file runs in a session of its own: a setting that it makes, or a lock that it takes,
//! reaches neither the next file nor a request that uses the connection afterwards.

use sea_orm::TransactionOptions;
use tenantry_core::{
    Connection, DatabaseConfig, DatabaseDriver, DatabaseError, MigrationLock, StatementEffect, TenantId,
};
use tokio::time::Instant;

use super::{
    Choice, Database, Done, Migrations, Report,
    applied::{Applied, Progress, Record, Recorded, create_table, version_of},
    error::{Aftermath, FailurePoint, MigrationError},
    failure,
    files::Migration,
    lock::Waiting,
    script::{Script, verb},
    table_wait,
};

/// One database being migrated.
pub(super) struct Run<'a> {
    pub(super) migrations: &'a Migrations,
    pub(super) driver: &'a dyn DatabaseDriver,
    pub(super) config: &'a DatabaseConfig,
    pub(super) connection: &'a mut dyn Connection,
    pub(super) tenant: &'a TenantId,
    pub(super) choice: Choice,
    /// A random number, by which what this run records differs from what another one does.
    pub(super) number: u32,
    /// What another run has recorded of a file, and since when it has shown no sign of life.
    pub(super) watched: Option<(Progress, Instant)>,
    /// The file that is being applied, and the line of the statement that runs.
    pub(super) at: Option<(String, usize)>,
}

/// Logs which statement was cut off if a run is dropped before its end, as after
/// `migrations.timeout`.
impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some((migration, line)) = &self.at {
            tracing::warn!(
                tenant_id = %self.tenant, migration, line,
                "a migration was cut off in the statement on this line"
            );
        }
    }
}

/// What became of one file.
pub(super) enum Outcome {
    Applied,
    /// Another run has applied it in the meantime.
    AppliedElsewhere,
    /// Another run is at it.
    Busy,
    /// Another run took it for killed and goes on with it.
    Overtaken,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        migrations: &'a Migrations,
        database: Database<'a>,
        connection: &'a mut dyn Connection,
        choice: Choice,
    ) -> Self {
        Self {
            migrations,
            driver: database.driver,
            config: database.config,
            connection,
            tenant: database.tenant,
            choice,
            number: fastrand::u32(..),
            watched: None,
            at: None,
        }
    }

    /// Applies what is left, and reports it as it goes.
    pub(super) async fn all(mut self, report: &mut Report) -> Result<(), MigrationError> {
        let ended = self.each(report).await;
        match &ended {
            Ok(()) => failure::forget(self.driver, self.connection, self.tenant).await,
            Err(error) => failure::note(&mut self, error).await,
        }
        ended
    }

    async fn each(&mut self, report: &mut Report) -> Result<(), MigrationError> {
        let mut waiting = self.waiting();
        let mut tables = Waiting::for_tables();
        let migrations = self.migrations;
        loop {
            let found = Applied::read(self.driver, self.connection).await?;
            let table_missing = found.is_none();
            let applied = found.unwrap_or_default();
            let steps = migrations.steps(self.driver, self.choice, &applied)?;
            report.already = steps.already.saturating_sub(report.applied.len());
            report.version = applied.version();
            let Some(next) = steps.pending.first() else {
                return Ok(());
            };
            if report.applied.last().is_some_and(|done| done.name == next.name) {
                if self.finish(next).await? {
                    continue;
                }
                return Err(MigrationError::Unrecorded {
                    name: next.name.clone(),
                });
            }
            let began = Instant::now();
            match self.apply(next, table_missing).await {
                Ok(Outcome::Applied) => {
                    tracing::info!(tenant_id = %self.tenant, migration = next.name, "applied a migration");
                    report.version = Some(version_of(&next.name).to_owned());
                    report.applied.push(Done {
                        name: next.name.clone(),
                        took: began.elapsed(),
                    });
                }
                Ok(Outcome::AppliedElsewhere | Outcome::Overtaken) => {}
                Ok(Outcome::Busy) => {
                    self.wait(&mut waiting).await?;
                    continue;
                }
                // Requests use the table. They go first, and the file is tried again.
                Err(error) if self.may_try_again(next, &error) => {
                    tracing::debug!(tenant_id = %self.tenant, migration = next.name, "a table is in use");
                    self.renew().await?;
                    if !tables.pause().await {
                        return Err(error);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            waiting = self.waiting();
            tables = Waiting::for_tables();
            self.renew().await?;
        }
    }

    fn may_try_again(&self, migration: &Migration, error: &MigrationError) -> bool {
        let sql = migration.script(self.tenant);
        let script = Script::read(self.driver, migration, &sql);
        script.is_ok_and(|script| table_wait::is_busy(self.driver, &script, error))
    }

    async fn apply(&mut self, migration: &Migration, table_missing: bool) -> Result<Outcome, MigrationError> {
        let sql = migration.script(self.tenant);
        let script = Script::read(self.driver, migration, &sql)?;
        let lock = self.driver.migration_lock(self.config);
        if table_missing && matches!(lock, MigrationLock::EachTransaction { .. }) {
            // In PostgreSQL a table that is not there fails the whole transaction.
            self.take(&lock).await?;
            create_table(self.driver, self.connection).await?;
            self.connection.commit().await.map_err(MigrationError::Table)?;
        }
        let before = self.settings_before(&lock, &script);
        self.run_statements(migration, &script, 0..before).await?;
        self.take(&lock).await?;
        let in_transaction = !matches!(lock, MigrationLock::Session { .. });
        let outcome = self.apply_locked(&lock, migration, &script, before).await;
        if in_transaction && !matches!(outcome, Ok(Outcome::Applied)) {
            self.roll_back().await;
        }
        outcome
    }

    /// How many of a file's first statements run before its transaction. SQLite ignores `PRAGMA
    /// foreign_keys` within one.
    fn settings_before(&self, lock: &MigrationLock, script: &Script<'_>) -> usize {
        match lock {
            MigrationLock::Transaction if script.in_transaction => script.leading_settings(),
            _ => 0,
        }
    }

    async fn apply_locked(
        &mut self,
        lock: &MigrationLock,
        migration: &Migration,
        script: &Script<'_>,
        before: usize,
    ) -> Result<Outcome, MigrationError> {
        let applied = match Applied::read(self.driver, self.connection).await? {
            Some(applied) => applied,
            None => {
                create_table(self.driver, self.connection).await?;
                Applied::default()
            }
        };
        let progress = match applied.get(migration.version) {
            Some(Recorded::Whole(_)) => return Ok(Outcome::AppliedElsewhere),
            Some(Recorded::Part(progress)) => Some(progress),
            None => None,
        };
        if !script.in_transaction || progress.is_some() {
            return self.step_by_step(lock, migration, script, progress).await;
        }
        match lock {
            MigrationLock::Session { .. } => {
                let begun = self.connection.begin(&TransactionOptions::default()).await;
                begun.map_err(MigrationError::Table)?;
                let outcome = self.in_transaction(lock, migration, script, before).await;
                if outcome.is_err() {
                    self.roll_back().await;
                }
                outcome
            }
            _ => self.in_transaction(lock, migration, script, before).await,
        }
    }

    /// Records the file and runs it, in the transaction that is open. The record comes first: after
    /// the file the session may have other settings.
    async fn in_transaction(
        &mut self,
        lock: &MigrationLock,
        migration: &Migration,
        script: &Script<'_>,
        before: usize,
    ) -> Result<Outcome, MigrationError> {
        if let MigrationLock::EachTransaction { prepare, .. } = lock {
            self.script(prepare).await?;
        }
        let record = Record::find(self.driver, self.connection).await?;
        let recorded = record
            .insert(self.driver, self.connection, migration, &migration.checksum)
            .await;
        recorded.map_err(MigrationError::Table)?;
        if let Some(limit) = table_wait::of_transaction(self.driver, script) {
            self.script(&limit).await?;
        }
        self.run_statements(migration, script, before..script.statements.len())
            .await?;
        if let MigrationLock::EachTransaction { reset, .. } = lock {
            self.script(reset).await?;
        }
        match self.connection.commit().await {
            Ok(()) => Ok(Outcome::Applied),
            Err(source) => Err(MigrationError::Failed {
                name: migration.name.clone(),
                at: Box::new(FailurePoint::Commit),
                aftermath: Box::new(Aftermath::RolledBack {
                    needs_no_transaction: false,
                }),
                source,
            }),
        }
    }

    async fn run_statements(
        &mut self,
        migration: &Migration,
        script: &Script<'_>,
        range: std::ops::Range<usize>,
    ) -> Result<(), MigrationError> {
        for index in range {
            let Some(statement) = script.statements.get(index) else {
                break;
            };
            self.at = Some((migration.name.clone(), statement.line));
            let ran = self.connection.execute_script(statement.sql).await;
            self.at = None;
            if let Err(source) = ran {
                return Err(MigrationError::Failed {
                    name: migration.name.clone(),
                    at: Box::new(script.place(index)),
                    aftermath: Box::new(Aftermath::RolledBack {
                        needs_no_transaction: self.needs_no_transaction(&source, statement.sql),
                    }),
                    source,
                });
            }
            if statement.effect == StatementEffect::Session && self.is_ignored(index, script) {
                tracing::warn!(
                    tenant_id = %self.tenant, migration = migration.name, line = statement.line,
                    "SQLite ignores `PRAGMA foreign_keys` within a transaction; begin the file with it"
                );
            }
        }
        Ok(())
    }

    /// Whether SQLite ignores a setting there that a later statement may rely on.
    fn is_ignored(&self, index: usize, script: &Script<'_>) -> bool {
        let setting = |sql: &str| sql.to_ascii_lowercase().replace(char::is_whitespace, "");
        let off = ["off", "0", "false", "no"].map(|value| format!("pragmaforeign_keys={value}"));
        let statement = script.statements.get(index).map(|statement| setting(statement.sql));
        self.driver.migration_dialect() == "sqlite"
            && index >= script.leading_settings()
            && statement.is_some_and(|statement| off.contains(&statement))
    }

    /// Whether the database refused a statement because a transaction is open: PostgreSQL's
    /// active_sql_transaction, invalid_transaction_termination and unsafe_new_enum_value_usage.
    /// SQLite has no code of its own for it.
    pub(super) fn needs_no_transaction(&self, error: &DatabaseError, sql: &str) -> bool {
        match self.driver.migration_dialect() {
            "postgresql" => matches!(error.code.as_deref(), Some("25001" | "2D000" | "55P04")),
            "sqlite" => verb(sql) == "VACUUM",
            _ => false,
        }
    }

    pub(super) async fn script(&mut self, sql: &str) -> Result<(), MigrationError> {
        let ran = self.connection.execute_script(sql).await;
        ran.map(drop).map_err(MigrationError::Table)
    }

    pub(super) async fn renew(&mut self) -> Result<(), MigrationError> {
        let renewed = self.driver.renew(self.config, self.connection).await;
        renewed.map_err(MigrationError::NotRenewed)
    }

    /// Something failed already, or nothing was written; a roll back that fails too leaves a
    /// connection that is to be closed.
    pub(super) async fn roll_back(&mut self) {
        if let Err(error) = self.connection.rollback().await {
            tracing::debug!(tenant_id = %self.tenant, %error, "a migration's transaction was not rolled back");
        }
    }
}
