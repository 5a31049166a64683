//! The texts of statements, and how many values they bind.

use sea_orm::Statement;
use serde_json::{Map, json};

use super::{Dialect, page};
use crate::{caller::Caller, model::Model, plan::planner::Planner, request::query::query, value::Datum};

/// A table with a column of each of these types, which have their names.
fn model(types: &[&str]) -> Model {
    let mut columns = Map::new();
    columns.insert("id".to_owned(), json!({"type": "int8"}));
    for kind in types {
        columns.insert((*kind).to_owned(), json!({"type": kind}));
    }
    declared(&columns)
}

fn declared(columns: &Map<String, serde_json::Value>) -> Model {
    let tables = json!({"rows": {"key": ["id"], "columns": columns, "allow": {"anon": {"read": {}}}}});
    Model::new(&serde_json::from_value(tables).unwrap())
}

/// The statement of a read, and how many terms its order has.
fn read(model: &Model, dialect: Dialect, text: &str, after: Option<&[Datum]>) -> (Statement, usize) {
    let caller = Caller::new("tenant1", None, "role", dialect);
    let query = query(text, &[]).unwrap();
    let planned = Planner::new(model, caller, &query, None).read(model.table("rows").unwrap());
    let planned = planned.unwrap();
    (page(dialect, model, &planned, after, false), planned.order.len())
}

#[test]
fn a_column_counts_once_in_an_order() {
    let model = model(&["int4", "text"]);
    for (order, terms) in [
        ("id", 1),
        ("id,id.desc,id", 1),
        ("text,id,text.desc.nullsfirst", 2),
        ("text,int4,text,int4", 3),
    ] {
        let (_, length) = read(&model, Dialect::Sqlite, &format!("order={order}"), None);
        assert_eq!(length, terms, "{order}");
    }
}

#[test]
fn a_page_after_many_columns_binds_few_values() {
    let names: Vec<String> = (0..63).map(|number| format!("c{number}")).collect();
    let columns = names.iter().map(String::as_str).chain(["id"]);
    let columns = columns.map(|name| (name.to_owned(), json!({"type": "int8"})));
    let model = declared(&columns.collect());
    let after = vec![Datum::Int(7); 64];
    let order = format!("order={}", names.join(","));
    for dialect in [Dialect::Postgresql, Dialect::Mysql, Dialect::Sqlite, Dialect::Oracle] {
        let (statement, terms) = read(&model, dialect, &order, Some(&after));
        assert_eq!(terms, 64);
        let values = statement.values.unwrap().0.len();
        assert!((64..300).contains(&values), "{dialect:?}: {values} values");
        let (mut depth, mut deepest) = (0_i32, 0);
        for c in statement.sql.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            deepest = deepest.max(depth);
        }
        assert!(deepest < 30, "{dialect:?}: {deepest} parentheses deep");
    }
}

#[test]
fn a_page_comes_after_each_column_in_its_turn() {
    let model = model(&["int2", "int4"]);
    let after = [1, 2, 3].map(Datum::Int);
    let (statement, _) = read(&model, Dialect::Sqlite, "order=int2,int4.desc", Some(&after));
    let begin = statement.sql.find("WHERE").unwrap();
    let end = statement.sql.find(" ORDER BY").unwrap();
    let condition = statement.sql[begin..end].replace("\"t0\".", "").replace(['(', ')'], "");
    let expected =
        "WHERE \"int2\" >= ? AND \"int2\" > ? OR \"int2\" = ? AND \"int4\" < ? OR \"int4\" = ? AND \"id\" > ?";
    assert_eq!(condition, expected);
}

#[test]
fn mysql_has_room_for_all_digits_of_a_number() {
    let model = model(&["numeric"]);
    for (number, expected) in [
        ("1234567890123456789012345678901234567890", "DECIMAL(65, 0)"),
        ("-12.345", "DECIMAL(65, 3)"),
        ("1e-40", "DECIMAL(65, 30)"),
        ("1e50", "DECIMAL(65, 0)"),
        (
            "1234567890123456789012345678901234567890.12345678901234567890123456789",
            "DECIMAL(65, 25)",
        ),
    ] {
        let (statement, _) = read(&model, Dialect::Mysql, &format!("numeric=eq.{number}"), None);
        assert!(statement.sql.contains(expected), "{number}: {}", statement.sql);
    }
}

#[test]
fn oracle_returns_the_types_that_are_declared() {
    let types = ["numeric", "timestamp", "timestamptz", "bytea", "json", "text", "date"];
    let model = model(&types);
    let (statement, _) = read(&model, Dialect::Oracle, "date=eq.2026-01-02", None);
    let sql = statement.sql.replace("\"t0\".", "");
    for expected in [
        "CAST(\"numeric\" AS varchar(64))",
        "CAST(\"timestamp\" AS timestamp)",
        "CAST(\"timestamptz\" AS timestamptz)",
        "CAST(\"bytea\" AS bytea)",
        "THEN \"json\" END",
        "CAST(\"date\" AS date) = ",
    ] {
        assert!(sql.contains(expected), "{expected}: {sql}");
    }
}

#[test]
fn an_index_of_a_day_serves_comparisons() {
    let model = model(&["date"]);
    let conditions = |dialect, text: &str, after: Option<&[Datum]>| {
        let (statement, _) = read(&model, dialect, text, after);
        let begin = statement.sql.find("WHERE").unwrap();
        statement.sql[begin..].replace("\"t0\".", "").replace(['(', ')'], "")
    };
    for (filter, expected) in [
        ("date=eq.2026-01-02", "\"date\" >= ? AND \"date\" < ? AND "),
        ("date=in.(2026-01-02,2026-01-05)", "\"date\" >= ? AND \"date\" < ? AND "),
        ("date=gt.2026-01-02", "\"date\" >= ? AND "),
        ("date=lte.2026-01-02", "\"date\" < ? AND "),
        ("date=eq.9999-12-31", "\"date\" >= ? AND substr"),
    ] {
        let sql = conditions(Dialect::Sqlite, filter, None);
        assert!(sql.starts_with(&format!("WHERE {expected}")), "{filter}: {sql}");
        let sql = conditions(Dialect::Postgresql, filter, None);
        assert!(!sql.contains(" AND "), "{filter}: {sql}");
    }
    let after = [Datum::Date("2026-01-02".parse().unwrap()), Datum::Int(1)];
    let sql = conditions(Dialect::Sqlite, "order=date.desc", Some(&after));
    assert!(sql.starts_with("WHERE \"date\" < ? AND "), "{sql}");
}
