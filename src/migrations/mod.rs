//! What makes a tenant's database ready: the files below `migrations/`, each applied once.
//!
//! A folder for each kind of database ([`DatabaseDriver::migration_dialect`]) holds files named `NNNN_name.sql`, applied in the order
//! of their numbers; numbers may have gaps. One whose name begins with `sample_` (`0002_sample_users.sql`) is applied only where
//! `migrations.sample_data` says so; in it `{{tenant}}` is the tenant's name. What was applied is written down in the table
//! `tenantry_migrations`, with a checksum: a file must not change afterwards.
//!
//! A file runs in a transaction of its own, in which it is also recorded. One that begins with the line
//! `-- no-transaction` runs statement by statement, and so does one with a statement that MySQL or Oracle
//! commits by itself; after each statement is recorded how far it got, and the next run goes on there.

mod applied;
mod error;
mod files;
mod lock;
mod run;
mod script;
mod stepwise;
#[cfg(test)]
mod tests;
mod text;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use tenantry_core::{BoxError, Connection, DatabaseConfig, DatabaseDriver, TenantId, engine::OnConnect};

use applied::{Applied, Recorded};
pub use error::{Aftermath, MigrationError, Place};
pub use files::FilesError;
use files::{Files, Migration};
use run::Run;

const TABLE: &str = "tenantry_migrations";

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
            place: self.place.clone(),
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
        let steps = self.steps(driver, sample_data, &found.unwrap_or_default())?;
        if steps.pending.is_empty() {
            return Ok(Report {
                applied: Vec::new(),
                already: steps.already,
            });
        }
        let run = Run {
            migrations: self,
            driver,
            config,
            connection,
            tenant,
            sample_data,
            watched: None,
        };
        run.all().await
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
                Some(Recorded::Whole(checksum)) if !migration.is(checksum) => {
                    return Err(MigrationError::Changed {
                        name: migration.name.clone(),
                    });
                }
                Some(Recorded::Whole(_)) => steps.already += 1,
                // Checked when it is run.
                Some(Recorded::Part(_)) => steps.pending.push(migration),
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
