//! Rows and counts for drivers that are not built on sqlx.
//!
//! SeaORM makes a [`QueryResult`] only from rows of sqlx, and from those of its `mock` and `proxy`.
//! A commit of `proxy` cannot fail, and it does not compile together with MySQL or SQLite. So a
//! driver with another client library (Oracle, or a driver of your own) makes its rows with the
//! public types of `mock`. Two rules follow from the way SeaORM reads such a row:
//!
//! * A value must be exactly the [`Value`] that the entity's field decodes: `BigInt` for an `i64`,
//!   `Int` for an `i32`. Any other variant reads as NULL. A NULL may be of any variant.
//! * SeaORM stores the columns by name, and numbers them in the order of their names. If that is
//!   not the order of the columns, [`query_results`] adds each value a second time under a name
//!   that sorts first, so that tuples are right. Such a row shows these names too (`\0` and a
//!   number) in [`QueryResult::column_names`] and in `into_json`.

use std::collections::BTreeMap;

use sea_orm::{
    DbBackend, DbErr, ExecResult, IntoMockRow, MockDatabase, MockDatabaseTrait, MockExecResult, MockRow, QueryResult,
    Statement, Value,
};

/// Rows for SeaORM: the names of the columns in their order, and of each row the values in the same
/// order.
///
/// # Errors
/// No known one; SeaORM's signature demands a result.
pub fn query_results(columns: &[String], rows: Vec<Vec<Value>>) -> Result<Vec<QueryResult>, DbErr> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let in_order = columns.is_sorted_by(|a, b| a < b);
    let rows: Vec<MockRow> = rows.into_iter().map(|row| mock_row(columns, row, in_order)).collect();
    // The mock records the statement in a log, which is dropped with this mock database.
    MockDatabase::new(DbBackend::Postgres)
        .append_query_results([rows])
        .query(0, Statement::from_string(DbBackend::Postgres, ""))
}

fn mock_row(columns: &[String], row: Vec<Value>, in_order: bool) -> MockRow {
    let mut values = BTreeMap::new();
    for (index, (name, value)) in columns.iter().zip(row).enumerate() {
        if !in_order {
            values.insert(format!("\0{index:05}"), value.clone());
        }
        // Of two columns with one name the first is found, as sqlx does.
        values.entry(name.clone()).or_insert(value);
    }
    values.into_mock_row()
}

/// The result of a statement for SeaORM: the number of affected rows.
///
/// # Errors
/// No known one; SeaORM's signature demands a result.
pub fn exec_result(rows_affected: u64) -> Result<ExecResult, DbErr> {
    let result = MockExecResult {
        last_insert_id: 0,
        rows_affected,
    };
    MockDatabase::new(DbBackend::Postgres)
        .append_exec_results([result])
        .execute(0, Statement::from_string(DbBackend::Postgres, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_column_is_found_by_name_and_by_position() {
        for columns in [["a", "b", "c"], ["z", "m", "a"], ["same", "same", "other"]] {
            let row = vec![Value::from(1i64), Value::from("two"), Value::from(3i32)];
            let rows = query_results(&names(&columns), vec![row]).unwrap();
            assert_eq!(rows[0].try_get_by_index::<i64>(0).unwrap(), 1);
            assert_eq!(rows[0].try_get_by_index::<String>(1).unwrap(), "two");
            assert_eq!(rows[0].try_get_by_index::<i32>(2).unwrap(), 3);
            assert_eq!(rows[0].try_get::<i64>("", columns[0]).unwrap(), 1);
            assert_eq!(rows[0].try_get::<i32>("", columns[2]).unwrap(), 3);
        }
    }

    #[test]
    fn more_columns_than_a_digit_counts_keep_their_places() {
        let columns: Vec<String> = (0..120).rev().map(|n| format!("c{n}")).collect();
        let rows = query_results(&columns, vec![(0..120i64).map(Value::from).collect()]).unwrap();
        for place in [0usize, 9, 10, 99, 100, 119] {
            assert_eq!(rows[0].try_get_by_index::<i64>(place).unwrap(), place as i64);
        }
    }

    #[test]
    fn a_null_of_any_variant_is_none() {
        let rows = query_results(&names(&["a"]), vec![vec![Value::String(None)]]).unwrap();
        assert_eq!(rows[0].try_get::<Option<i64>>("", "a").unwrap(), None);
        assert!(rows[0].try_get::<i64>("", "a").is_err());
    }

    #[test]
    fn rows_without_columns_and_no_rows_at_all_are_possible() {
        assert!(query_results(&names(&["a"]), Vec::new()).unwrap().is_empty());
        assert_eq!(query_results(&[], vec![Vec::new(), Vec::new()]).unwrap().len(), 2);
    }

    #[test]
    fn a_count_comes_back() {
        assert_eq!(exec_result(7).unwrap().rows_affected(), 7);
    }
}
