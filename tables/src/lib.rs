//! Declared tables as a REST API in the dialect of PostgREST.
//!
//! ```text
//! declaration -> model      names looked up, relations and row rules resolved
//! request     -> plan       a URL, headers and a body, read completely or refused; roles and rules applied
//! plan        -> sql        statements of sea-query, every value bound, one module for what dialects differ in
//! run         -> json       rows as the database returned them, written without a map for each row
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
pub use refusal::{At, Failure, Place, Refusal};
