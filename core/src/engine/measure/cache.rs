//! The counters of `/health/cache`.

/// The counters of the secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretMetrics {
    /// Reads that were answered without a fetch of their own.
    pub hits: u64,
    /// Reads that made a fetch.
    pub misses: u64,
    /// Secrets that are kept now.
    pub entries: usize,
    /// The most that are kept.
    pub capacity: usize,
    /// Secrets that were evicted from the full cache.
    pub evictions: u64,
    /// Reads that were answered with a secret past its time to live.
    pub stale_served: u64,
    /// Cached secrets that were refreshed.
    pub refreshes: u64,
    /// Fetches that failed, an unknown tenant not counted.
    pub refresh_failures: u64,
    /// Requests for unknown tenants that were answered from memory.
    pub not_found_hits: u64,
}

/// The counters of the pools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolMetrics {
    /// Tenants with connections.
    pub open: usize,
    /// The most that keep some without using them.
    pub capacity: usize,
    /// Connections that are open, opening or closing, over all tenants.
    pub connections: usize,
    /// The most that may be.
    pub connections_capacity: usize,
    /// Pools that were closed to make room.
    pub evictions: u64,
    /// Pools that took a changed secret while they were open.
    pub rotations: u64,
}

/// The counters of secrets and pools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheSnapshot {
    /// Of the secrets.
    pub metrics: SecretMetrics,
    /// Of the pools.
    pub pools: PoolMetrics,
}
