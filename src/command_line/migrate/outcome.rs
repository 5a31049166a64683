//! What became of each tenant.

use std::{collections::HashSet, sync::Arc};

use serde::Serialize;
use tenantry_core::{TenantId, engine::AcquireError};

use crate::{
    command_line::report,
    migrations::{MigrationError, Report},
};

/// What became of one tenant.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub(super) tenant: TenantId,
    pub(super) driver: Option<Arc<str>>,
    pub(super) version: Option<Arc<str>>,
    /// The files that were applied, or would be.
    pub(super) applied: Arc<[String]>,
    #[serde(skip)]
    pub(super) already: usize,
    pub(super) outcome: Word,
    pub(super) error: Option<Box<Fault>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Ok,
    Failed,
    NotReached,
}

/// Why a tenant's migration failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// The file, if it is about one.
    pub(super) file: Option<String>,
    /// Its line.
    pub(super) line: Option<usize>,
    pub(super) detail: String,
    #[serde(skip)]
    pub(super) statement: Option<usize>,
    /// Whether the provider has no secret for the tenant.
    #[serde(skip)]
    pub(super) is_gone: bool,
}

impl Fault {
    /// The tenant's database could not be reached.
    pub(super) fn new(error: &AcquireError) -> Self {
        Self {
            detail: report::chain(error),
            is_gone: matches!(error, AcquireError::Unknown),
            ..Self::default()
        }
    }

    /// Whether a tenant that the provider `named` has no secret, as after it was deleted in a store
    /// that keeps the name. A warning says so; it is no failure.
    pub(super) fn is_of_deleted(&self, tenant: &TenantId, named: bool) -> bool {
        let is_deleted = self.is_gone && named;
        if is_deleted {
            report::left_out(tenant);
        }
        is_deleted
    }
}

impl From<&MigrationError> for Fault {
    fn from(error: &MigrationError) -> Self {
        Self {
            file: error.file().map(str::to_owned),
            line: error.line(),
            detail: report::chain(error),
            statement: error.statement(),
            is_gone: false,
        }
    }
}

impl Outcome {
    pub(super) fn not_reached(tenant: TenantId) -> Self {
        Self {
            tenant,
            driver: None,
            version: None,
            applied: Arc::from([]),
            already: 0,
            outcome: Word::NotReached,
            error: None,
        }
    }

    /// The last cell of a row.
    pub(super) fn summary(&self) -> String {
        match (&self.error, self.outcome) {
            (Some(fault), _) => fault.detail.clone(),
            (None, Word::NotReached) => "not reached".to_owned(),
            (None, _) => "ok".to_owned(),
        }
    }
}

/// Texts that many tenants have in common, each kept once: what is kept of a tenant stays small.
#[derive(Default)]
pub(super) struct Shared {
    texts: HashSet<Arc<str>>,
    lists: HashSet<Arc<[String]>>,
}

impl Shared {
    pub(super) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }

    pub(super) fn list(&mut self, list: Vec<String>) -> Arc<[String]> {
        if let Some(known) = self.lists.get(list.as_slice()) {
            return known.clone();
        }
        let new: Arc<[String]> = list.into();
        self.lists.insert(new.clone());
        new
    }

    /// What became of a tenant that was reached.
    pub(super) fn outcome(
        &mut self,
        tenant: TenantId,
        driver: Option<&str>,
        done: Report,
        error: Option<Fault>,
    ) -> Outcome {
        Outcome {
            tenant,
            driver: driver.map(|driver| self.text(driver)),
            version: done.version.as_deref().map(|version| self.text(version)),
            applied: self.list(done.applied.into_iter().map(|file| file.name).collect()),
            already: done.already,
            outcome: if error.is_none() { Word::Ok } else { Word::Failed },
            error: error.map(Box::new),
        }
    }
}
