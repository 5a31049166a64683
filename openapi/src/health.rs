//! The operations that report the state of the server and its tenants.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use poem_openapi::{
    ApiResponse, Enum, Object, OpenApi,
    param::{Path, Query},
    payload::PlainText,
    types::{Example, ToJSON},
};
use serde::Serialize;
use serde_json::Value;
use tenantry_core::{
    BoxError, TenantIdPattern,
    engine::{CacheSnapshot, HealthQuery, TenantStatus, Tenants},
};

use crate::{
    Failure, Json, Operator, Problem,
    health_query::{After, PageLimit},
    input::{Faults, Parsed},
    operator_input::{Flag, TenantIdText, read_tenant},
    tags::ApiTags,
    tenant_health::{Status, TenantHealth, TenantsHealth},
};

/// Whether the server takes requests. Clones share one answer; it begins as no.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<ReadinessState>);

#[derive(Debug, Default)]
struct ReadinessState {
    ready: AtomicBool,
    /// Checks that have not passed.
    failing: AtomicUsize,
}

/// One check that readiness depends on. It begins as failing.
#[derive(Debug)]
pub struct ReadinessCheck {
    readiness: Readiness,
    passed: AtomicBool,
}

impl ReadinessCheck {
    /// Whether the check passes from now on.
    pub fn set(&self, passed: bool) {
        let failing = &self.readiness.0.failing;
        match (self.passed.swap(passed, Ordering::AcqRel), passed) {
            (false, true) => drop(failing.fetch_sub(1, Ordering::AcqRel)),
            (true, false) => drop(failing.fetch_add(1, Ordering::AcqRel)),
            _ => {}
        }
    }
}

impl Readiness {
    /// Answers so from now on.
    pub fn set(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Release);
    }

    /// The answer.
    pub fn get(&self) -> bool {
        self.0.ready.load(Ordering::Acquire) && self.0.failing.load(Ordering::Acquire) == 0
    }

    /// Adds a check. The server is not ready until it passes, and while it fails.
    pub fn check(&self) -> ReadinessCheck {
        self.0.failing.fetch_add(1, Ordering::AcqRel);
        ReadinessCheck {
            readiness: self.clone(),
            passed: AtomicBool::new(false),
        }
    }
}

/// Up or down.
#[derive(Debug, Clone, Copy, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum UpOrDown {
    /// It works.
    Up,
    /// It does not.
    Down,
}

/// The server, in a word.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
struct ServerStatus {
    /// The word.
    status: UpOrDown,
}

impl Example for ServerStatus {
    fn example() -> Self {
        Self { status: UpOrDown::Up }
    }
}

#[derive(ApiResponse)]
enum Ready {
    /// The server takes requests.
    #[oai(status = 200)]
    Up(Json<ServerStatus>),
    /// The server is starting or shutting down, or one of its checks fails.
    #[oai(status = 503)]
    Down(Json<ServerStatus>),
}

#[derive(ApiResponse)]
enum OneTenant {
    /// The tenant's database answers, or the tenant is suspended.
    #[oai(status = 200)]
    Healthy(Json<TenantHealth>),
    /// The tenant is not served now: its secret or its database is unavailable, or its migrations
    /// run or are behind.
    #[oai(status = 503)]
    Unhealthy(Json<TenantHealth>),
}

/// The examples that types do not have, by operation id: the status, the media type and the
/// example. The types' own examples are healthy.
pub(crate) fn example(operation_id: &str) -> Option<(&'static str, &'static str, Value)> {
    let unhealthy = |example: Option<Value>| Some(("503", "application/json; charset=utf-8", example?));
    match operation_id {
        "getReadiness" => unhealthy(ServerStatus { status: UpOrDown::Down }.to_json()),
        "getTenantHealth" => unhealthy(TenantHealth::unhealthy_example().to_json()),
        "getMetrics" => Some(("200", "text/plain", METRICS_EXAMPLE.into())),
        _ => None,
    }
}

const METRICS_EXAMPLE: &str = "\
# HELP tenantry_connections_open Open connections, over all tenants.
# TYPE tenantry_connections_open gauge
tenantry_connections_open 2
";

