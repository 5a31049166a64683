//! What makes a tenant's database ready: the files below `migrations/`, each applied once.
//!
//! A folder for each kind of database ([`DatabaseDriver::migration_dialect`]) holds files named `NNNN_name.sql`, applied in the order
//! of their numbers; numbers may have gaps. One whose name begins with `sample_` (`0002_sample_users.sql`) is applied only where
//! `migrations.sample_data` says so; in it `{{tenant}}` is the tenant's name. What was applied is written down in the table
//! `tenantry_migrations`, with a checksum: a file must not change afterwards.
//!
//! Each file runs in a transaction of its own. MySQL and MariaDB commit every CREATE and ALTER at once, so there a file that fails in
//! the middle is run again from its beginning: write one such statement a file, or `IF NOT EXISTS`.

mod files;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use sea_orm::{
    DbBackend, DbErr, IsolationLevel, SqliteTransactionMode, Statement, TransactionOptions,
    sea_query::{Alias, ColumnDef, Order, Query, Table},
};
use tenantry_core::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, DatabaseError, DatabaseErrorKind, MigrationLock, TenantId,
    engine::OnConnect,
};
use tokio::time::{Instant, sleep};

pub use files::FilesError;
use files::{Files, Migration};

const TABLE: &str = "tenantry_migrations";

/// How long an instance waits for another one that migrates the same database.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Why a database could not be made ready. The connection is to be closed then: it may still hold the lock.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// There is no folder for this kind of database.
    #[error("there are no migrations for `{dialect}`")]
    NoDialect {
        /// The folder's name.
        dialect: String,
    },
    /// A file is not the one that was applied.
    #[error("the migration `{name}` was changed after it had been applied")]
    Changed {
        /// Which one.
        name: String,
    },
    /// A file's SQL failed; nothing of it stays where the database can undo it.
    #[error("the migration `{name}` failed")]
    Failed {
        /// Which one.
        name: String,
        /// How.
        #[source]
        source: DatabaseError,
    },
    /// Another instance migrates this database, and takes too long.
    #[error("another instance has been migrating this database for more than {} s", LOCK_DEADLINE.as_secs())]
    Locked,
    /// What was applied cannot be read or written down.
    #[error("the table `{TABLE}` cannot be used")]
    Table(#[source] DatabaseError),
    /// The table of what was applied is not as it was made.
    #[error("the table `{TABLE}` cannot be read")]
    Unreadable(#[source] DbErr),
}

/// What was done for one database, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The files that were applied, such as `0001_create_users`, in their order.
    pub applied: Vec<String>,
    /// How many had been applied before.
    pub already: usize,
}

/// Every file there is.
#[derive(Debug)]
pub struct Migrations {
    files: Files,
}

impl Migrations {
    /// Those inside the program.
    ///
    /// # Errors
    /// A file is misnamed or a number taken twice.
    pub fn embedded() -> Result<Self, FilesError> {
        Files::embedded().map(|files| Self { files })
    }

    /// Those in a folder, `<dialect>/NNNN_name.sql`.
    ///
    /// # Errors
    /// It cannot be read, a file is misnamed or a number taken twice.
    pub async fn load(folder: &Path) -> Result<Self, FilesError> {
        Files::load(folder).await.map(|files| Self { files })
    }

    /// The names of the files for a kind of database, in the order in which they are applied.
    ///
    /// # Errors
    /// There is no folder for it.
    pub fn plan(&self, dialect: &str, sample_data: bool) -> Result<Vec<&str>, MigrationError> {
        let planned = self.of(dialect)?.filter(|migration| sample_data || !migration.sample);
        Ok(planned.map(|migration| migration.name.as_str()).collect())
    }

    fn of(&self, dialect: &str) -> Result<impl Iterator<Item = &Migration>, MigrationError> {
        self.files.of(dialect).ok_or_else(|| MigrationError::NoDialect {
            dialect: dialect.to_owned(),
        })
    }

    /// What [`apply`](Self::apply) would do. It changes nothing.
    ///
    /// # Errors
    /// As `apply`, but for what only running a file shows.
    pub async fn pending(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
        sample_data: bool,
    ) -> Result<Report, MigrationError> {
        let applied = Applied::read(driver, connection).await?.unwrap_or_default();
        let steps = self.steps(driver, sample_data, &applied)?;
        Ok(Report {
            applied: steps.pending.iter().map(|migration| migration.name.clone()).collect(),
            already: steps.already,
        })
    }

