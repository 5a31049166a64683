//! What is shown of tenants' health: how one is, and pages of many. The engine finds the facts out;
//! here they become an answer.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    Cause, DatabaseError, DatabaseErrorKind, Encryption, TenantId, acquire_error::AcquireError,
    on_connect::SchemaVersion,
};

/// How many connections a pool has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// The most it may have.
    pub max: usize,
    /// Those that are open.
    pub open: usize,
    /// Those of them that wait for use.
    pub idle: usize,
    /// Those of them that are used.
    pub in_use: usize,
}

/// How a pool is, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct PoolHealth {
    pub(crate) status: PoolStatus,
    /// Whether it has a connection, or one is being opened.
    pub(crate) is_open: bool,
    /// Whether its database is left alone for now after failures to connect.
    pub(crate) is_broken: bool,
    /// Whether its database is being prepared.
    pub(crate) is_preparing: bool,
    /// Why the last try to connect failed, if it did.
    pub(crate) last_error: Option<DatabaseError>,
}

/// How a tenant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantStatus {
    /// Its database answers, or did when it was last needed.
    Healthy,
    /// Its secret or its database cannot be had.
    Unhealthy,
    /// It is known, and no pool is open or none has connected yet.
    Idle,
    /// An operator suspended it.
    Suspended,
    /// Its migrations run on its first connection.
    Migrating,
    /// Its migrations are below the version that is served.
    Behind,
}

impl TenantStatus {
    /// How a tenant is: why its secret could not be read and whether its requests fail for that,
    /// and what its pool shows, if it has one.
    pub(crate) fn of(
        is_suspended: bool,
        secret_failure: Option<(&AcquireError, bool)>,
        pool: Option<&PoolHealth>,
    ) -> Self {
        match pool {
            _ if is_suspended => Self::Suspended,
            _ if secret_failure.is_some_and(|(_, fails)| fails) => Self::Unhealthy,
            None => Self::Idle,
            // With a connection the tenant is served, though the server may refuse another one.
            Some(pool) if pool.status.open > 0 => Self::Healthy,
            Some(pool) if pool.is_preparing => Self::Migrating,
            Some(pool) => match &pool.last_error {
                Some(error) if error.kind == DatabaseErrorKind::SchemaBehind => Self::Behind,
                Some(_) => Self::Unhealthy,
                None => Self::Idle,
            },
        }
    }
}

/// A tenant's secret as it is kept, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSnapshot {
    /// The provider's version id.
    pub version: String,
    /// How long ago it was read.
    pub age: Duration,
    /// Whether it is past its time, or could not be renewed.
    pub stale: bool,
    /// For how long it may still be used unless its lease is extended; `None` if it has no lease.
    pub expires_in: Option<Duration>,
}

/// How a tenant is now.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSnapshot {
    /// Which one.
    pub id: TenantId,
    /// In one word.
    pub status: TenantStatus,
    /// The driver's type, if the secret is known.
    pub driver: Option<String>,
    /// How long the database took to answer, if it was probed.
    pub latency: Option<Duration>,
    /// When it was asked.
    pub checked_at: Option<DateTime<Utc>>,
    /// Its connections.
    pub pool: PoolStatus,
    /// Its secret, if one is cached.
    pub secret: Option<SecretSnapshot>,
    /// How the last connection is protected, if one was opened.
    pub encryption: Option<Encryption>,
    /// How far its migrations were when they were looked at last.
    pub schema: Option<SchemaVersion>,
    /// What is wrong with its database, as a kind that says nothing secret.
    pub error: Option<String>,
    /// Why its secret could not be read the last time. The tenant may be healthy all the same, with
    /// the secret from before.
    pub secret_error: Option<String>,
    /// The error of a check with its causes, for an operator's terminal. It may name hosts and
    /// paths, and holds no secret.
    pub cause: Option<String>,
}

/// What a check of a tenant came to: the database answered within this time, there was no room for
/// a connection to ask it (`None`), or the check failed.
pub(crate) type Checked = Result<Option<Duration>, CheckFailure>;

