//! Jobs that run for each tenant, on one of several instances.
//!
//! A run is claimed in the tenant's own database, in the table `tenantry_jobs`: the instance that
//! changes the row has the run. The row also contains the next due time, so a daily job runs once a
//! day for any number of instances and restarts.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt as _;
use sea_orm::{ConnectionTrait as _, DbErr, ExprTrait as _, Statement, sea_query};
use sea_query::{ColumnDef, Expr, Query, Table};
use tenantry_core::{
    BoxError, Cause, DatabaseErrorKind, TenantId,
    engine::{AcquireError, TenantDatabase, Tenants},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

const TABLE: &str = "tenantry_jobs";
/// The longest name of a job.
const LONGEST_NAME: u32 = 100;
/// For how many tenants a job runs at once.
const AT_ONCE: usize = 4;
/// How long a run may take.
const LONGEST_RUN: Duration = Duration::from_secs(3600);
/// How long after that another instance may begin it: what was cut off may need time to end, and
/// clocks differ.
const MARGIN: Duration = Duration::from_secs(60);
/// When a run that failed is repeated, at the latest.
const RETRY: Duration = Duration::from_secs(300);
/// How often tenants are listed, at the least and at the most.
const LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));

/// When a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule(When);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Every(Duration),
    /// The time since midnight, UTC.
    Daily(Duration),
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Schedule {
    /// So often, and the first time at once. Shorter than a second counts as a second.
    pub const fn every(period: Duration) -> Self {
        let shortest = Duration::from_secs(1);
        match period.as_millis() < shortest.as_millis() {
            true => Self(When::Every(shortest)),
            false => Self(When::Every(period)),
        }
    }

    /// Every day at this time, in UTC; hours and minutes past 23:59 go on to the next day.
    pub const fn daily(hour: u8, minute: u8) -> Self {
        let seconds = hour as u64 * 3600 + minute as u64 * 60;
        Self(When::Daily(Duration::from_secs(seconds % DAY.as_secs())))
    }

    /// When it is due for a tenant that it never ran for.
    fn first(self, now: Duration) -> Duration {
        match self.0 {
            When::Every(_) => now,
            When::Daily(_) => self.next(now),
        }
    }

    /// When it is due again after a run that began at `now`, both since 1970.
    fn next(self, now: Duration) -> Duration {
        match self.0 {
            When::Every(period) => now + period,
            When::Daily(time) => {
                let midnight = Duration::from_secs(now.as_secs() / DAY.as_secs() * DAY.as_secs());
                let today = midnight + time;
                if today > now { today } else { today + DAY }
            }
        }
    }

    /// How often to look for tenants that are new or due.
    fn look(self) -> Duration {
        let period = match self.0 {
            When::Every(period) => period,
            When::Daily(_) => DAY,
        };
        (period / 4).clamp(LOOK.0, LOOK.1)
    }

    /// When a run that failed is repeated.
    fn retry(self) -> Duration {
        match self.0 {
            When::Every(period) => period.min(RETRY),
            When::Daily(_) => RETRY,
        }
    }
}

/// Whether this instance may run `name` now. It returns true for one caller in each `period`, for
/// any number of instances. The claim is a row in this tenant's database. For work that concerns
/// all tenants, use the database of a tenant that you own.
///
/// # Errors
/// As a statement's.
pub async fn claim(database: &TenantDatabase, name: &str, period: Duration) -> Result<bool, DbErr> {
    let now = since_epoch();
    let claimed = claim_until(database, name, now, now, now + period).await?;
    Ok(claimed == Claim::Ours)
}

#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// The run is this instance's.
    Ours,
    /// It is due then, or another instance has it until then.
    Due(Duration),
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Claims a run that is due now, and says until when it is claimed. `first` is when a job that has
/// no row yet is due.
async fn claim_until(
    database: &TenantDatabase,
    name: &str,
    now: Duration,
    first: Duration,
    until: Duration,
) -> Result<Claim, DbErr> {
    let found = match has_table(database).await? {
        Some(true) => due(database, name).await?,
        Some(false) => {
            create_table(database).await;
            due(database, name).await?
        }
        None => match due(database, name).await {
            Ok(found) => found,
            // Most likely the table is missing. If not, making it fails as well, and the next read
            // reports it.
            Err(_) => {
                create_table(database).await;
                due(database, name).await?
            }
        },
    };
    if let Some(due) = found {
        if due > now {
            return Ok(Claim::Due(due));
        }
        let update = Query::update()
            .table(TABLE)
            .value("due", milliseconds(until))
            .and_where(Expr::col("name").eq(name))
            .and_where(Expr::col("due").eq(milliseconds(due)))
            .to_owned();
        let changed = database.execute(&update).await?.rows_affected();
        return Ok(if changed == 1 { Claim::Ours } else { Claim::Due(until) });
    }
    let is_due = first <= now;
    let insert = Query::insert()
        .into_table(TABLE)
        .columns(["name", "due"])
        .values_panic([name.into(), milliseconds(if is_due { until } else { first }).into()])
        .to_owned();
    match database.execute(&insert).await {
        Ok(_) if is_due => Ok(Claim::Ours),
        Ok(_) => Ok(Claim::Due(first)),
        // Another instance was faster.
        Err(error) if DatabaseErrorKind::of(&error) == DatabaseErrorKind::UniqueViolation => Ok(Claim::Due(until)),
        Err(error) => Err(error),
    }
}

