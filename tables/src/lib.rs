//! Declared tables as a REST API in the dialect of PostgREST.
//!
//! ```text
//! declaration -> model   resolves names, relations and row rules
//! request     -> plan    parses URL, headers and body, or refuses them; applies roles and rules
//! plan        -> sql     writes statements with sea-query; every value is bound
//! run         -> json    runs them, and writes the rows without a map for each row
//! ```

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
