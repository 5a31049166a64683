//! What a role may not do in a roundabout way: by upserts, and by orders of embedded rows.

use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{Answer, KINDS, Role, Shop};

const TABLES: &str = r#"
tables:
  owners:
    key: [id]
    columns: { id: { type: int4 }, name: { type: text }, secret: { type: text } }
    allow:
      viewer: { read: { columns: [id, name], rows: "id=lt.5" } }
  parcels:
    key: [id]
    columns:
      id: { type: int4 }
      code: { type: text }
      owner_id: { type: int4 }
      weight: { type: int4 }
    relations:
      owner: { to: owners, on: { owner_id: id } }
    allow:
      clerk: { read: {} }
      packer: { read: { rows: "weight=lt.100" }, create: {}, update: {} }
      sender: { read: {}, create: { rows: "weight=lt.100" }, update: { rows: "weight=lt.1000" } }
      weigher: { read: {}, create: {}, update: { columns: [owner_id, weight] } }
      viewer: { read: {} }
      labeller: { read: {}, create: { columns: [code, owner_id, weight] }, update: {} }
      hider: { read: { columns: [code] }, create: { columns: [code, owner_id, weight] }, update: {} }
  stamped:
    table: parcels
    key: [id]
    columns:
      id: { type: int4, read_only: true }
      code: { type: text }
      owner_id: { type: int4 }
      weight: { type: int4 }
    allow:
      packer: { read: {}, create: {}, update: {} }
"#;

/// For each kind of database, with its types.
fn migration(int: &str, text: &str) -> String {
    let sql = "CREATE TABLE owners (id INT NOT NULL PRIMARY KEY, name TEXT NOT NULL, secret TEXT NOT NULL);
        CREATE TABLE parcels (id INT NOT NULL PRIMARY KEY, code TEXT NOT NULL UNIQUE, owner_id INT NOT NULL, weight INT NOT NULL);
        INSERT INTO owners (id, name, secret) VALUES (1, 'zoe', 'c');
        INSERT INTO owners (id, name, secret) VALUES (2, 'bea', 'b');
        INSERT INTO owners (id, name, secret) VALUES (9, 'ada', 'a');
        INSERT INTO parcels (id, code, owner_id, weight) VALUES (1, 'a', 1, 10);
        INSERT INTO parcels (id, code, owner_id, weight) VALUES (2, 'b', 9, 20);
        INSERT INTO parcels (id, code, owner_id, weight) VALUES (3, 'c', 2, 500);";
    sql.replace("INT ", &format!("{int} "))
        .replace("TEXT ", &format!("{text} "))
}

async fn open() -> Shop {
    let oracle = migration("NUMBER(10)", "VARCHAR2(50 CHAR)");
    let other = migration("integer", "varchar(50)");
    let migrations = KINDS.map(|kind| match kind {
        "oracle" => (kind, oracle.as_str()),
        kind => (kind, other.as_str()),
    });
    Shop::of(&KINDS, 1000, TABLES, &migrations).await
}

async fn send(shop: &Shop, kind: &str, role: &str, method: Method, path: &str, body: Value) -> Answer {
    let claims = json!({"tenant": kind, "exp": 4_102_444_800_u64, "role": role});
    let headers = [("Prefer", "resolution=merge-duplicates, return=representation")];
    let body = (body != Value::Null).then(|| body.to_string());
    shop.send_as(kind, Some(claims), method, path, &headers, body).await
}

async fn refused(shop: &Shop, kind: &str, role: &str, method: Method, path: &str, body: Value) {
    let said = body.to_string();
    let answer = send(shop, kind, role, method, path, body).await;
    let code = answer.json()["code"].clone();
    assert_eq!(
        (answer.status, code),
        (403, json!("42501")),
        "{kind}: {said}: {answer:?}"
    );
}

async fn parcels(shop: &Shop, kind: &str) -> Value {
    let path = "parcels?select=id,code,owner_id,weight&order=code";
    shop.get(kind, Role::Clerk, path).await.json()
}

