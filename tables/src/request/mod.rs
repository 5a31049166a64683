//! What a client asks for: its URL and headers, read completely or refused.

pub(crate) mod body;
pub(crate) mod filter;
pub(crate) mod head;
pub(crate) mod order;
pub(crate) mod query;
pub(crate) mod rule;
pub(crate) mod scan;
pub(crate) mod select;
