//! One tenant, the map of all of them, and whether a request may enter.

mod admission;
mod directory;

pub(crate) use admission::{Admission, RateLimiter, Refused};
pub(crate) use directory::{Admits, Directory};
