//! Prepares a tenant's database: applies each file below `migrations/` once.
//!
//! A folder for each kind of database ([`DatabaseDriver::migration_dialect`]) holds files named
//! `NNNN_title.sql`, applied in the order of their numbers; numbers may have gaps. A file with a
//! title that begins with `sample_` (`0002_sample_users.sql`) is applied only with
//! `migrations.sample_data`; in it `{{tenant}}` is replaced by the tenant's name. What was applied
//! is written down in the table `tenantry_migrations`, with a checksum: a file must not change
//! afterwards.
//!
//! A file runs in a transaction of its own, in which it is also recorded. One that begins with the
//! line `-- no-transaction` runs statement by statement, and so does one with a statement that
//! MySQL or Oracle commits by itself; after each statement is recorded how far it got, and the next
//! run goes on there.
//!
//! # The files of this folder
//!
//! | File | What |
//! | --- | --- |
//! | `run` | the loop over the files of one database |
//! | `stepwise` | a file that runs statement by statement |
//! | `lock` | how two runs are kept apart |
//! | `table_wait` | how long a definition waits for a table |
//! | `lost` | what a statement needs of a session that has ended |
//! | `left_behind` | indexes that a failed statement has left half-built |
//! | `applied` | the table `tenantry_migrations` |
//! | `failure` | the note of the file that failed last |
//! | `foreign`, `adopt` | tables of other tools |
//! | `files`, `text`, `script` | a file's name, its text, its statements |
//! | `lint` | warnings about statements that block requests |
//! | `rehearsal` | what a run would do |
//! | `state`, `structure` | how far a database is, and how databases differ |
//! | `on_connect` | migrations at a tenant's first connection |

mod adopt;
mod applied;
mod error;
mod failure;
mod files;
mod foreign;
mod left_behind;
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
mod lost;
mod on_connect;
mod rehearsal;
mod run;
mod script;
mod state;
mod stepwise;
mod structure;
mod table_wait;
#[cfg(test)]
mod tests;
mod text;

use std::{collections::BTreeSet, path::Path, time::Duration};

use tenantry_core::{Connection, DatabaseConfig, DatabaseDriver, TenantId};

use applied::Applied;
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
    /// How long a run waits for another one on the same database.
    longest_wait: Duration,
}

impl Migrations {
    fn new(files: Files, place: impl Into<String>) -> Self {
        Self {
            files,
            place: place.into(),
            longest_wait: tenantry_core::engine::DEFAULT_MIGRATIONS_TIMEOUT.into(),
        }
    }

    /// Sets how long a run waits for another one on the same database, ten minutes by default.
    #[must_use]
    pub fn waiting_at_most(mut self, longest: Duration) -> Self {
        self.longest_wait = longest;
        self
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

    /// What is not read of the folder, since it is too high or too low in it.
    pub(crate) fn misplaced(&self) -> &[String] {
        self.files.misplaced()
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

    /// The last file of a folder, by its version and name.
    pub(crate) fn last_of(&self, folder: &str) -> Option<(i64, &str)> {
        let last = self.files.of(folder)?.last()?;
        Some((last.version, &last.name))
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

    /// As [`look`](Self::look), less the file that failed.
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
        let applied = Applied::read(driver, connection).await?.unwrap_or_default();
        Ok(State::of(files, &applied, choice, self.last().0))
    }

    /// The pending files of a state.
    fn pending(&self, driver: &dyn DatabaseDriver, state: &State) -> Result<Vec<&Migration>, MigrationError> {
        let mut names = state.pending.iter().peekable();
        let files = self.of(driver.migration_dialect())?;
        // Both are in the order of their versions.
        Ok(files
            .filter(|file| names.next_if(|name| **name == file.name).is_some())
            .collect())
    }

    /// Applies what has not been applied, and reports it in `report` as it goes, so that a failure
    /// leaves what was done before it. Instances that migrate the same database at once wait for
    /// each other, and each file is applied once. If there is nothing to do, it costs two queries
    /// and no lock.
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
        let found = Applied::read(database.driver, connection).await?;
        let is_new = found.is_none();
        let found = found.unwrap_or_default();
        report.version = found.version();
        let steps = self.steps(database.driver, choice, &found)?;
        report.already = steps.already;
        if steps.pending.is_empty() {
            return Ok(());
        }
        // With an empty table its owner says that another tool's table does not matter.
        if is_new {
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
        if let Some(error) = state.refused() {
            return Err(error);
        }
        let files = self.pending(database.driver, &state)?;
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let trust = adopt::Trust {
            by_hand: is_named || state.version.is_none(),
            is_named,
        };
        adopt::check(database.driver, connection, &files, trust).await?;
        Run::new(self, database, connection, choice).adopt(&files).await
    }

    /// What is left to do.
    fn steps(
        &self,
        driver: &dyn DatabaseDriver,
        choice: Choice,
        applied: &Applied,
    ) -> Result<Steps<'_>, MigrationError> {
        let files = self.of(driver.migration_dialect())?;
        let state = State::of(files, applied, choice, self.last().0);
        match state.refused() {
            Some(error) => Err(error),
            None => Ok(Steps {
                pending: self.pending(driver, &state)?,
                already: state.already,
            }),
        }
    }
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
struct Steps<'a> {
    pending: Vec<&'a Migration>,
    already: usize,
}
