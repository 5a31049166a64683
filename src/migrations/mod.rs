//! Prepares a tenant's database: applies each file below `migrations/` once.
//!
//! A folder for each kind of database ([`DatabaseDriver::migration_dialect`]) holds files named
//! `NNNN_name.sql`, applied in the order of their numbers; numbers may have gaps. A file with a
//! name that begins with `sample_` (`0002_sample_users.sql`) is applied only with
//! `migrations.sample_data`; in it `{{tenant}}` is replaced by the tenant's name. What was applied
//! is written down in the table `tenantry_migrations`, with a checksum: a file must not change
//! afterwards.
//!
//! A file runs in a transaction of its own, in which it is also recorded. One that begins with the
//! line `-- no-transaction` runs statement by statement, and so does one with a statement that
//! MySQL or Oracle commits by itself; after each statement is recorded how far it got, and the next
//! run goes on there.

mod adopt;
mod applied;
mod error;
mod failure;
mod files;
mod foreign;
#[cfg(any(feature = "mysql", feature = "postgresql"))]
mod lint;
#[cfg(not(any(feature = "mysql", feature = "postgresql")))]
mod lint {
    /// There is nothing to warn of on the other kinds of database.
    pub(super) fn lint(_: &dyn super::DatabaseDriver, _: &super::Migration) -> Vec<super::Warning> {
        Vec::new()
    }
}
mod lock;
mod on_connect;
mod run;
mod script;
mod state;
mod stepwise;
mod structure;
mod table_lock;
#[cfg(test)]
mod tests;
mod text;

use std::{collections::BTreeSet, path::Path, time::Duration};

use sea_orm::Statement;
use tenantry_core::{Connection, DatabaseConfig, DatabaseDriver, TenantId};

use applied::{Applied, Recorded};
pub use error::{Aftermath, FailurePoint, MigrationError};
pub use files::FilesError;
use files::{Files, Migration};
pub use on_connect::MigrationsOnConnect;
use run::Run;
pub use state::State;
pub use structure::Structure;
pub(crate) use structure::{Definition, PartName};

const TABLE: &str = "tenantry_migrations";

/// Which of the files are applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    /// Whether sample rows are written.
    pub sample_data: bool,
    /// The last version that is applied; all if `None`.
    pub to: Option<i64>,
}

/// The database of one tenant.
#[derive(Clone, Copy)]
pub struct Database<'a> {
    /// What speaks to it.
    pub driver: &'a dyn DatabaseDriver,
    /// How it is reached.
    pub config: &'a DatabaseConfig,
    /// The tenant.
    pub tenant: &'a TenantId,
}

/// What was done for one database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The files that were applied, in their order.
    pub applied: Vec<Done>,
    /// How many had been applied before.
    pub already: usize,
    /// The highest version that the database has now, such as `0004`.
    pub version: Option<String>,
}

/// A file that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its name, such as `0001_create_users`.
    pub name: String,
    /// How long it took, waiting included.
    pub took: Duration,
}

/// A statement that may keep requests waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: String,
    /// The line on which the statement begins.
    pub line: usize,
    /// What it does, and what to write instead.
    pub text: String,
}

/// Every file there is.
#[derive(Debug)]
pub struct Migrations {
    files: Files,
    /// What holds them, for errors.
    place: String,
}

impl Migrations {
    fn new(files: Files, place: impl Into<String>) -> Self {
        let place = place.into();
        Self { files, place }
    }

    /// Those inside the program.
    ///
    /// # Errors
    /// A file is misnamed or a number taken twice.
    pub fn embedded() -> Result<Self, FilesError> {
        Files::embedded().map(|files| Self::new(files, "this program"))
    }

    /// Those inside a program of one's own: paths, `<dialect>/NNNN_name.sql`, and texts.
    ///
    /// # Errors
    /// A file is misnamed or a number taken twice.
    pub(crate) fn of_texts(
        texts: impl IntoIterator<Item = (impl AsRef<str>, impl Into<String>)>,
    ) -> Result<Self, FilesError> {
        Files::of_texts(texts).map(|files| Self::new(files, "this program"))
    }