    /// Applies what has not been applied. Instances that do so at once for the same database wait for each other, and each file is
    /// applied once. Where there is nothing to do it costs one query and no lock.
    ///
    /// # Errors
    /// See [`MigrationError`].
    pub async fn apply(
        &self,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
        tenant: &TenantId,
        sample_data: bool,
    ) -> Result<Report, MigrationError> {
        let found = Applied::read(driver, connection).await?;
        let steps = self.steps(driver, sample_data, found.as_ref().unwrap_or(&Applied::default()))?;
        if steps.pending.is_empty() {
            return Ok(Report {
                applied: Vec::new(),
                already: steps.already,
            });
        }
        let mut run = Run {
            migrations: self,
            driver,
            connection,
            tenant,
            sample_data,
        };
        match driver.migration_lock(config) {
            MigrationLock::Session { lock, prepare, unlock } => {
                run.lock(lock).await?;
                let done = run.under_session_lock(prepare, found.is_none()).await;
                let unlocked = run.connection.execute_script(unlock).await;
                let report = done?;
                unlocked.map_err(MigrationError::Table)?;
                Ok(report)
            }
            MigrationLock::EachTransaction { lock, prepare, reset } => {
                run.under_transaction_locks(lock, prepare, reset, found.is_none()).await
            }
            MigrationLock::Transaction => run.one_by_one().await,
        }
    }

    /// What is left to do.
    fn steps(
        &self,
        driver: &dyn DatabaseDriver,
        sample_data: bool,
        applied: &Applied,
    ) -> Result<Steps<'_>, MigrationError> {
        let mut steps = Steps::default();
        for migration in self.of(driver.migration_dialect())? {
            match applied.0.get(&migration.version) {
                // Checked also where samples are not asked for any more.
                Some(checksum) if *checksum != migration.checksum => {
                    return Err(MigrationError::Changed {
                        name: migration.name.clone(),
                    });
                }
                Some(_) => steps.already += 1,
                None if migration.sample && !sample_data => {}
                None => steps.pending.push(migration),
            }
        }
        Ok(steps)
    }
}

/// What is left to do, and how much is done.
#[derive(Default)]
struct Steps<'a> {
    pending: Vec<&'a Migration>,
    already: usize,
}

/// Version and checksum of what was applied. A version without a file is one of a newer program, and is left alone.
#[derive(Default)]
struct Applied(BTreeMap<i64, String>);

impl Applied {
    /// `None` where the table is not there yet.
    async fn read(
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<Option<Self>, MigrationError> {
        let select = Query::select()
            .columns([Alias::new("version"), Alias::new("checksum")])
            .from(Alias::new(TABLE))
            .order_by(Alias::new("version"), Order::Asc)
            .to_owned();
        let rows = match connection.query(&driver.backend().build(&select)).await {
            Ok(rows) => rows,
            Err(error) if is_missing_table(&error) => return Ok(None),
            Err(error) => return Err(MigrationError::Table(error)),
        };
        let read = rows
            .iter()
            .map(|row| Ok((row.try_get("", "version")?, row.try_get("", "checksum")?)));
        let applied = read.collect::<Result<_, DbErr>>().map_err(MigrationError::Unreadable)?;
        Ok(Some(Self(applied)))
    }
}

/// PostgreSQL's undefined_table, MySQL's ER_NO_SUCH_TABLE, Oracle's ORA-00942, and SQLite's general error, which has no code of its
/// own for it: where it was another one, making the table shows it.
fn is_missing_table(error: &DatabaseError) -> bool {
    error.kind == DatabaseErrorKind::Other
        && matches!(
            error.code.as_deref(),
            Some("42P01" | "1146" | "1" | "942" | "00942" | "ORA-00942")
        )
}

/// One database being migrated.
struct Run<'a> {
    migrations: &'a Migrations,
    driver: &'a dyn DatabaseDriver,
    connection: &'a mut dyn Connection,
    tenant: &'a TenantId,
    sample_data: bool,
}

impl<'a> Run<'a> {
    /// Takes the session lock.
    async fn lock(&mut self, lock: &str) -> Result<(), MigrationError> {
        let mut waiting = Waiting::begin();
        while !self.try_lock(lock).await? {
            waiting.pause().await?;
        }
        Ok(())
    }

