//! How many statements a request takes, as its line in the access log says.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::shop::{KINDS, Role, Shop};

/// Sends a request and returns its statements.
async fn statements(shop: &Shop, kind: &str, method: Method, path: &str, prefer: &str, body: Option<String>) -> u64 {
    let id = format!(
        "{kind}-{}",
        path.len() + prefer.len() * 1000 + method.as_str().len() * 100_000
    );
    let headers = [("X-Request-ID", id.as_str()), ("Prefer", prefer)];
    let answer = shop.send(kind, Role::Clerk, method, path, &headers, body).await;
    assert!(answer.status < 300, "{kind}: {path}: {answer:?}");
    let logs = shop.server.logs_with(&id, Duration::from_secs(20)).await.unwrap();
    let line = logs
        .lines()
        .find(|line| line.contains("tenantry::access") && line.contains(&id))
        .unwrap();
    let count = line.split("statements=").nth(1).unwrap().split(' ').next().unwrap();
    count.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_one_statement_and_one_more_for_each_relation() {
    let shop = Shop::open().await;
    for kind in KINDS {
        let get = |path: &'static str, prefer: &'static str| statements(&shop, kind, Method::GET, path, prefer, None);
        get("orders?limit=1", "count=none").await;
        assert_eq!(get("orders?select=id&limit=2", "handling=lenient").await, 1, "{kind}");
        assert_eq!(get("orders?select=id&limit=2", "count=exact").await, 1, "{kind}");
        // Beyond the last page the rows are counted in a snapshot with the page, which is read again.
        let beyond = get("orders?select=id&limit=2&offset=4", "count=exact").await;
        assert_eq!(beyond, 1 + 4, "{kind}");
        let nested = "orders?select=id,customer(name),items(line,product(name))";
        let all = match kind {
            "postgresql" => 1,
            // Beside the reads the beginning and the end of the transaction that is their snapshot.
            _ => 4 + 2,
        };
        assert_eq!(get(nested, "handling=lenient").await, all, "{kind}");
        let rows: Vec<_> = (0..1000).map(|n| json!({"name": format!("bulk {n}")})).collect();
        let body = Some(json!(rows).to_string());
        let bulk = statements(&shop, kind, Method::POST, "customers", "return=minimal", body).await;
        assert_eq!(bulk, 1, "{kind}");
        // Half of these rows are there: one statement looks, one inserts and one or two change
        // them.
        let products = |count: i64| -> Vec<_> {
            (0..count)
                .map(|n| json!({"id": n + 100, "name": format!("bulk {n}")}))
                .collect()
        };
        let post = |count: i64, prefer: &'static str| {
            let body = Some(json!(products(count)).to_string());
            statements(&shop, kind, Method::POST, "products", prefer, body)
        };
        assert_eq!(post(150, "return=minimal").await, 1, "{kind}");
        let most = match kind {
            "postgresql" => 1,
            // Its CASE does not take values of several types, so rows that are there are changed
            // one by one.
            "oracle" => 200,
            _ => 4,
        };
        let upserted = post(300, "resolution=merge-duplicates, return=minimal").await;
        assert!(upserted <= most + 2, "{kind}: {upserted}");
        let change = Some(json!({"name": "changed"}).to_string());
        let changed = statements(
            &shop,
            kind,
            Method::PATCH,
            "customers?id=gt.5",
            "return=minimal",
            change,
        )
        .await;
        assert_eq!(changed, 1, "{kind}");
    }
}
