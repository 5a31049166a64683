//! Applies the files to every tenant, wave after wave.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use futures_util::StreamExt as _;
use serde_json::json;
use tenantry_core::{DatabaseDriver, Purpose, TenantId};

use super::{
    flags::{Apply, Only},
    journal::Journal,
    outcome::{Fault, Outcome, Shared, Word},
    print_json, tenants,
    waves::Plan,
};
use crate::{
    command_line::{DONE, FAILED, Stop, report},
    installation::Installation,
    migrations::{Choice, Database, Report, State},
    server::Signals,
};

/// The most rows of a table: of more tenants than these, only those are shown that are not well.
const MOST_ROWS: usize = 1000;

pub(super) async fn run(installation: &Installation, flags: Apply) -> Result<u8, Stop> {
    let stopped = stop_when_asked();
    let choice = choice(installation, flags.to.as_deref())?;
    let mut ids = tenants(installation, &flags.tenant).await?;
    if let Some(only) = flags.only {
        ids = select(installation, ids, choice, only, usize::from(flags.parallel), &stopped).await;
    }
    let tenants = ids.len();
    let plan = Plan::new(&flags.wave, ids).map_err(|wrong| Stop::Misuse(format!("--wave: {wrong}")))?;
    let report_file = installation.loaded().config.migrations.report.as_deref();
    let report_file = report_file
        .filter(|_| !flags.dry_run)
        .map(|file| installation.loaded().path(file));
    let run = Run {
        installation,
        choice,
        dry_run: flags.dry_run,
        is_listed: flags.tenant.is_empty(),
        parallel: usize::from(flags.parallel),
        stop_at: flags.stop_after.map_or(usize::MAX, |rule| rule.of(tenants)),
        failures: AtomicUsize::new(0),
        stopped,
        shared: Mutex::default(),
        journal: Journal::open(report_file.as_deref()).await?,
        applied: Mutex::default(),
    };
    let outcomes = run.all(plan, tenants).await;
    show(&outcomes, &flags)?;
    let count = |word| outcomes.iter().filter(|outcome| outcome.outcome == word).count();
    let (ok, failed, not_reached) = (count(Word::Ok), count(Word::Failed), count(Word::NotReached));
    run.journal.end(ok, failed, not_reached).await?;
    Ok(if failed + not_reached == 0 { DONE } else { FAILED })
}

/// SIGTERM and Ctrl-C set what is returned: tenants that have begun go on to their end. A second
/// signal ends the process at once.
fn stop_when_asked() -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let set = stopped.clone();
    // If this fails, a signal ends the process, as it does by default.
    if let Ok(mut signals) = Signals::listen() {
        tokio::spawn(async move {
            signals.next().await;
            set.store(true, Ordering::Release);
            report::note(format_args!(
                "asked to stop: tenants that have begun are finished, and no other one is begun"
            ));
            signals.next().await;
            report::note(format_args!("ended at once: run it again to go on where it was"));
            std::process::exit(FAILED.into());
        });
    }
    stopped
}

/// What the configuration and `--to` say is applied.
pub(super) fn choice(installation: &Installation, to: Option<&str>) -> Result<Choice, Stop> {
    let to = to.map(|text| installation.migrations().version(text));
    Ok(Choice {
        sample_data: installation.loaded().config.migrations.sample_data,
        to: to.transpose().map_err(|wrong| Stop::Misuse(format!("--to: {wrong}")))?,
    })
}

/// The tenants that `--only` means. One that cannot be looked at is meant, since the run then
/// reports why, and so is each one after the run was asked to stop.
async fn select(
    installation: &Installation,
    ids: BTreeSet<TenantId>,
    choice: Choice,
    only: Only,
    parallel: usize,
    stopped: &AtomicBool,
) -> BTreeSet<TenantId> {
    let progress = report::progress(ids.len(), "looking");
    let selected = futures_util::stream::iter(ids)
        .map(|id| async move {
            if stopped.load(Ordering::Acquire) {
                return (id, true);
            }
            let is_meant = match look(installation, &id, choice).await {
                Ok((_, state)) if only == Only::Failed => state.failed.is_some() || !state.changed.is_empty(),
                Ok((_, state)) => !state.pending.is_empty() || !state.changed.is_empty(),
                Err(_) => true,
            };
            (id, is_meant)
        })
        .buffer_unordered(parallel)
        .inspect(|_| progress.inc(1))
        .filter_map(|(id, is_meant)| std::future::ready(is_meant.then_some(id)))
        .collect()
        .await;
    progress.finish_and_clear();
    selected
}

/// Looks at one tenant's database; returns its driver's type and how far it is.
pub(super) async fn look(installation: &Installation, id: &TenantId, choice: Choice) -> Result<(String, State), Fault> {
    let opened = installation.tenants().open_connection(id, Purpose::Look).await;
    let mut opened = opened.map_err(|error| Fault::new(&error))?;
    let looked = installation
        .migrations()
        .look(&*opened.driver, &mut *opened.connection, choice)
        .await;
    let driver = opened.driver_type.to_string();
    opened.close().await;
    let state = looked.map_err(|error| Fault::from(&error))?;
    Ok((driver, state))
}

struct Run<'a> {
    installation: &'a Installation,
    choice: Choice,
    dry_run: bool,
    /// Whether the provider named the tenants, and not the command line.
    is_listed: bool,
    parallel: usize,
    /// The failure after which no other tenant is begun.
    stop_at: usize,
    failures: AtomicUsize,
    /// Whether the run was asked to stop: no other tenant is begun.
    stopped: Arc<AtomicBool>,
    shared: Mutex<Shared>,
    journal: Journal,
    /// The files that were applied, by the driver's type, with whether their warnings were shown.
    applied: Mutex<BTreeMap<String, Applied>>,
}

