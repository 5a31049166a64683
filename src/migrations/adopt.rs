//! Takes over databases that another tool has migrated: what that tool has applied is recorded as
//! applied.

use std::collections::BTreeSet;

use sea_orm::{Statement, TransactionOptions};
use tenantry_core::{Connection, DatabaseDriver, DatabaseErrorKind, MigrationLock};

use super::{
    applied::{Applied, Record, Recorded, create_table},
    error::MigrationError,
    files::Migration,
    foreign::Tables,
    run::Run,
};

const FLYWAY: &str = "flyway_schema_history";
const SQLX: &str = "_sqlx_migrations";
const GOOSE: &str = "goose_db_version";
/// Of golang-migrate and of dbmate.
const SCHEMA_MIGRATIONS: &str = "schema_migrations";

/// The tables of other tools that are read.
const TABLES: [&str; 4] = [FLYWAY, SQLX, GOOSE, SCHEMA_MIGRATIONS];

/// What another tool says that it has applied.
#[derive(Debug, Default, PartialEq, Eq)]
struct Foreign {
    tool: &'static str,
    table: &'static str,
    /// Every version up to this one.
    up_to: Option<i64>,
    /// And these.
    versions: BTreeSet<i64>,
    /// A version that it began and did not end.
    failed: Option<String>,
}

/// What stands in for the table of another tool.
#[derive(Clone, Copy)]
pub(super) struct Trust {
    /// The files may have been applied by hand.
    pub(super) by_hand: bool,
    /// The tenant was named.
    pub(super) is_named: bool,
}

/// Checks that a database has these files. Unless they may have been applied by hand, another
/// tool's table must say so.
pub(super) async fn check(
    driver: &dyn DatabaseDriver,
    connection: &mut dyn Connection,
    files: &[&Migration],
    trust: Trust,
) -> Result<(), MigrationError> {
    let refused = |reason| Err(MigrationError::NotAdopted { reason });
    let tables = Tables::read(driver, connection).await?;
    let Some(foreign) = Foreign::read(driver, connection, tables.as_ref()).await? else {
        if let Some((table, schema)) = tables.as_ref().and_then(elsewhere)
            && !trust.is_named
        {
            return refused(format!(
                "the table `{table}` is in the schema `{schema}`, and may be about another tenant; if this tenant has \
                 the files, name it with `--tenant`"
            ));
        }
        // On Oracle Flyway makes its table in lower case, which no statement here can name.
        if driver.migration_dialect() == "oracle" && tables.as_ref().is_some_and(|tables| tables.spells(FLYWAY)) {
            return refused(format!(
                "the table `{FLYWAY}` of Flyway cannot be read, since its name is in lower case; make a view of it \
                 whose name and columns are in upper case"
            ));
        }
        if !trust.by_hand {
            return refused(
                "the database was migrated by `tenantry migrate`, which applies what is left; if the files were applied by \
                 hand, name the tenant with `--tenant`"
                    .to_owned(),
            );
        }
        return match tables {
            Some(tables) if !tables.has_own() => {
                refused("the database has no table; `tenantry migrate` applies the files".to_owned())
            }
            _ => Ok(()),
        };
    };
    let Foreign { tool, table, .. } = foreign;
    if let Some(version) = foreign.failed {
        return refused(format!(
            "the version `{version}` has failed, as the table `{table}` of {tool} says"
        ));
    }
    let has = |version| foreign.versions.contains(&version) || foreign.up_to.is_some_and(|up_to| version <= up_to);
    match files.iter().find(|file| !file.sample && !has(file.version)) {
        None => Ok(()),
        Some(file) => refused(format!(
            "`{}` is not among the versions that the table `{table}` of {tool} has",
            file.name
        )),
    }
}

/// The table of another tool, and its schema, if it is not the tenant's own.
fn elsewhere(tables: &Tables) -> Option<(&'static str, &str)> {
    TABLES
        .into_iter()
        .find_map(|table| Some((table, tables.schema_of(table)??)))
}

