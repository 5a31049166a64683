//! Columns of SQLite that have no type of their own.

use serde_json::{Value, json};

use crate::shop::{Role, Shop};

const SQL: &str = "\
CREATE TABLE sums (id integer PRIMARY KEY, a numeric, loose);
INSERT INTO sums (id, a, loose) VALUES (1, 4.5, '10'), (2, 50, '9'), (3, 6, 100.5);
CREATE VIEW totals AS SELECT id, a * 2 AS total, loose FROM sums;
";

const TABLES: &str = "\
tables:
  totals:
    key: [id]
    columns: { id: { type: int8 }, total: { type: numeric }, loose: { type: numeric } }
    allow: { clerk: { read: {} } }
";

async fn ids(shop: &Shop, path: &str) -> Value {
    let mut path = format!("totals?select=id&{path}");
    let mut ids = Vec::new();
    for _ in 0..10 {
        let page = shop.get("sqlite", Role::Clerk, &path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        ids.extend(page.json().as_array().unwrap().iter().map(|row| row["id"].clone()));
        let next = page.header("link").strip_prefix("</rest/v1/");
        match next.and_then(|next| next.split_once('>')) {
            Some((next, _)) => path = next.to_owned(),
            None => return ids.into(),
        }
    }
    panic!("{path} has no end")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_without_a_type_is_compared_as_a_number() {
    let shop = Shop::of(&["sqlite"], 1000, TABLES, &[("sqlite", SQL)]).await;
    for (path, expected) in [
        ("total=gt.10&order=id", json!([2, 3])),
        ("total=lt.10", json!([1])),
        ("total=eq.9", json!([1])),
        ("total=neq.9.0&order=id", json!([2, 3])),
        ("total=in.(9,12)&order=id", json!([1, 3])),
        ("total=isdistinct.12&order=id", json!([1, 2])),
        ("loose=gte.10&order=id", json!([1, 3])),
        ("loose=eq.9", json!([2])),
        ("order=total&limit=1", json!([1, 3, 2])),
        ("order=total.desc&limit=2", json!([2, 3, 1])),
        ("order=loose&limit=1", json!([2, 1, 3])),
    ] {
        assert_eq!(ids(&shop, path).await, expected, "{path}");
    }
}
