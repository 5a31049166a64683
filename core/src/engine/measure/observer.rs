//! What the engine tells of its work, for metrics.

use std::time::Duration;

use crate::{DatabaseErrorKind, DriverErrorKind};

/// Is told what the engine has done. It is called by requests on their way, so it must be quick and must not block. What it is told
/// holds no value of a statement and nothing of a secret.
pub trait EngineObserver: Send + Sync {
    /// A statement ended, or a begin, a commit or a rollback.
    fn statement(&self, statement: &StatementEnd<'_>);
    /// A request waited this long for a connection of a database of this driver, its opening included.
    fn connection_acquired(&self, driver: &str, waited: Duration, error: Option<DatabaseErrorKind>);
    /// A connection was opened, or could not be.
    fn connection_opened(&self, driver: &str, took: Duration, error: Option<DriverErrorKind>);
    /// The provider was asked for a secret.
    fn secret_fetched(&self, took: Duration, outcome: FetchOutcome);
}

/// A statement that ended.
#[derive(Debug, Clone, Copy)]
pub struct StatementEnd<'a> {
    /// The driver's type, such as `postgresql`.
    pub driver: &'a str,
    /// What it does in one word of SQL, such as `SELECT`; `OTHER` where it is none of the usual ones.
    pub operation: &'static str,
    /// How long it took, without the wait for its connection.
    pub elapsed: Duration,
    /// Whether it was slow for its tenant, the wait included.
    pub slow: bool,
    /// Why it failed, where it did.
    pub error: Option<DatabaseErrorKind>,
}

/// What came of asking the provider for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchOutcome {
    /// The version that is known already.
    Unchanged,
    /// The first, or another version.
    Changed,
    /// There is no such tenant.
    NotFound,
    /// It was read and cannot be used.
    Invalid,
    /// It was read, and a newer answer was asked for meanwhile: it is read once more.
    Superseded,
    /// The provider could not be asked, or refused; its kind in one word.
    Failed(&'static str),
}

impl FetchOutcome {
    /// In one word, for a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::Superseded => "superseded",
            Self::Failed(kind) => kind,
        }
    }
}
