//! The engine's measurements: a tenant's usage, a request's tally, traces, and an observer for
//! metrics. It calls nothing of pools or tenants.

pub(crate) mod cache;
pub(crate) mod observer;
pub(crate) mod tally;
pub(crate) mod usage;

/// Records in a span that it failed, with the kind of the error.
pub(crate) fn note_error(span: &tracing::Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}
