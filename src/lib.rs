//! Tenantry gives each request the database of its own tenant: a resolver names the tenant, a secret provider knows how to reach its
//! database, a driver opens it, and poem-openapi endpoints run on it.
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
//! Where things are: [`config`] reads and checks the configuration, [`Installation`] builds what it names, [`BoundServer`] serves it,
//! [`migrations`] prepares tenants' databases, [`plugins`] lists what is built in. The traits and the engine are in [`core`], the APIs in
//! [`openapi`].

mod app;
mod background;
mod command_line;
pub mod config;
mod installation;
pub mod migrations;
pub mod plugins;
mod server;
mod telemetry;

pub use app::{App, StartError};
pub use background::Background;
pub use installation::Installation;
pub use server::{BoundServer, RunningServer, ServerError, Stopping};
#[cfg(feature = "otlp")]
pub use telemetry::ExporterError;
pub use telemetry::{LoggingError, MetricsError, RequestTelemetry, Telemetry, TelemetryError, start_logging};
pub use tenantry_core as core;
pub use tenantry_openapi as openapi;
pub use tenantry_openapi::{Failure, Operator, Problem, Tenant};
