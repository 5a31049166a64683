//! What a run would do, and what it would be refused for.

use std::time::Duration;

use tenantry_core::{Connection, DatabaseDriver, MigrationLock};

use super::{
    Choice, Database, Done, MigrationError, Migrations, Report,
    applied::{Applied, Recorded},
    foreign,
    script::Script,
    stepwise::refuse_settings,
};

impl Migrations {
    /// Looks at a database as [`look`](Self::look), and refuses what [`apply`](Self::apply) refuses
    /// before it runs a file. It changes nothing. What it finds is in `report`, with the files that
    /// would be applied.
    ///
    /// # Errors
    /// As `look` and `apply`.
    pub async fn rehearse(
        &self,
        database: Database<'_>,
        connection: &mut dyn Connection,
        choice: Choice,
        report: &mut Report,
    ) -> Result<(), MigrationError> {
        let Database {
            driver, tenant, config, ..
        } = database;
        let lock = driver.migration_lock(config);
        let state = self.look(driver, connection, choice).await?;
        (report.already, report.version) = (state.already, state.version.clone());
        if let Some(error) = state.refused() {
            return Err(error);
        }
        let applied = Applied::read(driver, connection).await?;
        if applied.is_none() && !state.pending.is_empty() {
            foreign::refuse(driver, connection).await?;
        }
        for file in self.pending(driver, &state)? {
            let sql = file.script(tenant);
            let script = Script::read(driver, file, &sql)?;
            let before = applied.as_ref().and_then(|applied| applied.get(file.version));
            let mut is_stepwise = !script.in_transaction;
            if let Some(Recorded::Part(before)) = before {
                is_stepwise = true;
                script.begins_as_before(file, before)?;
                script.may_continue(file, before.statements)?;
            }
            if is_stepwise && matches!(lock, MigrationLock::EachTransaction { .. }) {
                refuse_settings(file, &script)?;
            }
            report.applied.push(Done {
                name: file.name.clone(),
                took: Duration::ZERO,
            });
        }
        Ok(())
    }

    /// The files that this driver cannot split into statements, and why.
    pub(crate) fn unreadable(&self, driver: &dyn DatabaseDriver) -> impl Iterator<Item = MigrationError> {
        let files = self.files.of(driver.migration_dialect()).into_iter().flatten();
        files.filter_map(|file| Script::read(driver, file, file.text()).err())
    }
}