struct Applied {
    driver: Arc<dyn DatabaseDriver>,
    fresh: BTreeSet<String>,
    shown: BTreeSet<String>,
}

impl Run<'_> {
    /// What became of each tenant, by id.
    async fn all(&self, plan: Plan, tenants: usize) -> Vec<Outcome> {
        let sizes: Vec<usize> = plan.waves.iter().map(Vec::len).collect();
        let stop_after = Some(self.stop_at).filter(|stop| *stop < usize::MAX);
        let begun = json!({"tenants": tenants, "waves": sizes, "stop_after": stop_after, "to": self.choice.to});
        self.journal.begin(begun).await;
        let progress = report::progress(tenants, if self.dry_run { "looking" } else { "migrating" });
        let mut outcomes = Vec::with_capacity(tenants);
        for (index, wave) in plan.waves.into_iter().enumerate() {
            let mut running = futures_util::stream::iter(wave)
                .map(|id| self.tenant(index + 1, id))
                .buffer_unordered(self.parallel);
            while let Some(outcome) = running.next().await {
                progress.inc(1);
                outcomes.extend(outcome);
            }
            progress.suspend(|| self.warn());
        }
        for id in plan.left_out {
            let outcome = Outcome::not_reached(id);
            self.journal.tenant(0, &outcome, &[], Default::default()).await;
            outcomes.push(outcome);
        }
        progress.finish_and_clear();
        outcomes.sort_unstable_by_key(|outcome| outcome.tenant);
        outcomes
    }

    /// Shows the warnings of files that were applied since they were shown last.
    fn warn(&self) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, Applied { driver, fresh, shown }) in applied.iter_mut() {
            for warning in self.installation.migrations().warnings(&**driver, fresh) {
                report::note(format_args!(
                    "warning: {name}/{} line {}: {}",
                    warning.file, warning.line, warning.text
                ));
            }
            shown.append(fresh);
        }
    }

    /// Returns nothing for a tenant that was deleted.
    async fn tenant(&self, wave: usize, id: TenantId) -> Option<Outcome> {
        let began = Instant::now();
        if self.stopped.load(Ordering::Acquire) || self.failures.load(Ordering::Acquire) >= self.stop_at {
            let outcome = Outcome::not_reached(id);
            self.journal.tenant(wave, &outcome, &[], began.elapsed()).await;
            return Some(outcome);
        }
        let mut done = Report::default();
        let (driver, error) = self.migrate(&id, &mut done).await;
        let is_deleted = |fault: &Fault| fault.is_of_deleted(&id, self.is_listed);
        if error.as_ref().is_some_and(is_deleted) {
            return None;
        }
        if error.is_some() {
            self.failures.fetch_add(1, Ordering::AcqRel);
        }
        let applied = done.applied.clone();
        let outcome = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.outcome(id, driver.as_deref(), done, error)
        };
        if !self.dry_run {
            self.journal.tenant(wave, &outcome, &applied, began.elapsed()).await;
        }
        Some(outcome)
    }

    /// Returns the driver's type, if it is known, and why it failed.
    async fn migrate(&self, id: &TenantId, done: &mut Report) -> (Option<String>, Option<Fault>) {
        let tenants = self.installation.tenants();
        let purpose = if self.dry_run { Purpose::Look } else { Purpose::Change };
        let mut opened = match tenants.open_connection(id, purpose).await {
            Ok(opened) => opened,
            Err(error) => return (tenants.passive(id).driver, Some(Fault::new(&error))),
        };
        let migrations = self.installation.migrations();
        let (driver, connection) = (&*opened.driver, &mut *opened.connection);
        let database = Database {
            driver,
            config: &opened.config,
            tenant: id,
        };
        let ended = if self.dry_run {
            migrations.rehearse(database, connection, self.choice, done).await
        } else {
            migrations.apply(database, connection, self.choice, done).await
        };
        let (driver, name) = (opened.driver.clone(), opened.driver_type.to_string());
        opened.close().await;
        self.note(driver, &name, done);
        (Some(name), ended.err().map(|error| Fault::from(&error)))
    }

    /// Notes the files that were applied, for their warnings.
    fn note(&self, driver: Arc<dyn DatabaseDriver>, name: &str, done: &Report) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = applied.entry(name.to_owned()).or_insert_with(|| Applied {
            driver,
            fresh: BTreeSet::new(),
            shown: BTreeSet::new(),
        });
        for file in &done.applied {
            if !entry.shown.contains(&file.name) {
                entry.fresh.insert(file.name.clone());
            }
        }
    }
}

fn show(outcomes: &[Outcome], flags: &Apply) -> Result<(), Stop> {
    if flags.json {
        return print_json(outcomes.iter());
    }
    let mut table = report::table([
        "tenant",
        if flags.dry_run { "would apply" } else { "applied" },
        "already there",
        "outcome",
    ]);
    let count = |word| outcomes.iter().filter(|outcome| outcome.outcome == word).count();
    let (ok, failed, not_reached) = (count(Word::Ok), count(Word::Failed), count(Word::NotReached));
    let is_short = outcomes.len() <= MOST_ROWS;
    let rows = outcomes
        .iter()
        .filter(|outcome| is_short || outcome.outcome != Word::Ok)
        .take(MOST_ROWS);
    for outcome in rows {
        let already = match outcome.outcome {
            Word::Ok => outcome.already.to_string(),
            _ => String::new(),
        };
        table.add_row([
            outcome.tenant.to_string(),
            outcome.applied.join(", "),
            already,
            outcome.summary(),
        ]);
    }
    report::print(&table)?;
    report::print(format_args!("{ok} ok, {failed} failed, {not_reached} not reached"))
}