impl Foreign {
    async fn read(
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
        tables: Option<&Tables>,
    ) -> Result<Option<Self>, MigrationError> {
        let may_have = |table| tables.is_none_or(|tables| tables.schema_of(table) == Some(None));
        let dialect = driver.migration_dialect();
        let flyway = match dialect {
            "oracle" => {
                "SELECT \"version\", \"type\", CASE WHEN \"success\" = 1 THEN '1' ELSE '0' END FROM \"flyway_schema_history\" ORDER BY \"installed_rank\""
            }
            _ => {
                "SELECT version, type, CASE WHEN success THEN '1' ELSE '0' END FROM flyway_schema_history ORDER BY installed_rank"
            }
        };
        if may_have(FLYWAY)
            && let Some(rows) = rows::<3>(driver, connection, ("Flyway", FLYWAY), flyway).await?
        {
            return Ok(Some(Self::of_flyway(rows)));
        }
        let kind = match dialect {
            "oracle" => "VARCHAR(40)",
            "mysql" => "CHAR",
            _ => "TEXT",
        };
        let text = format!("CAST(version AS {kind})");
        let sqlx = format!("SELECT {text}, CASE WHEN success THEN '1' ELSE '0' END FROM _sqlx_migrations");
        if may_have(SQLX)
            && let Some(rows) = rows::<2>(driver, connection, ("sqlx", SQLX), &sqlx).await?
        {
            let mut foreign = Self::of("sqlx", SQLX);
            for [version, success] in rows {
                foreign.add(version, success.as_deref() == Some("1"));
            }
            return Ok(Some(foreign));
        }
        let goose = format!(
            "SELECT CAST(version_id AS {kind}), CASE WHEN is_applied THEN '1' ELSE '0' END FROM goose_db_version ORDER BY id"
        );
        if may_have(GOOSE)
            && let Some(rows) = rows::<2>(driver, connection, ("goose", GOOSE), &goose).await?
        {
            return Ok(Some(Self::of_goose(rows)));
        }
        let golang = format!("SELECT {text}, CASE WHEN dirty THEN '1' ELSE '0' END FROM schema_migrations");
        if may_have(SCHEMA_MIGRATIONS)
            && let Some(rows) = rows::<2>(driver, connection, ("golang-migrate", SCHEMA_MIGRATIONS), &golang).await?
        {
            let mut foreign = Self::of("golang-migrate", SCHEMA_MIGRATIONS);
            for [version, dirty] in rows {
                if dirty.as_deref() == Some("1") {
                    foreign.failed = version.clone();
                }
                foreign.up_to = version.and_then(|version| version.parse().ok());
            }
            return Ok(Some(foreign));
        }
        let dbmate = format!("SELECT {text} FROM schema_migrations");
        if may_have(SCHEMA_MIGRATIONS)
            && let Some(rows) = rows::<1>(driver, connection, ("dbmate", SCHEMA_MIGRATIONS), &dbmate).await?
        {
            let mut foreign = Self::of("dbmate", SCHEMA_MIGRATIONS);
            for [version] in rows {
                foreign.add(version, true);
            }
            return Ok(Some(foreign));
        }
        Ok(None)
    }

    fn of(tool: &'static str, table: &'static str) -> Self {
        Self {
            tool,
            table,
            ..Self::default()
        }
    }

    /// A later row may say that a version was undone.
    fn of_goose(rows: Vec<[Option<String>; 2]>) -> Self {
        let mut foreign = Self::of("goose", GOOSE);
        for [version, is_applied] in rows {
            let Some(number) = version.and_then(|version| version.parse().ok()) else {
                continue;
            };
            match is_applied.as_deref() {
                Some("1") => foreign.versions.insert(number),
                _ => foreign.versions.remove(&number),
            };
        }
        foreign
    }

    fn of_flyway(rows: Vec<[Option<String>; 3]>) -> Self {
        let mut foreign = Self::of("Flyway", FLYWAY);
        for [version, kind, success] in rows {
            // A repeatable file has no version, and neither has the row that says that a schema was
            // made.
            let Some(version) = version else {
                continue;
            };
            // The version was undone, or its missing file was repaired away.
            let is_taken_back = |kind: &str| kind == "DELETE" || kind.starts_with("UNDO");
            if kind.as_deref().is_some_and(is_taken_back) && success.as_deref() == Some("1") {
                if let Ok(number) = version.parse() {
                    foreign.versions.remove(&number);
                }
                continue;
            }
            if kind.as_deref() == Some("BASELINE") {
                foreign.up_to = foreign.up_to.max(version.parse().ok());
            }
            foreign.add(Some(version), success.as_deref() == Some("1"));
        }
        foreign
    }

    fn add(&mut self, version: Option<String>, succeeded: bool) {
        let number = version.as_deref().and_then(|version| version.parse().ok());
        match (number, succeeded) {
            (Some(number), true) => drop(self.versions.insert(number)),
            (_, false) => self.failed = version,
            // A version with dots, for which no file can stand.
            (None, true) => {}
        }
    }
}

