//! Remembers which file failed last in a database.
//!
//! A file that failed in a transaction leaves no row in the table of applied files. So a view that
//! returns its name records it. A view, unlike a table, does not appear in dumps of data or in
//! lists of tables. It is removed once everything was applied.

use sea_orm::{DbErr, Statement};
use tenantry_core::{Connection, DatabaseDriver, DatabaseError, TenantId};

use super::{
    applied::{Place, is_missing_table},
    error::MigrationError,
    run::Run,
};

const VIEW: &str = "tenantry_migration_failure";

/// Remembers the file that an error is about. If that is not possible, the report of the run is the
/// only one.
pub(super) async fn note(run: &mut Run<'_>, error: &MigrationError) {
    let Some(name) = error.file() else {
        return;
    };
    // The session may be in a transaction that failed, or have other settings.
    if run.renew().await.is_err() {
        return;
    }
    if let Err(error) = write(run.driver, run.connection, name).await {
        tracing::debug!(tenant_id = %run.tenant, %error, "a migration that failed was not noted");
    }
}

async fn write(driver: &dyn DatabaseDriver, connection: &mut dyn Connection, name: &str) -> Result<(), DatabaseError> {
    // Names of files have no quotes, but a driver may have names of its own.
    let name = name.replace('\'', "");
    let (create, from) = match driver.migration_dialect() {
        "sqlite" => {
            let drop = format!("DROP VIEW IF EXISTS {VIEW}");
            connection.execute_script(&drop).await?;
            ("CREATE VIEW", "")
        }
        "oracle" => ("CREATE OR REPLACE VIEW", " FROM DUAL"),
        _ => ("CREATE OR REPLACE VIEW", ""),
    };
    let sql = format!("{create} {VIEW} AS SELECT '{name}' AS failed_file{from}");
    connection.execute_script(&sql).await.map(drop)
}

/// Forgets a failure: everything was applied since.
pub(super) async fn forget(driver: &dyn DatabaseDriver, connection: &mut dyn Connection, tenant: &TenantId) {
    let name = match name(driver, connection).await {
        Ok(name) => name,
        Err(error) => {
            tracing::debug!(tenant_id = %tenant, %error, "the note of a migration that failed was not read");
            return;
        }
    };
    if name.is_some()
        && let Err(error) = connection.execute_script(&format!("DROP VIEW {VIEW}")).await
    {
        tracing::debug!(tenant_id = %tenant, %error, "the note of a migration that failed was not removed");
    }
}

/// The file that failed, if it is among those that are pending.
pub(super) async fn read(
    driver: &dyn DatabaseDriver,
    connection: &mut dyn Connection,
    pending: &[String],
) -> Option<String> {
    match name(driver, connection).await {
        Ok(name) => name.filter(|name| pending.contains(name)),
        Err(error) => {
            tracing::debug!(%error, "the note of a migration that failed was not read");
            None
        }
    }
}

async fn name(driver: &dyn DatabaseDriver, connection: &mut dyn Connection) -> Result<Option<String>, MigrationError> {
    // PostgreSQL would log that there is no such view.
    if !matches!(
        Place::of(driver, connection, VIEW).await?,
        Place::Own(_) | Place::Unknown
    ) {
        return Ok(None);
    }
    let select = Statement::from_string(driver.backend(), format!("SELECT failed_file FROM {VIEW}"));
    match connection.query_one(&select).await {
        Ok(row) => {
            let name = row.map(|row| row.try_get_by_index(0));
            name.transpose()
                .map_err(|error: DbErr| MigrationError::Unreadable(error))
        }
        Err(error) if is_missing_table(&error) => Ok(None),
        Err(error) => Err(MigrationError::Table(error)),
    }
}
