//! The spans that traces are made of. They are `tracing`'s, with names and fields of OpenTelemetry's conventions; without a subscriber
//! that wants them they cost nothing.

/// The target of every span that belongs in a trace, so that logs can leave them out and traces leave out all others.
pub const TRACE_TARGET: &str = "tenantry::trace";

/// A span of a trace.
macro_rules! trace_span {
    ($($span:tt)*) => {
        tracing::info_span!(target: $crate::trace::TRACE_TARGET, $($span)*)
    };
}
pub(crate) use trace_span;

/// OpenTelemetry's name for a driver's kind of database (semantic conventions, `db.system.name`).
pub fn database_system(driver: &str) -> &str {
    match driver {
        "oracle" => "oracle.db",
        other => other,
    }
}
