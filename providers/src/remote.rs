//! What the providers that call a remote service have in common.

use std::time::Duration;

#[cfg(any(feature = "aws", feature = "aws-ssm", feature = "gcp"))]
use tracing::{Dispatch, instrument::WithSubscriber};

/// Runs a call of a cloud's client unheard by logs and traces, which would hold what it sends and
/// receives: AWS's writes secrets at TRACE if `LOG_SENSITIVE_BODIES` is set in the environment, and
/// always the command line that gave credentials. What failed is in the error.
#[cfg(any(feature = "aws", feature = "aws-ssm", feature = "gcp"))]
pub(crate) fn silenced<T>(call: impl Future<Output = T>) -> impl Future<Output = T> {
    call.with_subscriber(Dispatch::none())
}

/// The value of `Retry-After` in whole seconds (RFC 9110 §10.2.3). The form with a date is of no
/// use to a back-off.
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}
