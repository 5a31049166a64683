//! The engine of `tenantry-core` with a real driver: secrets, pools and connections from their first use to their end.

mod connections;
mod scripted;
mod secrets;
mod transactions;
