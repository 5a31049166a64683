//! Values that a database stores in another form than the one they are answered in: filters find
//! them, and their pages come to an end.

use reqwest::Method;
use serde_json::json;

use crate::{
    oddities::{FULL, get, ids, pages, refused},
    shop::{Role, Shop},
};

const FORMS: &str = "\
CREATE TABLE forms (id integer PRIMARY KEY, total numeric, day text, at text, clock text, weight real);
INSERT INTO forms VALUES
    (1, 0.1 + 0.2, '2026-01-02 00:00:00', '2026-01-02T03:04', '03:04', 0.123456794),
    (2, 0.1 + 0.7, '2026-01-01 10:00:00', '2026-01-02', '03:04:05', 0.25),
    (3, 0.3, '2026-01-02', 'yesterday', 'at noon or so', 0.123456789),
    (4, NULL, 'a long time ago', '2026-01-02 03:04:05.5', '03:04:05.25', NULL);
";

const OF_FORMS: &str = "\
tables:
  forms:
    key: [id]
    columns:
      id: { type: int8 }
      total: { type: numeric, nullable: true }
      day: { type: date, nullable: true }
      at: { type: timestamp, nullable: true }
      clock: { type: time, nullable: true }
      weight: { type: float4, nullable: true }
    allow: { clerk: { read: {} } }
";

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_sqlite_end_whatever_form_values_have() {
    let kind = "sqlite";
    let shop = Shop::of(&[kind], 1000, OF_FORMS, &[(kind, FORMS)]).await;
    for column in ["total", "day", "at", "clock", "weight"] {
        for direction in ["asc", "desc"] {
            let path = format!("forms?select=id&order={column}.{direction}&limit=1");
            let mut found = ids(&pages(&shop, kind, &path).await);
            found.sort_unstable();
            assert_eq!(found, [1, 2, 3, 4], "{path}");
        }
    }
    for (filter, expected) in [
        ("total=eq.0.3", vec![1, 3]),
        ("total=in.(0.8,7)", vec![2]),
        ("day=eq.2026-01-02", vec![1, 3]),
        ("day=lt.2026-01-02", vec![2]),
        ("at=eq.2026-01-02T03:04:00", vec![1]),
        ("at=eq.2026-01-02", vec![2]),
        ("at=eq.2026-01-02T03:04:05.5", vec![4]),
        ("clock=eq.03:04:00", vec![1]),
        ("clock=eq.03:04:05.25", vec![4]),
    ] {
        let rows = get(&shop, kind, &format!("forms?select=id&order=id&{filter}")).await;
        assert_eq!(ids(rows.as_array().unwrap()), expected, "{filter}");
    }
}

const WIDE: &str = "\
CREATE TABLE kept (
    id NUMBER(10) NOT NULL PRIMARY KEY, total NUMBER(38,10), big NUMBER(38), made DATE, day DATE,
    note CLOB CHECK (note IS JSON), info CLOB CHECK (info IS JSON), code RAW(16)
);
INSERT INTO kept (id, total, big, made, day, note, info) VALUES (1, 1234567890123456789012345678.0123456789,
    12345678901234567890123456789012345678, TIMESTAMP '2026-01-02 15:04:05', TIMESTAMP '2026-01-02 15:04:05',
    '{\"a\": 1}', '{\"n\": 1.10, \"big\": 12345678901234567890123}');
INSERT INTO kept (id, total, big, made, day, note, info) VALUES (2, 0.5, -1, TIMESTAMP '2026-01-02 03:04:05',
    TIMESTAMP '2026-01-02 03:04:05', '[]', '[1e400]');
";

const OF_WIDE: &str = "\
tables:
  kept:
    key: [id]
    columns:
      id: { type: int8 }
      total: { type: numeric }
      big: { type: numeric }
      made: { type: timestamp }
      day: { type: date }
      note: { type: text }
      info: { type: json }
      code: { type: bytea, nullable: true }
    allow: { clerk: { read: {}, update: {} } }
";

