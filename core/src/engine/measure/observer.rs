//! What the engine reports of its work, for metrics.

use std::time::Duration;

use strum::IntoStaticStr;

use crate::{DatabaseErrorKind, DriverErrorKind};

/// Receives what the engine has done. Requests, openings and fetches call it, outside the engine's
/// locks, so it must be quick and must not block or panic: a panic fails what called it, and a
/// second one while a request unwinds ends the process.
/// What it receives holds no value of a statement and nothing of a secret.
pub trait EngineObserver: Send + Sync {
    /// A statement ended; a begin, a commit and a rollback count as statements.
    fn statement(&self, statement: &StatementEnd<'_>);
    /// A request waited this long for a connection, including the time to open it.
    fn connection_acquired(&self, driver: &str, waited: Duration, error: Option<DatabaseErrorKind>);
    /// An attempt to open a connection ended.
    fn connection_opened(&self, driver: &str, took: Duration, error: Option<DriverErrorKind>);
    /// A fetch of a secret from the provider ended.
    fn secret_fetched(&self, took: Duration, outcome: FetchOutcome);
}

/// A statement that ended.
#[derive(Debug, Clone, Copy)]
pub struct StatementEnd<'a> {
    /// The driver's type, such as `postgresql`.
    pub driver: &'a str,
    /// What it does in one word of SQL, such as `SELECT`; `OTHER` if it is none of the usual ones.
    pub operation: &'static str,
    /// How long it took, without the wait for its connection.
    pub elapsed: Duration,
    /// Whether it took longer than its tenant's `query.slow.threshold`.
    pub slow: bool,
    /// Why it failed, if it did.
    pub error: Option<DatabaseErrorKind>,
}

/// The outcome of fetching a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum FetchOutcome {
    /// The provider returned the version that is cached already.
    Unchanged,
    /// The provider returned the first version or another one.
    Changed,
    /// The provider knows no such tenant.
    NotFound,
    /// The secret was read and cannot be used.
    Invalid,
    /// The secret was read, and a refresh asked for a newer answer meanwhile: it is read once more.
    Superseded,
    /// The provider failed or refused; the kind of the error in one word.
    Failed(&'static str),
}

impl FetchOutcome {
    /// The outcome in one word, for a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed(kind) => kind,
            outcome => outcome.into(),
        }
    }
}
