//! What is refused, and in which words.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    case::Case,
    shop::{Role, Shop},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_with_its_place() {
    let shop = Shop::open().await;
    for (path, message, details) in [
        (
            "customers?id=noop.0",
            "\"failed to parse filter (noop.0)\" (line 1, column 1)",
            "unexpected \"n\" expecting \"not\" or operator (eq, gt, ...)",
        ),
        (
            "customers?id=in.1",
            "\"failed to parse filter (in.1)\" (line 1, column 4)",
            "unexpected \"1\" expecting (",
        ),
        (
            "customers?select=id,name(",
            "\"failed to parse select parameter (id,name()\" (line 1, column 9)",
            "unexpected end of input expecting )",
        ),
        (
            "customers?order=id.up",
            "\"failed to parse order (id.up)\" (line 1, column 4)",
            "unexpected \"u\" expecting \"asc\", \"desc\", \"nullsfirst\" or \"nullslast\"",
        ),
        (
            "customers?or=()",
            "\"failed to parse logic tree (())\" (line 1, column 2)",
            "unexpected \")\" expecting field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)",
        ),
    ] {
        let problem = Case::get(Role::Clerk, path).refused(&shop, 400, "PGRST100").await;
        assert_eq!(
            (&problem["message"], &problem["details"]),
            (&message.into(), &details.into()),
            "{path}"
        );
    }
    for path in [
        "customers?id=1",
        "customers?id=",
        "customers?id",
        "customers?id=eq",
        "customers?=eq.1",
        "customers?select=id::text",
        "customers?select=info->a",
        "customers?select=id,id:name",
        "customers?id=eq.1%00",
        "customers?id=eq.%ff",
        "customers?limit=x",
        "customers?limit=1&limit=2",
        "customers?select=id&select=id",
        "customers?order=id&order=id",
        "customers?columns=id",
        "customers?name=fts.x",
        "customers?or=(id.eq.1",
        "customers?or=(id.eq.1))",
        "customers?or=(id)",
        "customers?id=is.maybe",
        "customers?name=like(some).{a}",
        "customers?name=like(any).a",
    ] {
        Case::get(Role::Clerk, path).refused(&shop, 400, "PGRST100").await;
    }
    let deep = format!("customers?or={}id.eq.1{}", "(or".repeat(30), ")".repeat(30));
    Case::get(Role::Clerk, &deep).refused(&shop, 400, "PGRST100").await;
    let wide = format!("customers?id=in.({})", vec!["1"; 1001].join(","));
    Case::get(Role::Clerk, &wide).refused(&shop, 400, "54000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_there_have_their_codes() {
    let shop = Shop::open().await;
    let table = Case::get(Role::Clerk, "customer").refused(&shop, 404, "PGRST205").await;
    assert_eq!(table["hint"], "Perhaps you meant the table 'customers'");
    Case::get(Role::Clerk, "customers?select=nick")
        .refused(&shop, 400, "PGRST204")
        .await;
    Case::get(Role::Clerk, "customers?hidden=eq.1")
        .refused(&shop, 400, "PGRST204")
        .await;
    let relation = Case::get(Role::Clerk, "customers?select=order(id)")
        .refused(&shop, 400, "PGRST200")
        .await;
    assert_eq!(relation["hint"], "Perhaps you meant 'orders' instead of 'order'.");
    Case::get(Role::Clerk, "customers?orders.id=eq.1")
        .refused(&shop, 400, "PGRST108")
        .await;
    let aliased = Case::get(
        Role::Clerk,
        "customers?select=o:orders(id),p:orders(total)&orders.id=eq.1",
    );
    let aliased = aliased.refused(&shop, 400, "PGRST108").await;
    assert_eq!(aliased["hint"], "Change 'orders' to 'o' in filters, orders or limits.");
    Case::get(Role::Clerk, "customers?select=orders(id)&order=orders(id)")
        .refused(&shop, 400, "PGRST118")
        .await;
    Case::get(Role::Clerk, "customers?select=orders(id)&orders=eq.1")
        .refused(&shop, 400, "PGRST120")
        .await;
    Case::get(Role::Clerk, "customers?select=count()")
        .refused(&shop, 400, "PGRST123")
        .await;
    Case::get(Role::Clerk, "customers?id=eq.x")
        .refused(&shop, 400, "22P02")
        .await;
    Case::get(Role::Clerk, "customers?id=eq.99999999999999999999")
        .refused(&shop, 400, "22003")
        .await;
    Case::get(Role::Clerk, "orders?state=eq.old")
        .refused(&shop, 400, "22P02")
        .await;
    Case::get(Role::Clerk, "customers?id=is.true")
        .refused(&shop, 400, "42804")
        .await;
    Case::get(Role::Clerk, "customers?id=like.1*")
        .refused(&shop, 404, "42883")
        .await;
    let strict = Case::get(Role::Clerk, "customers").prefer("handling=strict, colour=red");
    let strict = strict.refused(&shop, 400, "PGRST122").await;
    assert_eq!(strict["details"], "Invalid preferences: colour=red");
    Case::get(Role::Clerk, "customers?limit=1&select=id")
        .prefer("colour=red")
        .gives(&shop, 200, json!([{"id": 1}]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_request_is_401_without_a_token_else_403() {
    let shop = Shop::open().await;
    let body = json!({"name": "x"});
    for method in [Method::POST, Method::PATCH, Method::DELETE, Method::PUT] {
        let case = Case::new(Role::Anon, method.clone(), "customers?id=eq.1").body(&body);
        let case = if method == Method::POST {
            Case::new(Role::Anon, method, "customers").body(&body)
        } else {
            case
        };
        let answer = case.send(&shop, 401).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.json()["code"], "42501");
    }
    let case = Case::new(Role::Customer(1), Method::DELETE, "orders?id=eq.1");
    case.refused(&shop, 403, "42501").await;
    let tenantless = shop
        .send("nobody", Role::Anon, Method::GET, "customers", &[], None)
        .await;
    assert_eq!(
        (tenantless.status, &tenantless.json()["code"]),
        (404, &"tenant_unknown".into())
    );
    assert!(tenantless.json()["message"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_names_what_was_most_likely_meant() {
    let shop = Shop::open().await;
    for (path, code, hint) in [
        ("orders?totl=gt.1", "PGRST204", "Perhaps you meant the column 'total'"),
        (
            "orders?select=id,totl",
            "PGRST204",
            "Perhaps you meant the column 'total'",
        ),
        ("orders?order=totl", "PGRST204", "Perhaps you meant the column 'total'"),
        (
            "orders?total=eq.null",
            "22P02",
            "A column is compared with NULL by `is.null` and `not.is.null`.",
        ),
        (
            "orders?placed_at=gt.2026-01-02T03:04:05+02:00",
            "22P02",
            "A `+` in a URL stands for a space; write `%2B`.",
        ),
    ] {
        let problem = Case::get(Role::Clerk, path).refused(&shop, 400, code).await;
        assert_eq!(problem["hint"], hint, "{path}");
    }
    // A column that the role may not read is not named.
    let problem = Case::get(Role::Anon, "orders?remrk=eq.a")
        .refused(&shop, 400, "PGRST204")
        .await;
    assert_eq!(problem["hint"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parameter_that_is_wrong_is_named_in_full() {
    let shop = Shop::open().await;
    let pattern = format!("customers?name=like.{}", "a".repeat(257));
    let ids = format!("orders?select=items(qty)&items.qty=in.({})", vec!["1"; 1001].join(","));
    for (method, path, parameter, detail) in [
        (
            Method::GET,
            "orders?select=items(qty)&items.qty=eq.x",
            "items.qty",
            "does not fit its column",
        ),
        (
            Method::GET,
            "orders?select=items(qty)&items.or=(qty.eq.x)",
            "items.or",
            "does not fit its column",
        ),
        (
            Method::GET,
            "orders?select=items(qty)&items.nope=eq.1",
            "items.nope",
            "is no column of the table",
        ),
        (
            Method::GET,
            "orders?select=items(qty)&items.order=nope",
            "items.order",
            "names a column that the table does not have",
        ),
        (
            Method::GET,
            "orders?not.or=(id.eq.x)",
            "not.or",
            "does not fit its column",
        ),
        (Method::GET, "orders?id=eq.x", "id", "does not fit its column"),
        (
            Method::GET,
            &pattern,
            "name",
            "is too much: a pattern has more than 256 bytes",
        ),
        (
            Method::GET,
            &ids,
            "items.qty",
            "is too much: the request has more than 1000 conditions",
        ),
        (
            Method::POST,
            "customers?id=eq.1",
            "id",
            "has no meaning for this method",
        ),
        (
            Method::POST,
            "customers?or=(id.eq.1)",
            "or",
            "has no meaning for this method",
        ),
        (
            Method::POST,
            "customers?limit=1",
            "limit",
            "has no meaning for this method",
        ),
    ] {
        let case = Case::new(Role::Clerk, method.clone(), path);
        let case = match method {
            Method::POST => case.body(&json!({"name": "x"})),
            _ => case,
        };
        let problem = case.send(&shop, 400).await.json();
        assert_eq!(
            problem["errors"],
            json!([{"parameter": parameter, "detail": detail}]),
            "{path}"
        );
    }
}
