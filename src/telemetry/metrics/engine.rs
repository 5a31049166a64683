//! The engine's own counters, read when somebody asks for the metrics.

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

    /// Looks anew, whenever the last look was.
    pub(super) fn look(&self) {
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
            meter
                .u64_observable_counter(*name)
                .with_description(*description)
                .with_callback(gauges.reads(move |look, to| to.observe(read(&look.caches), &[])))
                .build();
        }
        for (name, description, read) in GAUGES {
            meter
                .u64_observable_gauge(*name)
                .with_description(*description)
                .with_callback(gauges.reads(move |look, to| to.observe(read(look) as u64, &[])))
                .build();
        }
        for (name, description, read) in TENANT_COUNTERS {
            let observe = move |look: &Look, to: &dyn AsyncInstrument<u64>| {
                for (label, usage) in &look.usage {
                    to.observe(read(usage), std::slice::from_ref(label));
                }
            };
            meter
                .u64_observable_counter(*name)
                .with_description(*description)
                .with_callback(gauges.reads(observe))
                .build();
        }
        for (name, description, read) in TENANT_TIMES {
            let observe = move |look: &Look, to: &dyn AsyncInstrument<f64>| {
                for (label, usage) in &look.usage {
                    to.observe(read(usage).as_secs_f64(), std::slice::from_ref(label));
                }
            };
            meter
                .f64_observable_counter(*name)
                .with_description(*description)
                .with_unit("s")
                .with_callback(gauges.reads(observe))
                .build();
        }
        meter
            .u64_observable_gauge("tenantry.tenant.connections")
            .with_description("A tenant's open connections, by whether they are used.")
            .with_callback(gauges.reads(|look, to| {
                for (label, idle, used) in &look.connections {
                    to.observe(*idle, &[label.clone(), KeyValue::new("state", "idle")]);
                    to.observe(*used, &[label.clone(), KeyValue::new("state", "used")]);
                }
            }))
            .build();
        meter
            .u64_observable_gauge("tenantry.tenant.breaker.open")
            .with_description("1 while a tenant's provider or database is left alone after failures, else 0.")
            .with_callback(gauges.reads(|look, to| {
                for (label, secret, connection) in &look.breakers {
                    to.observe(u64::from(*secret), &[label.clone(), KeyValue::new("breaker", "secret")]);
                    to.observe(
                        u64::from(*connection),
                        &[label.clone(), KeyValue::new("breaker", "connection")],
                    );
                }
            }))
            .build();
        meter
            .u64_observable_gauge("tenantry.schema.tenants")
            .with_description("Known tenants by the version of their databases, as it was seen last.")
            .with_callback(gauges.reads(|look, to| {
                for (version, tenants) in &look.versions {
                    to.observe(*tenants as u64, std::slice::from_ref(version));
                }
            }))
            .build();
        meter
            .u64_observable_gauge("tenantry.breakers.open")
            .with_description("Tenants whose provider or database is left alone after failures.")
            .with_callback(gauges.reads(|look, to| {
                to.observe(look.secret_breakers as u64, &[KeyValue::new("breaker", "secret")]);
                to.observe(
                    look.connection_breakers as u64,
                    &[KeyValue::new("breaker", "connection")],
                );
            }))
            .build();
        meter
            .u64_observable_gauge("tenantry.tenants.tls")
            .with_description("Tenants with open connections, by how the last one is protected.")
            .with_callback(gauges.reads(|look, to| {
                for (tls, count) in look.protected {
                    to.observe(count as u64, &[KeyValue::new("tls", tls)]);
                }
            }))
            .build();
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
        "Reads of secrets that were answered without asking the provider.",
        |caches| caches.metrics.hits,
    ),
    (
        "tenantry.secret.cache.misses",
        "Reads of secrets that asked the provider.",
        |caches| caches.metrics.misses,
    ),
    (
        "tenantry.secret.cache.evictions",
        "Secrets that went to make room.",
        |caches| caches.metrics.evictions,
    ),
    (
        "tenantry.secret.cache.stale_served",
        "Reads that were answered with a secret past its time.",
        |caches| caches.metrics.stale_served,
    ),
    (
        "tenantry.secret.cache.refreshes",
        "Kept secrets that were read anew.",
        |caches| caches.metrics.refreshes,
    ),
    (
        "tenantry.secret.cache.refresh_failures",
        "Reads of the provider that failed.",
        |caches| caches.metrics.refresh_failures,
    ),
    (
        "tenantry.secret.cache.not_found_hits",
        "Requests for unknown tenants answered from memory.",
        |caches| caches.metrics.not_found_hits,
    ),
    (
        "tenantry.pool.evictions",
        "Pools that were closed to make room.",
        |caches| caches.pools.evictions,
    ),
    (
        "tenantry.pool.rotations",
        "Pools that took a changed secret.",
        |caches| caches.pools.rotations,
    ),
];

