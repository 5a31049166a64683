//! How long a statement may run.

use std::time::Duration;

use crate::{BuildError, HumanDuration};

/// The longest that every database can count, in milliseconds.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// Reads a driver's `statement_timeout`. 0 is refused, since some databases take it for no limit;
/// `null` is no limit.
///
/// # Errors
/// It is not from 1 ms to 24 days.
pub fn statement_timeout(configured: Option<HumanDuration>) -> Result<Option<Duration>, BuildError> {
    let limit = configured.map(Duration::from);
    let possible = Duration::from_millis(1)..=LONGEST;
    match limit {
        Some(limit) if !possible.contains(&limit) => {
            let reason = "is not from 1ms to 24 days; null is no limit";
            Err(BuildError::key("statement_timeout", reason))
        }
        limit => Ok(limit),
    }
}
