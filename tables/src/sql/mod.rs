//! Statements, written by sea-query. Every value is bound; names come from the declaration.

mod dialect;
mod select;
mod tests_of_rows;
mod write;

pub(crate) use dialect::{Dialect, Use};
pub(crate) use select::{Joined, count, page, page_of, related};

pub(crate) use write::{
    Assignment, Change, Conflict, Returned, Target, count_of, delete, has_one_of, insert, insert_or, locked, update,
    update_each,
};
