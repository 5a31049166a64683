//! The program under each resolver: what its document says of naming a tenant, that a client which believes the document reaches its tenant,
//! and what is refused.

#![allow(clippy::unwrap_used, reason = "only `#[test]` functions are excepted by themselves")]

mod document_client;
mod every_resolver;
mod forwarded_hosts;
mod http;
mod several_names;
mod start_up;
mod tenant_in_path;
mod tenants;
mod tokens;
