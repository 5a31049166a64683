//! What is known of the tenants' own schemas: those that differ from the declaration.
//!
//! 1. When a tenant's pool is opened, `src/rest/on_connect.rs` reads its catalogue and compares it.
//! 2. A request is refused before any statement if it needs what is missing (`plan::needs`).
//! 3. If the database refuses a statement because something is missing, or if step 2 refused,
//!    [`Rest::answer`](crate::Rest::answer) reads the catalogue again, at most once in [`AGAIN`] if
//!    the tenant is known to differ, and answers the request once more.
//! 4. If something is still missing, the answer is 503 `tenant_schema_behind`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use sea_orm::{DbErr, QueryResult};
use tenantry_core::TenantId;

use crate::{
    catalogue::{CatalogueReader, Facts, compare},
    model::Model,
    sql::Dialect,
};

/// After what time a catalogue that lacked something is read once more, if a request needs it.
const AGAIN: Duration = Duration::from_secs(1);

/// So many tenants that differ are remembered, until the process ends. On PostgreSQL each tenant
/// with a declared column of an enumeration is among them. Of others the database itself reports
/// what is missing, and PostgreSQL refuses to write an enumeration.
const MOST: usize = 100_000;

/// The tenants with differing schemas. For all other tenants a request reads only one number.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    known: DashMap<TenantId, Known>,
    count: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Known {
    facts: Arc<Facts>,
    read_at: Instant,
}

impl Schemas {
    pub(crate) fn facts(&self, tenant: &TenantId) -> Option<Arc<Facts>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.known.get(tenant).map(|known| known.facts.clone())
    }

    /// Whether the catalogue must be read again. If something of the tenant is remembered, it
    /// returns true for one request in each [`AGAIN`]; otherwise it returns true for every request.
    pub(crate) fn is_outdated(&self, tenant: &TenantId) -> bool {
        match self.known.get_mut(tenant) {
            None => true,
            Some(mut known) => {
                let outdated = known.read_at.elapsed() >= AGAIN;
                if outdated {
                    known.read_at = Instant::now();
                }
                outdated
            }
        }
    }

    /// The statement that returns the rows for [`set`](Self::set).
    pub(crate) fn reader(model: &Model, dialect: Dialect) -> CatalogueReader {
        let tables = model.tables.iter().map(|table| table.source.clone()).collect();
        CatalogueReader::of_tables(dialect, tables)
    }

    /// Compares a tenant's catalogue with the declaration, remembers what differs and logs what is
    /// new of it.
    pub(crate) fn set(
        &self,
        tenant: &TenantId,
        model: &Model,
        dialect: Dialect,
        rows: &[QueryResult],
    ) -> Result<(), DbErr> {
        let found = Self::reader(model, dialect).read(rows, &[])?;
        let facts = compare(model, dialect, &found);
        let before = self.facts(tenant);
        let is_news = before.as_deref() != Some(&facts);
        if is_news && !facts.drift.is_empty() {
            tracing::warn!(tenant_id = %tenant, drift = facts.drift.join("; "), "the tenant's tables are not as declared");
        }
        if is_news && !facts.missing.is_empty() {
            tracing::info!(tenant_id = %tenant, missing = facts.missing.join(", "), "the tenant's schema lacks what is declared");
        }
        self.remember(tenant, facts);
        Ok(())
    }

    fn remember(&self, tenant: &TenantId, facts: Facts) {
        if facts.is_plain() && facts.drift.is_empty() {
            if self.known.remove(tenant).is_some() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            return;
        }
        let known = Known {
            facts: Arc::new(facts),
            read_at: Instant::now(),
        };
        match self.known.entry(*tenant) {
            Entry::Occupied(mut there) => drop(there.insert(known)),
            Entry::Vacant(place) if self.count.load(Ordering::Relaxed) < MOST => {
                place.insert(known);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            Entry::Vacant(_) => {}
        }
    }
}
