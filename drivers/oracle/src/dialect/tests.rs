//! Every shape of statement in `cases.txt`, and what the text alone does not show.

use std::{fs::OpenOptions, io::Write};

use super::*;

const CASES: &str = include_str!("cases.txt");

/// Appends statements to the file that a parser of Oracle's SQL reads (`scripts/oracle-sql`).
fn record(statements: &[String]) {
    let Some(path) = std::env::var_os("TENANTRY_TEST_ORACLE_SQL") else {
        return;
    };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all((statements.join("\n") + "\n").as_bytes()).unwrap();
}

fn statements(plan: &Plan) -> Vec<String> {
    match plan {
        Plan::Query { sql, .. } => vec![sql.text.clone()],
        Plan::Change { statements, .. } => statements.iter().map(|sql| sql.text.clone()).collect(),
        Plan::Merge { steps, .. } => {
            let texts = steps.iter().flat_map(|Step { sql, then }| {
                let then = then.iter().map(|(sql, _)| sql.text.clone());
                std::iter::once(sql.text.clone()).chain(then)
            });
            texts.collect()
        }
        Plan::Definition { sql, .. } => vec![sql.clone()],
    }
}

/// What is written below a case.
fn outcome(sql: &str) -> Vec<String> {
    let plan = match translate(sql) {
        Ok(plan) => plan,
        Err(error) => return vec![format!("! {error}")],
    };
    let mut lines = statements(&plan);
    record(&lines);
    match plan {
        Plan::Definition {
            tolerates: Some(code), ..
        } => lines.push(format!("tolerates {code}")),
        Plan::Change { skips_taken: true, .. } => lines.push("leaves out what is taken".to_owned()),
        _ => {}
    }
    lines
}

#[test]
fn every_case_is_written_as_oracle_has_it_or_refused_by_name() {
    let mut lines = CASES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    let mut cases = 0;
    while let Some(sql) = lines.next() {
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("    ")) {
            expected.push(line.trim_start().to_owned());
        }
        assert_eq!(outcome(sql), expected, "{sql}");
        cases += 1;
    }
    assert!(cases > 90, "only {cases} cases were read");
}

fn query(sql: &str) -> (Vec<usize>, Vec<Output>) {
    match translate(sql).unwrap() {
        Plan::Query { sql, columns, .. } => (sql.binds.iter().map(|bind| bind.parameter).collect(), columns),
        other => panic!("{other:?}"),
    }
}

#[test]
fn parameters_are_bound_in_the_order_of_oracle_s_text() {
    // Oracle's OFFSET stands before its FETCH.
    assert_eq!(query("SELECT 1 FROM t LIMIT $1 OFFSET $2").0, [1, 0]);
    assert_eq!(query("SELECT 1 FROM t WHERE a = $2 OR b = $1 OR c = $2").0, [1, 0, 1]);
    // A condition that becomes a value is written twice.
    assert_eq!(query("SELECT a > $1 FROM t").0, [0, 0]);
}

#[test]
fn only_what_goes_into_a_column_as_it_is_may_be_a_lob() {
    let Plan::Change { statements, .. } = translate("UPDATE t SET a = $1, b = b || $2, c = ($3) WHERE a = $4").unwrap()
    else {
        panic!("it is a change")
    };
    let stored: Vec<bool> = statements[0].binds.iter().map(|bind| bind.stored).collect();
    assert_eq!(stored, [true, false, true, false]);
}

#[test]
fn a_key_that_is_compared_is_never_a_lob() {
    let sql = "INSERT INTO t (k, v) VALUES ($1, $2), ($3, $4) ON CONFLICT (k) DO UPDATE SET v = excluded.v";
    let Plan::Merge { steps, .. } = translate(sql).unwrap() else {
        panic!("it merges")
    };
    let binds = &steps[0].sql.binds;
    let stored: Vec<bool> = binds.iter().map(|bind| bind.stored).collect();
    assert_eq!(stored, [false, true, false, true]);
    let columns: Vec<Option<usize>> = binds.iter().map(|bind| bind.column).collect();
    assert_eq!(columns, [Some(0), Some(1), Some(0), Some(1)]);
    // Its time zone is noted like that of any other column.
    assert_eq!(steps[0].sql.stores.len(), 4);
}

