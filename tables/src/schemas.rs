//! What is known of the tenants' own schemas: those that differ from the declaration.
//!
//! 1. When a tenant's pool is opened, `src/rest/on_connect.rs` reads its catalogue and compares it.
//!    The request that opened it was planned before that. It is answered once more if it was a
//!    read or was refused.
//! 2. A request is refused before any statement if it needs what is missing (`plan::needs`).
//! 3. If the database refuses a statement because something is missing or of another type than is
//!    known, or if step 2 refused, [`Rest::answer`](crate::Rest::answer) reads the catalogue again,
//!    at most once in [`AGAIN`] for a tenant, and answers the request once more.
//!    The same is done before a request if a later version of the schema was found meanwhile.
//! 4. If something is still missing, the answer is 503 `tenant_schema_behind`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use sea_orm::{DbErr, QueryResult};
use tenantry_core::{
    TenantId,
    engine::{SchemaVersion, TenantDatabase},
};

use crate::{
    catalogue::{CatalogueReader, Facts, Named, compare},
    declaration,
    model::Model,
    sql::Dialect,
};

/// After what time a catalogue is read once more, if a request lacks something.
const AGAIN: Duration = Duration::from_secs(1);

/// So many tenants may have their catalogues read again in [`AGAIN`].
const MOST_AGAIN: usize = 10_000;

/// So many tenants that differ are remembered; the one that was found first is forgotten first. On
/// PostgreSQL each tenant with a declared column of an enumeration is among them. A tenant that is
/// forgotten is remembered again by step 3.
const MOST: usize = 100_000;

/// The tenants with differing schemas. For all other tenants a request reads only one number.
#[derive(Debug)]
pub(crate) struct Schemas {
    most: usize,
    known: DashMap<TenantId, Arc<Facts>>,
    /// The known ones, in the order in which they were found.
    found: Mutex<VecDeque<TenantId>>,
    count: AtomicUsize,
    /// When the catalogues of tenants were read again.
    again: Mutex<HashMap<TenantId, Instant>>,
}

impl Default for Schemas {
    fn default() -> Self {
        Self::of_at_most(MOST)
    }
}

impl Schemas {
    fn of_at_most(most: usize) -> Self {
        Self {
            most,
            known: DashMap::new(),
            found: Mutex::default(),
            count: AtomicUsize::new(0),
            again: Mutex::default(),
        }
    }

    pub(crate) fn facts(&self, tenant: &TenantId) -> Option<Arc<Facts>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.known.get(tenant).map(|facts| facts.clone())
    }

    /// Whether the tenant was migrated since its catalogue was read, and may have columns now that
    /// were missing.
    pub(crate) fn is_outdated(&self, database: &TenantDatabase) -> bool {
        let facts = self.facts(database.tenant());
        facts.is_some_and(|facts| facts.is_outdated(number(database.schema_version().as_ref())))
    }

    /// Whether the tenant's catalogue may be read again, which then counts as done: for one request
    /// in each [`AGAIN`].
    pub(crate) fn may_look_again(&self, tenant: &TenantId) -> bool {
        let now = Instant::now();
        let is_recent = |at: &Instant| now.duration_since(*at) < AGAIN;
        let mut again = self.again.lock();
        if again.len() >= MOST_AGAIN {
            again.retain(|_, at| is_recent(at));
        }
        if again.get(tenant).is_some_and(is_recent) || again.len() >= MOST_AGAIN {
            return false;
        }
        again.insert(*tenant, now);
        true
    }

    /// The statement that returns the rows for [`set`](Self::set).
    pub(crate) fn reader(model: &Model, dialect: Dialect) -> CatalogueReader {
        let named = model.tables.iter().map(|table| Named {
            schema: table.schema.clone(),
            table: table.source.clone(),
        });
        CatalogueReader::of_tables(dialect, named.collect())
    }

    /// Compares a tenant's catalogue with the declaration, remembers what differs and logs what is
    /// new of it.
    pub(crate) fn set(
        &self,
        tenant: &TenantId,
        model: &Model,
        dialect: Dialect,
        version: Option<&SchemaVersion>,
        rows: &[QueryResult],
    ) -> Result<(), DbErr> {
        let found = Self::reader(model, dialect).read(rows, &[])?;
        let facts = compare(model, dialect, number(version), &found);
        let before = self.facts(tenant);
        let before = before.as_deref();
        if !facts.drift.is_empty() && before.map(|before| &before.drift) != Some(&facts.drift) {
            tracing::warn!(tenant_id = %tenant, drift = facts.drift.join("; "), "the tenant's tables are not as declared");
        }
        if !facts.missing.is_empty() && before.map(|before| &before.missing) != Some(&facts.missing) {
            tracing::warn!(tenant_id = %tenant, missing = facts.missing.join(", "), "the tenant's schema lacks what is declared");
        }
        self.remember(tenant, facts);
        Ok(())
    }

    fn remember(&self, tenant: &TenantId, facts: Facts) {
        let mut found = self.found.lock();
        if facts.is_plain() && facts.drift.is_empty() {
            if self.known.remove(tenant).is_some() {
                found.retain(|known| known != tenant);
            }
        } else if self.known.insert(*tenant, Arc::new(facts)).is_none() {
            found.push_back(*tenant);
            if found.len() > self.most
                && let Some(first) = found.pop_front()
            {
                self.known.remove(&first);
            }
        }
        self.count.store(found.len(), Ordering::Relaxed);
    }
}

/// The number of a tenant's version, if it is known: 0 before the first migration.
pub(crate) fn number(version: Option<&SchemaVersion>) -> Option<i64> {
    match version?.version.as_deref() {
        None => Some(0),
        Some(text) => declaration::version(text),
    }
}

#[cfg(test)]
mod tests {
    use tenantry_core::TenantIdPattern;

    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantIdPattern::default().parse(&format!("t{number}")).unwrap()
    }

    #[test]
    fn the_first_of_too_many_is_forgotten() {
        let schemas = Schemas::of_at_most(3);
        let differing = || {
            let mut facts = Facts::default();
            facts.drift.push("another type".to_owned());
            facts
        };
        for number in 0..5 {
            schemas.remember(&tenant(number), differing());
            schemas.remember(&tenant(number), differing());
        }
        let known = |number: usize| schemas.facts(&tenant(number)).is_some();
        assert_eq!((0..5).map(known).collect::<Vec<_>>(), [false, false, true, true, true]);
        schemas.remember(&tenant(3), Facts::default());
        schemas.remember(&tenant(0), differing());
        assert_eq!((0..5).map(known).collect::<Vec<_>>(), [true, false, true, false, true]);
    }

    #[test]
    fn a_catalogue_is_read_again_once_in_a_while() {
        let schemas = Schemas::default();
        let began = Instant::now();
        let first: Vec<bool> = (0..3).map(|_| schemas.may_look_again(&tenant(1))).collect();
        // A machine may be so busy that the time is over.
        if began.elapsed() < AGAIN {
            assert_eq!(first, [true, false, false]);
        }
        assert!(schemas.may_look_again(&tenant(2)));
    }
}
