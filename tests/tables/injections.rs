//! What published advisories, and reports, say was done to servers of this kind: pREST, PostgREST,
//! Hasura and Data API builder. Here a value is a value, a name is a declared one, and everything
//! else is refused.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    case::Case,
    shop::{KINDS, Role, Shop},
};

/// Requests of `clerk`, where each comes from, and the status and the code of the refusal.
const REFUSED: [(&str, &str, u16, &str); 26] = [
    // Names in a path that end the name in the statement.
    (
        "GHSA-p46v-f2x8-qp98",
        "customers\"%20where%20(select%201%20from%20pg_sleep(5))=1)%20s--",
        404,
        "PGRST205",
    ),
    (
        "GHSA-p46v-f2x8-qp98",
        "customers\"%20union%20select%20pg_read_file(chr(47)%7C%7C'etc'%7C%7Cchr(47)%7C%7C'passwd'))%20s--",
        404,
        "PGRST205",
    ),
    ("GHSA-wm25-j4gw-6vr3", "public\".customers)%20s;--", 404, "PGRST205"),
    ("GHSA-p46v-f2x8-qp98", "pg_user", 404, "PGRST205"),
    ("GHSA-p46v-f2x8-qp98", "sqlite_master", 404, "PGRST205"),
    ("GHSA-p46v-f2x8-qp98", "information_schema.tables", 404, "PGRST205"),
    // Parameters that became part of a statement.
    (
        "GHSA-p46v-f2x8-qp98",
        "customers?_select=id,(select%20pg_sleep(5))",
        400,
        "PGRST100",
    ),
    (
        "GHSA-p46v-f2x8-qp98",
        "customers?name:tsquery=x')%20or%20(select%20pg_sleep(5))%20is%20null--",
        400,
        "PGRST100",
    ),
    (
        "GHSA-p46v-f2x8-qp98",
        "customers?name$eq=x&_order=id;select%20pg_sleep(5)",
        400,
        "PGRST100",
    ),
    (
        "prest/prest#937",
        "customers?_groupby=customers%22%7C%7C(select%20chr(46)%20from%20pg_sleep(5))%7C%7C%22name,name",
        400,
        "PGRST100",
    ),
    (
        "prest/prest#937",
        "customers?_join=inner:orders:orders.customer_id:$eq:customers.id)--",
        400,
        "PGRST100",
    ),
    (
        "PostgREST/postgrest#2200",
        "orders?select=id&and=(id.gte.1%2cid.lte.9)%7cping%20-n%2021%20127.0.0.1%7c%7c%60ping%60%20%23'",
        400,
        "PGRST100",
    ),
    ("the dialect: casts", "customers?select=id::text", 400, "PGRST100"),
    (
        "the dialect: functions",
        "customers?select=pg_sleep(5)",
        400,
        "PGRST200",
    ),
    ("the dialect: aggregates", "customers?select=id.sum()", 400, "PGRST123"),
    (
        "the dialect: JSON paths",
        "products?select=info-%3E%3E'red'",
        400,
        "PGRST100",
    ),
    (
        "the dialect: order",
        "customers?order=id;select%20pg_sleep(5)",
        400,
        "PGRST100",
    ),
    ("the dialect: order", "customers?order=(select%201)", 400, "PGRST100"),
    (
        "the dialect: quoted names",
        "customers?select=%22id%5C%22,%20(select%201)%20--%22",
        400,
        "PGRST204",
    ),
    (
        "the dialect: quoted names",
        "customers?%22id%5C%22%20or%201=1--%22=eq.1",
        400,
        "PGRST100",
    ),
    (
        "the dialect: pages",
        "customers?limit=1;select%20pg_sleep(5)",
        400,
        "PGRST100",
    ),
    (
        "the dialect: full-text search",
        "customers?name=fts(english').x",
        400,
        "PGRST100",
    ),
    ("the dialect: procedures", "rpc", 404, "PGRST205"),
    // Data API builder's parameters are none here.
    (
        "Azure/data-api-builder#3510",
        "customers?$filter=id%20eq%201%20or%201%20eq%201",
        400,
        "PGRST100",
    ),
    (
        "Azure/data-api-builder#3510",
        "customers?$orderby=id)%20--",
        400,
        "PGRST100",
    ),
    (
        "Azure/data-api-builder#3510",
        "customers?$select=*,(select%201)",
        400,
        "PGRST100",
    ),
];

