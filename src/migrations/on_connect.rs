//! What comes before the first use of a tenant's database: its files are applied, and its version
//! is checked.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tenantry_core::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, DatabaseError, DriverErrorKind, TenantId,
    engine::{OnConnect, SchemaBehind, SchemaVersion},
};

use super::{Choice, Database, MigrationError, Migrations, Report, State};

/// Applies migrations on a tenant's first connection, and lets no database be served that is below
/// a version.
pub struct MigrationsOnConnect {
    migrations: Arc<Migrations>,
    is_applying: bool,
    choice: Choice,
    require: Option<Required>,
    counts: Option<Counts>,
}

/// Takes how many files a run has applied, and whether it failed.
type Counts = Box<dyn Fn(usize, bool) + Send + Sync>;

/// How long a database may take to say how far its migrations are.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// The lowest version that is served.
#[derive(Debug, Clone)]
struct Required {
    version: i64,
    text: String,
}

impl MigrationsOnConnect {
    /// Those files, with or without sample rows. Unless `is_applying`, databases are only looked
    /// at, and that only if a version is required or a health check asks.
    pub fn new(migrations: Arc<Migrations>, is_applying: bool, sample_data: bool) -> Self {
        let choice = Choice { sample_data, to: None };
        Self {
            migrations,
            is_applying,
            choice,
            require: None,
            counts: None,
        }
    }

    /// Lets no database be served below this version, written as its file does: `0004`.
    #[must_use]
    pub fn require(mut self, version: i64, text: impl Into<String>) -> Self {
        let text = text.into();
        self.require = Some(Required { version, text });
        self
    }

    /// Has each run counted: how many files it has applied, and whether it failed.
    #[must_use]
    pub fn counted(mut self, counts: impl Fn(usize, bool) + Send + Sync + 'static) -> Self {
        self.counts = Some(Box::new(counts));
        self
    }

    async fn state(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<State, MigrationError> {
        self.migrations.look_quietly(driver, connection, self.choice).await
    }

    fn check(&self, state: State) -> Result<SchemaVersion, SchemaBehind> {
        let behind = self
            .require
            .as_ref()
            .filter(|required| !state.reaches(required.version));
        let required = behind.map(|required| required.text.clone());
        let found = SchemaVersion::from(state);
        match required {
            Some(required) => Err(SchemaBehind { found, required }),
            None => Ok(found),
        }
    }
}

/// Why a database could not be made ready, for the server's log.
#[derive(Debug)]
struct Unprepared(MigrationError);

impl fmt::Display for Unprepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.reason() {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

impl Error for Unprepared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// No migration has failed if the connection was lost before a file, or between two.
fn unprepared(error: MigrationError) -> BoxError {
    match error {
        MigrationError::Table(lost) | MigrationError::Structure(lost) if lost.kind.is_lost() => lost.into(),
        MigrationError::NotRenewed(ended) if ended.kind == DriverErrorKind::SessionEnded => {
            DatabaseError::from(ended).into()
        }
        error => Unprepared(error).into(),
    }
}

impl From<State> for SchemaVersion {
    fn from(state: State) -> Self {
        Self {
            version: state.version,
            pending: state.pending.len(),
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
    ) -> Result<Option<SchemaVersion>, BoxError> {
        if self.is_applying {
            let database = Database { driver, config, tenant };
            let mut report = Report::default();
            let applying = self.migrations.apply(database, connection, self.choice, &mut report);
            let applied = applying.await.map_err(unprepared);
            if let Some(counts) = &self.counts {
                let failed = applied.as_ref().is_err_and(|error| error.is::<Unprepared>());
                counts(report.applied.len(), failed);
            }
            applied?;
            if self.require.is_none() {
                return Ok(Some(SchemaVersion {
                    version: report.version,
                    pending: 0,
                }));
            }
        }
        if self.require.is_none() {
            return Ok(None);
        }
        let looked = tokio::time::timeout(LONGEST_LOOK, self.state(driver, connection)).await?;
        let state = looked.map_err(unprepared)?;
        Ok(Some(self.check(state)?))
    }

    async fn look(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        let is_needed = self.is_applying || self.require.is_some();
        match self.state(driver, connection).await {
            Ok(state)
                if self.is_applying
                    && let Some(error) = state.refused() =>
            {
                Err(Unprepared(error).into())
            }
            // The next request applies what is left.
            Ok(state) if self.is_applying && !state.pending.is_empty() => Ok(Some(state.into())),
            Ok(state) => Ok(Some(self.check(state)?)),
            Err(MigrationError::Table(error)) if is_needed || error.kind.breaks_connection() => Err(error.into()),
            Err(error) if is_needed => Err(Unprepared(error).into()),
            Err(_) => Ok(None),
        }
    }
}