#[tokio::test(flavor = "multi_thread")]
async fn values_of_oracle_are_answered_whole() {
    let kind = "oracle";
    let shop = Shop::of(&[kind], 1000, OF_WIDE, &[(kind, WIDE)]).await;
    let first = "{\"id\":1,\"total\":1234567890123456789012345678.0123456789,\
        \"big\":12345678901234567890123456789012345678,\"made\":\"2026-01-02T15:04:05\",\"day\":\"2026-01-02\",\
        \"note\":\"{\\\"a\\\":1}\",\"info\":{\"n\":1.10,\"big\":12345678901234567890123},\"code\":null}";
    let second = "{\"id\":2,\"total\":0.5,\"big\":-1,\"made\":\"2026-01-02T03:04:05\",\"day\":\"2026-01-02\",\
        \"note\":\"[]\",\"info\":[1e400],\"code\":null}";
    let answer = shop.get(kind, Role::Clerk, "kept?order=id").await;
    assert_eq!((answer.status, answer.body), (200, format!("[{first},{second}]")));
    for (order, expected) in [("made", [2, 1]), ("day", [1, 2]), ("total", [2, 1]), ("big", [2, 1])] {
        let rows = pages(&shop, kind, &format!("kept?select=id&order={order}&limit=1")).await;
        assert_eq!(ids(&rows), expected, "{order}");
    }
    let rows = get(&shop, kind, "kept?select=id&order=id&day=eq.2026-01-02").await;
    assert_eq!(rows, json!([{"id": 1}, {"id": 2}]));
    let code = "\\x000102030405060708090a0b0c0d0e0f";
    let body = Some(json!({ "code": code }).to_string());
    let changed = shop
        .send(kind, Role::Clerk, Method::PATCH, "kept?id=eq.1", &[FULL], body)
        .await;
    let expected = first.replace("null", &json!(code).to_string());
    assert_eq!((changed.status, changed.body), (200, format!("[{expected}]")));
}

const DIGITS: &str = "\
CREATE TABLE digits (id bigint PRIMARY KEY, n decimal(40, 0));
INSERT INTO digits VALUES (1, 1234567890123456789012345678901234567890), (2, 1234567890123456789012345678901234567891);
CREATE TABLE readings (sensor bigint NOT NULL, at datetime NOT NULL, PRIMARY KEY (sensor, at));
";

const OF_DIGITS: &str = "\
tables:
  digits:
    key: [id]
    columns: { id: { type: int8 }, n: { type: numeric, nullable: true } }
    allow: { clerk: { read: {} } }
  readings:
    key: [sensor, at]
    columns: { sensor: { type: int8 }, at: { type: timestamp } }
    allow:
      clerk: { read: {}, create: {}, update: {} }
      customer: { read: {}, create: { rows: \"sensor=eq.1\" } }
";

#[tokio::test(flavor = "multi_thread")]
async fn mysql_compares_all_digits_of_long_numbers() {
    let shop = Shop::of(&["mysql"], 1000, OF_DIGITS, &[("mysql", DIGITS)]).await;
    let path = "digits?select=id&n=eq.1234567890123456789012345678901234567890";
    assert_eq!(get(&shop, "mysql", path).await, json!([{"id": 1}]));
    let rows = pages(&shop, "mysql", "digits?select=id&order=n.desc&limit=1").await;
    assert_eq!(ids(&rows), [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_mysql_stores_otherwise_is_refused() {
    let kind = "mysql";
    let shop = Shop::of(&[kind], 1000, OF_DIGITS, &[(kind, DIGITS)]).await;
    for (role, at, status, code) in [
        (Role::Clerk, "2026-01-02T03:04:05.123Z", 400, "0A000"),
        (Role::Customer(1), "2026-01-02T03:04:05.123Z", 400, "0A000"),
        (Role::Customer(1), "2026-01-02T03:04:05Z", 201, ""),
        (Role::Clerk, "2026-01-02T03:04:06Z", 201, ""),
    ] {
        let body = Some(json!({"sensor": 1, "at": at}).to_string());
        let answer = shop.send(kind, role, Method::POST, "readings", &[FULL], body).await;
        assert_eq!(answer.status, status, "{role:?}: {at}: {answer:?}");
        if status != 201 {
            assert_eq!(answer.json()["code"], code, "{role:?}: {at}");
        }
    }
    let path = "readings?at=eq.2026-01-02T03:04:06";
    let body = json!({"at": "2026-01-02T04:00:00.5"});
    refused(&shop, kind, Method::PATCH, path, body, 400, "0A000").await;
    let rows = get(&shop, kind, "readings?select=at&order=at").await;
    assert_eq!(
        rows,
        json!([{"at": "2026-01-02T03:04:05"}, {"at": "2026-01-02T03:04:06"}])
    );
}
