//! `tenantry migrate adopt`: records files as applied to databases that have them already.

use futures_util::StreamExt as _;
use tenantry_core::{Purpose, TenantId};

use super::{
    apply::choice,
    flags::Adopt,
    outcome::{Fault, Outcome, Shared, Word},
    print_json, tenants,
};
use crate::{
    command_line::{DONE, FAILED, Stop, report},
    installation::Installation,
    migrations::{Choice, Database, Done, Report},
};

const AT_ONCE: usize = 4;

pub(super) async fn run(installation: &Installation, flags: Adopt) -> Result<u8, Stop> {
    let version = installation
        .migrations()
        .version(&flags.version)
        .map_err(Stop::Misuse)?;
    let choice = Choice {
        to: Some(version),
        ..choice(installation, None)?
    };
    let is_named = !flags.tenant.is_empty();
    let ids = tenants(installation, &flags.tenant).await?;
    let progress = report::progress(ids.len(), "recording");
    let mut shared = Shared::default();
    let mut outcomes: Vec<Outcome> = futures_util::stream::iter(ids)
        .map(|id| async move { (id, adopt(installation, &id, choice, is_named).await) })
        .buffer_unordered(AT_ONCE)
        .inspect(|_| progress.inc(1))
        .filter(|(id, (_, _, fault))| {
            let is_deleted = fault.as_ref().is_some_and(|fault| fault.is_of_deleted(id, !is_named));
            std::future::ready(!is_deleted)
        })
        .map(|(id, (driver, done, fault))| shared.outcome(id, driver.as_deref(), done, fault))
        .collect()
        .await;
    progress.finish_and_clear();
    outcomes.sort_unstable_by_key(|outcome| outcome.tenant);
    let is_done = outcomes.iter().all(|outcome| outcome.outcome == Word::Ok);
    if flags.json {
        print_json(outcomes.iter())?;
    } else {
        let mut table = report::table(["tenant", "recorded", "outcome"]);
        for outcome in &outcomes {
            table.add_row([
                outcome.tenant.to_string(),
                outcome.applied.join(", "),
                outcome.summary(),
            ]);
        }
        report::print(&table)?;
    }
    Ok(if is_done { DONE } else { FAILED })
}

async fn adopt(
    installation: &Installation,
    id: &TenantId,
    choice: Choice,
    is_named: bool,
) -> (Option<String>, Report, Option<Fault>) {
    let mut done = Report::default();
    let tenants = installation.tenants();
    let mut opened = match tenants.open_connection(id, Purpose::Change).await {
        Ok(opened) => opened,
        Err(error) => return (tenants.passive(id).driver, done, Some(Fault::new(&error))),
    };
    let migrations = installation.migrations();
    let (driver, connection) = (&*opened.driver, &mut *opened.connection);
    let database = Database {
        driver,
        config: &opened.config,
        tenant: id,
    };
    let adopted = migrations.adopt(database, connection, choice, is_named).await;
    let file = |name| Done {
        name,
        took: Default::default(),
    };
    let adopted = adopted.map(|names| done.applied = names.into_iter().map(file).collect());
    let looked = migrations.look(driver, connection, choice).await;
    let looked = looked.map(|state| done.version = state.version);
    let fault = adopted.and(looked).err();
    let driver = opened.driver_type.to_string();
    opened.close().await;
    (Some(driver), done, fault.map(|error| Fault::from(&error)))
}
