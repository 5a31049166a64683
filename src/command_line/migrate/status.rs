//! `tenantry migrate status`: how far every tenant's database is, and what differs from the others.

use std::{collections::HashMap, sync::Arc};

use futures_util::StreamExt as _;
use serde::Serialize;
use tenantry_core::{Purpose, TenantId};

use super::{
    apply::choice,
    drift::Structures,
    flags::Status,
    outcome::{Fault, Shared},
    print_json, tenants,
};
use crate::{
    command_line::{DONE, FAILED, Stop, report},
    installation::Installation,
    migrations::{Choice, State, Structure},
};

/// The most rows of a table: of more tenants than these, only those are shown that are not current.
const MOST_ROWS: usize = 1000;

/// One tenant, as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    tenant: TenantId,
    driver: Option<Arc<str>>,
    version: Option<Arc<str>>,
    pending: Arc<[String]>,
    failed: Option<String>,
    changed: Arc<[String]>,
    ahead: Arc<[String]>,
    drift: Arc<[String]>,
    error: Option<Box<Fault>>,
    /// Which structure its database has, if it can be compared.
    #[serde(skip)]
    fingerprint: Option<u64>,
}

impl Row {
    fn is_current(&self) -> bool {
        let lists = [&self.pending, &self.changed, &self.ahead];
        self.failed.is_none()
            && self.error.is_none()
            && self.drift.is_empty()
            && lists.iter().all(|list| list.is_empty())
    }

    /// What is not as it should be, for the table.
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut list = |what: &str, names: &[String]| {
            if !names.is_empty() {
                parts.push(format!("{what} {}", names.join(", ")));
            }
        };
        list("failed:", self.failed.as_slice());
        list("changed:", &self.changed);
        list("ahead:", &self.ahead);
        list("drift:", &self.drift);
        if let Some(fault) = &self.error {
            parts.push(fault.detail.clone());
        }
        match parts.is_empty() {
            true if self.pending.is_empty() => "current".to_owned(),
            true => "behind".to_owned(),
            false => parts.join("; "),
        }
    }
}

pub(super) async fn run(installation: &Installation, flags: Status) -> Result<u8, Stop> {
    let choice = choice(installation, None)?;
    let ids = tenants(installation, &flags.tenant).await?;
    let template = match &flags.template {
        None => None,
        Some(raw) => Some(Template::read(installation, raw, choice).await?),
    };
    let progress = report::progress(ids.len(), "looking");
    let mut shared = Shared::default();
    let mut structures = Structures::default();
    let mut rows = Vec::with_capacity(ids.len());
    let mut looking = futures_util::stream::iter(ids)
        .map(|id| async move { (id, look(installation, &id, choice).await) })
        .buffer_unordered(usize::from(flags.parallel));
    while let Some((id, found)) = looking.next().await {
        progress.inc(1);
        let is_listed = flags.tenant.is_empty();
        if !matches!(&found, Err(fault) if fault.is_of_deleted(&id, is_listed)) {
            let mut row = row(id, found, &mut shared, &mut structures);
            let known = || installation.tenants().passive(&id).driver;
            row.driver = row.driver.or_else(|| known().map(|driver| shared.text(&driver)));
            rows.push(row);
        }
    }
    progress.finish_and_clear();
    rows.sort_unstable_by_key(|row| row.tenant);
    match template {
        Some(template) => template.compare(&mut rows, &structures),
        None => compare_with_most(&mut rows, &structures),
    }
    show(&rows, flags.json)?;
    Ok(if rows.iter().all(Row::is_current) { DONE } else { FAILED })
}

/// What was found of one tenant.
struct Found {
    driver: String,
    state: State,
    structure: Option<Structure>,
}

async fn look(installation: &Installation, id: &TenantId, choice: Choice) -> Result<Found, Fault> {
    let opened = installation.tenants().open_connection(id, Purpose::Look).await;
    let mut opened = opened.map_err(|error| Fault::new(&error))?;
    let (driver, connection) = (&*opened.driver, &mut *opened.connection);
    let found = async {
        let state = installation.migrations().look(driver, connection, choice).await?;
        let structure = Structure::read(driver, connection).await?;
        Ok((state, structure))
    };
    let found = found.await;
    let driver = opened.driver_type.to_string();
    opened.close().await;
    let (state, structure) = found.map_err(|error| Fault::from(&error))?;
    Ok(Found {
        driver,
        state,
        structure,
    })
}

