//! The engine of `tenantry-core` with a real driver: secrets, pools and connections from their first use to their end.

// `allow-unwrap-in-tests` does not reach the functions that tests share.
#![allow(clippy::unwrap_used)]

mod as_sea_orm;
mod connections;
mod leases;
mod pinned;
mod pooler;
mod pools;
mod rotations;
mod running;
mod scripted;
mod secrets;
mod servers;
mod streams;
mod transactions;
mod unknown;
