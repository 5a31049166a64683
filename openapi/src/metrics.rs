//! The engine's counters in the text format of Prometheus.

use std::fmt::Write;

use tenantry_core::engine::CacheSnapshot;

/// Writes the counters of secrets and pools. There is one series for each: labels that grow with what clients send have no place here.
pub(crate) fn render(snapshot: &CacheSnapshot) -> String {
    let (secrets, pools) = (&snapshot.metrics, &snapshot.pools);
    let counters = [
        (
            "secret_cache_hits",
            "Reads of secrets that were answered without asking the provider.",
            secrets.hits,
        ),
        (
            "secret_cache_misses",
            "Reads of secrets that asked the provider.",
            secrets.misses,
        ),
        (
            "secret_cache_evictions",
            "Secrets that went to make room.",
            secrets.evictions,
        ),
        (
            "secret_cache_stale_served",
            "Reads that were answered with a secret past its time.",
            secrets.stale_served,
        ),
        (
            "secret_cache_refreshes",
            "Kept secrets that were read anew.",
            secrets.refreshes,
        ),
        (
            "secret_cache_refresh_failures",
            "Reads of the provider that failed.",
            secrets.refresh_failures,
        ),
        (
            "secret_cache_not_found_hits",
            "Requests for unknown tenants answered from memory.",
            secrets.not_found_hits,
        ),
        (
            "pool_evictions",
            "Pools that were closed to make room.",
            pools.evictions,
        ),
        ("pool_rotations", "Pools that took a changed secret.", pools.rotations),
    ];
    let gauges = [
        ("secret_cache_entries", "Secrets that are kept.", secrets.entries),
        (
            "secret_cache_capacity",
            "The most secrets that are kept.",
            secrets.capacity,
        ),
        ("pools_open", "Tenants whose pools are open.", pools.open),
        (
            "pools_capacity",
            "The most tenants whose pools are open.",
            pools.capacity,
        ),
        (
            "connections_open",
            "Connections that are open, over all tenants.",
            pools.connections,
        ),
        (
            "connections_capacity",
            "The most connections that are open.",
            pools.connections_capacity,
        ),
    ];
    let mut text = String::with_capacity(4096);
    for (name, help, value) in counters {
        series(&mut text, &format!("{name}_total"), "counter", help, value);
    }
    for (name, help, value) in gauges {
        series(&mut text, name, "gauge", help, value as u64);
    }
    text
}

fn series(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    // Writing to a String cannot fail.
    let _infallible = write!(
        text,
        "# HELP tenantry_{name} {help}\n# TYPE tenantry_{name} {kind}\ntenantry_{name} {value}\n"
    );
}

#[cfg(test)]
mod tests {
    use tenantry_core::engine::{PoolMetrics, SecretMetrics};

    use super::*;

    #[test]
    fn every_series_is_described_and_typed_once() {
        let snapshot = CacheSnapshot {
            metrics: SecretMetrics {
                hits: 10,
                misses: 2,
                entries: 2,
                capacity: 1000,
                evictions: 0,
                stale_served: 0,
                refreshes: 1,
                refresh_failures: 0,
                not_found_hits: 0,
            },
            pools: PoolMetrics {
                open: 2,
                capacity: 100,
                connections: 5,
                connections_capacity: 200,
                evictions: 0,
                rotations: 0,
            },
        };
        let text = render(&snapshot);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), 15);
        for sample in &samples {
            let name = sample.split(' ').next().unwrap();
            assert_eq!(text.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
            assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name}");
        }
        assert!(samples.contains(&"tenantry_secret_cache_hits_total 10"));
        assert!(samples.contains(&"tenantry_connections_open 5"));
    }
}
