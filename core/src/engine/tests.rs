//! What the tests of several parts have in common.

/// Runs random histories against a model: as many as `TENANTRY_HISTORIES` says, 100,000 by default.
/// A history that fails names its seed.
pub(super) fn histories(history: fn(u64)) {
    let count = std::env::var("TENANTRY_HISTORIES")
        .ok()
        .and_then(|count| count.parse().ok());
    (0..count.unwrap_or(100_000)).for_each(history);
}
