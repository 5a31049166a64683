//! Attacks on the built program: what a client, a web page or a proxy sends to get what is not its own.

#![allow(clippy::unwrap_used, reason = "only `#[test]` functions are excepted by themselves")]

mod forwarded;
mod fuzz;
mod hardening;
mod host_lines;
mod memory;
mod operator;
mod raw;
