//! What goes wrong around the program, and what its clients see of it: passwords change, AWS is down, databases hang, restart or are
//! too many. Counts and bounds only; `./scripts/faults` measures.

mod abandoned;
mod ceiling;
mod cost;
mod database;
mod eviction;
mod fleet;
mod forgotten;
mod ledger;
mod load;
mod many_leases;
mod migrating;
mod neighbour;
mod openbao;
mod pooler;
mod provider_gone;
mod proxy;
mod restart;
mod role_limit;
mod rotation;
mod silent_host;
mod stores;
mod world;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_tenantry");

/// The program that large runs test: the release build that `TENANTRY_PROGRAM` names, or the one under test.
fn program() -> String {
    std::env::var("TENANTRY_PROGRAM").unwrap_or_else(|_| PROGRAM.to_owned())
}

/// Whether that program is built for release.
fn is_release() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("TENANTRY_PROGRAM").is_some()
}
