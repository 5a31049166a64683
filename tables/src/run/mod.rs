//! Runs what was planned on a tenant's database.

mod database_error;
pub(crate) mod read;
pub(crate) mod write;

pub(crate) use database_error::{drifted, failure, has_other_type, lacks_something};