/// Values that a statement must keep as values: no row has them.
const VALUES: [&str; 8] = [
    "'%20OR%20'1'='1",
    "x'%20or%20(select%20pg_sleep(5))%20is%20null--",
    "\\'%20UNION%20SELECT%201--",
    "$1",
    "?1;ATTACH%20DATABASE%20'x'%20AS%20x",
    "%22;DROP%20TABLE%20customers;--",
    "/*!50000%20or%201=1*/",
    "$$x$$",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_advisories_tell_of_has_no_effect() {
    let shop = Shop::open().await;
    let all = "customers?select=*,orders(*,items(*))&order=id";
    let before = Case::get(Role::Clerk, all).send(&shop, 200).await.body;
    let began = Instant::now();
    for (source, path, status, code) in REFUSED {
        println!("{source}: {path}");
        let problem = Case::get(Role::Clerk, path).refused(&shop, status, code).await;
        assert!(!problem.to_string().contains("root:"), "{source}: {problem}");
    }
    for value in VALUES {
        for path in [
            format!("customers?name=eq.{value}"),
            format!(
                "customers?name=in.(%22{}%22)",
                value.replace("%22", "").replace('\\', "")
            ),
            format!("customers?name=like.{value}"),
        ] {
            Case::get(Role::Clerk, &path).gives(&shop, 200, json!([])).await;
        }
    }
    roles(&shop).await;
    // Each would have waited 5 s, on each of four databases.
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    let after = Case::get(Role::Clerk, all).send(&shop, 200).await.body;
    assert_eq!(after, before);
}

/// Ways around a role and its row rules.
async fn roles(shop: &Shop) {
    // GHSA-wm25-j4gw-6vr3: the path of the login, somewhere in another one, needed no token.
    let path = "orders?select=remark&remark=eq./auth";
    Case::get(Role::Anon, path).refused(shop, 400, "PGRST204").await;
    Case::new(Role::Anon, Method::DELETE, "orders?id=eq.1")
        .header("X-Hasura-Role", "admin")
        .header("X-Hasura-Admin-Secret", "")
        .header("X-MS-API-ROLE", "clerk")
        .header("Accept-Profile", "pg_catalog")
        .refused(shop, 401, "42501")
        .await;
    // CVE-2022-46792: an update of many rows passed by the rule of the rows.
    for (method, path, body) in [
        (Method::PATCH, "orders?or=(id.eq.1,id.gt.0)", json!({"customer_id": 1})),
        (
            Method::POST,
            "orders?on_conflict=id",
            json!([{"customer_id": 1, "remark": "mine"}, {"customer_id": 2, "remark": "mine"}]),
        ),
    ] {
        let case = Case::new(Role::Customer(2), method, path)
            .prefer("resolution=merge-duplicates")
            .body(&body);
        case.refused(shop, 403, "42501").await;
    }
    // Azure/data-api-builder#3510: a claim became a part of the rule's text.
    for claim in [
        "1' or 1 eq 1 or '",
        "1&id=gt.0",
        "1),or(id.gt.0",
        "{claims.tenant}",
        "1,2",
        "*",
    ] {
        for kind in KINDS {
            let claims = json!({"tenant": kind, "role": "customer", "customer": claim, "exp": 4_102_444_800_u64});
            let answer = shop
                .send_as(kind, Some(claims), Method::GET, "orders?select=id", &[], None)
                .await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "[]"), "{kind}: {claim}");
        }
    }
    // CVE-2023-27588: a path that leaves its folder.
    for path in [
        "..%2f..%2f..%2fetc%2fpasswd",
        "..%2f..%2fadmin",
        "orders/..%2fcustomers",
        "orders%00",
    ] {
        for kind in KINDS {
            let answer = shop.get(kind, Role::Clerk, path).await;
            assert!(matches!(answer.status, 400 | 404), "{kind}: {path}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_has_bounds() {
    let shop = Shop::open().await;
    let nested = |depth: usize| {
        format!(
            "orders?or={}id.eq.1{}",
            "(and".repeat(depth) + "(",
            ")".repeat(depth + 1)
        )
    };
    let around = |depth: usize| {
        let each = (0..depth).map(|at| if at % 2 == 0 { "customer(" } else { "orders(" });
        format!(
            "orders?limit=1&select={}id{}",
            each.collect::<String>(),
            ")".repeat(depth)
        )
    };
    let ids = |count: usize| (0..count).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let tables = |count: usize| {
        let each = (0..count).map(|number| format!("a{number}:customer(id)"));
        format!("orders?limit=1&select={}", each.collect::<Vec<_>>().join(","))
    };
    let parameters = |count: usize| format!("orders?{}", vec!["id=gt.0"; count].join("&"));
    let kept = [
        nested(9),
        around(6),
        format!("orders?id=in.({})", ids(999)),
        tables(19),
        parameters(200),
    ];
    for path in kept {
        Case::get(Role::Clerk, &path).send(&shop, 200).await;
    }
    let refused = [
        (nested(10), "PGRST100"),
        (around(7), "PGRST100"),
        (format!("orders?id=in.({})", ids(1000)), "54000"),
        (tables(20), "54000"),
        (parameters(201), "54000"),
        (format!("orders?remark=eq.{}", "x".repeat(16 * 1024)), "54000"),
    ];
    for (path, code) in refused {
        let problem = Case::get(Role::Clerk, &path).refused(&shop, 400, code).await;
        assert!(problem["message"].as_str().unwrap().len() < 1000, "{problem}");
    }
    let rows = vec![json!({"name": "x"}); 10_001];
    let post = Case::new(Role::Clerk, Method::POST, "customers").body(&Value::Array(rows));
    post.refused(&shop, 400, "54000").await;
    let lines = format!("name\n{}", "x\n".repeat(10_001));
    let post = Case::new(Role::Clerk, Method::POST, "customers").text(&lines);
    let post = post.header("Content-Type", "text/csv");
    post.refused(&shop, 400, "54000").await;
}
