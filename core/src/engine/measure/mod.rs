//! What the engine measures, and where that goes: a tenant's usage, a request's tally, traces, and an observer for metrics.

pub(crate) mod counter;
pub(crate) mod observer;
pub(crate) mod stopwatch;
pub(crate) mod tally;
pub(crate) mod usage;
