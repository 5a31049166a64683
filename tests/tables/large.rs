//! Requests for more than one statement takes, and answers that are too large.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{Answer, Role, Shop};

const TABLES: &str = "
tables:
  groups:
    key: [id]
    columns: { id: { type: int4 }, name: { type: text } }
    allow: { anon: { read: {} } }
  points:
    key: [id]
    columns: { id: { type: int4 }, group_id: { type: int4 }, text: { type: text, nullable: true } }
    relations: { group: { to: groups, on: { group_id: id } }, same: { to: points, on: { id: id } } }
    allow: { anon: { read: {}, create: {}, update: {}, delete: {} } }
  pairs:
    key: [a, b]
    columns: { a: { type: int4 }, b: { type: int4 }, group_id: { type: int4 } }
    relations: { group: { to: groups, on: { group_id: id } } }
    allow: { anon: { read: {}, create: {}, update: {}, delete: {} } }
";

const CREATE: &str = "
CREATE TABLE groups (id int NOT NULL PRIMARY KEY, name varchar(20) NOT NULL);
INSERT INTO groups (id, name) VALUES (1, 'one');
CREATE TABLE points (id int NOT NULL PRIMARY KEY, group_id int NOT NULL, text TEXT);
CREATE TABLE pairs (a int NOT NULL, b int NOT NULL, group_id int NOT NULL, PRIMARY KEY (a, b));
";

const KINDS: [&str; 3] = ["sqlite", "postgresql", "mysql"];

/// A server with so many points and pairs on each kind of database.
async fn server(max_rows: u64, points: usize, pairs: usize) -> Shop {
    let filled = |kind: &str| {
        let numbers = |most: usize| match kind {
            "sqlite" => format!(
                "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most}) SELECT i FROM n) AS n"
            ),
            "postgresql" => format!("generate_series(1, {most}) AS n(i)"),
            _ => format!("(SELECT seq AS i FROM seq_1_to_{most}) AS n"),
        };
        format!(
            "{CREATE}INSERT INTO points (id, group_id) SELECT i, 1 FROM {};\nINSERT INTO pairs (a, b, group_id) SELECT i, i, 1 FROM {};\n",
            numbers(points),
            numbers(pairs)
        )
    };
    let migrations = KINDS.map(|kind| (kind, filled(kind)));
    let migrations = migrations.each_ref().map(|(kind, sql)| (*kind, sql.as_str()));
    Shop::of(&KINDS, max_rows, TABLES, &migrations).await
}

async fn send(shop: &Shop, kind: &str, method: Method, path: &str, prefer: &str, body: Option<Value>) -> Answer {
    let body = body.map(|body| body.to_string());
    shop.send(kind, Role::Anon, method, path, &[("Prefer", prefer)], body)
        .await
}

