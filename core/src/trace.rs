//! The spans of traces. They are spans of the crate `tracing`, with names and fields of
//! OpenTelemetry's conventions. They are created only inside another span, that of a traced
//! request. To trace other work, open a span around it.

/// The target of every span that belongs in a trace, so that logs can leave them out and traces
/// leave out all others.
pub const TRACE_TARGET: &str = "tenantry::trace";

/// Whether what happens now is in a span, and so in a trace. It is asked before a span is made: a
/// subscriber of several layers makes every span that one of them might want, and asks each of them
/// first, which for a request that is not traced costs more than its statement.
pub fn is_traced() -> bool {
    // Without telemetry no subscriber wants the spans, which costs nothing to know.
    tracing::span_enabled!(target: TRACE_TARGET, tracing::Level::INFO)
        && tracing::dispatcher::get_default(|subscriber| subscriber.current_span().id().is_some())
}

/// A span of a trace; none outside of one.
macro_rules! trace_span {
    ($($span:tt)*) => {
        if $crate::trace::is_traced() {
            tracing::info_span!(target: $crate::trace::TRACE_TARGET, $($span)*)
        } else {
            tracing::Span::none()
        }
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