#[test]
fn the_columns_of_a_result_have_postgresql_s_names() {
    let names = |sql: &str| {
        query(sql)
            .1
            .into_iter()
            .map(|column| column.name.unwrap())
            .collect::<Vec<_>>()
    };
    let sql = r#"SELECT "t"."id", "t"."Mixed", "a" AS "A_id", COUNT(*), CAST(b AS text), 1, Upper FROM "t""#;
    assert_eq!(names(sql), ["id", "Mixed", "A_id", "count", "b", "?column?", "upper"]);
    // Behind `*` only the database knows them.
    assert!(names("SELECT * FROM t").is_empty());
}

#[test]
fn a_statement_tells_the_types_that_oracle_does_not() {
    let kinds = |sql: &str| query(sql).1.into_iter().map(|column| column.kind).collect::<Vec<_>>();
    assert_eq!(
        kinds("SELECT COUNT(*), a = 1, CAST(a AS smallint), CAST(b AS jsonb), 7, 3000000000, TRUE, now() FROM t"),
        [
            Kind::BigInt,
            Kind::Bool,
            Kind::SmallInt,
            Kind::Json,
            Kind::Int,
            Kind::BigInt,
            Kind::Bool,
            Kind::TimestampTz
        ]
        .map(Some)
    );
    assert_eq!(kinds("SELECT a, MAX(a), $1 FROM t GROUP BY a"), [None, None, None]);
    assert_eq!(
        kinds(
            "SELECT CASE WHEN a THEN TRUE ELSE FALSE END, CASE WHEN a THEN 1 ELSE NULL END, CASE WHEN a THEN 1 ELSE b END FROM t"
        ),
        [Some(Kind::Bool), Some(Kind::Int), None]
    );
}

#[test]
fn a_calculation_with_whole_numbers_is_one() {
    let columns = |sql: &str| query(sql).1.into_iter();
    let kinds: Vec<_> = columns("SELECT 1 + 1, -5, (2 * 3000000000) % 7, 1 / 2, 1.5 + 1")
        .map(|column| column.kind)
        .collect();
    assert_eq!(
        kinds,
        [Some(Kind::Int), Some(Kind::Int), Some(Kind::BigInt), None, None]
    );
    let operands: Vec<Vec<String>> = columns("SELECT a + 1, -(a * b) - $1, a / 2, a + 1.5, a, a + SUM(b) FROM t")
        .map(|column| column.operands.into_iter().map(|origin| origin.column.0).collect())
        .collect();
    let expected: [&[&str]; 6] = [&["A"], &["A", "B"], &[], &[], &[], &[]];
    assert_eq!(operands, expected);
}

#[test]
fn a_value_is_known_by_the_column_that_it_is_written_to() {
    let stores = |sql: &str| {
        let sql = match translate(sql).unwrap() {
            Plan::Change { mut statements, .. } => statements.remove(0),
            Plan::Merge { mut steps, .. } => steps.remove(0).sql,
            _ => panic!("{sql} is no change"),
        };
        let written = sql.stores.into_iter();
        written
            .map(|(parameter, column)| format!("{parameter} {}.{}", column.table, column.column.0))
            .collect::<Vec<_>>()
    };
    let both = ["0 \"T\".A", "1 \"T\".B"];
    assert_eq!(stores("INSERT INTO t (a, b) VALUES ($1, $2)"), both);
    assert_eq!(stores("UPDATE t SET a = $1, b = $2 WHERE c = $3"), both);
    assert_eq!(
        stores("INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO NOTHING"),
        both
    );
    assert!(stores("INSERT INTO t (a, b) VALUES (1, now())").is_empty());
}

