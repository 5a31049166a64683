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