/// Why a check failed: the kind, and the error with its causes.
#[derive(Debug, Clone)]
pub(crate) struct CheckFailure {
    kind: String,
    cause: String,
}

/// The kind of a check that had no answer in time.
const TIMED_OUT: &str = "timeout";

impl CheckFailure {
    /// The database did not answer in time.
    pub(crate) fn timed_out() -> Self {
        Self {
            kind: TIMED_OUT.to_owned(),
            cause: "no answer in time".to_owned(),
        }
    }
}

impl From<AcquireError> for CheckFailure {
    fn from(error: AcquireError) -> Self {
        Self {
            kind: error.summary(),
            cause: Cause(&error).to_string(),
        }
    }
}

impl TenantSnapshot {
    /// A tenant that nothing is known of.
    pub(crate) fn idle(id: TenantId) -> Self {
        Self {
            id,
            status: TenantStatus::Idle,
            driver: None,
            latency: None,
            checked_at: None,
            pool: PoolStatus::default(),
            secret: None,
            encryption: None,
            schema: None,
            error: None,
            secret_error: None,
            cause: None,
        }
    }

    /// The same after its database was checked just now.
    pub(crate) fn checked(mut self, checked: Checked) -> Self {
        self.checked_at = Some(Utc::now());
        // After failed migrations the database answers, but the tenant's requests fail, unless the
        // look of the check has found that nothing is left to apply.
        let is_left = self.schema.as_ref().is_none_or(|schema| schema.pending > 0);
        let has_failed = self.error.as_deref() == Some(DatabaseErrorKind::Migration.as_str());
        let is_migrating = self.status == TenantStatus::Migrating;
        let is_unprepared = is_migrating || (has_failed && is_left);
        let (status, error) = match checked {
            Ok(Some(latency)) => {
                self.latency = Some(latency);
                match is_unprepared {
                    true => (self.status, self.error),
                    false => (TenantStatus::Healthy, None),
                }
            }
            Ok(None) => (self.status, self.error),
            // Its migrations run, and the check may have waited for them: that is no failure.
            Err(CheckFailure { kind, .. })
                if kind == DatabaseErrorKind::Migrating.as_str() || (is_migrating && kind == TIMED_OUT) =>
            {
                (TenantStatus::Migrating, None)
            }
            Err(CheckFailure { kind, cause }) => {
                self.cause = Some(cause);
                let is_behind = kind == DatabaseErrorKind::SchemaBehind.as_str();
                let status = if is_behind {
                    TenantStatus::Behind
                } else {
                    TenantStatus::Unhealthy
                };
                (status, Some(kind))
            }
        };
        self.error = error;
        if self.status != TenantStatus::Suspended {
            self.status = status;
        }
        self
    }
}

/// Which tenants are shown.
#[derive(Debug, Clone)]
pub struct HealthQuery {
    /// Whether their databases are asked.
    pub probe: bool,
    /// Only those that are so, before they are asked.
    pub status: Option<TenantStatus>,
    /// Only tenants with an id after these bytes.
    pub after: Option<Vec<u8>>,
    /// How many at most.
    pub limit: usize,
}

impl HealthQuery {
    /// All tenants.
    pub fn all(probe: bool) -> Self {
        Self {
            probe,
            status: None,
            after: None,
            limit: usize::MAX,
        }
    }

    /// Chooses from all tenants, which come in the order of their ids, those that are shown.
    pub(crate) fn choose(&self, all: impl IntoIterator<Item = (TenantId, TenantStatus)>) -> Chosen {
        let mut chosen = Chosen::default();
        for (id, status) in all {
            chosen.counts.0[status as usize] += 1;
            let is_meant = self.status.is_none_or(|meant| meant == status)
                && self.after.as_deref().is_none_or(|last| id.as_str().as_bytes() > last);
            if is_meant && chosen.tenants.len() < self.limit {
                chosen.tenants.push((id, status));
            } else if is_meant {
                chosen.has_more = true;
            }
        }
        chosen
    }
}

/// The tenants of a page before they are looked at more closely.
#[derive(Default)]
pub(crate) struct Chosen {
    counts: StatusCounts,
    tenants: Vec<(TenantId, TenantStatus)>,
    has_more: bool,
}

