//! Tenantry gives each request the database of its own tenant: a resolver finds the tenant, a
//! secret provider has the secret of its database, a driver connects to it, and poem-openapi
//! endpoints use it.
//!
//! The program is [`App::new`]`().main()`. A program of your own adds to it:
//!
//! ```no_run
//! use poem_openapi::{OpenApi, payload::PlainText};
//! use tenantry::{App, Tenant};
//!
//! struct Hello;
//!
//! #[OpenApi]
//! impl Hello {
//!     /// Greet the tenant
//!     #[oai(path = "/api/v1/tenant/hello", method = "get", operation_id = "greet")]
//!     async fn greet(&self, tenant: Tenant) -> PlainText<String> {
//!         PlainText(format!("hello, {}", tenant.tenant()))
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     App::new().api(Hello).main()
//! }
//! ```
//!
//! The parts: [`App`] is the program, [`config`] reads and checks the configuration, [`jobs`] runs
//! work for each tenant, [`plugins`] lists what is built in. The traits and the engine are in
//! [`core`], the APIs in [`openapi`].

// `println!` and `eprintln!` panic if the other end of the pipe is closed; `command_line::report`
// does not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod app;
mod background;
mod command_line;
pub mod config;
mod installation;
pub mod jobs;
pub mod migrations;
pub mod plugins;
mod product;
mod rest;
mod server;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use app::{App, NoSection, Setup, StartError};
pub use opentelemetry;
pub use poem_openapi;
pub use sea_orm;
pub use server::{RunningServer, ServerError};
#[cfg(feature = "otlp")]
pub use telemetry::ExporterError;
pub use telemetry::{LoggingError, MetricsError, TelemetryError, start_logging};
pub use tenantry_core as core;
#[cfg(feature = "testing")]
pub use tenantry_core::conformance;
pub use tenantry_openapi as openapi;
pub use tenantry_openapi::{Failure, Fault, Operator, Problem, RequestId, Tenant, log_field};
pub use tokio_util::sync::CancellationToken;