/// The rows of a query of a tool's table as texts; `None` if there is no such table, or no such
/// column.
async fn rows<const N: usize>(
    driver: &dyn DatabaseDriver,
    connection: &mut dyn Connection,
    (tool, table): (&'static str, &str),
    sql: &str,
) -> Result<Option<Vec<[Option<String>; N]>>, MigrationError> {
    let statement = Statement::from_string(driver.backend(), sql);
    let rows = match connection.query(&statement).await {
        Ok(rows) => rows,
        Err(error) if matches!(error.kind, DatabaseErrorKind::TableMissing | DatabaseErrorKind::Other) => {
            return Ok(None);
        }
        Err(error) => return Err(MigrationError::of_foreign(table.to_owned(), tool, error)),
    };
    let mut texts = Vec::with_capacity(rows.len());
    for row in rows {
        let mut cells = std::array::from_fn(|_| None);
        for (index, cell) in cells.iter_mut().enumerate() {
            *cell = row.try_get_by_index(index).map_err(MigrationError::Unreadable)?;
        }
        texts.push(cells);
    }
    Ok(Some(texts))
}

impl Run<'_> {
    /// Records files as applied.
    pub(super) async fn adopt(mut self, files: &[&Migration]) -> Result<Vec<String>, MigrationError> {
        let lock = self.driver.migration_lock(self.config);
        self.take(&lock).await?;
        let recorded = self.record_all(&lock, files).await;
        if recorded.is_err() {
            self.roll_back().await;
        }
        recorded
    }

    async fn record_all(&mut self, lock: &MigrationLock, files: &[&Migration]) -> Result<Vec<String>, MigrationError> {
        create_table(self.driver, self.connection).await?;
        if matches!(lock, MigrationLock::Session { .. }) {
            let begun = self.connection.begin(&TransactionOptions::default()).await;
            begun.map_err(MigrationError::Table)?;
        }
        let applied = Applied::read(self.driver, self.connection).await?.unwrap_or_default();
        let record = Record::find(self.driver, self.connection).await?;
        let mut names = Vec::new();
        for file in files {
            let (driver, connection) = (self.driver, &mut *self.connection);
            let recorded = match applied.get(file.version) {
                None => record.insert(driver, connection, file, &file.checksum).await,
                // An earlier run began with it and found what it makes.
                Some(Recorded::Part(_)) => {
                    let updated = record.update(driver, connection, file, None, &file.checksum).await;
                    updated.map(drop)
                }
                Some(Recorded::Whole(_)) => continue,
            };
            recorded.map_err(MigrationError::Table)?;
            names.push(file.name.clone());
        }
        self.connection.commit().await.map_err(MigrationError::Table)?;
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: Option<&str>, kind: &str, success: &str) -> [Option<String>; 3] {
        [
            version.map(str::to_owned),
            Some(kind.to_owned()),
            Some(success.to_owned()),
        ]
    }

    #[test]
    fn what_flyway_has_undone_is_not_there() {
        let row = |version: &str, kind: &str| [version, kind, "1"].map(|text| Some(text.to_owned()));
        let rows = vec![
            row("1", "SQL"),
            row("2", "SQL"),
            row("2", "UNDO_SQL"),
            row("3", "SQL"),
            row("3", "DELETE"),
            row("4", "SQL"),
            row("4", "UNDO_SQL"),
            row("4", "SQL"),
        ];
        let found = Foreign::of_flyway(rows);
        assert_eq!(found.versions.into_iter().collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn what_goose_has_undone_is_not_there() {
        let row = |version: &str, is_applied: &str| [version, is_applied].map(|text| Some(text.to_owned()));
        let rows = vec![
            row("0", "1"),
            row("1", "1"),
            row("2", "1"),
            row("3", "1"),
            row("2", "0"),
        ];
        let found = Foreign::of_goose(rows);
        assert_eq!(found.versions.into_iter().collect::<Vec<_>>(), [0, 1, 3]);
    }

    #[test]
    fn a_baseline_of_flyway_stands_for_everything_before_it() {
        let foreign = Foreign::of_flyway(vec![
            row(None, "SCHEMA", "1"),
            row(Some("3"), "BASELINE", "1"),
            row(Some("5"), "SQL", "1"),
            row(Some("5.1"), "SQL", "1"),
            row(None, "SQL", "1"),
        ]);
        assert_eq!((foreign.up_to, foreign.failed), (Some(3), None));
        assert_eq!(foreign.versions, BTreeSet::from([3, 5]));
    }

    #[test]
    fn a_version_that_failed_is_kept() {
        let foreign = Foreign::of_flyway(vec![row(Some("1"), "SQL", "1"), row(Some("2"), "SQL", "0")]);
        assert_eq!(foreign.failed.as_deref(), Some("2"));
    }
}
