//! What the engine measures and where it goes: a tenant's usage, a request's tally, traces and an
//! observer for metrics. It knows neither pools nor tenants; each statement brings its `Subject`.

pub(crate) mod observer;
pub(crate) mod stopwatch;
pub(crate) mod tally;
pub(crate) mod usage;
