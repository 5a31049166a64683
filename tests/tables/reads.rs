//! Columns, filters, orders and embedded rows.

use serde_json::json;

use crate::{
    case::Case,
    shop::{Role, Shop},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_type_reads_the_same_on_every_database() {
    let shop = Shop::open().await;
    let products = Case::get(Role::Anon, "products?order=id").send(&shop, 200).await;
    assert_eq!(
        products.body,
        concat!(
            r#"[{"id":1,"name":"apple","price":0.5,"info":{"red":true,"n":[1,2]},"#,
            r#""code":"0f8fad5b-d9cb-469f-a165-70867728950e","picture":"\\x6869","weight":0.1},"#,
            r#"{"id":2,"name":"Brick","price":12.25,"info":null,"code":null,"picture":null,"weight":2.5},"#,
            r#"{"id":3,"name":"crate","price":1234567890.4567,"info":[],"code":null,"picture":"\\x00ff","weight":null}]"#
        )
    );
    let orders = Case::get(Role::Clerk, "orders?select=placed_at,ship_at,total,state")
        .send(&shop, 200)
        .await;
    assert_eq!(
        orders.body,
        concat!(
            r#"[{"placed_at":"2026-01-02T03:04:05.123456+00:00","ship_at":"2026-01-03T00:00:00","total":10.5,"state":"new"},"#,
            r#"{"placed_at":"2026-01-02T03:04:06+00:00","ship_at":null,"total":20,"state":"paid"},"#,
            r#"{"placed_at":"2026-01-02T03:04:05.5+00:00","ship_at":"2026-01-03T12:00:00.25","total":0.1,"state":"sent"},"#,
            r#"{"placed_at":"2025-12-31T23:59:59.999999+00:00","ship_at":null,"total":99.99,"state":"new"}]"#
        )
    );
    Case::get(Role::Clerk, "customers?select=name,vip,rating,joined&id=lte.4")
        .gives(
            &shop,
            200,
            json!([
                {"name": "Ann", "vip": true, "rating": 4.5, "joined": "2025-01-31"},
                {"name": "bob", "vip": false, "rating": null, "joined": "2025-02-28"},
                {"name": "Cid, \"the\" O'Neil", "vip": false, "rating": -0.25, "joined": null},
                {"name": "Ann", "vip": true, "rating": 1e20, "joined": "2024-02-29"},
            ]),
        )
        .await;
}

/// The ids of the rows that filters choose.
const FILTERS: &[(&str, &[i64])] = &[
    ("customers?id=eq.2", &[2]),
    ("customers?id=neq.2", &[1, 3, 4, 5]),
    ("customers?id=gt.3", &[4, 5]),
    ("customers?id=gte.3&id=lt.5", &[3, 4]),
    ("customers?id=lte.1", &[1]),
    ("customers?id=in.(1,3,9)", &[1, 3]),
    ("customers?id=in.()", &[]),
    ("customers?id=not.in.(1,3)", &[2, 4, 5]),
    ("customers?name=eq.Ann", &[1, 4]),
    ("customers?name=eq.ann", &[]),
    ("customers?name=eq.Ann%20", &[]),
    ("customers?name=neq.ann", &[1, 2, 3, 4, 5]),
    ("customers?name=in.(Ann,bob)", &[1, 2, 4]),
    ("customers?name=in.(\"Cid, \\\"the\\\" O'Neil\",BOB)", &[3]),
    ("customers?name=like.A*", &[1, 4]),
    ("customers?name=like.a*", &[]),
    ("customers?name=ilike.a*", &[1, 4]),
    ("customers?name=ilike.*B*", &[2]),
    ("customers?name=like.*n", &[1, 4]),
    ("customers?name=like.B_b", &[]),
    ("customers?name=like.b_b", &[2]),
    ("customers?name=like.*50\\%25\\__", &[5]),
    ("customers?name=like.Zo_%2050*", &[5]),
    ("customers?name=ilike.zo_%2050*", &[5]),
    ("customers?name=ilike.zoe*", &[]),
    ("customers?name=not.like.A*", &[2, 3, 5]),
    ("customers?name=like(any).{A*,b*}", &[1, 2, 4]),
    ("customers?name=like(all).{*n*,A*}", &[1, 4]),
    ("customers?id=eq(any).{1,2}", &[1, 2]),
    ("customers?id=gt(all).{1,2}", &[3, 4, 5]),
    ("customers?email=is.null", &[3, 5]),
    ("customers?email=not.is.null", &[1, 2, 4]),
    ("customers?email=is.not_null", &[1, 2, 4]),
    ("customers?vip=is.true", &[1, 4]),
    ("customers?vip=is.false", &[2, 3, 5]),
    ("customers?vip=eq.true", &[1, 4]),
    ("customers?vip=not.is.true", &[2, 3, 5]),
    ("customers?email=isdistinct.ann@x.org", &[2, 3, 4, 5]),
    ("customers?email=not.isdistinct.ann@x.org", &[1]),
    ("customers?email=neq.ann@x.org", &[2, 4]),
    ("customers?email=not.eq.ann@x.org", &[2, 4]),
    ("customers?rating=gt.0", &[1, 4]),
    ("customers?rating=eq.-0.25", &[3]),
    ("customers?rating=lt.0.5", &[3, 5]),
    ("customers?joined=gt.2024-12-31", &[1, 2]),
    ("customers?joined=eq.2024-02-29", &[4]),
    ("customers?or=(id.eq.1,id.eq.2)", &[1, 2]),
    ("customers?or=(name.eq.Ann,and(id.gt.1,id.lt.3))", &[1, 2, 4]),
    ("customers?and=(id.gt.1,or(vip.is.true,email.is.null))", &[3, 4, 5]),
    ("customers?not.or=(id.eq.1,id.eq.2)", &[3, 4, 5]),
    ("customers?not.and=(id.gt.1,id.lt.4)", &[1, 4, 5]),
    (
        "customers?or=(name.in.(Ann,bob),name.eq.\"Cid, \\\"the\\\" O'Neil\")",
        &[1, 2, 3, 4],
    ),
    ("customers?or=(not.and(id.gt.1,id.lt.5),name.like.b*)", &[1, 2, 5]),
    ("customers?or=(id.eq(any).{1,5},id.eq.3)", &[1, 3, 5]),
    ("orders?total=eq.10.50", &[1]),
    ("orders?total=gt.10", &[1, 2, 4]),
    ("orders?total=in.(20,0.1)", &[2, 3]),
    ("orders?placed_at=gte.2026-01-02T03:04:05.5Z", &[2, 3]),
    ("orders?placed_at=eq.2026-01-02T04:04:05.123456%2B01:00", &[1]),
    ("orders?placed_at=lt.2026-01-01", &[4]),
    ("orders?ship_at=gt.2026-01-03", &[3]),
    ("orders?ship_at=eq.2026-01-03T12:00:00.250000", &[3]),
    ("orders?state=eq.new", &[1, 4]),
    ("orders?state=in.(paid,sent)", &[2, 3]),
    ("orders?remark=eq.a,b", &[3]),
    ("orders?remark=like.*%25*", &[1, 3, 4]),
    ("orders?remark=like.*\\%25*", &[4]),
    ("products?code=eq.0F8FAD5B-D9CB-469F-A165-70867728950E", &[1]),
    ("products?picture=eq.\\x6869", &[1]),
    ("products?weight=eq.0.1", &[1]),
    ("products?info=not.is.null", &[1, 3]),
    ("products?price=gte.12.25", &[2, 3]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_chooses_the_same_rows_on_every_database() {
    let shop = Shop::open().await;
    for (filter, ids) in FILTERS {
        let rows: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
        let path = format!("{filter}&select=id&order=id");
        Case::get(Role::Clerk, &path).gives(&shop, 200, json!(rows)).await;
    }
}

/// The ids in the order that is asked for.
const ORDERS: &[(&str, &[i64])] = &[
    ("customers?order=id.desc", &[5, 4, 3, 2, 1]),
    ("customers?order=rating&id=lt.6", &[3, 5, 1, 4, 2]),
    ("customers?order=rating.desc", &[2, 4, 1, 5, 3]),
    ("customers?order=rating.nullsfirst", &[2, 3, 5, 1, 4]),
    ("customers?order=rating.desc.nullslast", &[4, 1, 5, 3, 2]),
    ("customers?order=vip.desc,id.desc", &[4, 1, 5, 3, 2]),
    ("customers?order=joined.asc.nullsfirst,id", &[3, 5, 4, 1, 2]),
    ("orders?order=placed_at", &[4, 1, 3, 2]),
    ("orders?order=total.desc", &[4, 2, 1, 3]),
    ("orders?order=ship_at.desc.nullslast,id.desc", &[3, 1, 4, 2]),
    (
        "orders?select=id,customer(name)&order=customer(name).desc,id",
        &[3, 1, 2, 4],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_order_is_the_same_on_every_database() {
    let shop = Shop::open().await;
    for (path, ids) in ORDERS {
        let path = match path.contains("select=") {
            true => (*path).to_owned(),
            false => format!("{path}&select=id"),
        };
        let answer = Case::get(Role::Clerk, &path).send(&shop, 200).await.json();
        let found: Vec<i64> = answer
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_i64().unwrap())
            .collect();
        assert_eq!(found, *ids, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_relations_are_embedded_both_ways_and_nested() {
    let shop = Shop::open().await;
    let get = |path: &str| Case::get(Role::Clerk, path);
    get("orders?select=id,customer(name)&id=in.(1,3)")
        .gives(
            &shop,
            200,
            json!([{"id": 1, "customer": {"name": "Ann"}}, {"id": 3, "customer": {"name": "bob"}}]),
        )
        .await;
    get("orders?select=id,sum:total,customer(name),items(qty,product:products(name))&id=eq.1")
        .gives(
            &shop,
            200,
            json!([{"id": 1, "sum": 10.5, "customer": {"name": "Ann"}, "items": [
                {"qty": 3, "product": {"name": "apple"}}, {"qty": 1, "product": {"name": "Brick"}}
            ]}]),
        )
        .await;
    get("customers?select=id,orders(id,items(line,product(name)))&id=in.(2,5)")
        .gives(
            &shop,
            200,
            json!([
                {"id": 2, "orders": [{"id": 3, "items": [
                    {"line": 1, "product": {"name": "apple"}}, {"line": 2, "product": {"name": "apple"}},
                    {"line": 3, "product": {"name": "Brick"}}]}]},
                {"id": 5, "orders": []}
            ]),
        )
        .await;
    get("products?select=name,items(order(customer(name)))&id=eq.3")
        .gives(
            &shop,
            200,
            json!([{"name": "crate", "items": [{"order": {"customer": {"name": "Ann"}}}]}]),
        )
        .await;
    get("customers?select=id,orders!inner(id)&orders.total=gt.15")
        .gives(
            &shop,
            200,
            json!([{"id": 1, "orders": [{"id": 2}]}, {"id": 4, "orders": [{"id": 4}]}]),
        )
        .await;
    // A row with two embedded ones is skipped as one.
    get("customers?select=id,orders!inner(total)&orders.total=gt.5&order=id&offset=1")
        .gives(&shop, 200, json!([{"id": 4, "orders": [{"total": 99.99}]}]))
        .await;
    get("customers?select=id,orders(id)&orders.total=gt.15&id=lt.3")
        .gives(
            &shop,
            200,
            json!([{"id": 1, "orders": [{"id": 2}]}, {"id": 2, "orders": []}]),
        )
        .await;
    get("customers?select=id,orders!inner(items!inner(line))&orders.items.qty=gt.4")
        .gives(
            &shop,
            200,
            json!([{"id": 1, "orders": [{"items": [{"line": 1}]}]}, {"id": 2, "orders": [{"items": [{"line": 3}]}]}]),
        )
        .await;
    get("orders?select=id,items(line)&items.order=line.desc&items.limit=1&order=id.desc")
        .gives(
            &shop,
            200,
            json!([{"id": 4, "items": []}, {"id": 3, "items": [{"line": 3}]}, {"id": 2, "items": [{"line": 1}]},
                {"id": 1, "items": [{"line": 2}]}]),
        )
        .await;
    get("orders?select=id,items(line)&items.limit=1&items.offset=1&id=eq.3")
        .gives(&shop, 200, json!([{"id": 3, "items": [{"line": 2}]}]))
        .await;
    get("orders?select=id,items(line)&items.or=(line.eq.3,qty.eq.10)&order=id")
        .gives(
            &shop,
            200,
            json!([{"id": 1, "items": []}, {"id": 2, "items": [{"line": 1}]}, {"id": 3, "items": [{"line": 3}]},
                {"id": 4, "items": []}]),
        )
        .await;
    get("orders?select=id,items()&items=is.null")
        .gives(&shop, 200, json!([{"id": 4}]))
        .await;
    get("orders?select=id,lines:items(qty)&lines=not.is.null&id=gt.2")
        .gives(
            &shop,
            200,
            json!([{"id": 3, "lines": [{"qty": 1}, {"qty": 2}, {"qty": 5}]}]),
        )
        .await;
    get("orders?select=id,...customer(who:name)&id=eq.3")
        .gives(&shop, 200, json!([{"id": 3, "who": "bob"}]))
        .await;
    get("order_items?select=qty,order!inner(state)&order.state=eq.sent&qty=gt.1")
        .gives(
            &shop,
            200,
            json!([{"qty": 2, "order": {"state": "sent"}}, {"qty": 5, "order": {"state": "sent"}}]),
        )
        .await;
    get("order_items?select=qty,orders(state)&order_id=eq.1&line=eq.1")
        .gives(&shop, 200, json!([{"qty": 3, "orders": {"state": "new"}}]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_sees_its_columns_and_its_rows() {
    let shop = Shop::open().await;
    Case::get(Role::Anon, "orders?id=eq.1")
        .gives(
            &shop,
            200,
            json!([{"id": 1, "total": 10.5, "placed_at": "2026-01-02T03:04:05.123456+00:00"}]),
        )
        .await;
    Case::get(Role::Customer(1), "orders?select=id")
        .gives(&shop, 200, json!([{"id": 1}, {"id": 2}]))
        .await;
    Case::get(Role::Customer(1), "orders?select=id&id=gt.1")
        .gives(&shop, 200, json!([{"id": 2}]))
        .await;
    Case::get(Role::Customer(3), "orders?select=id")
        .gives(&shop, 200, json!([]))
        .await;
    Case::get(Role::Nameless, "orders?select=id")
        .gives(&shop, 200, json!([]))
        .await;
    Case::get(Role::Customer(1), "orders?or=(id.eq.3,id.eq.1)&select=id")
        .gives(&shop, 200, json!([{"id": 1}]))
        .await;
    // A row of another customer is not embedded, and does not count for `!inner`.
    Case::get(Role::Customer(1), "order_items?select=line,order(id)&order_id=in.(2,3)")
        .gives(
            &shop,
            200,
            json!([{"line": 1, "order": {"id": 2}}, {"line": 1, "order": null}, {"line": 2, "order": null},
                {"line": 3, "order": null}]),
        )
        .await;
    Case::get(
        Role::Customer(1),
        "order_items?select=line,order!inner(id)&order_id=in.(2,3)",
    )
    .gives(&shop, 200, json!([{"line": 1, "order": {"id": 2}}]))
    .await;
    Case::get(Role::Customer(2), "orders?select=id&order=id")
        .prefer("count=exact")
        .gives(&shop, 200, json!([{"id": 3}]))
        .await;
    for path in [
        "orders?select=remark",
        "orders?remark=is.null",
        "orders?order=remark",
        "orders?or=(id.eq.1,remark.is.null)",
    ] {
        Case::get(Role::Anon, path).refused(&shop, 400, "PGRST204").await;
    }
    Case::get(Role::Customer(1), "products")
        .refused(&shop, 403, "42501")
        .await;
    Case::get(Role::Customer(1), "order_items?select=product(name)")
        .refused(&shop, 403, "42501")
        .await;
}
