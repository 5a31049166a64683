//! Settings that several drivers have in common, so that each means the same on every kind of
//! database: `hosts`, `max_answer` and `statement_timeout`.

mod hosts;
mod max_answer;
mod statement_timeout;

pub use hosts::check_hosts;
pub use max_answer::{MaxAnswer, Room};
pub use statement_timeout::statement_timeout;