fn row(tenant: TenantId, found: Result<Found, Fault>, shared: &mut Shared, structures: &mut Structures) -> Row {
    let (found, error) = match found {
        Ok(found) => (Some(found), None),
        Err(fault) => (None, Some(Box::new(fault))),
    };
    let driver = found.as_ref().map(|found| shared.text(&found.driver));
    let (state, structure) = match found {
        Some(Found { state, structure, .. }) => (state, structure),
        None => (State::default(), None),
    };
    // What was changed is in a list of its own.
    let refused = state.refused().filter(|_| state.changed.is_empty());
    let error = error.or_else(|| refused.map(|error| Box::new(Fault::from(&error))));
    // A file that failed half-way has left the others behind anyway.
    let structure = structure.filter(|_| state.failed.is_none());
    Row {
        tenant,
        driver,
        version: state.version.as_deref().map(|version| shared.text(version)),
        pending: shared.list(state.pending),
        failed: state.failed,
        changed: shared.list(state.changed),
        ahead: shared.list(state.ahead),
        drift: Arc::from([]),
        error,
        fingerprint: structure.map(|structure| structures.keep(structure)),
    }
}

/// Compares each tenant with what most tenants of its driver and version have.
fn compare_with_most(rows: &mut [Row], structures: &Structures) {
    let mut groups: HashMap<_, Vec<usize>> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        if row.fingerprint.is_some() {
            let group = (row.driver.clone(), row.version.clone());
            groups.entry(group).or_default().push(index);
        }
    }
    for group in groups.into_values() {
        let fingerprints = group.iter().filter_map(|index| rows[*index].fingerprint);
        let most = structures.most(fingerprints);
        let drifts = structures.compared_with(&most, "the others");
        for index in group {
            if let Some(fingerprint) = rows[index].fingerprint {
                rows[index].drift = drifts.of(fingerprint);
            }
        }
    }
}

/// The tenant that the others are compared with.
struct Template {
    name: String,
    found: Found,
    structure: Structure,
}

impl Template {
    async fn read(installation: &Installation, raw: &str, choice: Choice) -> Result<Self, Stop> {
        let malformed = |error| Stop::Misuse(format!("--template: the id {error}"));
        let id: TenantId = installation.id_pattern().parse(raw).map_err(malformed)?;
        let unread = |reason: String| Stop::Failure(format!("--template: `{id}` cannot be looked at: {reason}"));
        let mut found = look(installation, &id, choice)
            .await
            .map_err(|fault| unread(fault.detail))?;
        let structure = found.structure.take();
        let structure = structure.ok_or_else(|| unread("its driver does not say what it is made of".to_owned()))?;
        Ok(Self {
            name: format!("`{id}`"),
            found,
            structure,
        })
    }

    /// Only databases of its own kind and version can be compared with it.
    fn compare(&self, rows: &mut [Row], structures: &Structures) {
        let drifts = structures.compared_with(&self.structure, &self.name);
        for row in rows {
            let is_alike = row.driver.as_deref() == Some(&self.found.driver)
                && row.version.as_deref() == self.found.state.version.as_deref();
            if let Some(fingerprint) = row.fingerprint.filter(|_| is_alike) {
                row.drift = drifts.of(fingerprint);
            }
        }
    }
}

fn show(rows: &[Row], json: bool) -> Result<(), Stop> {
    if json {
        return print_json(rows.iter());
    }
    let mut table = report::table(["tenant", "driver", "version", "pending", "state"]);
    let is_short = rows.len() <= MOST_ROWS;
    for row in rows.iter().filter(|row| is_short || !row.is_current()).take(MOST_ROWS) {
        let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
        let pending = match row.pending.len() {
            0 => "-".to_owned(),
            1..=3 => row.pending.join(", "),
            more => format!("{more} from {}", row.pending[0]),
        };
        table.add_row([
            row.tenant.to_string(),
            text(&row.driver),
            text(&row.version),
            pending,
            row.summary(),
        ]);
    }
    report::print(&table)?;
    let current = rows.iter().filter(|row| row.is_current()).count();
    report::print(format_args!("{current} current, {} not", rows.len() - current))
}