async fn count(shop: &Shop, kind: &str, path: &str) -> String {
    let answer = send(shop, kind, Method::HEAD, path, "count=exact", None).await;
    let range = answer.header("content-range");
    range.split('/').next_back().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_keys_than_parameters_are_embedded() {
    let shop = server(50_000, 40_000, 1).await;
    for kind in KINDS {
        let path = "points?select=id,same(id)&limit=40000";
        let answer = send(&shop, kind, Method::GET, path, "", None).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
        let rows = answer.json();
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), 40_000, "{kind}");
        assert!(rows.iter().all(|row| row["id"] == row["same"]["id"]), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_of_many_rows_is_counted_first_and_then_made() {
    let shop = server(1000, 70_000, 3_000).await;
    for kind in KINDS {
        let delete = |path: &'static str, prefer: &'static str| send(&shop, kind, Method::DELETE, path, prefer, None);
        let refused = delete("points?id=gt.0", "max-affected=1").await;
        assert_eq!(refused.status, 400, "{kind}: {}", refused.body);
        let problem = refused.json();
        assert_eq!(problem["code"], "PGRST124", "{kind}");
        assert_eq!(problem["details"], "The query affects 70000 rows", "{kind}");
        // More keys than one statement of SQLite has parameters.
        let removed = delete("points?id=lte.40000&select=id,group(name)", "return=representation").await;
        assert_eq!(removed.status, 200, "{kind}: {:.500}", removed.body);
        let rows = removed.json();
        assert_eq!(rows.as_array().unwrap().len(), 40_000, "{kind}");
        assert_eq!(rows[39_999]["group"], json!({"name": "one"}), "{kind}");
        assert_eq!(count(&shop, kind, "points").await, "30000", "{kind}");
        let removed = delete("pairs?a=gt.0&select=a,group(name)", "return=representation").await;
        assert_eq!(removed.status, 200, "{kind}: {:.500}", removed.body);
        assert_eq!(count(&shop, kind, "pairs").await, "0", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_with_too_large_an_answer_is_not_made() {
    // At most 50 rows of a change are answered.
    let shop = server(1, 60, 1).await;
    let long = "x".repeat(60_000);
    let names: Vec<String> = (0..700).map(|number| format!("a{number}:text")).collect();
    let repeated = format!("points?id=eq.1&select={}", names.join(","));
    for kind in KINDS {
        let change = |method: Method, path: String, body: Option<Value>| {
            let shop = &shop;
            async move { send(shop, kind, method, &path, "return=representation", body).await }
        };
        let too_much = |answer: Answer| {
            assert_eq!(answer.status, 400, "{kind}: {:.500}", answer.body);
            assert_eq!(answer.json()["code"], "54000", "{kind}");
        };
        let text = |text: &str| Some(json!({"text": text}));
        too_much(change(Method::PATCH, "points?id=gt.0".to_owned(), text("changed")).await);
        too_much(change(Method::PATCH, repeated.clone(), text(&long)).await);
        assert_eq!(count(&shop, kind, "points?text=not.is.null").await, "0", "{kind}");
        too_much(change(Method::DELETE, "points?id=gt.0".to_owned(), None).await);
        let rows: Vec<Value> = (100..160).map(|id| json!({"id": id, "group_id": 1})).collect();
        too_much(change(Method::POST, "points".to_owned(), Some(json!(rows))).await);
        let row = json!({"id": 100, "group_id": 1, "text": long});
        let path = repeated.replace("id=eq.1&", "");
        too_much(change(Method::POST, path, Some(row)).await);
        assert_eq!(count(&shop, kind, "points").await, "60", "{kind}");
        // Of one row, and of few.
        let one = change(Method::PATCH, "points?id=eq.1&select=id,text".to_owned(), text("one")).await;
        assert_eq!(
            (one.status, one.json()),
            (200, json!([{"id": 1, "text": "one"}])),
            "{kind}"
        );
        let few = change(Method::PATCH, "points?id=lte.2&select=text".to_owned(), text("few")).await;
        assert_eq!(few.json(), json!([{"text": "few"}, {"text": "few"}]), "{kind}");
        // It has no meaning for an insert, in a transaction or not.
        for (id, select) in [(200, "id"), (201, "id,group(name)")] {
            let path = format!("points?select={select}");
            let row = json!([{"id": id, "group_id": 1}]);
            let prefer = "return=representation, max-affected=0";
            let made = send(&shop, kind, Method::POST, &path, prefer, Some(row)).await;
            assert_eq!(made.status, 201, "{kind}: {}", made.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_conditions_as_are_allowed_are_served() {
    let shop = server(1000, 1200, 1200).await;
    let any: Vec<String> = (1..=999).map(|id| format!("id.eq.{id}")).collect();
    let any = format!("points?select=id&or=({})", any.join(","));
    let all: Vec<String> = (1..=999).map(|id| format!("id.neq.{id}")).collect();
    let all = format!("points?select=id&and=({})", all.join(","));
    let pairs: Vec<String> = (1..=499).map(|n| format!("and(a.eq.{n},b.eq.{n})")).collect();
    let pairs = format!("pairs?select=a&or=({})", pairs.join(","));
    for kind in KINDS {
        for (path, rows) in [(&any, 999), (&all, 201), (&pairs, 499)] {
            let answer = shop.get(kind, Role::Anon, path).await;
            assert_eq!(answer.status, 200, "{kind}: {:.500}", answer.body);
            assert_eq!(answer.json().as_array().unwrap().len(), rows, "{kind}: {path:.60}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_ends_at_a_long_text_is_followed_by_the_next() {
    let shop = server(1000, 1, 1).await;
    // In their order; a query has no room for the long ones.
    let texts = ["a", &"b".repeat(7000), &"c".repeat(13_000), "d", &"e".repeat(7000), "f"].map(str::to_owned);
    for kind in KINDS {
        for (id, text) in texts.iter().enumerate() {
            let row = json!({"id": id + 10, "group_id": 1, "text": text});
            let made = send(&shop, kind, Method::POST, "points", "return=minimal", Some(row)).await;
            assert_eq!(made.status, 201, "{kind}: {}", made.body);
        }
        let mut path = "points?select=text&text=not.is.null&order=text&limit=1".to_owned();
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = shop.get(kind, Role::Anon, &path).await;
            assert_eq!(page.status, 200, "{kind}: {:.500}", page.body);
            for row in page.json().as_array().unwrap() {
                found.push(row["text"].as_str().unwrap().to_owned());
            }
            let link = page.header("link").to_owned();
            let Some(next) = link.strip_prefix("</rest/v1/").and_then(|rest| rest.split_once('>')) else {
                break;
            };
            path = next.0.to_owned();
            assert!(found.len() < 10, "{kind}");
        }
        assert!(
            found == texts,
            "{kind}: {:?}",
            found.iter().map(String::len).collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_with_tables_of_the_same_names_hide_no_column() {
    const MOOD: &str = "
tables:
  notes:
    key: [id]
    columns: { id: { type: int4 }, mood: { type: { enum: [good, bad] }, nullable: true } }
    allow: { anon: { read: {}, create: {} } }
";
    // More columns than are read, before those of `public` in the order of names.
    let migration = "
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE notes (id integer PRIMARY KEY, mood mood);
DO $$
BEGIN
  FOR s IN 1..110 LOOP
    EXECUTE format('CREATE SCHEMA a%s', s);
    EXECUTE format('CREATE TABLE a%s.notes (%s)', s, (SELECT string_agg('c' || c || ' integer', ', ') FROM generate_series(1, 500) AS c));
  END LOOP;
END $$;
";
    let shop = Shop::of(&["postgresql"], 1000, MOOD, &[("postgresql", migration)]).await;
    let row = Some(json!({"id": 1, "mood": "bad"}));
    let made = send(&shop, "postgresql", Method::POST, "notes", "return=minimal", row).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let logs = shop.server.logs().await.unwrap();
    assert!(!logs.contains("lacks what is declared"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_each_time_reads_no_catalogue_each_time() {
    const VIEW: &str = "
tables:
  broken:
    key: [id]
    columns: { id: { type: int4 } }
    allow: { anon: { read: {} } }
";
    // The view is there, and what it needs is not.
    let migration = "
CREATE FUNCTION fails() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM nowhere); END';
CREATE VIEW broken AS SELECT fails() AS id;
";
    let shop = Shop::of(&["postgresql"], 1000, VIEW, &[("postgresql", migration)]).await;
    let mut statements = 0;
    for number in 0..20 {
        let id = format!("broken-{number:02}");
        let headers = [("X-Request-ID", id.as_str())];
        let answer = shop.send("postgresql", Role::Anon, Method::GET, "broken", &headers, None);
        assert_eq!(answer.await.status, 503);
        let logs = shop.server.logs_with(&id, Duration::from_secs(20)).await.unwrap();
        let mut lines = logs.lines();
        let line = lines.find(|line| line.contains("tenantry::access") && line.contains(&id));
        let count = line.unwrap().split("statements=").nth(1).unwrap();
        let count = count.split(' ').next().unwrap();
        statements += count.parse::<u64>().unwrap();
    }
    // One each, and two more in each second.
    assert!(statements < 20 * 3, "{statements}");
}