/// The counters of secrets.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "SecretMetrics")]
struct SecretCounters {
    /// Reads that were answered without asking the provider.
    hits: u64,
    /// Reads that asked it.
    misses: u64,
    /// Hits as a fraction of all reads, 0 before the first.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    hit_rate: f64,
    /// Secrets in the cache.
    entries: u64,
    /// The most secrets in the cache.
    capacity: u64,
    /// Secrets that were evicted from the full cache.
    evictions: u64,
    /// Reads of secrets that returned an expired one.
    stale_served: u64,
    /// Secrets that were refreshed.
    refreshes: u64,
    /// Failed reads of secrets from the provider.
    refresh_failures: u64,
    /// Requests for unknown tenants that were answered from memory.
    not_found_hits: u64,
}

/// The counters of pools.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "PoolMetrics")]
struct PoolCounters {
    /// Tenants with connections.
    open: u64,
    /// The most that may be.
    capacity: u64,
    /// Open connections, over all tenants.
    connections: u64,
    /// The most that may be.
    connections_capacity: u64,
    /// Pools that were closed to make room.
    evictions: u64,
    /// Pools that switched to a changed secret.
    rotations: u64,
}

/// The counters of caches and pools.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
struct CacheHealth {
    /// Secrets.
    metrics: SecretCounters,
    /// Pools.
    pools: PoolCounters,
}

impl From<CacheSnapshot> for CacheHealth {
    fn from(snapshot: CacheSnapshot) -> Self {
        let (secrets, pools) = (snapshot.metrics, snapshot.pools);
        let reads = secrets.hits + secrets.misses;
        Self {
            metrics: SecretCounters {
                hits: secrets.hits,
                misses: secrets.misses,
                hit_rate: if reads == 0 {
                    0.0
                } else {
                    secrets.hits as f64 / reads as f64
                },
                entries: secrets.entries as u64,
                capacity: secrets.capacity as u64,
                evictions: secrets.evictions,
                stale_served: secrets.stale_served,
                refreshes: secrets.refreshes,
                refresh_failures: secrets.refresh_failures,
                not_found_hits: secrets.not_found_hits,
            },
            pools: PoolCounters {
                open: pools.open as u64,
                capacity: pools.capacity as u64,
                connections: pools.connections as u64,
                connections_capacity: pools.connections_capacity as u64,
                evictions: pools.evictions,
                rotations: pools.rotations,
            },
        }
    }
}

impl Example for CacheHealth {
    fn example() -> Self {
        Self {
            metrics: SecretCounters {
                hits: 10,
                misses: 2,
                hit_rate: 0.83,
                entries: 2,
                capacity: 1000,
                evictions: 0,
                stale_served: 0,
                refreshes: 1,
                refresh_failures: 0,
                not_found_hits: 0,
            },
            pools: PoolCounters {
                open: 2,
                capacity: 100,
                connections: 5,
                connections_capacity: 200,
                evictions: 0,
                rotations: 0,
            },
        }
    }
}

fn default_limit() -> Parsed<PageLimit> {
    PageLimit::DEFAULT.into()
}

fn no_probe() -> Parsed<Flag> {
    Flag(false).into()
}

/// Has the metrics.
pub trait MetricsSource: Send + Sync {
    /// All of them, in the text format of Prometheus. It is called on a thread that may block.
    ///
    /// # Errors
    /// They cannot be gathered, or not be written.
    fn text(&self) -> Result<String, BoxError>;
}

/// The operations that report the state of the server and its tenants.
#[derive(Clone)]
pub struct HealthApi {
    /// The engine.
    pub tenants: Tenants,
    /// Whether the server takes requests.
    pub readiness: Readiness,
    /// The rule for tenant ids.
    pub id_pattern: TenantIdPattern,
    /// What `/metrics` answers.
    pub metrics: Arc<dyn MetricsSource>,
}

#[OpenApi(tag = "ApiTags::Health")]
impl HealthApi {
    /// Check liveness
    ///
    /// Answers while the process runs.
    #[oai(path = "/health/live", method = "get", operation_id = "getLiveness")]
    async fn live(&self) -> Json<ServerStatus> {
        Json(ServerStatus { status: UpOrDown::Up })
    }