fn parcel(id: i64, code: &str, owner: i64, weight: i64) -> Value {
    json!({"id": id, "code": code, "owner_id": owner, "weight": weight})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_changes_no_row_that_the_role_may_not_read() {
    let shop = open().await;
    for kind in KINDS {
        let before = parcels(&shop, kind).await;
        let hidden = parcel(3, "c", 1, 1);
        refused(&shop, kind, "packer", Method::POST, "parcels", hidden.clone()).await;
        refused(&shop, kind, "packer", Method::PUT, "parcels?id=eq.3", hidden.clone()).await;
        let by_code = parcel(3, "c", 1, 2);
        refused(&shop, kind, "packer", Method::POST, "parcels?on_conflict=code", by_code).await;
        // Nothing of a request is done then.
        let several = json!([parcel(4, "d", 1, 1), parcel(1, "a", 1, 11), hidden]);
        refused(&shop, kind, "packer", Method::POST, "parcels", several).await;
        assert_eq!(parcels(&shop, kind).await, before, "{kind}");
        let seen = json!([parcel(4, "d", 1, 1), parcel(1, "a", 1, 11)]);
        let changed = send(&shop, kind, "packer", Method::POST, "parcels", seen.clone()).await;
        assert_eq!((changed.status, changed.json()), (201, seen), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_holds_new_rows_to_one_rule_and_old_ones_to_another() {
    let shop = open().await;
    for kind in KINDS {
        let old = parcel(3, "c", 2, 600);
        let changed = send(&shop, kind, "sender", Method::POST, "parcels", old.clone()).await;
        assert_eq!((changed.status, changed.json()), (200, json!([old])), "{kind}");
        let put = send(&shop, kind, "sender", Method::PUT, "parcels?id=eq.3", old.clone()).await;
        assert_eq!(put.status, 200, "{kind}: {put:?}");
        let both = json!([parcel(3, "c", 2, 700), parcel(4, "d", 1, 5)]);
        let changed = send(&shop, kind, "sender", Method::POST, "parcels", both.clone()).await;
        assert_eq!((changed.status, changed.json()), (201, both), "{kind}");
        let before = parcels(&shop, kind).await;
        for refusal in [
            parcel(5, "e", 1, 600),
            parcel(3, "c", 2, 2000),
            json!([parcel(3, "c", 2, 800), parcel(5, "e", 1, 600)]),
        ] {
            refused(&shop, kind, "sender", Method::POST, "parcels", refusal).await;
        }
        assert_eq!(parcels(&shop, kind).await, before, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_by_other_columns_needs_the_right_to_change_the_key() {
    let shop = open().await;
    let by_code = "parcels?on_conflict=code";
    for kind in KINDS {
        let before = parcels(&shop, kind).await;
        let moved = parcel(70, "a", 1, 15);
        refused(&shop, kind, "weigher", Method::POST, by_code, moved.clone()).await;
        // Not even to what it is.
        refused(&shop, kind, "weigher", Method::POST, by_code, parcel(1, "a", 1, 15)).await;
        assert_eq!(parcels(&shop, kind).await, before, "{kind}");
        // The key by which a row is found stays as it is, but its code would be set.
        refused(&shop, kind, "weigher", Method::POST, "parcels", parcel(1, "x", 1, 15)).await;
        let changed = send(&shop, kind, "packer", Method::POST, by_code, moved.clone()).await;
        assert_eq!((changed.status, changed.json()), (200, json!([moved])), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_sets_no_key_that_the_role_may_not_write() {
    let shop = open().await;
    let without_key = json!({"code": "x", "owner_id": 1, "weight": 1});
    for kind in KINDS {
        let before = parcels(&shop, kind).await;
        for id in [1, 50] {
            for body in [without_key.clone(), parcel(id, "x", 1, 1)] {
                for (role, table, status, code) in [
                    ("labeller", "parcels", 403, "42501"),
                    ("hider", "parcels", 400, "PGRST204"),
                    ("packer", "stamped", 400, "428C9"),
                ] {
                    let path = format!("{table}?id=eq.{id}");
                    let answer = send(&shop, kind, role, Method::PUT, &path, body.clone()).await;
                    let found = (answer.status, answer.json()["code"].clone());
                    assert_eq!(found, (status, json!(code)), "{kind}: {role}: {answer:?}");
                }
            }
        }
        assert_eq!(parcels(&shop, kind).await, before, "{kind}");
        let put = send(
            &shop,
            kind,
            "packer",
            Method::PUT,
            "parcels?id=eq.50",
            without_key.clone(),
        )
        .await;
        assert_eq!(
            (put.status, put.json()),
            (201, json!([parcel(50, "x", 1, 1)])),
            "{kind}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_by_embedded_rows_shows_nothing_that_a_rule_hides() {
    let shop = open().await;
    for kind in KINDS {
        for (order, expected) in [("owner(name)", [3, 1, 2]), ("owner(name).desc", [2, 1, 3])] {
            let path = format!("parcels?select=id,owner(name)&order={order}");
            let answer = send(&shop, kind, "viewer", Method::GET, &path, Value::Null).await;
            assert_eq!(answer.status, 200, "{kind}: {answer:?}");
            let rows = answer.json();
            let ids: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
            assert_eq!(json!(ids), json!(expected), "{kind}: {path}");
            assert!(!answer.body.contains("ada"), "{kind}: {answer:?}");
        }
        let path = "parcels?select=id,owner(name)&order=owner(secret)";
        let answer = send(&shop, kind, "viewer", Method::GET, path, Value::Null).await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (400, json!("PGRST204")),
            "{kind}"
        );
    }
}
