//! What a request means: tables, columns, relations and roles are found in the declaration. Names
//! in statements come from there alone.

mod claims;
pub(crate) mod condition;
pub(crate) mod cursor;
mod enumeration;
pub(crate) mod needs;
pub(crate) mod planner;
pub(crate) mod read;
mod scope;
pub(crate) mod write;

pub(crate) use condition::{ColumnTest, Comparison, Condition};
pub(crate) use read::{Child, Output, Page, Read, Term, TermColumn};
