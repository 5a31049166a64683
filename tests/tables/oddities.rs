//! What only some kinds of database have: `infinity`, `NaN`, enumerations, triggers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{Answer, Role, Shop};

pub(crate) const FULL: (&str, &str) = ("Prefer", "return=representation");

async fn oddities(kinds: &[&str]) -> Shop {
    let migrations = [
        ("sqlite", include_str!("oddities/sqlite.sql")),
        ("postgresql", include_str!("oddities/postgresql.sql")),
        ("mysql", include_str!("oddities/mysql.sql")),
    ];
    Shop::of(kinds, 1000, include_str!("oddities/tables.yaml"), &migrations).await
}

pub(crate) async fn get(shop: &Shop, kind: &str, path: &str) -> Value {
    let answer = shop.get(kind, Role::Clerk, path).await;
    assert_eq!(answer.status, 200, "{kind}: {path}: {}", answer.body);
    answer.json()
}

async fn send(shop: &Shop, kind: &str, method: Method, path: &str, body: Value) -> Answer {
    let body = Some(body.to_string());
    shop.send(kind, Role::Clerk, method, path, &[FULL], body).await
}

pub(crate) async fn refused(shop: &Shop, kind: &str, method: Method, path: &str, body: Value, status: u16, code: &str) {
    let answer = send(shop, kind, method, path, body).await;
    let problem = answer.json();
    assert_eq!(
        (answer.status, &problem["code"]),
        (status, &code.into()),
        "{kind}: {path}: {problem}"
    );
    assert!(!answer.body.contains("secret"), "{problem}");
}

/// The rows of all pages, by the links from one to the next.
pub(crate) async fn pages(shop: &Shop, kind: &str, path: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..20 {
        let page = shop.get(kind, Role::Clerk, &path).await;
        assert_eq!(page.status, 200, "{kind}: {path}: {}", page.body);
        rows.extend(page.json().as_array().unwrap().iter().cloned());
        let next = page.header("link").strip_prefix("</rest/v1/");
        match next.and_then(|next| next.split_once('>')) {
            Some((next, _)) => path = next.to_owned(),
            None => return rows,
        }
    }
    panic!("{kind}: {path} has no end");
}

