//! `tenantry migrate`: every tenant's database, a few at a time; what fails for one stops no other.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use tenantry_core::TenantId;

use super::{DONE, FAILED, Stop, report};
use crate::{installation::Installation, migrations::Report};

pub(super) async fn run(
    installation: &Installation,
    only: Vec<String>,
    parallel: usize,
    dry_run: bool,
) -> Result<u8, Stop> {
    let ids = tenants(installation, &only).await?;
    let progress = report::progress(ids.len(), if dry_run { "looking" } else { "migrating" });
    let mut outcomes: Vec<(TenantId, Result<Report, String>)> = futures_util::stream::iter(ids)
        .map(|id| async move { (id, migrate(installation, &id, dry_run).await) })
        .buffer_unordered(parallel)
        .inspect(|_| progress.inc(1))
        .collect()
        .await;
    progress.finish_and_clear();
    outcomes.sort_unstable_by_key(|(id, _)| *id);
    let mut table = report::table([
        "tenant",
        if dry_run { "would apply" } else { "applied" },
        "already there",
        "outcome",
    ]);
    let mut failed = 0;
    for (id, outcome) in outcomes {
        match outcome {
            Ok(done) => table.add_row([
                id.to_string(),
                done.applied.join(", "),
                done.already.to_string(),
                "ok".to_owned(),
            ]),
            Err(error) => {
                failed += 1;
                table.add_row([id.to_string(), String::new(), String::new(), error])
            }
        };
    }
    report::print(&table)?;
    Ok(if failed == 0 { DONE } else { FAILED })
}

async fn tenants(installation: &Installation, only: &[String]) -> Result<BTreeSet<TenantId>, Stop> {
    if only.is_empty() {
        let listed = installation.tenants().list().await;
        let unreachable = |error| Stop::Failure(format!("the tenants cannot be listed: {}", report::chain(&error)));
        return Ok(listed.map_err(unreachable)?.into_iter().collect());
    }
    let parse = |raw: &String| {
        let malformed = |error| Stop::Misuse(format!("--tenant: the id {error}"));
        installation.id_pattern().parse(raw).map_err(malformed)
    };
    only.iter().map(parse).collect()
}

async fn migrate(installation: &Installation, id: &TenantId, dry_run: bool) -> Result<Report, String> {
    let opened = installation.tenants().open_connection(id).await;
    let mut opened = opened.map_err(|error| report::chain(&error))?;
    let sample_data = installation.loaded().config.migrations.sample_data;
    let migrations = installation.migrations();
    let done = if dry_run {
        migrations
            .pending(&*opened.driver, &mut *opened.connection, sample_data)
            .await
    } else {
        migrations
            .apply(
                &*opened.driver,
                &opened.config,
                &mut *opened.connection,
                id,
                sample_data,
            )
            .await
    };
    opened.connection.close().await;
    done.map_err(|error| report::chain(&error))
}