/// Whether the table is there, on the kinds of database whose catalogue is known here: reading a
/// table that is missing would leave a warning in the log for each tenant.
async fn has_table(database: &TenantDatabase) -> Result<Option<bool>, DbErr> {
    let sql = match database.driver() {
        "sqlite" => "SELECT COUNT(*) AS found FROM sqlite_master WHERE name = 'tenantry_jobs'",
        "postgresql" => "SELECT COUNT(to_regclass('tenantry_jobs')) AS found",
        "mysql" => {
            "SELECT COUNT(*) AS found FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = 'tenantry_jobs'"
        }
        _ => return Ok(None),
    };
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let Some(row) = database.query_one_raw(statement).await? else {
        return Ok(None);
    };
    let found: i64 = row.try_get("", "found")?;
    Ok(Some(found > 0))
}

async fn due(database: &TenantDatabase, name: &str) -> Result<Option<Duration>, DbErr> {
    let select = Query::select()
        .column("due")
        .from(TABLE)
        .and_where(Expr::col("name").eq(name))
        .to_owned();
    let Some(row) = database.query_one(&select).await? else {
        return Ok(None);
    };
    let due: i64 = row.try_get("", "due")?;
    Ok(Some(Duration::from_millis(u64::try_from(due).unwrap_or_default())))
}

/// Records the next run in place of the claim `until`. Returns false if another instance has
/// claimed the run since.
async fn set_due(database: &TenantDatabase, name: &str, until: Duration, due: Duration) -> Result<bool, DbErr> {
    let update = Query::update()
        .table(TABLE)
        .value("due", milliseconds(due))
        .and_where(Expr::col("name").eq(name))
        .and_where(Expr::col("due").eq(milliseconds(until)))
        .to_owned();
    Ok(database.execute(&update).await?.rows_affected() == 1)
}

async fn create_table(database: &TenantDatabase) {
    let mut table = Table::create()
        .table(TABLE)
        .col(ColumnDef::new("name").string_len(LONGEST_NAME).not_null().primary_key())
        .col(ColumnDef::new("due").big_integer().not_null())
        .to_owned();
    if database.driver() != "oracle" {
        table.if_not_exists();
    }
    // Another instance may make it at the same time.
    if let Err(error) = database.execute(&table).await {
        let error = Cause(&error);
        tracing::debug!(tenant_id = %database.tenant(), %error, "the table of jobs cannot be made");
    }
}

/// The tenants that were seen so far.
#[derive(Default)]
struct Known(BTreeSet<TenantId>);

impl Known {
    /// Every tenant that the provider lists; while it cannot be asked, those that it listed last
    /// and those that have sent requests since.
    async fn look(&mut self, name: &str, tenants: &Tenants) {
        match tenants.list().await {
            Ok(listed) => self.0 = listed.into_iter().collect(),
            Err(error) => {
                self.0
                    .extend(tenants.usage_snapshot().known.iter().map(|tenant| tenant.id));
                let error = Cause(&error);
                tracing::warn!(
                    job = name, %error, tenants = self.0.len(),
                    "the tenants cannot be listed; the job runs for those that are known"
                );
            }
        }
    }
}

