//! Parses a client's request: every part of its URL and headers is understood, or the request is
//! refused.

pub(crate) mod body;
pub(crate) mod filter;
pub(crate) mod head;
pub(crate) mod order;
pub(crate) mod query;
pub(crate) mod rule;
pub(crate) mod scan;
pub(crate) mod select;