#[test]
fn a_column_is_traced_to_its_table_through_names_and_aggregates() {
    let origins = |sql: &str| {
        let columns = query(sql).1.into_iter();
        columns
            .map(|column| {
                column
                    .origin
                    .map(|origin| format!("{}.{}", origin.table, origin.column.0))
            })
            .collect::<Vec<_>>()
    };
    let sql = r#"SELECT "u"."id", MAX("p"."n"), "x"."y", "q"."z" FROM "users" AS "u" JOIN "s"."posts" AS "p" ON TRUE
                 JOIN (SELECT 1 AS "y") AS "x" ON TRUE"#;
    let expected = [Some("\"USERS\".ID"), Some("\"S\".\"POSTS\".N"), None, None];
    assert_eq!(origins(sql), expected.map(|origin| origin.map(str::to_owned)));
    assert_eq!(origins("SELECT id FROM users"), [Some("\"USERS\".ID".to_owned())]);
    // Which of two tables it is of, only the database knows; and a `WITH` is no table.
    assert_eq!(origins("SELECT id FROM users, posts"), [None]);
    assert_eq!(origins("WITH c AS (SELECT 1 AS n) SELECT n FROM c"), [None]);
}

#[test]
fn a_change_tells_how_to_find_the_types_of_what_it_gives_back() {
    let sql = r#"UPDATE "users" AS "u" SET "name" = $1 WHERE "u"."id" = $2 RETURNING "u"."id", "name" AS "called""#;
    let Plan::Change {
        statements,
        returning: Some(returning),
        ..
    } = translate(sql).unwrap()
    else {
        panic!("it gives something back")
    };
    assert!(
        statements[0]
            .text
            .ends_with(r#"RETURNING "U"."ID", "NAME" INTO :p3, :p4"#),
        "{}",
        statements[0].text
    );
    assert_eq!(
        returning.describe,
        r#"SELECT "U"."ID", "NAME" FROM "USERS" "U" WHERE 1 = 0"#
    );
    let names: Vec<_> = returning
        .columns
        .iter()
        .map(|column| column.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["id", "called"]);
}

#[test]
fn a_list_that_is_too_long_for_oracle_is_parted() {
    let list: Vec<String> = (0..2001).map(|number| number.to_string()).collect();
    let part = |negated: &str, between: &str| {
        let sql = format!("SELECT 1 FROM t WHERE a {negated}IN ({})", list.join(", "));
        let text = statements(&translate(&sql).unwrap()).remove(0);
        assert_eq!(text.matches(&format!("\"A\" {negated}IN (")).count(), 3);
        assert_eq!(text.matches(between).count(), 2);
    };
    part("", ") OR \"A\"");
    part("NOT ", ") AND \"A\"");
}

#[test]
fn a_lock_is_known_as_one() {
    let locks = |sql: &str| matches!(translate(sql).unwrap(), Plan::Query { locks: true, .. });
    assert!(locks("SELECT a FROM t FOR UPDATE"));
    assert!(!locks("SELECT a FROM t"));
}

#[test]
fn a_refusal_prints_no_value() {
    for sql in [
        "SELECT foo('canary')",
        "SELECT 'canary' -> 'canary'",
        "SELEKT 'canary'",
        "SELECT DATE $$canary$$",
    ] {
        let error = translate(sql).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

/// Runs on a stack like that of a connection's thread.
fn with_the_stack_of_a_connection(test: fn()) {
    let thread = std::thread::Builder::new()
        .stack_size(crate::connection::STACK)
        .spawn(test);
    thread.unwrap().join().unwrap();
}

#[test]
fn a_statement_that_nests_too_deep_is_refused() {
    with_the_stack_of_a_connection(|| {
        let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
        assert!(matches!(translate(&deep), Err(DialectError::Syntax(_))));
        let nested = format!("SELECT {}1{}", "(".repeat(20), ")".repeat(20));
        assert!(translate(&nested).is_ok());
    });
}

#[test]
fn a_condition_of_thousands_of_parts_is_written() {
    with_the_stack_of_a_connection(|| {
        let parts: Vec<String> = (0..3000).map(|number| format!("a = {number}")).collect();
        let sql = format!("SELECT 1 FROM t WHERE {}", parts.join(" OR "));
        let written = statements(&translate(&sql).unwrap()).remove(0);
        assert_eq!(written.matches("\"A\" = ").count(), 3000);
    });
}

#[test]
fn names_fold_as_oracle_s_do() {
    for (oracle, postgres) in [("ID", "id"), ("A_id", "A_id"), ("Mixed", "Mixed"), ("N$1", "n$1")] {
        assert_eq!(from_oracle(oracle), postgres);
    }
}
