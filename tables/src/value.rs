//! Values of columns: from a URL, from JSON, from a row; into a statement, into JSON.

mod numeric;
mod parse;
pub(crate) mod sent;
mod time;
mod write;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use uuid::Uuid;

pub(crate) use parse::Malformed;
pub(crate) use write::write_text;

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum {
    Null,
    Bool(bool),
    /// A whole number of any size that columns have.
    Int(i64),
    Float4(f32),
    Float8(f64),
    /// A decimal number in its shortest plain notation.
    Numeric(String),
    /// Also a number or a time that only some databases have, in PostgreSQL's notation: `infinity`.
    Text(String),
    Uuid(Uuid),
    Date(NaiveDate),
    Time(NaiveTime),
    Timestamp(NaiveDateTime),
    Timestamptz(DateTime<Utc>),
    Bytes(Vec<u8>),
    /// JSON without spaces between its tokens.
    Json(String),
}
