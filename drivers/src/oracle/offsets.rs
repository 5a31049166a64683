//! Which columns hold times with their offset for this program.
//!
//! `TIMESTAMP WITH TIME ZONE` is read as SeaORM's `DateTimeUtc` or as its `DateTimeWithTimeZone`,
//! and neither Oracle nor a `SELECT` of SeaORM says which of them an entity has. A value that the
//! entity writes does.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use sea_orm::Value;

use super::dialect::SourceColumn;

/// How many columns are remembered.
const CAPACITY: usize = 1000;

/// The columns to which `DateTimeWithTimeZone` was written last, for all connections of all
/// tenants: a program has one entity for a table.
#[derive(Debug, Default)]
pub(super) struct Offsets(RwLock<HashSet<SourceColumn>>);

impl Offsets {
    /// Remembers what kind of time is written to a column.
    pub(super) fn note(&self, column: &SourceColumn, value: &Value) {
        let with_offset = match value {
            Value::ChronoDateTimeWithTimeZone(_) => true,
            Value::ChronoDateTimeUtc(_) => false,
            _ => return,
        };
        if self.has(column) == with_offset {
            return;
        }
        let mut columns = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !with_offset {
            columns.remove(column);
        } else if columns.len() < CAPACITY {
            columns.insert(column.clone());
        }
    }

    /// Whether times of this column are read with their offset.
    pub(super) fn has(&self, column: &SourceColumn) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::dialect::Name;

    #[test]
    fn a_column_is_read_as_it_was_written_last() {
        let (offsets, now) = (Offsets::default(), chrono::Utc::now());
        let column = SourceColumn {
            table: "\"T\"".to_owned(),
            column: Name("AT".to_owned()),
        };
        let with_offset = Value::ChronoDateTimeWithTimeZone(Some(now.fixed_offset()));
        offsets.note(&column, &Value::BigInt(Some(1)));
        assert!(!offsets.has(&column));
        offsets.note(&column, &with_offset);
        offsets.note(&column, &Value::BigInt(Some(1)));
        assert!(offsets.has(&column));
        offsets.note(&column, &Value::ChronoDateTimeUtc(Some(now)));
        assert!(!offsets.has(&column));
    }
}
