//! New rows that may be there already.

use reqwest::Method;
use serde_json::json;

use crate::{
    case::Case,
    shop::{Role, Shop},
};

fn post(path: &str) -> Case {
    Case::new(Role::Clerk, Method::POST, path)
}

const VIEWS: &str = "\
CREATE TABLE base (id bigint PRIMARY KEY, name text NOT NULL);
CREATE VIEW seen AS SELECT id, name FROM base;
CREATE TABLE whole (id bigint NOT NULL PRIMARY KEY, name text NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE some_of_whole PARTITION OF whole FOR VALUES FROM (0) TO (1000);
CREATE TABLE parts (gone integer, id bigint NOT NULL PRIMARY KEY, name text NOT NULL) PARTITION BY RANGE (id);
ALTER TABLE parts DROP COLUMN gone;
CREATE TABLE some_parts PARTITION OF parts FOR VALUES FROM (0) TO (1000);
";

const OF_VIEWS: &str = "\
tables:
  seen: &declared
    key: [id]
    columns: { id: { type: int8 }, name: { type: text } }
    allow: { clerk: { read: {}, create: {}, update: {} } }
  whole: *declared
  parts: *declared
";

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_view_and_of_partitions_are_merged_too() {
    let kind = "postgresql";
    let shop = Shop::of(&[kind], 1000, OF_VIEWS, &[(kind, VIEWS)]).await;
    // PostgreSQL refuses the system column of a row in a partition, unless the partition's columns
    // are others. The first request opens the pool.
    for table in ["whole", "seen", "parts"] {
        for (method, path, prefer, body, status, expected) in [
            (
                Method::POST,
                "",
                "merge",
                json!([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]),
                201,
                json!([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]),
            ),
            (
                Method::POST,
                "",
                "merge",
                json!([{"id": 3, "name": "c"}, {"id": 2, "name": "d"}]),
                201,
                json!([{"id": 3, "name": "c"}, {"id": 2, "name": "d"}]),
            ),
            (
                Method::POST,
                "",
                "merge",
                json!({"id": 3, "name": "e"}),
                200,
                json!([{"id": 3, "name": "e"}]),
            ),
            (
                Method::POST,
                "",
                "ignore",
                json!([{"id": 3, "name": "f"}, {"id": 4, "name": "f"}]),
                201,
                json!([{"id": 4, "name": "f"}]),
            ),
            (
                Method::PUT,
                "?id=eq.4",
                "",
                json!({"name": "g"}),
                200,
                json!([{"id": 4, "name": "g"}]),
            ),
            (
                Method::PUT,
                "?id=eq.5",
                "",
                json!({"name": "h"}),
                201,
                json!([{"id": 5, "name": "h"}]),
            ),
        ] {
            let prefer = match prefer {
                "" => FULL.to_owned(),
                word => format!("resolution={word}-duplicates, {FULL}"),
            };
            let headers = [("Prefer", prefer.as_str())];
            let body = Some(body.to_string());
            let answer = shop
                .send(kind, Role::Clerk, method, &format!("{table}{path}"), &headers, body)
                .await;
            assert_eq!(
                (answer.status, answer.json()),
                (status, expected),
                "{table}: {answer:?}"
            );
        }
    }
}

const FULL: &str = "return=representation";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_key_is_always_generated_is_put() {
    let kind = "postgresql";
    let sql =
        "CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \"a \"\" VALUES (\" text NOT NULL);";
    let tables = "tables:\n  made:\n    key: [id]\n    columns:\n      id: { type: int8, generated: true }\n      \
                  a: { type: text, column: 'a \" VALUES (' }\n    allow: { clerk: { read: {}, create: {}, update: {} } }\n";
    let shop = Shop::of(&[kind], 1000, tables, &[(kind, sql)]).await;
    for (text, status) in [("first", 201), ("second", 200)] {
        let body = Some(json!({ "a": text }).to_string());
        let headers = [("Prefer", FULL)];
        let answer = shop
            .send(kind, Role::Clerk, Method::PUT, "made?id=eq.7", &headers, body)
            .await;
        let expected = json!([{"id": 7, "a": text}]);
        assert_eq!((answer.status, answer.json()), (status, expected), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_there_are_merged_or_left() {
    let shop = Shop::open().await;
    let merge = "resolution=merge-duplicates, return=representation";
    let ignore = "resolution=ignore-duplicates, return=representation";
    post("products?select=id,name,price")
        .body(&json!([{"id": 1, "name": "Apple", "price": 2}, {"id": 20, "name": "new", "price": 3}]))
        .prefer(merge)
        .gives(
            &shop,
            201,
            json!([{"id": 1, "name": "Apple", "price": 2}, {"id": 20, "name": "new", "price": 3}]),
        )
        .await;
    post("products?select=id,name")
        .body(&json!([{"id": 1, "name": "again"}]))
        .prefer(merge)
        .gives(&shop, 200, json!([{"id": 1, "name": "again"}]))
        .await;
    let left = post("products?select=id,name")
        .body(&json!([{"id": 1, "name": "no"}, {"id": 21, "name": "yes"}, {"id": 21, "name": "twice"}]))
        .prefer(ignore)
        .gives(&shop, 201, json!([{"id": 21, "name": "yes"}]))
        .await;
    assert_eq!(
        left.header("preference-applied"),
        "resolution=ignore-duplicates, return=representation"
    );
    post("products")
        .body(&json!([{"id": 22, "name": "a"}, {"id": 22, "name": "b"}]))
        .prefer(merge)
        .refused(&shop, 400, "21000")
        .await;
    post("customers?on_conflict=email&select=name,email")
        .body(&json!([{"name": "Anna", "email": "ann@x.org"}, {"name": "Max", "email": "max@x.org"}]))
        .prefer(merge)
        .send(&shop, 201)
        .await;
    Case::get(Role::Clerk, "customers?select=id,name&email=eq.ann@x.org")
        .gives(&shop, 200, json!([{"id": 1, "name": "Anna"}]))
        .await;
    post("customers?on_conflict=nick")
        .body(&json!({"name": "x"}))
        .prefer(merge)
        .refused(&shop, 400, "PGRST204")
        .await;
    a_target_without_a_resolution_does_nothing(&shop).await;
    a_name_that_is_given_twice_counts_once(&shop).await;
    one_row_by_its_key(&shop).await;
}

async fn a_target_without_a_resolution_does_nothing(shop: &Shop) {
    post("customers?on_conflict=nick")
        .body(&json!({"name": "x"}))
        .refused(shop, 400, "PGRST204")
        .await;
    post("products?on_conflict=id&select=id,name")
        .body(&json!({"id": 23, "name": "plain"}))
        .prefer(FULL)
        .gives(shop, 201, json!([{"id": 23, "name": "plain"}]))
        .await;
    post("products?on_conflict=id")
        .body(&json!({"id": 23, "name": "again"}))
        .refused(shop, 409, "23505")
        .await;
}

async fn a_name_that_is_given_twice_counts_once(shop: &Shop) {
    let merge = "resolution=merge-duplicates, return=representation";
    // As many names as the key has, but only one of its columns.
    for target in ["order_id,order_id", "line,line"] {
        post(&format!("order_items?on_conflict={target}"))
            .body(&json!({"order_id": 2, "line": 5, "product_id": 2, "qty": 77}))
            .prefer(merge)
            .refused(shop, 400, "42P10")
            .await;
    }
    Case::get(Role::Clerk, "order_items?qty=eq.77")
        .gives(shop, 200, json!([]))
        .await;
    post("products?on_conflict=id,id&select=id,name")
        .body(&json!([{"id": 1, "name": "once"}]))
        .prefer(merge)
        .gives(shop, 200, json!([{"id": 1, "name": "once"}]))
        .await;
    post("customers?on_conflict=email,email&select=name,email")
        .body(&json!({"name": "Once", "email": "max@x.org"}))
        .prefer(merge)
        .gives(shop, 200, json!([{"name": "Once", "email": "max@x.org"}]))
        .await;
}

async fn one_row_by_its_key(shop: &Shop) {
    let put = |path: &str| Case::new(Role::Clerk, Method::PUT, path);
    put("products?id=eq.30")
        .body(&json!({"id": 30, "name": "put"}))
        .send(shop, 204)
        .await;
    put("products?id=eq.30&select=id,name")
        .body(&json!({"id": 30, "name": "put again"}))
        .prefer(FULL)
        .gives(shop, 200, json!([{"id": 30, "name": "put again"}]))
        .await;
    put("products?id=eq.31&select=id,name")
        .body(&json!({"id": 31, "name": "new"}))
        .prefer(FULL)
        .gives(shop, 201, json!([{"id": 31, "name": "new"}]))
        .await;
    put("order_items?order_id=eq.1&line=eq.9&select=line,qty")
        .body(&json!({"order_id": 1, "line": 9, "product_id": 2, "qty": 4}))
        .prefer(FULL)
        .gives(shop, 201, json!([{"line": 9, "qty": 4}]))
        .await;
    // Also where the database makes keys by itself.
    put("customers?id=eq.2&select=id,name,vip")
        .body(&json!({"id": 2, "name": "Bob", "vip": true}))
        .prefer(FULL)
        .gives(shop, 200, json!([{"id": 2, "name": "Bob", "vip": true}]))
        .await;
    put("customers?id=eq.900&select=id,name")
        .body(&json!({"name": "new"}))
        .prefer(FULL)
        .gives(shop, 201, json!([{"id": 900, "name": "new"}]))
        .await;
    put("products?id=eq.31&select=id,name")
        .body(&json!({"name": "by its URL"}))
        .prefer(FULL)
        .gives(shop, 200, json!([{"id": 31, "name": "by its URL"}]))
        .await;
    put("products?id=eq.32")
        .body(&json!({"id": 33, "name": "x"}))
        .refused(shop, 400, "PGRST115")
        .await;
    put("products?id=gt.32")
        .body(&json!({"id": 33, "name": "x"}))
        .refused(shop, 405, "PGRST105")
        .await;
    put("products?name=eq.x")
        .body(&json!({"id": 33, "name": "x"}))
        .refused(shop, 405, "PGRST105")
        .await;
    put("products?id=eq.33&limit=1")
        .body(&json!({"id": 33, "name": "x"}))
        .refused(shop, 400, "PGRST114")
        .await;
}
