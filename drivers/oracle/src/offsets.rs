//! Which columns hold times with their offset, or in local time, for this program.
//!
//! `TIMESTAMP WITH TIME ZONE` is read as SeaORM's `DateTimeUtc`, `DateTimeWithTimeZone` or
//! `DateTimeLocal`, and neither Oracle nor a `SELECT` of SeaORM says which of them an entity has. A
//! value that the entity writes does.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use sea_orm::Value;

use crate::dialect::SourceColumn;

/// How many columns are remembered.
const CAPACITY: usize = 1000;

/// How the times of a column are read, if not as `DateTimeUtc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// `DateTimeWithTimeZone`.
    Offset,
    /// `DateTimeLocal`.
    Local,
}

/// The columns to which such a time was written last, for all connections of all tenants: a program
/// has one entity for a table.
#[derive(Debug, Default)]
pub(crate) struct Offsets(RwLock<HashMap<SourceColumn, Zone>>);

impl Offsets {
    /// Remembers what kind of time is written to a column.
    pub(crate) fn note(&self, column: &SourceColumn, value: &Value) {
        let zone = match value {
            Value::ChronoDateTimeWithTimeZone(_) => Some(Zone::Offset),
            Value::ChronoDateTimeLocal(_) => Some(Zone::Local),
            Value::ChronoDateTimeUtc(_) => None,
            _ => return,
        };
        if self.of(column) == zone {
            return;
        }
        let mut columns = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match zone {
            None => drop(columns.remove(column)),
            Some(zone) if columns.len() < CAPACITY || columns.contains_key(column) => {
                columns.insert(column.clone(), zone);
            }
            Some(_) => {}
        }
    }

    /// How the times of this column are read.
    pub(crate) fn of(&self, column: &SourceColumn) -> Option<Zone> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(column)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Name;

    #[test]
    fn a_column_is_read_as_it_was_written_last() {
        let (offsets, now) = (Offsets::default(), chrono::Utc::now());
        let column = SourceColumn {
            table: "\"T\"".to_owned(),
            column: Name("AT".to_owned()),
        };
        let with_offset = Value::ChronoDateTimeWithTimeZone(Some(now.fixed_offset()));
        offsets.note(&column, &Value::BigInt(Some(1)));
        assert_eq!(offsets.of(&column), None);
        offsets.note(&column, &with_offset);
        offsets.note(&column, &Value::BigInt(Some(1)));
        assert_eq!(offsets.of(&column), Some(Zone::Offset));
        offsets.note(&column, &Value::ChronoDateTimeLocal(None));
        assert_eq!(offsets.of(&column), Some(Zone::Local));
        offsets.note(&column, &Value::ChronoDateTimeUtc(Some(now)));
        assert_eq!(offsets.of(&column), None);
    }
}