type Gauge = (&'static str, &'static str, fn(&Look) -> usize);

const GAUGES: &[Gauge] = &[
    ("tenantry.secret.cache.entries", "Secrets that are kept.", |look| {
        look.caches.metrics.entries
    }),
    (
        "tenantry.secret.cache.capacity",
        "The most secrets that are kept.",
        |look| look.caches.metrics.capacity,
    ),
    ("tenantry.pools.open", "Tenants that have connections.", |look| {
        look.caches.pools.open
    }),
    (
        "tenantry.pools.capacity",
        "The most tenants whose pools are open.",
        |look| look.caches.pools.capacity,
    ),
    (
        "tenantry.connections.open",
        "Connections that are open, over all tenants.",
        |look| look.caches.pools.connections,
    ),
    (
        "tenantry.connections.capacity",
        "The most connections that are open.",
        |look| look.caches.pools.connections_capacity,
    ),
    (
        "tenantry.schema.behind",
        "Tenants whose databases are below the version that is served.",
        |look| look.behind,
    ),
    (
        "tenantry.schema.migrating",
        "Tenants whose migrations run on their first connection.",
        |look| look.migrating,
    ),
    ("tenantry.tenants.known", "Tenants that are known now.", |look| {
        look.known
    }),
];

type TenantCounter = (&'static str, &'static str, fn(&TenantUsage) -> u64);

const TENANT_COUNTERS: &[TenantCounter] = &[
    ("tenantry.tenant.requests", "A tenant's requests.", |usage| {
        usage.requests.count
    }),
    (
        "tenantry.tenant.requests.failed",
        "A tenant's requests that were answered 500 or above.",
        |usage| usage.requests.failed,
    ),
    ("tenantry.tenant.statements", "A tenant's statements.", |usage| {
        usage.statements.count
    }),
    (
        "tenantry.tenant.statements.failed",
        "A tenant's statements that failed.",
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
        "A tenant's waits for a connection that it did not get.",
        |usage| usage.connection_waits.failed,
    ),
    (
        "tenantry.tenant.secret.fetches",
        "Reads of a tenant's secret at its provider.",
        |usage| usage.secret_fetches.count,
    ),
    (
        "tenantry.tenant.secret.fetches.failed",
        "Reads of a tenant's secret that failed.",
        |usage| usage.secret_fetches.failed,
    ),
];

type TenantTime = (&'static str, &'static str, fn(&TenantUsage) -> Duration);

const TENANT_TIMES: &[TenantTime] = &[
    (
        "tenantry.tenant.request.duration",
        "How long a tenant's requests took, all together.",
        |usage| usage.requests.time,
    ),
    (
        "tenantry.tenant.statement.duration",
        "How long a tenant's statements took, all together.",
        |usage| usage.statements.time,
    ),
    (
        "tenantry.tenant.connection.wait",
        "How long a tenant's requests waited for connections, all together.",
        |usage| usage.connection_waits.time,
    ),
    (
        "tenantry.tenant.secret.fetch",
        "How long the provider took to answer for a tenant, all together.",
        |usage| usage.secret_fetches.time,
    ),
];
