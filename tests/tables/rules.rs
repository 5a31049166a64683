//! Row rules with placeholders under every operator, and what a role learns of rows that a rule
//! hides from it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{Answer, Shop};

const KINDS: [&str; 3] = ["sqlite", "postgresql", "mysql"];

async fn notes() -> Shop {
    let sql = include_str!("rules/notes.sql");
    Shop::of(
        &KINDS,
        1000,
        include_str!("rules/notes.yaml"),
        &KINDS.map(|kind| (kind, sql)),
    )
    .await
}

async fn send(shop: &Shop, kind: &str, claims: &Value, method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut claims = claims.clone();
    claims["tenant"] = kind.into();
    claims["exp"] = 4_102_444_800_u64.into();
    let headers = [("Prefer", "resolution=ignore-duplicates, count=exact")];
    let body = body.map(|body| body.to_string());
    shop.send_as(kind, Some(claims), method, path, &headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_is_bound_under_like_and_in_lists() {
    let shop = notes().await;
    for kind in KINDS {
        for (role, claims, ids) in [
            ("like", json!({"sub": "ann"}), vec![1]),
            ("like", json!({"sub": "A*"}), vec![]),
            ("like", json!({"sub": "%"}), vec![]),
            ("like", json!({"sub": "a_c%"}), vec![3]),
            ("like", json!({}), vec![]),
            ("unlike", json!({"sub": "ann"}), vec![2, 3]),
            ("unlike", json!({}), vec![]),
            ("any", json!({"groups": ["ann", "bob"]}), vec![1, 2]),
            ("any", json!({"groups": "bob"}), vec![2]),
            ("any", json!({}), vec![]),
            ("none", json!({"groups": ["ann"]}), vec![2, 3]),
            ("none", json!({}), vec![]),
            // Of an empty list nothing is known, so nothing is allowed by what it does not hold.
            ("none", json!({"groups": []}), vec![]),
            ("any", json!({"groups": []}), vec![]),
            ("inside", json!({"groups": []}), vec![]),
            ("outside", json!({"groups": []}), vec![]),
            ("outside", json!({"groups": ["ann"]}), vec![2, 3]),
            ("above", json!({"ids": []}), vec![]),
            ("above", json!({"ids": [1, 2]}), vec![3]),
            ("either", json!({"groups": []}), vec![1]),
            ("either", json!({"groups": ["bob"]}), vec![1, 3]),
            ("either", json!({}), vec![]),
            ("neither", json!({"groups": []}), vec![]),
            ("neither", json!({"groups": ["bob"]}), vec![3]),
            // A list is no single value, also if it has one element.
            ("own", json!({"name": "ann"}), vec![1]),
            ("own", json!({"name": ["ann"]}), vec![]),
            ("other", json!({"name": "ann"}), vec![2, 3]),
            ("other", json!({"name": ["ann"]}), vec![]),
            ("near", json!({"name": ["ann"]}), vec![]),
        ] {
            let mut claims = claims;
            claims["role"] = role.into();
            let answer = send(&shop, kind, &claims, Method::GET, "notes?select=id&order=id", None).await;
            let expected: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
            assert_eq!(
                (answer.status, answer.json()),
                (200, expected.into()),
                "{kind}: {claims}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_tells_hidden_rows_apart_by_a_constraint_alone() {
    let shop = notes().await;
    let note = |id: i64, code: &str, hidden: &str, tag: &str| {
        Some(json!({"id": id, "owner": "w", "code": code, "hidden": hidden, "tag": tag}))
    };
    for kind in KINDS {
        let writer = json!({"role": "writer", "sub": "w"});
        let feeder = json!({"role": "feeder"});
        for (claims, path, body, status, code) in [
            // A column without a constraint, whether a hidden row has the value or not.
            (&writer, "notes?on_conflict=tag", note(10, "a", "a", "t1"), 400, "42P10"),
            (
                &writer,
                "notes?on_conflict=tag",
                note(10, "a", "a", "none"),
                400,
                "42P10",
            ),
            (
                &writer,
                "notes?on_conflict=code,tag",
                note(10, "a", "a", "t1"),
                400,
                "42P10",
            ),
            // A column that the role may not read, with a constraint, and one that is not there.
            (
                &writer,
                "notes?on_conflict=hidden",
                note(10, "a", "h1", "t"),
                400,
                "PGRST204",
            ),
            (
                &writer,
                "notes?on_conflict=nothing",
                note(10, "a", "a", "t"),
                400,
                "PGRST204",
            ),
            (
                &feeder,
                "notes?on_conflict=code",
                note(10, "c1", "a", "t"),
                400,
                "PGRST204",
            ),
            // What the constraint itself says.
            (&writer, "notes?on_conflict=code", note(10, "c1", "a", "t"), 201, "*/0"),
            (&writer, "notes?on_conflict=code", note(10, "new", "a", "t"), 201, "*/1"),
            (&feeder, "notes?on_conflict=id", note(1, "x", "x", "t"), 201, "*/0"),
            (&feeder, "notes?on_conflict=id", note(11, "x", "x", "t"), 201, "*/1"),
        ] {
            let answer = send(&shop, kind, claims, Method::POST, path, body).await;
            let said = format!("{kind}: {path}: {answer:?}");
            assert_eq!(answer.status, status, "{said}");
            match status {
                201 => assert_eq!(answer.header("content-range"), code, "{said}"),
                _ => assert_eq!(answer.json()["code"], code, "{said}"),
            }
        }
    }
}