    /// Begins a transaction that holds the lock. None is open while this waits for the lock.
    async fn begin_locked(&mut self, lock: &str) -> Result<(), MigrationError> {
        // Each statement sees what was committed before it, also before the lock was taken.
        let options = TransactionOptions {
            isolation_level: Some(IsolationLevel::ReadCommitted),
            ..Default::default()
        };
        let mut waiting = Waiting::begin();
        loop {
            self.connection.begin(&options).await.map_err(MigrationError::Table)?;
            match self.try_lock(lock).await {
                Ok(true) => return Ok(()),
                Ok(false) => self.connection.rollback().await.map_err(MigrationError::Table)?,
                Err(error) => {
                    self.roll_back().await;
                    return Err(error);
                }
            }
            waiting.pause().await?;
        }
    }

    async fn try_lock(&mut self, lock: &str) -> Result<bool, MigrationError> {
        let statement = Statement::from_string(self.driver.backend(), lock);
        let row = self.connection.query_one(&statement).await;
        let taken: Option<i64> = match row.map_err(MigrationError::Table)? {
            Some(row) => row.try_get_by_index(0).map_err(MigrationError::Unreadable)?,
            None => None,
        };
        Ok(taken == Some(1))
    }

    /// Applies one file after another, each in a transaction that takes the lock for itself.
    async fn under_transaction_locks(
        &mut self,
        lock: &str,
        prepare: &str,
        reset: &str,
        table_missing: bool,
    ) -> Result<Report, MigrationError> {
        if table_missing {
            self.begin_locked(lock).await?;
            if let Err(error) = self.create_table().await {
                self.roll_back().await;
                return Err(error);
            }
            self.connection.commit().await.map_err(MigrationError::Table)?;
        }
        let mut done: Vec<String> = Vec::new();
        loop {
            self.begin_locked(lock).await?;
            let (next, already) = match self.next_step().await {
                Ok(step) => step,
                Err(error) => {
                    self.roll_back().await;
                    return Err(error);
                }
            };
            let Some(migration) = next else {
                self.roll_back().await;
                return Ok(Report {
                    already: already.saturating_sub(done.len()),
                    applied: done,
                });
            };
            let applied = self.apply_between(prepare, migration, reset).await;
            self.end(applied, migration).await?;
            done.push(migration.name.clone());
        }
    }

    async fn apply_between(&mut self, prepare: &str, migration: &Migration, reset: &str) -> Result<(), DatabaseError> {
        self.connection.execute_script(prepare).await?;
        self.run_file(migration).await?;
        self.connection.execute_script(reset).await?;
        self.note_applied(migration).await
    }

    /// Applies everything, each file in a transaction, while the session holds the lock.
    async fn under_session_lock(&mut self, prepare: &str, table_missing: bool) -> Result<Report, MigrationError> {
        self.connection
            .execute_script(prepare)
            .await
            .map_err(MigrationError::Table)?;
        if table_missing {
            self.create_table().await?;
        }
        // Another instance may have done it all while this one waited.
        let applied = Applied::read(self.driver, self.connection).await?.unwrap_or_default();
        let migrations = self.migrations;
        let steps = migrations.steps(self.driver, self.sample_data, &applied)?;
        let mut report = Report {
            applied: Vec::new(),
            already: steps.already,
        };
        for migration in steps.pending {
            let begun = self.connection.begin(&TransactionOptions::default()).await;
            begun.map_err(MigrationError::Table)?;
            let applied = self.apply_one(migration).await;
            self.end(applied, migration).await?;
            report.applied.push(migration.name.clone());
        }
        Ok(report)
    }