    /// Check readiness
    ///
    /// Whether the server accepts requests.
    #[oai(path = "/health/ready", method = "get", operation_id = "getReadiness")]
    async fn ready(&self) -> Ready {
        if self.readiness.get() {
            Ready::Up(Json(ServerStatus { status: UpOrDown::Up }))
        } else {
            Ready::Down(Json(ServerStatus { status: UpOrDown::Down }))
        }
    }

    /// List the health of all tenants
    ///
    /// One page of tenants, sorted by id, with the last known state of each; no connection is
    /// opened. The summary counts all tenants. While the provider cannot list them, `incomplete`
    /// says so, and the page has the tenants that the server knows. With `probe` the server
    /// connects to the databases of the page's tenants, at most 10 at once and each within 2 s.
    #[oai(path = "/health/tenants", method = "get", operation_id = "listTenantsHealth")]
    async fn tenants(
        &self,
        _operator: Operator,
        /// Whether to ask the databases of this page's tenants.
        #[oai(default = "no_probe")]
        probe: Query<Parsed<Flag>>,
        /// Only tenants that are so, by what is known already.
        status: Query<Option<Parsed<Status>>>,
        /// How many at most.
        #[oai(default = "default_limit")]
        limit: Query<Parsed<PageLimit>>,
        /// The beginning of the page: `next` of the page before.
        after: Query<Option<Parsed<After>>>,
    ) -> Result<Json<TenantsHealth>, Failure> {
        let mut faults = Faults::default();
        let probe = faults.parameter("probe", probe.0);
        let status = faults.optional("status", status.0);
        let limit = faults.parameter("limit", limit.0);
        let after = faults.optional("after", after.0);
        let (Some(Flag(probe)), Some(status), Some(PageLimit(limit)), Some(after)) = (probe, status, limit, after)
        else {
            return Err(faults.into());
        };
        let query = HealthQuery {
            probe,
            status: status.map(TenantStatus::from),
            after: after.map(|After(bytes)| bytes),
            limit,
        };
        Ok(Json(self.tenants.health(query).await.into()))
    }

    /// Check the health of one tenant
    ///
    /// Connects to the tenant's database.
    #[oai(path = "/health/tenant/:id", method = "get", operation_id = "getTenantHealth")]
    async fn tenant(
        &self,
        _operator: Operator,
        /// The tenant's id.
        id: Path<Parsed<TenantIdText>>,
    ) -> Result<OneTenant, Failure<404>> {
        let tenant = read_tenant(&self.id_pattern, "id", id.0)?;
        let snapshot = self.tenants.probe(&tenant).await;
        let health = TenantHealth::from(snapshot.map_err(|error| Problem::of_tenant(&tenant, error))?);
        Ok(match health.status {
            Status::Unhealthy | Status::Migrating | Status::Behind => OneTenant::Unhealthy(Json(health)),
            Status::Healthy | Status::Idle | Status::Suspended => OneTenant::Healthy(Json(health)),
        })
    }

    /// Get the counters of caches and pools
    #[oai(path = "/health/cache", method = "get", operation_id = "getCacheHealth")]
    async fn cache(&self, _operator: Operator) -> Result<Json<CacheHealth>, Failure> {
        Ok(Json(self.tenants.cache_snapshot().into()))
    }

    /// Get the metrics
    ///
    /// All metrics in the text format of Prometheus.
    #[oai(path = "/metrics", method = "get", operation_id = "getMetrics")]
    async fn metrics(&self, _operator: Operator) -> Result<PlainText<String>, Failure> {
        let metrics = self.metrics.clone();
        // It looks at every tenant, which takes its time with many of them.
        let text = tokio::task::spawn_blocking(move || metrics.text()).await;
        let text = text.map_err(BoxError::from).flatten().map_err(|error| {
            tracing::error!(error = %error, "the metrics cannot be written");
            Problem::internal()
        })?;
        Ok(PlainText(text))
    }
}
