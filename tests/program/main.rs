//! Black-box tests of the built program against real databases: as a client, as an operator, and on
//! the command line.

#![allow(clippy::unwrap_used, reason = "only `#[test]` functions are excepted by themselves")]

mod broken_tenants;
mod client;
mod cold_start;
mod commands;
mod configuration;
mod connections;
mod counting;
mod cut_off;
mod databases;
mod drift;
mod encryption;
mod every_store;
mod fleet;
mod fleet_health;
mod hard_stops;
mod health_checks;
mod in_a_handler;
mod isolation;
mod logs;
mod migrations;
mod operations;
mod operators;
mod own_operations;
mod own_program;
mod problems;
mod rds_iam;
mod renewed_certificate;
mod several_drivers;
mod shutdown;
mod start;
mod telemetry;
mod tenant_ids;
mod tenant_reads;
mod tls;
mod users;
