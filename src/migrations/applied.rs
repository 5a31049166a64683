//! The table of what was applied.
//!
//! A file that runs outside a transaction has a row from its first statement on. Until its end the
//! row holds how far it got in place of the checksum.

use std::{collections::BTreeMap, fmt};

use sea_orm::{
    DbErr, Statement,
    sea_query::{Alias, ColumnDef, Expr, ExprTrait as _, IntoTableRef as _, Order, Query, Table, TableRef},
};
use tenantry_core::{Connection, DatabaseDriver, DatabaseError, DatabaseErrorKind};

use super::{TABLE, error::MigrationError, files::Migration};

/// The table's record of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It was applied; this was its checksum.
    Whole(String),
    /// A part of it was applied.
    Part(Progress),
}

/// How far a file got that runs outside a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// A run is at the next statement, or was cut off there.
    pub(super) running: bool,
    /// How many statements were applied.
    pub(super) statements: usize,
    /// A checksum of those.
    pub(super) checksum: String,
    /// The number of the run that has recorded this; `None` if an older program has.
    pub(super) run: Option<u32>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.running { "running" } else { "stopped" };
        write!(f, "{state}:{}:{}", self.statements, self.checksum)?;
        match self.run {
            Some(run) => write!(f, ":{run}"),
            None => Ok(()),
        }
    }
}

impl Recorded {
    fn parse(text: String) -> Self {
        let part = || {
            let (state, rest) = text.split_once(':')?;
            let (statements, rest) = rest.split_once(':')?;
            let (checksum, run) = match rest.split_once(':') {
                Some((checksum, run)) => (checksum, Some(run.parse().ok()?)),
                None => (rest, None),
            };
            Some(Progress {
                running: state == "running",
                statements: statements.parse().ok()?,
                checksum: checksum.to_owned(),
                run,
            })
        };
        match part() {
            Some(progress) => Self::Part(progress),
            None => Self::Whole(text),
        }
    }
}

/// What was applied, by version. A version without a file is one of a newer program, and is left
/// alone.
#[derive(Debug, Default)]
pub(super) struct Applied(pub(super) BTreeMap<i64, Row>);

/// One row of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// The file's name, without `.sql`.
    pub(super) name: String,
    pub(super) recorded: Recorded,
}

impl Applied {
    /// `None` if the table is not there yet.
    pub(super) async fn read(
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<Option<Self>, MigrationError> {
        // A query for a missing table would leave an error in PostgreSQL's log.
        if Place::of_table(driver, connection).await? == Place::Nowhere {
            return Ok(None);
        }
        let select = Query::select()
            .columns(["version", "name", "checksum"].map(Alias::new))
            .from(Alias::new(TABLE))
            .order_by(Alias::new("version"), Order::Asc)
            .to_owned();
        let rows = match connection.query(&driver.backend().build(&select)).await {
            Ok(rows) => rows,
            Err(error) if is_missing_table(&error) => return Ok(None),
            Err(error) => return Err(MigrationError::Table(error)),
        };
        let read = rows.iter().map(|row| {
            let read = Row {
                name: row.try_get("", "name")?,
                recorded: Recorded::parse(row.try_get("", "checksum")?),
            };
            Ok((row.try_get("", "version")?, read))
        });
        let applied = read.collect::<Result<_, DbErr>>().map_err(MigrationError::Unreadable)?;
        Ok(Some(Self(applied)))
    }

    pub(super) fn get(&self, version: i64) -> Option<&Recorded> {
        self.0.get(&version).map(|row| &row.recorded)
    }

    /// The highest version that was applied whole, as its file writes it: `0004`.
    pub(super) fn version(&self) -> Option<String> {
        let mut whole = self.0.values().rev();
        let last = whole.find(|row| matches!(row.recorded, Recorded::Whole(_)))?;
        Some(version_of(&last.name).to_owned())
    }
}

/// The version that a file's name begins with, without the `V` of Flyway.
pub(super) fn version_of(name: &str) -> &str {
    let number = name.trim_start_matches('V');
    number.split('_').next().unwrap_or(number)
}

/// Where a table or view of Tenantry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The driver does not say. Its name finds it, if it is there.
    Unknown,
    /// There is none.
    Nowhere,
    /// In this schema, which is the tenant's own.
    Own(String),
    /// In another schema, which may be another tenant's.
    Elsewhere { found: String, own: String },
    /// The tenant's own schema cannot be used.
    NoSchema(String),
}