impl Chosen {
    pub(crate) fn ids(&self) -> impl Iterator<Item = TenantId> {
        self.tenants.iter().map(|(id, _)| *id)
    }

    /// The page, with the snapshots of [`ids`](Self::ids). Those count as their snapshots say.
    pub(crate) fn into_page(mut self, tenants: Vec<TenantSnapshot>, list_error: Option<String>) -> HealthPage {
        for ((_, before), tenant) in self.tenants.iter().zip(&tenants) {
            self.counts.0[*before as usize] -= 1;
            self.counts.0[tenant.status as usize] += 1;
        }
        HealthPage {
            counts: self.counts,
            tenants,
            has_more: self.has_more,
            list_error,
        }
    }
}

/// How many tenants are how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusCounts([usize; 6]);

impl StatusCounts {
    /// How many are so.
    pub fn of(&self, status: TenantStatus) -> usize {
        self.0[status as usize]
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

/// Some tenants, by id.
#[derive(Debug, Clone)]
pub struct HealthPage {
    /// All tenants, also those that are not shown.
    pub counts: StatusCounts,
    /// Those that are shown.
    pub tenants: Vec<TenantSnapshot>,
    /// Whether more of them come after the last one.
    pub has_more: bool,
    /// Why the provider could not list the tenants, as a kind such as `provider_unavailable`. The
    /// page then has only those that the engine knows.
    pub list_error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DriverErrorKind;

    fn id(n: usize) -> TenantId {
        format!("t{n}").parse().unwrap()
    }

    fn pool(open: usize, error: Option<DatabaseErrorKind>) -> PoolHealth {
        PoolHealth {
            status: PoolStatus {
                open,
                ..PoolStatus::default()
            },
            last_error: error.map(DatabaseError::new),
            ..PoolHealth::default()
        }
    }

    #[test]
    fn a_tenant_is_as_its_pool_shows() {
        let unreachable = Some(DatabaseErrorKind::Connect(DriverErrorKind::Unreachable));
        let preparing = PoolHealth {
            is_preparing: true,
            ..pool(0, unreachable)
        };
        let cases = [
            (None, TenantStatus::Idle),
            (Some(pool(0, None)), TenantStatus::Idle),
            (Some(pool(1, unreachable)), TenantStatus::Healthy),
            (Some(pool(0, unreachable)), TenantStatus::Unhealthy),
            (
                Some(pool(0, Some(DatabaseErrorKind::SchemaBehind))),
                TenantStatus::Behind,
            ),
            (Some(preparing), TenantStatus::Migrating),
        ];
        let unread = AcquireError::lost("it is not there");
        for (pool, expected) in cases {
            assert_eq!(
                TenantStatus::of(false, Some((&unread, false)), pool.as_ref()),
                expected,
                "{pool:?}"
            );
            assert_eq!(
                TenantStatus::of(false, Some((&unread, true)), pool.as_ref()),
                TenantStatus::Unhealthy,
                "{pool:?}"
            );
            assert_eq!(
                TenantStatus::of(true, Some((&unread, true)), pool.as_ref()),
                TenantStatus::Suspended,
                "{pool:?}"
            );
        }
    }

    #[test]
    fn a_check_changes_how_a_tenant_is_shown() {
        let before = |status, error: Option<DatabaseErrorKind>| TenantSnapshot {
            status,
            error: error.map(|kind| kind.as_str().to_owned()),
            ..TenantSnapshot::idle(id(1))
        };
        let with = |pending, before| TenantSnapshot {
            schema: Some(SchemaVersion { version: None, pending }),
            ..before
        };
        let answered = || Ok(Some(Duration::from_millis(3)));
        let failed = |kind| Err(AcquireError::Database(DatabaseError::new(kind)).into());
        let behind = DatabaseErrorKind::SchemaBehind;
        let migration = DatabaseErrorKind::Migration;
        let lost = DatabaseErrorKind::ConnectionLost;
        let (idle, unhealthy) = (TenantStatus::Idle, TenantStatus::Unhealthy);
        let cases = [
            (before(idle, None), answered(), TenantStatus::Healthy, None),
            (before(unhealthy, Some(lost)), answered(), TenantStatus::Healthy, None),
            (
                before(unhealthy, Some(migration)),
                answered(),
                unhealthy,
                Some(migration),
            ),
            (
                with(1, before(unhealthy, Some(migration))),
                answered(),
                unhealthy,
                Some(migration),
            ),
            (
                with(0, before(unhealthy, Some(migration))),
                answered(),
                TenantStatus::Healthy,
                None,
            ),
            (
                with(1, before(TenantStatus::Behind, Some(behind))),
                answered(),
                TenantStatus::Healthy,
                None,
            ),
            (
                before(TenantStatus::Migrating, None),
                answered(),
                TenantStatus::Migrating,
                None,
            ),
            (
                before(TenantStatus::Migrating, None),
                Err(CheckFailure::timed_out()),
                TenantStatus::Migrating,
                None,
            ),
            (
                before(TenantStatus::Migrating, None),
                failed(lost),
                unhealthy,
                Some(lost),
            ),
            (before(idle, None), Ok(None), idle, None),
            (before(TenantStatus::Healthy, None), failed(lost), unhealthy, Some(lost)),
            (before(idle, None), failed(behind), TenantStatus::Behind, Some(behind)),
            (
                before(idle, None),
                failed(DatabaseErrorKind::Migrating),
                TenantStatus::Migrating,
                None,
            ),
            (
                before(TenantStatus::Suspended, None),
                failed(DatabaseErrorKind::Migrating),
                TenantStatus::Suspended,
                None,
            ),
            (
                before(TenantStatus::Suspended, None),
                failed(lost),
                TenantStatus::Suspended,
                Some(lost),
            ),
        ];
        for (before, checked, status, error) in cases {
            let context = format!("{before:?}, {checked:?}");
            let latency = checked.clone().ok().flatten();
            let after = before.checked(checked);
            assert_eq!((after.status, after.latency), (status, latency), "{context}");
            assert_eq!(
                after.error.as_deref(),
                error.map(DatabaseErrorKind::as_str),
                "{context}"
            );
            assert!(after.checked_at.is_some());
        }
    }

    #[test]
    fn a_page_counts_all_tenants_and_shows_some() {
        let statuses = [
            TenantStatus::Idle,
            TenantStatus::Healthy,
            TenantStatus::Idle,
            TenantStatus::Idle,
        ];
        let all = || statuses.into_iter().enumerate().map(|(n, status)| (id(n), status));
        let shown = |query: &HealthQuery| {
            let chosen = query.choose(all());
            let snapshots = chosen.ids().map(TenantSnapshot::idle).collect();
            let page = chosen.into_page(snapshots, None);
            assert_eq!(page.counts.total(), 4);
            let ids: Vec<_> = page.tenants.iter().map(|tenant| tenant.id.to_string()).collect();
            (ids, page.has_more)
        };
        let mut query = HealthQuery::all(false);
        assert_eq!(shown(&query).0.len(), 4);
        (query.status, query.limit) = (Some(TenantStatus::Idle), 2);
        assert_eq!(shown(&query), (vec!["t0".to_owned(), "t2".to_owned()], true));
        query.after = Some(b"t2".to_vec());
        assert_eq!(shown(&query), (vec!["t3".to_owned()], false));
        query.limit = 1;
        assert_eq!(shown(&query), (vec!["t3".to_owned()], false));
    }

    #[test]
    fn the_counts_follow_what_a_check_found() {
        let chosen = HealthQuery::all(true).choose([(id(1), TenantStatus::Idle), (id(2), TenantStatus::Idle)]);
        let found = chosen.ids().map(|id| TenantSnapshot {
            status: TenantStatus::Healthy,
            ..TenantSnapshot::idle(id)
        });
        let found = found.take(1).collect();
        let counts = chosen.into_page(found, None).counts;
        assert_eq!(
            (counts.of(TenantStatus::Healthy), counts.of(TenantStatus::Idle)),
            (1, 1)
        );
    }
}