    /// Applies one file after another, each in a transaction that no other writer gets past.
    async fn one_by_one(&mut self) -> Result<Report, MigrationError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let mut done: Vec<String> = Vec::new();
        loop {
            self.connection.begin(&options).await.map_err(MigrationError::Table)?;
            let (next, already) = match self.next_step().await {
                Ok(step) => step,
                Err(error) => {
                    self.roll_back().await;
                    return Err(error);
                }
            };
            let Some(migration) = next else {
                self.roll_back().await;
                return Ok(Report {
                    already: already.saturating_sub(done.len()),
                    applied: done,
                });
            };
            let applied = self.apply_one(migration).await;
            self.end(applied, migration).await?;
            done.push(migration.name.clone());
        }
    }

    /// The first file that is left to do, and how many are done, as this transaction sees it.
    async fn next_step(&mut self) -> Result<(Option<&'a Migration>, usize), MigrationError> {
        let applied = match Applied::read(self.driver, self.connection).await? {
            Some(applied) => applied,
            None => {
                self.create_table().await?;
                Applied::default()
            }
        };
        let migrations = self.migrations;
        let steps = migrations.steps(self.driver, self.sample_data, &applied)?;
        Ok((steps.pending.first().copied(), steps.already))
    }

    async fn apply_one(&mut self, migration: &Migration) -> Result<(), DatabaseError> {
        self.run_file(migration).await?;
        self.note_applied(migration).await
    }

    async fn run_file(&mut self, migration: &Migration) -> Result<(), DatabaseError> {
        let script = migration.script(self.tenant);
        self.connection.execute_script(&script).await.map(drop)
    }

    async fn note_applied(&mut self, migration: &Migration) -> Result<(), DatabaseError> {
        let insert = Query::insert()
            .into_table(Alias::new(TABLE))
            .columns(["version", "name", "checksum", "applied_at"].map(Alias::new))
            .values_panic([
                migration.version.into(),
                migration.name.clone().into(),
                migration.checksum.clone().into(),
                chrono::Utc::now().into(),
            ])
            .to_owned();
        self.connection.execute(&self.backend().build(&insert)).await?;
        Ok(())
    }

    /// Ends the transaction in which a file was applied, or failed to be.
    async fn end(&mut self, applied: Result<(), DatabaseError>, migration: &Migration) -> Result<(), MigrationError> {
        let outcome = match applied {
            Ok(()) => self.connection.commit().await,
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        };
        outcome.map_err(|source| MigrationError::Failed {
            name: migration.name.clone(),
            source,
        })?;
        tracing::info!(tenant_id = %self.tenant, migration = migration.name, "applied a migration");
        Ok(())
    }

    /// Something failed already, or nothing was written; a roll back that fails too leaves a connection that is to be closed.
    async fn roll_back(&mut self) {
        if let Err(error) = self.connection.rollback().await {
            tracing::debug!(tenant_id = %self.tenant, %error, "a migration's transaction was not rolled back");
        }
    }

    async fn create_table(&mut self) -> Result<(), MigrationError> {
        let create = Table::create()
            .table(Alias::new(TABLE))
            .if_not_exists()
            .col(
                ColumnDef::new(Alias::new("version"))
                    .big_integer()
                    .not_null()
                    .primary_key(),
            )
            .col(ColumnDef::new(Alias::new("name")).string_len(255).not_null())
            .col(ColumnDef::new(Alias::new("checksum")).string_len(64).not_null())
            .col(
                ColumnDef::new(Alias::new("applied_at"))
                    .timestamp_with_time_zone()
                    .not_null(),
            )
            .to_owned();
        let created = self.connection.execute(&self.backend().build(&create)).await;
        created.map(drop).map_err(MigrationError::Table)
    }

    fn backend(&self) -> DbBackend {
        self.driver.backend()
    }
}

/// Waits until another instance has released the lock, in pauses that grow.
struct Waiting {
    give_up: Instant,
    pause: Duration,
}

impl Waiting {
    fn begin() -> Self {
        Self {
            give_up: Instant::now() + LOCK_DEADLINE,
            pause: FIRST_PAUSE,
        }
    }

    async fn pause(&mut self) -> Result<(), MigrationError> {
        if Instant::now() + self.pause > self.give_up {
            return Err(MigrationError::Locked);
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Applies migrations on a tenant's first connection.
#[derive(Debug)]
pub struct MigrationsOnConnect {
    migrations: Arc<Migrations>,
    sample_data: bool,
}

impl MigrationsOnConnect {
    /// Those, with or without sample rows.
    pub fn new(migrations: Arc<Migrations>, sample_data: bool) -> Self {
        Self {
            migrations,
            sample_data,
        }
    }
}

#[async_trait]
impl OnConnect for MigrationsOnConnect {
    async fn prepare(
        &self,
        tenant: &TenantId,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<(), BoxError> {
        self.migrations
            .apply(driver, config, connection, tenant, self.sample_data)
            .await?;
        Ok(())
    }
}
