//! Declared tables as a REST API in the dialect of PostgREST.
//!
//! ```text
//! declaration -> model   resolves names, relations and row rules
//! request     -> plan    parses URL, headers and body, or refuses them; applies roles and rules
//! plan        -> sql     writes statements with sea-query; every value is bound
//! run         -> json    runs them, and writes the rows without a map for each row
//! ```
//!
//! `api` leads a request through these, and tries it again if it collided or lost its connection.
//! `schemas` knows what a tenant's database lacks, which `catalogue` read. `sql::Dialect` and
//! `value` have what differs between the kinds of database.
//!
//! # Bounds
//!
//! What one request may cost, with the constant of each bound. `docs/tables.md` lists them for
//! clients, and `tests/tables` (`injections.rs`, `bounds.rs`) and `arbitrary_tests` test them.
//!
//! | Bound | Constant |
//! | --- | --- |
//! | bytes and parameters of a query | `request::query`: `LONGEST_QUERY`, `MOST_PARAMETERS` |
//! | groups within groups | `request::filter::DEEPEST_GROUP` |
//! | tables embedded within tables | `request::select::DEEPEST_EMBEDDING` |
//! | rows of a body, members of a row | `request::body`: `MOST_ROWS`, `MOST_MEMBERS` |
//! | tables of a request, items of a `select` | `plan::planner`: `MOST_TABLES`, `MOST_ITEMS` |
//! | conditions, bytes of a pattern | `plan::condition`: `MOST_TESTS`, `LONGEST_PATTERN` |
//! | bytes of a cursor | `plan::cursor::LONGEST` |
//! | rows of an answer | `rest.max_rows` in the configuration |
//! | embedded rows of one relation | `api::EMBEDDED_FOR_EACH` times `rest.max_rows` |
//! | bytes that an answer repeats | `json::MOST_REPEATED` |
//! | bytes that one statement returns | the driver's `max_answer` (`core/src/driver_settings`) |
//! | attempts | `api`: `MOST_ATTEMPTS`, `LOST_AGAIN`; `run::read::AGAIN` |
//! | rows of a change that are answered | `api::EMBEDDED_FOR_EACH` times `rest.max_rows` |
//! | columns of a catalogue | `catalogue::statements::MOST_COLUMNS` |
//! | tenants that differ | `schemas::MOST` |
//! | catalogues that are read again | `schemas`: `AGAIN`, `MOST_AGAIN` |

mod api;
#[cfg(test)]
mod arbitrary_tests;
mod caller;
mod catalogue;
mod declaration;
mod document;
mod json;
mod model;
mod plan;
mod refusal;
mod request;
mod run;
mod schemas;
mod sql;
mod value;

pub use api::{Answer, Ask, Rest, Settings};
pub use catalogue::{Catalogue, CatalogueReader, Pulled, pull};
pub use declaration::{
    AccessDeclaration, ColumnDeclaration, ColumnType, DeclarationFault, RelationDeclaration, RoleDeclaration,
    TableDeclaration, Tables,
};
pub use refusal::{At, Failure, InvalidInput, Refusal};
