//! Statements, written by sea-query. Every value is bound; names come from the declaration, and
//! those of PostgreSQL's enumerations from its catalogue, which quotes them. `Expr::cust` is for
//! texts and numbers of this program alone. `arbitrary_tests` looks for values in the texts of
//! statements, and `tests/tables/injections.rs` sends what was done to other servers.

mod condition;
mod dialect;
mod read;
mod select;
#[cfg(test)]
mod tests;
mod tree;
mod write;

pub(crate) use dialect::{Dialect, Use, is_canonical};
pub(crate) use select::{Joined, count, page, page_of, related};
pub(crate) use tree::{MOST_COLUMNS, tree};
pub(crate) use write::{
    Assignment, Change, Conflict, Returned, Target, count_of, delete, has_one_of, insert, insert_or, is_same, locked,
    update, update_each,
};