    /// Those in a folder, `<dialect>/NNNN_name.sql`.
    ///
    /// # Errors
    /// It cannot be read, a file is misnamed or a number taken twice.
    pub async fn load(folder: &Path) -> Result<Self, FilesError> {
        let files = Files::load(folder).await?;
        Ok(Self::new(files, format!("`{}`", folder.display())))
    }

    /// The number of a version that some file has, as the command line or the configuration writes
    /// it: `0004`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn version(&self, text: &str) -> Result<i64, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let version: Option<i64> = text.parse().ok().filter(|_| digits);
        let version = version.ok_or_else(|| format!("`{text}` is not a version such as `0004`"))?;
        if self.files.all().any(|migration| migration.version == version) {
            return Ok(version);
        }
        let (_, last) = self.last();
        Err(format!(
            "no migration has the version `{text}`; the last one is `{last}`"
        ))
    }

    /// The names of the folders with files.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &str> {
        self.files.folders()
    }

    /// What holds the files, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The highest version that some file has, as a number and as it is written; 0 and nothing
    /// without any file.
    pub(crate) fn last(&self) -> (i64, &str) {
        let last = self.files.all().max_by_key(|migration| migration.version);
        last.map_or((0, ""), |migration| {
            (migration.version, applied::version_of(&migration.name))
        })
    }

    /// Statements of these files that may keep a tenant's requests waiting.
    pub fn warnings(&self, driver: &dyn DatabaseDriver, names: &BTreeSet<String>) -> Vec<Warning> {
        let files = self.files.of(driver.migration_dialect()).into_iter().flatten();
        files
            .filter(|file| names.contains(&file.name))
            .flat_map(|file| lint::lint(driver, file))
            .collect()
    }

    fn of(&self, dialect: &str) -> Result<impl Iterator<Item = &Migration>, MigrationError> {
        self.files.of(dialect).ok_or_else(|| MigrationError::NoDialect {
            dialect: dialect.to_owned(),
            place: self.place.clone(),
        })
    }

    /// Returns the version of a database and its pending files. It changes nothing.
    ///
    /// # Errors
    /// There are no files for this kind of database, or what was applied cannot be read.
    pub async fn look(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
        choice: Choice,
    ) -> Result<State, MigrationError> {
        let mut state = self.look_quietly(driver, connection, choice).await?;
        if state.failed.is_none() && !state.pending.is_empty() {
            state.failed = failure::read(driver, connection, &state.pending).await;
        }
        Ok(state)
    }

    /// As [`look`](Self::look), less the file that failed. It leaves no error in the server's log
    /// if nothing was ever applied.
    ///
    /// # Errors
    /// As `look`.
    pub(crate) async fn look_quietly(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
        choice: Choice,
    ) -> Result<State, MigrationError> {
        let files = self.of(driver.migration_dialect())?;
        let applied = match driver.migration_queries().schema {
            Some(query) if !is_there(driver, connection, query).await? => Applied::default(),
            _ => Applied::read(driver, connection).await?.unwrap_or_default(),
        };
        Ok(State::of(files, &applied, choice))
    }

    /// Looks at a database as [`look`](Self::look), and refuses what [`apply`](Self::apply) refuses
    /// before it runs a file. It changes nothing.
    ///
    /// # Errors
    /// As `look`; [`MigrationError::Changed`] and [`MigrationError::Foreign`].
    pub async fn rehearse(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
        choice: Choice,
    ) -> Result<State, MigrationError> {
        let mut state = self.look(driver, connection, choice).await?;
        if !state.changed.is_empty() {
            let name = state.changed.swap_remove(0);
            return Err(MigrationError::Changed { name });
        }
        if state.version.is_none() && !state.pending.is_empty() {
            let found = Applied::read(driver, connection).await?.unwrap_or_default();
            if found.0.is_empty() {
                foreign::refuse(driver, connection).await?;
            }
        }
        Ok(state)
    }

    /// Applies what has not been applied, and reports it in `report` as it goes, so that a failure
    /// leaves what was done before it. Instances that migrate the same database at once wait for
    /// each other, and each file is applied once. If there is nothing to do, it costs one query and
    /// no lock.
    ///
    /// # Errors
    /// See [`MigrationError`].
    pub async fn apply(
        &self,
        database: Database<'_>,
        connection: &mut dyn Connection,
        choice: Choice,
        report: &mut Report,
    ) -> Result<(), MigrationError> {
        let found = Applied::read(database.driver, connection).await?.unwrap_or_default();
        let steps = self.steps(database.driver, choice, &found)?;
        report.already = steps.already;
        report.version = found.version();
        if steps.pending.is_empty() {
            return Ok(());
        }
        // An `adopt` that was cut off may have left the table without a row.
        if found.0.is_empty() {
            foreign::refuse(database.driver, connection).await?;
        }
        Run::new(self, database, connection, choice).all(report).await
    }

    /// Records the files up to `choice.to` as applied, for a database that has them already. If
    /// another tool has made it, the tool's own table must have them. Returns their names. A
    /// database that was migrated here already is taken only if it `is_named`: in it the files are
    /// more likely to be left than to have been applied by hand.
    ///
    /// # Errors
    /// [`MigrationError::NotAdopted`] if the database does not show that it has them.
    pub async fn adopt(
        &self,
        database: Database<'_>,
        connection: &mut dyn Connection,
        choice: Choice,
        is_named: bool,
    ) -> Result<Vec<String>, MigrationError> {
        let state = self.look_quietly(database.driver, connection, choice).await?;
        if let Some(name) = state.changed.into_iter().next() {
            return Err(MigrationError::Changed { name });
        }
        let is_pending = |migration: &&Migration| state.pending.contains(&migration.name);
        let dialect = database.driver.migration_dialect();
        let files: Vec<&Migration> = self.of(dialect)?.filter(is_pending).collect();
        if files.is_empty() {
            return Ok(Vec::new());
        }
        adopt::check(database.driver, connection, &files, is_named || state.version.is_none()).await?;
        Run::new(self, database, connection, choice).adopt(&files).await
    }

    /// What is left to do.
    fn steps(
        &self,
        driver: &dyn DatabaseDriver,
        choice: Choice,
        applied: &Applied,
    ) -> Result<Steps<'_>, MigrationError> {
        let mut steps = Steps::default();
        for migration in self.of(driver.migration_dialect())? {
            match applied.get(migration.version) {
                // Checked even if samples are no longer configured.
                Some(Recorded::Whole(checksum)) if !migration.is(checksum) => {
                    return Err(MigrationError::Changed {
                        name: migration.name.clone(),
                    });
                }
                Some(Recorded::Whole(_)) => steps.already += 1,
                // Checked when it is run.
                Some(Recorded::Part(_)) if choice.reaches(migration) => steps.pending.push(migration),
                None if choice.includes(migration) => steps.pending.push(migration),
                _ => {}
            }
        }
        Ok(steps)
    }
}

/// Whether a query has a row.
async fn is_there(
    driver: &dyn DatabaseDriver,
    connection: &mut dyn Connection,
    query: &'static str,
) -> Result<bool, MigrationError> {
    let statement = Statement::from_string(driver.backend(), query);
    let row = connection.query_one(&statement).await;
    Ok(row.map_err(MigrationError::Table)?.is_some())
}

impl Choice {
    fn reaches(self, migration: &Migration) -> bool {
        self.to.is_none_or(|to| migration.version <= to)
    }

    fn includes(self, migration: &Migration) -> bool {
        self.reaches(migration) && (self.sample_data || !migration.sample)
    }
}

/// What is left to do, and how much is done.
#[derive(Default)]
struct Steps<'a> {
    pending: Vec<&'a Migration>,
    already: usize,
}