pub(crate) fn ids(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn infinity_and_far_times_are_read_and_written() {
    let shop = oddities(&["postgresql", "mysql", "sqlite"]).await;
    let kind = "postgresql";
    let first = json!({"id": 101, "day": "infinity", "clock": "24:00:00", "local": "-infinity", "at": "infinity"});
    let far = json!({"id": 102, "day": "5874897-12-31", "clock": "12:00:00",
        "local": "294276-12-31T23:59:59.999999", "at": "294276-12-31T23:59:59.999999+00:00"});
    let ancient = json!({"id": 103, "day": "0044-03-15 BC", "clock": "00:00:00.5",
        "local": "4713-01-01T00:00:00 BC", "at": "4713-01-01T00:00:00+00:00 BC"});
    let all = get(&shop, kind, "times?order=id").await;
    assert_eq!(all, json!([first, far, ancient]));
    for (path, id) in [
        ("times?at=eq.infinity", 101),
        ("times?local=eq.-infinity", 101),
        ("times?day=eq.5874897-12-31", 102),
        ("times?day=eq.0044-03-15%20BC", 103),
        ("times?clock=eq.24:00:00", 101),
    ] {
        let found = get(&shop, kind, path).await;
        assert_eq!(ids(found.as_array().unwrap()), [id], "{path}");
    }
    for order in ["at", "day.desc", "local", "clock"] {
        let rows = pages(&shop, kind, &format!("times?order={order}&limit=1&id=gt.100")).await;
        assert_eq!(rows.len(), 3, "{order}: {rows:?}");
    }
    let written = send(
        &shop,
        kind,
        Method::POST,
        "times",
        json!({"id": 104, "at": "-infinity"}),
    )
    .await;
    assert_eq!((written.status, &written.json()[0]["at"]), (201, &"-infinity".into()));
    let changed = send(
        &shop,
        kind,
        Method::PATCH,
        "times?id=eq.101",
        json!({"day": "-infinity"}),
    )
    .await;
    assert_eq!((changed.status, &changed.json()[0]["day"]), (200, &"-infinity".into()));
    let removed = send(&shop, kind, Method::DELETE, "times?id=eq.101", json!({})).await;
    assert_eq!((removed.status, &removed.json()[0]["at"]), (200, &"infinity".into()));
    for kind in ["mysql", "sqlite"] {
        let path = "times?at=eq.infinity";
        refused(&shop, kind, Method::GET, path, Value::Null, 400, "22P02").await;
        refused(
            &shop,
            kind,
            Method::POST,
            "times",
            json!({"at": "infinity"}),
            400,
            "22P02",
        )
        .await;
    }

    let all = get(&shop, "mysql", "times?id=in.(101,102)&order=id").await;
    let rows = json!([
        {"id": 101, "day": "2026-00-00", "clock": "-12:00:00.000000", "local": "2026-01-02T03:04:05.5",
            "at": "2026-01-02T03:04:05.123456+00:00"},
        {"id": 102, "day": "2026-01-02", "clock": "30:00:00.000000", "local": "9999-12-31T00:00:00", "at": null}]);
    assert_eq!(all, rows);
    let rows = pages(&shop, "mysql", "times?order=day,clock&limit=1&id=gt.100").await;
    assert_eq!(ids(&rows), [101, 102]);
    for at in ["2040-01-01T00:00:00Z", "1960-01-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
        refused(&shop, "mysql", Method::POST, "times", json!({"at": at}), 400, "22008").await;
    }
    // The database makes the keys of rows that have none.
    for kind in ["postgresql", "mysql", "sqlite"] {
        let body = json!([{"day": "2026-01-02"}, {"day": "2026-01-03"}]);
        let made = send(&shop, kind, Method::POST, "times?select=id,day", body).await;
        assert_eq!(made.status, 201, "{kind}: {}", made.body);
        let made = made.json();
        let [one, two] = made.as_array().unwrap().as_slice() else {
            panic!("{made}")
        };
        assert_eq!(one["id"].as_i64().unwrap() + 1, two["id"].as_i64().unwrap(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enumeration_has_the_declared_order_everywhere() {
    let shop = oddities(&["postgresql", "mysql", "sqlite"]).await;
    for kind in ["postgresql", "mysql", "sqlite"] {
        let rows = pages(&shop, kind, "kinds?select=id&order=state&limit=2").await;
        assert_eq!(ids(&rows), [2, 6, 9, 3, 4, 7, 1, 5, 8], "{kind}");
        let rows = pages(&shop, kind, "kinds?select=id&order=state.desc,id.desc&limit=4").await;
        assert_eq!(ids(&rows), [8, 5, 1, 7, 4, 3, 9, 6, 2], "{kind}");
        for (test, expected) in [
            ("gt.new", vec![1, 3, 4, 5, 7, 8]),
            ("gte.paid", vec![1, 3, 4, 5, 7, 8]),
            ("lt.archived", vec![2, 3, 4, 6, 7, 9]),
            ("not.lte.paid", vec![1, 5, 8]),
            ("gt.archived", vec![]),
        ] {
            let rows = get(&shop, kind, &format!("kinds?select=id&order=id&state={test}")).await;
            assert_eq!(ids(rows.as_array().unwrap()), expected, "{kind}: {test}");
        }
        // Of NULL no comparison holds, and its opposite neither.
        let made = send(
            &shop,
            kind,
            Method::POST,
            "kinds?select=id",
            json!({"id": 80, "state": null}),
        )
        .await;
        assert_eq!(made.status, 201, "{kind}: {}", made.body);
        for test in ["gt.archived", "not.gt.archived", "lt.new", "not.lt.new", "not.gte.new"] {
            let rows = get(&shop, kind, &format!("kinds?select=id&id=eq.80&state={test}")).await;
            assert_eq!(rows, json!([]), "{kind}: {test}");
        }
        let rows = get(&shop, kind, "kinds?select=id&id=in.(1,80)&state=not.gt.archived").await;
        assert_eq!(rows, json!([{"id": 1}]), "{kind}");
        let path = "kinds?order=info";
        refused(&shop, kind, Method::GET, path, Value::Null, 404, "42883").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_refuses_is_never_500() {
    let shop = oddities(&["postgresql", "mysql", "sqlite"]).await;
    for kind in ["postgresql", "mysql", "sqlite"] {
        let body = json!({"count": 13, "name": "secret"});
        refused(&shop, kind, Method::PATCH, "kinds?id=eq.1", body, 400, "P0001").await;
        let csv = Some("id,name,name\n70,a,b\n".to_owned());
        let headers = [("Content-Type", "text/csv")];
        let answer = shop.send(kind, Role::Clerk, Method::POST, "kinds", &headers, csv).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &"PGRST102".into()),
            "{kind}"
        );
    }
    refused(
        &shop,
        "mysql",
        Method::PATCH,
        "kinds?id=eq.2",
        json!({"loose": "zzz"}),
        400,
        "22P02",
    )
    .await;
    for (path, status, code) in [
        ("kinds?name=ilike.a*", 400, "0A000"),
        ("kinds?drift=gt.1", 404, "42883"),
    ] {
        refused(&shop, "postgresql", Method::GET, path, Value::Null, status, code).await;
    }
    let loose = shop.get("postgresql", Role::Clerk, "kinds?loose=eq.zzz").await;
    assert!((400..500).contains(&loose.status), "{loose:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_odd_values_are_what_is_stored() {
    let shop = oddities(&["postgresql", "sqlite"]).await;
    let kind = "postgresql";
    let path = "kinds?select=id,number,float&id=lt.4&order=id";
    let answer = shop.get(kind, Role::Clerk, path).await;
    let long = format!("1{}", "0".repeat(499));
    let expected = format!(
        "[{{\"id\":1,\"number\":\"NaN\",\"float\":\"NaN\"}},{{\"id\":2,\"number\":{long},\"float\":0}},\
         {{\"id\":3,\"number\":1,\"float\":\"Infinity\"}}]"
    );
    assert_eq!(answer.body, expected);
    for order in ["number", "float", "number.desc.nullslast", "float.desc.nullslast"] {
        let rows = pages(&shop, kind, &format!("kinds?select=id&id=lt.4&order={order}&limit=1")).await;
        assert_eq!(rows.len(), 3, "{order}: {rows:?}");
    }
    let found = get(&shop, kind, &format!("kinds?select=id&number=eq.{long}")).await;
    assert_eq!(found, json!([{"id": 2}]));
    let found = get(&shop, kind, "kinds?select=id&float=eq.NaN").await;
    assert_eq!(found, json!([{"id": 1}]));

    let rows = get(&shop, "sqlite", "kinds?select=float,name,flag,count&id=lt.4&order=id").await;
    let expected = json!([
        {"float": "x", "name": "\\x00ff", "flag": true, "count": "abc"},
        {"float": 0, "name": "b", "flag": false, "count": 7},
        {"float": "Infinity", "name": "c", "flag": true, "count": 7}]);
    assert_eq!(rows, expected);
    let rows = pages(&shop, "sqlite", "kinds?select=id&id=lt.4&order=float&limit=1").await;
    assert_eq!(rows.len(), 3, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_row_that_collide_are_all_made() {
    let shop = oddities(&["mysql"]).await;
    let merge = [("Prefer", "resolution=merge-duplicates")];
    let one = async |number: i64| {
        let body = json!({"id": 50, "state": "new", "count": 100 + number}).to_string();
        shop.send("mysql", Role::Clerk, Method::POST, "kinds", &merge, Some(body))
            .await
    };
    for round in 0..3 {
        let (a, b, c, d, e, f) = tokio::join!(one(round), one(1), one(2), one(3), one(4), one(5));
        let (g, h, i, j, k, l) = tokio::join!(one(round), one(1), one(2), one(3), one(4), one(5));
        for answer in [a, b, c, d, e, f, g, h, i, j, k, l] {
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        }
    }
    let rows = get(&shop, "mysql", "kinds?select=id&id=eq.50").await;
    assert_eq!(rows, json!([{"id": 50}]));
}
