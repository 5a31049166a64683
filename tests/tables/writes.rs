//! New rows, changes and removals.

use reqwest::Method;
use serde_json::json;

use crate::{
    case::Case,
    shop::{KINDS, Role, Shop},
};

fn post(path: &str) -> Case {
    Case::new(Role::Clerk, Method::POST, path)
}

fn patch(path: &str) -> Case {
    Case::new(Role::Clerk, Method::PATCH, path)
}

fn delete(path: &str) -> Case {
    Case::new(Role::Clerk, Method::DELETE, path)
}

const FULL: &str = "return=representation";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_inserted_and_answered() {
    let shop = Shop::open().await;
    let minimal = post("customers").body(&json!({"name": "Dan"})).send(&shop, 201).await;
    assert_eq!((minimal.body.as_str(), minimal.header("content-range")), ("", "*/*"));
    let headers = post("customers")
        .body(&json!({"name": "Eve"}))
        .prefer("return=headers-only")
        .send(&shop, 201)
        .await;
    assert_eq!(headers.header("location"), "/rest/v1/customers?id=eq.7");
    post("customers")
        .body(&json!({"name": "Flo", "vip": true, "rating": 1.5, "joined": "2026-03-01", "email": "flo@x.org"}))
        .prefer(FULL)
        .gives(
            &shop,
            201,
            json!([{"id": 8, "name": "Flo", "email": "flo@x.org", "vip": true, "rating": 1.5, "joined": "2026-03-01"}]),
        )
        .await;
    let counted = post("customers?select=id,name")
        .body(&json!([{"name": "Gus"}, {"name": "Hal"}]))
        .prefer("return=representation, count=exact")
        .gives(&shop, 201, json!([{"id": 9, "name": "Gus"}, {"id": 10, "name": "Hal"}]))
        .await;
    assert_eq!(counted.header("content-range"), "*/2");
    // With embedded rows, in one object.
    post("orders?select=customer(name),state,total,remark,items(line)")
        .body(&json!({"customer_id": 2, "remark": "hi", "total": "12345678901.2345"}))
        .prefer(FULL)
        .header("Accept", "application/vnd.pgrst.object+json")
        .gives(
            &shop,
            201,
            json!({"customer": {"name": "bob"}, "state": "new", "total": 12345678901.2345, "remark": "hi", "items": []}),
        )
        .await;
    // Only the columns that are named.
    post("customers?columns=name&select=name,vip")
        .body(&json!([{"name": "Ida", "vip": true}, {"name": "Jon", "x": 1}]))
        .prefer(FULL)
        .gives(
            &shop,
            201,
            json!([{"name": "Ida", "vip": false}, {"name": "Jon", "vip": false}]),
        )
        .await;
    post("customers?columns=name,vip&select=name,vip")
        .body(&json!([{"name": "Kai", "vip": true}, {"name": "Lea"}, {"name": "Mia", "vip": true}]))
        .prefer("return=representation, missing=default")
        .gives(
            &shop,
            201,
            json!([{"name": "Kai", "vip": true}, {"name": "Lea", "vip": false}, {"name": "Mia", "vip": true}]),
        )
        .await;
    post("products?select=*")
        .body(
            &json!({"id": 10, "name": "x\"\\\ny", "price": 1e3, "info": {"a": [1, "b\u{e9}", null]},
            "code": "0F8FAD5B-D9CB-469F-A165-70867728950F", "picture": "\\x00FF", "weight": 0.3}),
        )
        .prefer(FULL)
        .gives(
            &shop,
            201,
            json!([{"id": 10, "name": "x\"\\\ny", "price": 1000, "info": {"a": [1, "b\u{e9}", null]},
                "code": "0f8fad5b-d9cb-469f-a165-70867728950f", "picture": "\\x00ff", "weight": 0.3}]),
        )
        .await;
    post("order_items?select=line,qty")
        .text("order_id,line,product_id,qty\n4,1,1,7\n4,2,\"2\",8")
        .header("Content-Type", "text/csv")
        .prefer(FULL)
        .gives(&shop, 201, json!([{"line": 1, "qty": 7}, {"line": 2, "qty": 8}]))
        .await;
    post("customers")
        .body(&json!([]))
        .prefer(FULL)
        .gives(&shop, 201, json!([]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_does_not_fit_is_refused_and_nothing_is_kept() {
    let shop = Shop::open().await;
    for (path, body, status, code) in [
        ("customers", json!({"name": null}), 400, "23502"),
        ("customers", json!({"email": "a@b.c"}), 400, "23502"),
        ("customers", json!({"name": "x".repeat(51)}), 400, "22001"),
        ("customers", json!({"name": "a\u{0}b"}), 400, "22021"),
        ("customers", json!({"name": "x", "vip": "maybe"}), 400, "22P02"),
        ("customers", json!({"name": "x", "nick": 1}), 400, "PGRST204"),
        ("customers", json!({"name": "x", "id": 77}), 400, "428C9"),
        ("customers", json!({"name": "x", "email": "ann@x.org"}), 409, "23505"),
        ("customers", json!([{"name": "x"}, {"vip": true}]), 400, "PGRST102"),
        (
            "order_items",
            json!({"order_id": 1, "line": 5, "product_id": 999}),
            409,
            "23503",
        ),
        ("orders", json!({"customer_id": 1, "state": "old"}), 400, "22P02"),
        (
            "order_items",
            json!({"order_id": 1, "line": 40000, "product_id": 1}),
            400,
            "22003",
        ),
        ("products", json!({"id": 1, "name": "again"}), 409, "23505"),
    ] {
        post(path).body(&body).refused(&shop, status, code).await;
    }
    for text in ["", "{", "[1]", "1", "\"x\"", "null"] {
        post("customers").text(text).refused(&shop, 400, "PGRST102").await;
    }
    let several = post("customers")
        .body(&json!([{"name": "New"}, {"name": null}]))
        .refused(&shop, 400, "23502")
        .await;
    assert_eq!(
        several["errors"],
        json!([{"pointer": "/1/name", "detail": "is null or missing"}])
    );
    // One of several rows is refused by the database, and none is kept.
    let body = json!([{"name": "New", "email": "new@x.org"}, {"name": "New", "email": "ann@x.org"}]);
    post("customers").body(&body).refused(&shop, 409, "23505").await;
    let object = "application/vnd.pgrst.object+json";
    let body = json!([{"name": "New"}, {"name": "New"}]);
    post("customers")
        .body(&body)
        .prefer(FULL)
        .header("Accept", object)
        .refused(&shop, 406, "PGRST116")
        .await;
    Case::get(Role::Clerk, "customers?name=eq.New")
        .gives(&shop, 200, json!([]))
        .await;
    let xml = post("customers").text("<x/>").header("Content-Type", "text/xml");
    xml.refused(&shop, 415, "unsupported_media_type").await;
    post("customers?id=eq.1")
        .body(&json!({"name": "x"}))
        .refused(&shop, 400, "PGRST100")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_changed_and_removed_by_filters() {
    let shop = Shop::open().await;
    patch("orders")
        .body(&json!({"remark": "x"}))
        .refused(&shop, 400, "21000")
        .await;
    delete("products").refused(&shop, 400, "21000").await;
    let none = patch("orders?id=eq.99")
        .body(&json!({"remark": "x"}))
        .send(&shop, 204)
        .await;
    assert_eq!(none.header("content-range"), "*/*");
    let some = patch("orders?id=in.(1,2)")
        .body(&json!({"remark": "r"}))
        .prefer("count=exact")
        .send(&shop, 204)
        .await;
    assert_eq!(some.header("content-range"), "0-1/2");
    patch("orders?id=lt.3&select=id,remark,customer(name)&order=id.desc")
        .body(&json!({"remark": "s", "total": 7}))
        .prefer(FULL)
        .gives(
            &shop,
            200,
            json!([{"id": 2, "remark": "s", "customer": {"name": "Ann"}}, {"id": 1, "remark": "s", "customer": {"name": "Ann"}}]),
        )
        .await;
    patch("orders?id=eq.1")
        .body(&json!({}))
        .prefer(FULL)
        .gives(&shop, 200, json!([]))
        .await;
    patch("orders?id=eq.99&select=id")
        .body(&json!({"remark": "x"}))
        .prefer(FULL)
        .gives(&shop, 200, json!([]))
        .await;
    patch("orders?id=eq.1")
        .body(&json!({"customer_id": 2}))
        .refused(&shop, 403, "42501")
        .await;
    patch("orders?id=eq.1")
        .body(&json!({"remark": 1, "nick": 2}))
        .refused(&shop, 400, "PGRST204")
        .await;
    patch("orders?id=eq.1")
        .body(&json!([{"remark": "x"}, {"remark": "y"}]))
        .refused(&shop, 400, "PGRST102")
        .await;
    patch("orders?id=eq.1&limit=1")
        .body(&json!({"remark": "x"}))
        .refused(&shop, 400, "PGRST100")
        .await;
    let most = patch("orders?id=gt.0")
        .body(&json!({"remark": "all"}))
        .prefer("handling=strict, max-affected=2");
    let most = most.refused(&shop, 400, "PGRST124").await;
    assert_eq!(most["details"], "The query affects 4 rows");
    Case::get(Role::Clerk, "orders?remark=eq.all")
        .gives(&shop, 200, json!([]))
        .await;
    patch("orders?id=gt.2&select=id")
        .body(&json!({"remark": "few"}))
        .prefer("return=representation, max-affected=2")
        .gives(&shop, 200, json!([{"id": 3}, {"id": 4}]))
        .await;
    let object = "application/vnd.pgrst.object+json";
    patch("orders?id=gt.2")
        .body(&json!({"remark": "no"}))
        .prefer(FULL)
        .header("Accept", object)
        .refused(&shop, 406, "PGRST116")
        .await;
    // The key itself changes.
    patch("order_items?order_id=eq.3&line=eq.3&select=line,qty")
        .body(&json!({"line": 9}))
        .prefer(FULL)
        .gives(&shop, 200, json!([{"line": 9, "qty": 5}]))
        .await;
    // Removing: only rows that the role may remove.
    delete("order_items?order_id=eq.4").send(&shop, 204).await;
    delete("orders?id=in.(3,4)&select=id,customer(name)")
        .prefer(FULL)
        .gives(&shop, 200, json!([{"id": 4, "customer": {"name": "Ann"}}]))
        .await;
    delete("order_items?order_id=eq.1&line=eq.1&select=line,qty")
        .prefer("return=representation, count=exact")
        .gives(&shop, 200, json!([{"line": 1, "qty": 3}]))
        .await;
    delete("products?id=eq.1").refused(&shop, 409, "23503").await;
    delete("order_items?order_id=gt.0")
        .prefer("max-affected=1")
        .refused(&shop, 400, "PGRST124")
        .await;
    Case::get(Role::Clerk, "order_items?select=order_id,line&order=order_id,line")
        .gives(
            &shop,
            200,
            json!([{"order_id": 1, "line": 2}, {"order_id": 2, "line": 1}, {"order_id": 3, "line": 1},
                {"order_id": 3, "line": 2}, {"order_id": 3, "line": 9}]),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_only_tried_out_is_refused() {
    let shop = Shop::open().await;
    let body = json!({"name": "tried"});
    for case in [
        post("products").body(&json!({"id": 50, "name": "tried"})),
        patch("products?id=eq.1").body(&body),
        Case::new(Role::Clerk, Method::PUT, "products?id=eq.1").body(&body),
        delete("order_items?order_id=eq.1"),
    ] {
        case.prefer("return=representation, tx=rollback")
            .refused(&shop, 400, "PGRST122")
            .await;
    }
    Case::get(Role::Clerk, "products?name=eq.tried&select=id")
        .prefer("tx=rollback")
        .gives(&shop, 200, json!([]))
        .await;
    Case::get(Role::Clerk, "order_items?order_id=eq.1&select=line&order=line")
        .gives(&shop, 200, json!([{"line": 1}, {"line": 2}]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_rule_holds_of_what_a_change_leaves_behind() {
    let shop = Shop::open().await;
    let customer = Role::Customer(1);
    let create = |body| Case::new(customer, Method::POST, "orders?select=customer_id").body(&body);
    create(json!({"customer_id": 2})).refused(&shop, 403, "42501").await;
    create(json!([{"customer_id": 1}, {"customer_id": 2}]))
        .refused(&shop, 403, "42501")
        .await;
    Case::get(Role::Clerk, "orders?select=id&id=gt.4")
        .gives(&shop, 200, json!([]))
        .await;
    let made = create(json!({"customer_id": 1}))
        .prefer(FULL)
        .send(&shop, 201)
        .await
        .json();
    assert_eq!(made[0]["customer_id"], 1);
    let change = |path: &str, body| Case::new(customer, Method::PATCH, path).body(&body);
    change("orders?id=eq.1", json!({"customer_id": 2}))
        .refused(&shop, 403, "42501")
        .await;
    change("orders?id=eq.3&select=id", json!({"remark": "mine"}))
        .prefer(FULL)
        .gives(&shop, 200, json!([]))
        .await;
    change("orders?id=gt.0&select=customer_id", json!({"remark": "mine"}))
        .prefer(FULL)
        .send(&shop, 200)
        .await;
    Case::get(
        Role::Clerk,
        "orders?remark=eq.mine&select=id,customer_id&id=lt.5&order=id",
    )
    .gives(
        &shop,
        200,
        json!([{"id": 1, "customer_id": 1}, {"id": 2, "customer_id": 1}]),
    )
    .await;
    let nameless = Case::new(Role::Nameless, Method::PATCH, "orders?id=gt.0&select=id").body(&json!({"remark": "x"}));
    nameless.prefer(FULL).gives(&shop, 200, json!([])).await;
    // An upsert changes no row of another customer.
    let upsert = Case::new(customer, Method::POST, "orders?on_conflict=id").body(&json!({"customer_id": 1}));
    upsert.prefer("resolution=merge-duplicates").send(&shop, 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_sets_what_is_missing_to_its_default() {
    let shop = Shop::open().await;
    let prefer = "missing=default, return=representation";
    Case::new(
        Role::Clerk,
        Method::PATCH,
        "products?id=eq.1&columns=name,info&select=name,info",
    )
    .body(&json!({"name": "changed"}))
    .prefer(prefer)
    .gives(&shop, 200, json!([{"name": "changed", "info": null}]))
    .await;
    let path = "products?id=eq.1&columns=name,price&select=name,price";
    for kind in KINDS {
        let body = Some(json!({"name": "again"}).to_string());
        let headers = [("Prefer", prefer)];
        let answer = shop.send(kind, Role::Clerk, Method::PATCH, path, &headers, body).await;
        match kind {
            "sqlite" => assert_eq!(
                (answer.status, &answer.json()["code"]),
                (400, &"0A000".into()),
                "{answer:?}"
            ),
            _ => assert_eq!(answer.json(), json!([{"name": "again", "price": 0}]), "{kind}"),
        }
    }
}
