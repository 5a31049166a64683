//! Values of rows.
//!
//! [`Dialect::output`] decides the type of what a statement returns. So the bytes that PostgreSQL
//! sent are read as they are: a look at the type of each value, and a copy of each text, would take
//! most of the time of a large answer. Besides, sqlx ends in a panic at the time `infinity`.

use sea_orm::{DbErr, QueryResult};

use super::{Dialect, dialect::read_text};
use crate::{
    declaration::ColumnType,
    value::{Datum, sent, write_text},
};

impl Dialect {
    /// Reads a column that [`output`](Self::output) returned.
    pub(crate) fn read(self, row: &QueryResult, index: usize, kind: &ColumnType) -> Result<Datum, DbErr> {
        match self.bytes(row, index, kind) {
            Some(None) => Ok(Datum::Null),
            Some(Some(bytes)) => datum(bytes, kind).ok_or_else(|| malformed(index)),
            None => self.decode(row, index, kind),
        }
    }

    /// Writes a column as JSON, and returns whether it has a value.
    pub(crate) fn write_json(
        self,
        row: &QueryResult,
        index: usize,
        kind: &ColumnType,
        to: &mut Vec<u8>,
    ) -> Result<bool, DbErr> {
        if matches!(kind, ColumnType::Text | ColumnType::Enum(_))
            && let Some(Some(bytes)) = self.bytes(row, index, kind)
        {
            write_text(to, str::from_utf8(bytes).map_err(|_| malformed(index))?);
            return Ok(true);
        }
        let value = self.read(row, index, kind)?;
        value.write_json(to);
        Ok(value != Datum::Null)
    }

    /// The bytes of a value, or of NULL none, if it is PostgreSQL's and `output` decides its type.
    fn bytes<'r>(self, row: &'r QueryResult, index: usize, kind: &ColumnType) -> Option<Option<&'r [u8]>> {
        match (self, kind) {
            (Self::Postgresql, ColumnType::Bool | ColumnType::Bytea) => None,
            (Self::Postgresql, _) => bytes(row, index),
            _ => None,
        }
    }
}

/// The bytes of a value, if sqlx read the row.
#[cfg(feature = "postgresql")]
fn bytes(row: &QueryResult, index: usize) -> Option<Option<&[u8]>> {
    use sqlx::{Row as _, postgres::PgValueFormat};
    let value = row.try_as_pg_row()?.try_get_raw(index).ok()?;
    // NULL is the only value without bytes.
    (value.format() == PgValueFormat::Binary).then(|| value.as_bytes().ok())
}

#[cfg(not(feature = "postgresql"))]
fn bytes(_row: &QueryResult, _index: usize) -> Option<Option<&[u8]>> {
    None
}

/// A value as PostgreSQL sends it.
fn datum(bytes: &[u8], kind: &ColumnType) -> Option<Datum> {
    use ColumnType as Type;
    let text = || str::from_utf8(bytes).ok().map(str::to_owned);
    match kind {
        Type::Bool | Type::Bytea => None,
        Type::Int2 | Type::Int4 | Type::Int8 => Some(Datum::Int(i64::from_be_bytes(bytes.try_into().ok()?))),
        Type::Float4 => Some(Datum::Float4(f32::from_be_bytes(bytes.try_into().ok()?))),
        Type::Float8 => Some(Datum::Float8(f64::from_be_bytes(bytes.try_into().ok()?))),
        Type::Text | Type::Enum(_) => text().map(Datum::Text),
        Type::Numeric | Type::Uuid | Type::Json => text().map(|text| read_text(kind, text)),
        Type::Date => sent::date(bytes),
        Type::Time => sent::time(bytes),
        Type::Timestamp => sent::timestamp(bytes, false),
        Type::Timestamptz => sent::timestamp(bytes, true),
    }
}

fn malformed(index: usize) -> DbErr {
    DbErr::Type(format!("column {index} has a value of another type"))
}
