//! The engine's own counters, read when the metrics are requested or sent.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};
use parking_lot::Mutex;
use tenantry_core::{
    Encryption, TenantId,
    engine::{CacheSnapshot, KnownTenant, TenantStatus, TenantUsage, Tenants},
};

use super::tenant_labels::{OTHERS, TenantLabels};

/// How old a look at the engine may be for the instruments of one reading to share it.
const SAME_READING: Duration = Duration::from_millis(500);

/// Reads the engine, once for all instruments of a reading.
#[derive(Default)]
pub(super) struct EngineGauges {
    tenants: OnceLock<Tenants>,
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    labels: TenantLabels,
    last: Option<(Instant, Arc<Look>)>,
}

/// The engine at one moment.
struct Look {
    caches: CacheSnapshot,
    known: usize,
    behind: usize,
    migrating: usize,
    /// How many tenants' databases are at each version.
    versions: Vec<(KeyValue, usize)>,
    secret_breakers: usize,
    connection_breakers: usize,
    /// Tenants with an open pool, by how their last connection is protected.
    protected: [(&'static str, usize); 3],
    usage: Vec<(Label, TenantUsage)>,
    /// Connections that are idle and in use.
    connections: Vec<(Label, u64, u64)>,
    /// Whether breakers are open, of those tenants that are named.
    breakers: Vec<(Label, bool, bool)>,
}

/// A tenant's name, or that of all others.
type Label = KeyValue;

fn label(tenant: Option<TenantId>) -> Label {
    match tenant {
        Some(tenant) => KeyValue::new("tenant", tenant.to_string()),
        None => KeyValue::new("tenant", OTHERS),
    }
}

/// The most versions that have a name of their own in the metrics: the highest ones.
const NAMED_VERSIONS: usize = 20;

fn versions(known: &[KnownTenant]) -> Vec<(KeyValue, usize)> {
    let label = |version| KeyValue::new("version", version);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for version in known.iter().filter_map(|tenant| tenant.schema_version.clone()) {
        *counts.entry(version).or_default() += 1;
    }
    let others = counts.len().saturating_sub(NAMED_VERSIONS);
    let other: usize = counts.values().take(others).sum();
    let mut versions: Vec<_> = counts
        .into_iter()
        .skip(others)
        .map(|(version, tenants)| (label(version), tenants))
        .collect();
    if other > 0 {
        versions.push((label(OTHERS.to_owned()), other));
    }
    versions
}

impl Look {
    fn at(tenants: &Tenants, labels: &mut TenantLabels) -> Self {
        let snapshot = tenants.usage_snapshot();
        let usage = labels.look(&snapshot);
        let named = labels.named();
        let mut connections = Vec::new();
        let mut breakers = Vec::new();
        let mut others = (0, 0);
        for tenant in &snapshot.known {
            let KnownTenant {
                id,
                pool,
                secret_breaker_open,
                connection_breaker_open,
                ..
            } = tenant;
            let (idle, used) = pool.map_or((0, 0), |pool| (pool.idle as u64, pool.in_use as u64));
            if named.contains(id) {
                connections.push((label(Some(*id)), idle, used));
                breakers.push((label(Some(*id)), *secret_breaker_open, *connection_breaker_open));
            } else {
                others = (others.0 + idle, others.1 + used);
            }
        }
        connections.push((label(None), others.0, others.1));
        let count = |is_open: fn(&KnownTenant) -> bool| snapshot.known.iter().filter(|tenant| is_open(tenant)).count();
        Self {
            caches: tenants.cache_snapshot(),
            known: snapshot.known.len(),
            behind: count(|tenant| tenant.status == TenantStatus::Behind),
            migrating: count(|tenant| tenant.status == TenantStatus::Migrating),
            versions: versions(&snapshot.known),
            secret_breakers: count(|tenant| tenant.secret_breaker_open),
            connection_breakers: count(|tenant| tenant.connection_breaker_open),
            protected: [Encryption::None, Encryption::Encrypted, Encryption::Verified].map(|encryption| {
                let such = |tenant: &&KnownTenant| tenant.encryption == Some(encryption);
                (encryption.as_str(), snapshot.known.iter().filter(such).count())
            }),
            usage: usage
                .into_iter()
                .map(|(tenant, usage)| (label(tenant), usage))
                .collect(),
            connections,
            breakers,
        }
    }
}

impl EngineGauges {
    /// Reads this engine from now on; the first one stays.
    pub(super) fn watch(&self, tenants: &Tenants) {
        self.tenants.get_or_init(|| tenants.clone());
    }

    /// Forgets the last look, so that the next instrument that is read takes a new one.
    pub(super) fn forget(&self) {
        self.looked.lock().last = None;
    }

    fn current(&self) -> Option<Arc<Look>> {
        let tenants = self.tenants.get()?;
        let mut looked = self.looked.lock();
        if let Some((at, look)) = &looked.last
            && at.elapsed() < SAME_READING
        {
            return Some(look.clone());
        }
        let look = Arc::new(Look::at(tenants, &mut looked.labels));
        looked.last = Some((Instant::now(), look.clone()));
        Some(look)
    }

    /// Makes every instrument.
    pub(super) fn register(meter: &Meter) -> Arc<Self> {
        let gauges = Arc::new(Self::default());
        for (name, description, read) in COUNTERS {
            let counter = meter.u64_observable_counter(*name).with_description(*description);
            let observe = gauges.reads(move |look, to| to.observe(read(&look.caches), &[]));
            counter.with_callback(observe).build();
        }
        for (name, description, read) in GAUGES {
            let gauge = meter.u64_observable_gauge(*name).with_description(*description);
            let observe = gauges.reads(move |look, to| to.observe(read(look) as u64, &[]));
            gauge.with_callback(observe).build();
        }
        for (name, description, read) in LABELLED_GAUGES {
            let gauge = meter.u64_observable_gauge(*name).with_description(*description);
            let observe = gauges.reads(move |look, to| read(look, &|value, labels| to.observe(value, labels)));
            gauge.with_callback(observe).build();
        }
        for (name, description, read) in TENANT_COUNTERS {
            let counter = meter.u64_observable_counter(*name).with_description(*description);
            let observe = gauges.reads(move |look, to| {
                for (label, usage) in &look.usage {
                    to.observe(read(usage), std::slice::from_ref(label));
                }
            });
            counter.with_callback(observe).build();
        }
        for (name, description, read) in TENANT_TIMES {
            let counter = meter.f64_observable_counter(*name).with_description(*description);
            let observe = gauges.reads(move |look, to| {
                for (label, usage) in &look.usage {
                    to.observe(read(usage).as_secs_f64(), std::slice::from_ref(label));
                }
            });
            counter.with_unit("s").with_callback(observe).build();
        }
        gauges
    }

    fn reads<T>(
        self: &Arc<Self>,
        observe: impl Fn(&Look, &dyn AsyncInstrument<T>) + Send + Sync + 'static,
    ) -> impl Fn(&dyn AsyncInstrument<T>) + Send + Sync + 'static {
        let gauges = Arc::downgrade(self);
        move |to| {
            if let Some(look) = gauges.upgrade().and_then(|gauges| gauges.current()) {
                observe(&look, to);
            }
        }
    }
}

type Counter = (&'static str, &'static str, fn(&CacheSnapshot) -> u64);

const COUNTERS: &[Counter] = &[
    (
        "tenantry.secret.cache.hits",
        "Reads of secrets from the cache.",
        |caches| caches.metrics.hits,
    ),
    (
        "tenantry.secret.cache.misses",
        "Reads of secrets from the provider.",
        |caches| caches.metrics.misses,
    ),
    (
        "tenantry.secret.cache.evictions",
        "Secrets that were evicted from the full cache.",
        |caches| caches.metrics.evictions,
    ),
    (
        "tenantry.secret.cache.stale_served",
        "Reads of secrets that returned an expired one.",
        |caches| caches.metrics.stale_served,
    ),
    (
        "tenantry.secret.cache.refreshes",
        "Cached secrets that were refreshed.",
        |caches| caches.metrics.refreshes,
    ),
    (
        "tenantry.secret.cache.refresh_failures",
        "Failed reads of secrets from the provider.",
        |caches| caches.metrics.refresh_failures,
    ),
    (
        "tenantry.secret.cache.not_found_hits",
        "Requests for unknown tenants answered from the cache.",
        |caches| caches.metrics.not_found_hits,
    ),
    (
        "tenantry.pool.evictions",
        "Pools that were closed to make room.",
        |caches| caches.pools.evictions,
    ),
    (
        "tenantry.pool.rotations",
        "Pools that switched to a changed secret.",
        |caches| caches.pools.rotations,
    ),
];

type Gauge = (&'static str, &'static str, fn(&Look) -> usize);

const GAUGES: &[Gauge] = &[
    ("tenantry.secret.cache.entries", "Secrets in the cache.", |look| {
        look.caches.metrics.entries
    }),
    (
        "tenantry.secret.cache.capacity",
        "The most secrets in the cache.",
        |look| look.caches.metrics.capacity,
    ),
    ("tenantry.pools.open", "Tenants with connections.", |look| {
        look.caches.pools.open
    }),
    ("tenantry.pools.capacity", "The most tenants with open pools.", |look| {
        look.caches.pools.capacity
    }),
    (
        "tenantry.connections.open",
        "Open connections, over all tenants.",
        |look| look.caches.pools.connections,
    ),
    ("tenantry.connections.capacity", "The most open connections.", |look| {
        look.caches.pools.connections_capacity
    }),
    (
        "tenantry.schema.behind",
        "Tenants below the version that is served.",
        |look| look.behind,
    ),
    (
        "tenantry.schema.migrating",
        "Tenants with migrations running on their first connection.",
        |look| look.migrating,
    ),
    ("tenantry.tenants.known", "Known tenants.", |look| look.known),
];

type LabelledGauge = (&'static str, &'static str, fn(&Look, &dyn Fn(u64, &[KeyValue])));

const LABELLED_GAUGES: &[LabelledGauge] = &[
    (
        "tenantry.tenant.connections",
        "A tenant's open connections, by whether they are used.",
        |look, observe| {
            for (label, idle, used) in &look.connections {
                observe(*idle, &[label.clone(), KeyValue::new("state", "idle")]);
                observe(*used, &[label.clone(), KeyValue::new("state", "used")]);
            }
        },
    ),
    (
        "tenantry.tenant.breaker.open",
        "1 while a tenant's provider or database is not tried after failures, else 0.",
        |look, observe| {
            for (label, secret, connection) in &look.breakers {
                observe((*secret).into(), &[label.clone(), breaker("secret")]);
                observe((*connection).into(), &[label.clone(), breaker("connection")]);
            }
        },
    ),
    (
        "tenantry.schema.tenants",
        "Known tenants by the version of their databases, as last seen.",
        |look, observe| {
            for (version, tenants) in &look.versions {
                observe(*tenants as u64, std::slice::from_ref(version));
            }
        },
    ),
    (
        "tenantry.breakers.open",
        "Tenants with a provider or database that is not tried after failures.",
        |look, observe| {
            observe(look.secret_breakers as u64, &[breaker("secret")]);
            observe(look.connection_breakers as u64, &[breaker("connection")]);
        },
    ),
    (
        "tenantry.tenants.tls",
        "Tenants with open connections, by how the last one is protected.",
        |look, observe| {
            for (tls, count) in look.protected {
                observe(count as u64, &[KeyValue::new("tls", tls)]);
            }
        },
    ),
];

fn breaker(kind: &'static str) -> KeyValue {
    KeyValue::new("breaker", kind)
}

type TenantCounter = (&'static str, &'static str, fn(&TenantUsage) -> u64);

const TENANT_COUNTERS: &[TenantCounter] = &[
    ("tenantry.tenant.requests", "A tenant's requests.", |usage| {
        usage.requests.count
    }),
    (
        "tenantry.tenant.requests.failed",
        "A tenant's requests with a status of 500 or above, or with an answer that the server cut off.",
        |usage| usage.requests.failed,
    ),
    ("tenantry.tenant.statements", "A tenant's statements.", |usage| {
        usage.statements.count
    }),
    (
        "tenantry.tenant.statements.failed",
        "A tenant's failed statements.",
        |usage| usage.statements.failed,
    ),
    (
        "tenantry.tenant.statements.slow",
        "A tenant's statements over its threshold.",
        |usage| usage.slow_statements,
    ),
    (
        "tenantry.tenant.connection.waits",
        "A tenant's waits for a connection.",
        |usage| usage.connection_waits.count,
    ),
    (
        "tenantry.tenant.connection.waits.failed",
        "A tenant's waits for a connection that timed out.",
        |usage| usage.connection_waits.failed,
    ),
    (
        "tenantry.tenant.secret.fetches",
        "Reads of a tenant's secret from the provider.",
        |usage| usage.secret_fetches.count,
    ),
    (
        "tenantry.tenant.secret.fetches.failed",
        "Failed reads of a tenant's secret.",
        |usage| usage.secret_fetches.failed,
    ),
];

type TenantTime = (&'static str, &'static str, fn(&TenantUsage) -> Duration);

const TENANT_TIMES: &[TenantTime] = &[
    (
        "tenantry.tenant.request.duration",
        "Total time of a tenant's requests.",
        |usage| usage.requests.time,
    ),
    (
        "tenantry.tenant.statement.duration",
        "Total time of a tenant's statements.",
        |usage| usage.statements.time,
    ),
    (
        "tenantry.tenant.connection.wait",
        "Total time that a tenant's requests waited for connections.",
        |usage| usage.connection_waits.time,
    ),
    (
        "tenantry.tenant.secret.fetch",
        "Total time of the reads of a tenant's secret.",
        |usage| usage.secret_fetches.time,
    ),
];