/// Runs `job` for every tenant when it is due, until `stop`.
pub(crate) async fn each_tenant<F>(
    name: &'static str,
    schedule: Schedule,
    job: Arc<impl Fn(TenantDatabase) -> F + Send + Sync + 'static>,
    tenants: Tenants,
    stop: CancellationToken,
) where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    // To list the tenants may take minutes, and no run waits for it.
    let looked = async |at: Instant, mut known: Known| {
        tokio::time::sleep_until(at).await;
        known.look(name, &tenants).await;
        known
    };
    let mut looking = Box::pin(looked(Instant::now(), Known::default()));
    let mut due: HashMap<TenantId, Duration> = HashMap::new();
    let (mut waiting, mut running) = (VecDeque::new(), JoinSet::new());
    let mut waiting_or_running = HashSet::new();
    while !stop.is_cancelled() {
        while running.len() < AT_ONCE
            && let Some(tenant) = waiting.pop_front()
        {
            let (job, tenants) = (job.clone(), tenants.clone());
            running.spawn(async move { (tenant, run_for(name, schedule, &*job, &tenants, tenant).await) });
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = running.join_next() => match ended {
                Ok((tenant, next)) => {
                    waiting_or_running.remove(&tenant);
                    due.insert(tenant, next);
                }
                Err(error) => tracing::error!(job = name, %error, "a job ended for a tenant and is not repeated"),
            },
            // A run that takes long does not keep other tenants' from being found.
            known = &mut looking => {
                let all = &known.0;
                due.retain(|tenant, _| all.contains(tenant));
                let now = since_epoch();
                let is_due = |tenant: &&TenantId| due.get(tenant).is_none_or(|due| *due <= now);
                waiting.extend(all.iter().filter(is_due).filter(|tenant| waiting_or_running.insert(**tenant)));
                looking.set(looked(Instant::now() + schedule.look(), known));
            }
        }
    }
    // A running job continues; no other job begins.
    while running.join_next().await.is_some() {}
}

/// Runs the job for one tenant if it is due there; returns when to look again.
async fn run_for<F>(
    name: &str,
    schedule: Schedule,
    job: &impl Fn(TenantDatabase) -> F,
    tenants: &Tenants,
    tenant: TenantId,
) -> Duration
where
    F: Future<Output = Result<(), BoxError>> + Send,
{
    let failed = |error: BoxError| {
        let error = Cause(&*error);
        tracing::error!(job = name, tenant_id = %tenant, %error, "a job failed for a tenant and is repeated");
        since_epoch() + schedule.retry()
    };
    let database = match tenants.acquire(&tenant).await {
        Ok(database) => database,
        Err(AcquireError::Suspended | AcquireError::Unknown | AcquireError::ShuttingDown) => {
            return since_epoch() + schedule.retry();
        }
        Err(error) => return failed(error.into()),
    };
    let now = since_epoch();
    let until = now + LONGEST_RUN + MARGIN;
    match claim_until(&database, name, now, schedule.first(now), until).await {
        Ok(Claim::Ours) => {}
        Ok(Claim::Due(due)) => return due,
        Err(error) => return failed(error.into()),
    }
    let began = Instant::now();
    // The closure itself may panic as well.
    let running = AssertUnwindSafe(async { job(database).await }).catch_unwind();
    let left = (now + LONGEST_RUN).saturating_sub(since_epoch());
    let outcome = match tokio::time::timeout(left, running).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err("it ended by a panic".into()),
        Err(_) => Err("it took longer than an hour and was cut off".into()),
    };
    let next = match outcome {
        Ok(()) => {
            let duration_ms = began.elapsed().as_millis() as u64;
            tracing::info!(job = name, tenant_id = %tenant, duration_ms, "a job has finished for a tenant");
            schedule.next(now)
        }
        Err(error) => failed(error),
    };
    record(name, tenants, tenant, (until, next)).await;
    next
}

/// Records the `next` run in place of the claim `until`. If that is not possible, the claim ends by
/// itself.
async fn record(name: &str, tenants: &Tenants, tenant: TenantId, (until, next): (Duration, Duration)) {
    let written = match tenants.acquire(&tenant).await {
        Ok(database) => set_due(&database, name, until, next).await.map_err(BoxError::from),
        Err(error) => Err(error.into()),
    };
    match written {
        Ok(true) => {}
        Ok(false) => tracing::warn!(
            job = name, tenant_id = %tenant,
            "a job was also begun by another instance, since this one's run took too long"
        ),
        Err(error) => {
            let error = Cause(&*error);
            tracing::warn!(
                job = name, tenant_id = %tenant, %error,
                "the next run of a job could not be recorded; the job is repeated in an hour"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_job_is_due_at_its_time_of_day() {
        let at = |day: u64, hour: u64, minute: u64| Duration::from_secs(day * 86_400 + hour * 3600 + minute * 60);
        let nightly = Schedule::daily(2, 30);
        assert_eq!(nightly.first(at(5, 1, 0)), at(5, 2, 30));
        assert_eq!(nightly.next(at(5, 2, 30)), at(6, 2, 30));
        assert_eq!(nightly.next(at(5, 23, 59)), at(6, 2, 30));
    }

    #[test]
    fn a_periodic_job_is_due_at_once_and_then_after_its_period() {
        let hourly = Schedule::every(Duration::from_secs(3600));
        let now = Duration::from_secs(1_000);
        assert_eq!(hourly.first(now), now);
        assert_eq!(hourly.next(now), Duration::from_secs(4_600));
        assert_eq!(Schedule::every(Duration::ZERO), Schedule::every(Duration::from_secs(1)));
    }
}
