//! What the program tells of itself.

mod access_log;
mod logging;

pub use access_log::AccessLog;
pub use logging::{LoggingError, start_logging};
