//! Refuses to apply files to a database that another tool has migrated.

use sea_orm::{
    Statement,
    sea_query::{Alias, Expr, Query},
};
use tenantry_core::{Connection, DatabaseDriver, DatabaseErrorKind};

use super::error::MigrationError;

/// The tables of other tools, in lower case, and the tools.
const TOOLS: [(&str, &str); 14] = [
    ("__diesel_schema_migrations", "Diesel"),
    ("__efmigrationshistory", "Entity Framework"),
    ("_prisma_migrations", "Prisma"),
    ("_sqlx_migrations", "sqlx"),
    ("alembic_version", "Alembic"),
    ("databasechangelog", "Liquibase"),
    ("django_migrations", "Django"),
    ("flyway_schema_history", "Flyway"),
    ("goose_db_version", "goose"),
    ("knex_migrations", "Knex"),
    ("refinery_schema_history", "Refinery"),
    ("schema_migrations", "dbmate, golang-migrate or Rails"),
    ("schema_version", "an old Flyway"),
    ("seaql_migrations", "SeaORM"),
];

/// The tables of other tools in a database, as they are spelt there, and the tools.
pub(super) async fn tables(
    driver: &dyn DatabaseDriver,
    connection: &mut dyn Connection,
) -> Result<Vec<(String, &'static str)>, MigrationError> {
    let Some(query) = driver.migration_queries().tables else {
        return Ok(Vec::new());
    };
    // A query for a missing table would leave an error in the server's log.
    let query = Statement::from_string(driver.backend(), query);
    let rows = connection.query(&query).await.map_err(MigrationError::Structure)?;
    let mut tables = Vec::new();
    for row in rows {
        let table: String = row.try_get_by_index(0).map_err(MigrationError::Unreadable)?;
        let known = TOOLS.iter().find(|(name, _)| table.eq_ignore_ascii_case(name));
        tables.extend(known.map(|(_, tool)| (table, *tool)));
    }
    Ok(tables)
}

/// Refuses a database if the table of another tool has rows.
pub(super) async fn refuse(driver: &dyn DatabaseDriver, connection: &mut dyn Connection) -> Result<(), MigrationError> {
    for (table, tool) in tables(driver, connection).await? {
        let select = Query::select()
            .expr(Expr::cust("1"))
            .from(Alias::new(&table))
            .limit(1)
            .to_owned();
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
