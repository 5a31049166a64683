//! The HTTP interfaces of Tenantry and their documentation.
//!
//! An API is a poem-openapi `impl OpenApi`; an operation that takes a [`Tenant`] is tenant-scoped,
//! and one that takes an [`Operator`] is for operators. [`routes`] puts the built-in APIs, and
//! others in an [`ApiSet`], together with the document that describes them all.
//!
//! | Files | What |
//! | --- | --- |
//! | `routes`, `router`, `api_set` | which operation answers a request |
//! | `tenant`, `operator`, `operator_route` | what is admitted to an operation |
//! | `request_id`, `request_context`, `current` | the request's id, and what its log line says |
//! | `body_limit`, `body_coding` | the bounds of a body |
//! | `problem`, `problem_code`, `failure`, `problems` | error answers, and their layer |
//! | `translate`, `acquire_problem`, `database_problem` | the error answer for each kind of error |
//! | `input`, `operator_input`, `health_query`, `known_query`, `validation` | reading requests |
//! | `values`, `json` | writing answers |
//! | `users`, `tenant_info`, `health`, `tenant_health`, `admin`, `log_level` | the built-in APIs |
//! | `document`, `tags` | the OpenAPI document |
//! | `pages`, `fleet_page` | the pages for people |

mod acquire_problem;
mod admin;
mod api_set;
mod body_coding;
mod body_limit;
mod current;
mod database_problem;
mod document;
mod failure;
mod fleet_page;
mod health;
mod health_query;
mod input;
mod json;
mod known_query;
mod log_level;
mod operator;
mod operator_input;
mod operator_route;
mod pages;
mod problem;
mod problem_code;
mod problems;
mod request_context;
mod request_id;
mod router;
mod routes;
mod tags;
mod tenant;
mod tenant_health;
mod tenant_info;
mod translate;
pub mod users;
mod validation;
mod values;

pub use admin::AdminApi;
pub use api_set::{ApiSet, DescribedRoute};
pub use body_limit::{BodyLimit, BodyLimitEndpoint};
pub use current::{CurrentRequest, log_field};
pub use document::{ApiConflict, ApiDocument, DocumentSettings, Origin};
pub use failure::Failure;
pub use health::{HealthApi, MetricsSource, Readiness, ReadinessCheck};
pub use json::Json;
pub use log_level::{LogControl, LogControlLost, LogLevel};
pub use operator::{AUDIT_TARGET, Operator, OperatorGate};
pub use pages::{Gzipped, gzip};
pub use problem::{Dialect, Fault, PROBLEM_JSON, Problem};
pub use problem_code::ProblemCode;
pub use problems::{LastCall, Problems, ProblemsEndpoint};
pub use request_context::RequestContext;
pub use request_id::{RequestId, RequestIds, RequestIdsEndpoint, X_REQUEST_ID};
pub use routes::{ApiParts, Gates, Served, document, repeated_operation, routes};
pub use tenant::{Tenant, TenantGate, target_of};
pub use tenant_info::{TenantApi, TenantStatsApi};
pub use translate::problem_of;
pub use users::UsersApi;
pub use values::{Nullable, Timestamp};