impl Place {
    /// Where the table or view of this name is.
    pub(super) async fn of(
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
        name: &str,
    ) -> Result<Self, MigrationError> {
        let Some(query) = driver.migration_queries().schema else {
            return Ok(Self::Unknown);
        };
        let statement = Statement::from_string(driver.backend(), query.replace(TABLE, name));
        let row = connection.query_one(&statement).await.map_err(MigrationError::Table)?;
        let Some(row) = row else {
            return Ok(Self::Unknown);
        };
        let schema = |index| row.try_get_by_index(index).map_err(MigrationError::Unreadable);
        let (found, current): (Option<String>, Option<String>) = (schema(0)?, schema(2)?);
        Ok(match (found, schema(1)?) {
            (_, Some(own)) if current.as_ref() != Some(&own) => Self::NoSchema(own),
            (Some(found), Some(own)) if found != own => Self::Elsewhere { found, own },
            (Some(found), _) => Self::Own(found),
            (None, _) => Self::Nowhere,
        })
    }

    /// Where the table of what was applied is.
    async fn of_table(driver: &dyn DatabaseDriver, connection: &mut dyn Connection) -> Result<Self, MigrationError> {
        match Self::of(driver, connection, TABLE).await? {
            Self::Elsewhere { found, own } => Err(MigrationError::Elsewhere { found, own }),
            Self::NoSchema(schema) => Err(MigrationError::NoSchema { schema }),
            place => Ok(place),
        }
    }
}

/// Whether there is no such table.
pub(super) fn is_missing_table(error: &DatabaseError) -> bool {
    error.kind == DatabaseErrorKind::TableMissing
}

pub(super) async fn create_table(
    driver: &dyn DatabaseDriver,
    connection: &mut dyn Connection,
) -> Result<(), MigrationError> {
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
    let created = connection.execute(&driver.backend().build(&create)).await;
    created.map(drop).map_err(MigrationError::Table)
}

/// The table of a database, by its schema, since a file may change the one that is looked in.
pub(super) struct Record {
    table: TableRef,
}

impl Record {
    pub(super) async fn find(
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<Self, MigrationError> {
        let table = Alias::new(TABLE);
        let table = match Place::of_table(driver, connection).await? {
            Place::Own(schema) => (Alias::new(schema), table).into_table_ref(),
            _ => table.into_table_ref(),
        };
        Ok(Self { table })
    }

    /// Adds the row of a file.
    pub(super) async fn insert(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
        migration: &Migration,
        checksum: &str,
    ) -> Result<(), DatabaseError> {
        let insert = Query::insert()
            .into_table(self.table.clone())
            .columns(["version", "name", "checksum", "applied_at"].map(Alias::new))
            .values_panic([
                migration.version.into(),
                migration.name.clone().into(),
                checksum.into(),
                chrono::Utc::now().into(),
            ])
            .to_owned();
        connection.execute(&driver.backend().build(&insert)).await.map(drop)
    }

    /// Changes the row of a file if it has the expected state; `None` expects any state. Returns
    /// whether it was changed.
    pub(super) async fn update(
        &self,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
        migration: &Migration,
        before: Option<&Progress>,
        checksum: &str,
    ) -> Result<bool, DatabaseError> {
        let mut update = Query::update();
        update
            .table(self.table.clone())
            .values([
                (Alias::new("checksum"), checksum.into()),
                (Alias::new("applied_at"), chrono::Utc::now().into()),
            ])
            .and_where(Expr::col(Alias::new("version")).eq(migration.version));
        if let Some(before) = before {
            update.and_where(Expr::col(Alias::new("checksum")).eq(before.to_string()));
        }
        let updated = connection.execute(&driver.backend().build(&update)).await?;
        Ok(updated.rows_affected() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_as_it_was_written() {
        for (running, run) in [(true, Some(u32::MAX)), (false, Some(7)), (true, None)] {
            let progress = Progress {
                running,
                statements: 12_345_678,
                checksum: "0".repeat(32),
                run,
            };
            assert!(progress.to_string().len() <= 64);
            assert_eq!(Recorded::parse(progress.to_string()), Recorded::Part(progress));
        }
        let whole = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned();
        assert_eq!(Recorded::parse(whole.clone()), Recorded::Whole(whole));
    }
}
