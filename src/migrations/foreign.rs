//! Refuses to apply files to a database that another tool has migrated.

use sea_orm::{
    DbErr, QueryResult, Statement,
    sea_query::{Alias, Expr, Query},
};
use tenantry_core::{Connection, DatabaseDriver, DatabaseErrorKind};

use super::error::MigrationError;

/// The tables of other tools, in lower case, and the tools.
const TOOLS: [(&str, &str); 15] = [
    ("__diesel_schema_migrations", "Diesel"),
    ("__efmigrationshistory", "Entity Framework"),
    ("_prisma_migrations", "Prisma"),
    ("_sqlx_migrations", "sqlx"),
    ("alembic_version", "Alembic"),
    ("databasechangelog", "Liquibase"),
    ("django_migrations", "Django"),
    ("flyway_schema_history", "Flyway"),
    ("goose_db_version", "goose"),
    ("gorp_migrations", "sql-migrate"),
    ("knex_migrations", "Knex"),
    ("refinery_schema_history", "Refinery"),
    ("schema_migrations", "dbmate, golang-migrate or Rails"),
    ("schema_version", "an old Flyway"),
    ("seaql_migrations", "SeaORM"),
];

/// The tables that a session sees, with the schema of each that is not in the tenant's own.
pub(super) struct Tables(Vec<(String, Option<String>)>);

impl Tables {
    /// `None` if the driver does not say how.
    pub(super) async fn read(
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<Option<Self>, MigrationError> {
        let Some(query) = driver.migration_queries().tables else {
            return Ok(None);
        };
        let query = Statement::from_string(driver.backend(), query);
        let rows = connection.query(&query).await.map_err(MigrationError::Structure)?;
        let table = |row: &QueryResult| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
        let tables: Result<_, DbErr> = rows.iter().map(table).collect();
        tables.map(Self).map(Some).map_err(MigrationError::Unreadable)
    }

    /// Whether the tenant has a table, other than Tenantry's and the database's own.
    pub(super) fn has_own(&self) -> bool {
        let is_own = |name: &str| !name.starts_with("sqlite_") && !name.to_ascii_lowercase().starts_with("tenantry_");
        let mut tables = self.0.iter();
        tables.any(|(name, schema)| schema.is_none() && is_own(name))
    }

    /// The schema of the table of this name: `None` without one, `Some(None)` for the tenant's own.
    pub(super) fn schema_of(&self, table: &str) -> Option<Option<&str>> {
        let found = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(table));
        found.map(|(_, schema)| schema.as_deref())
    }

    /// Whether there is a table whose name is spelt so.
    pub(super) fn spells(&self, table: &str) -> bool {
        self.0.iter().any(|(name, _)| name == table)
    }
}

/// Refuses a database if the table of another tool has rows.
pub(super) async fn refuse(driver: &dyn DatabaseDriver, connection: &mut dyn Connection) -> Result<(), MigrationError> {
    // A query for a missing table would leave an error in the server's log.
    let Some(Tables(tables)) = Tables::read(driver, connection).await? else {
        return Ok(());
    };
    for (table, schema) in tables {
        let known = TOOLS.iter().find(|(name, _)| table.eq_ignore_ascii_case(name));
        let Some((_, tool)) = known else {
            continue;
        };
        let select = Query::select()
            .expr(Expr::cust("1"))
            .from(Alias::new(&table))
            .limit(1)
            .to_owned();
        let table = schema.map(|schema| format!("{schema}.")).unwrap_or_default() + &table;
        match connection.query_one(&driver.backend().build(&select)).await {
            Ok(None) => {}
            Ok(Some(_)) => return Err(MigrationError::Foreign { table, tool }),
            // It is there, and a statement for Oracle cannot name it in lower case.
            Err(error) if error.kind == DatabaseErrorKind::TableMissing => {
                return Err(MigrationError::Foreign { table, tool });
            }
            Err(error) => return Err(MigrationError::of_foreign(table, tool, error)),
        }
    }
    Ok(())
}
