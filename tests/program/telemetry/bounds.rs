//! `/metrics` under many names, and changing the level of the log.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;

use crate::{
    client::{Client, send},
    databases::{Database, config, program, serve},
    users::USERS,
};

fn series(metrics: &str) -> usize {
    metrics.lines().filter(|line| !line.starts_with('#')).count()
}

fn tenants(metrics: &str) -> BTreeSet<&str> {
    let labels = metrics.lines().filter_map(|line| line.split("tenant=\"").nth(1));
    labels.filter_map(|label| label.split('"').next()).collect()
}

#[tokio::test]
async fn ten_thousand_names_leave_the_metrics_bounded() {
    let known: Vec<String> = (0..120).map(|n| format!("known{n}")).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let (_server, client) = serve(&config(&Database::Sqlite.secrets(&known).await)).await;
    client.tenant("known0").get(USERS).await.expect(200);
    for tenant in &known {
        client.tenant(tenant).get(USERS).await.expect(200);
    }
    let before = client.get("/metrics").await.expect(200).text();
    let named = tenants(&before);
    assert!(named.contains("other") && named.len() == 51, "{named:?}");
    futures_util::stream::iter(0..10_000)
        .for_each_concurrent(16, |n| {
            let client = client.tenant(&format!("made-up-{n}"));
            async move {
                client.get(USERS).await.expect(404);
            }
        })
        .await;
    let after = client.get("/metrics").await.expect(200).text();
    assert!(!after.contains("made-up"), "{after}");
    assert_eq!(tenants(&after).len(), 51);
    // A route that answered 404 for the first time is a histogram more.
    assert!(
        series(&after) <= series(&before) + 40,
        "{} and {}",
        series(&before),
        series(&after)
    );
    let total: u64 = after
        .lines()
        .filter(|line| line.starts_with("tenantry_tenant_requests_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(total, 121, "requests of tenants that exist, each counted once");
}

#[tokio::test]
async fn an_operator_changes_the_log_level() {
    const TOKEN: &str = "canary-operator-token";
    let secrets = Database::Sqlite.secrets(&["acme"]).await;
    let config = format!(
        "{}admin: {{ token: {TOKEN} }}\nlogging: {{ level: warn }}\n",
        config(&secrets)
    );
    let server = program().config(config).start().await.unwrap();
    let client = Client::of(&server);
    let operator = client.token(TOKEN);
    let path = "/admin/log-level";
    client
        .put(path, &json!({"level": "debug"}))
        .await
        .problem(401, "unauthenticated");
    client.tenant("acme").get(USERS).await.expect(200);
    assert!(!server.logs().await.unwrap().contains("tenantry::access"));

    let set = operator.put(path, &json!({"level": "info"})).await.expect(200);
    assert_eq!(set.json(), json!({"level": "info"}));
    let answer = client.tenant("acme").get(USERS).await.expect(200);
    let logs = server.logs().await.unwrap();
    assert!(logs.contains("the log level was set"), "{logs}");
    assert!(logs.contains(answer.header("x-request-id")), "{logs}");

    operator.put(path, &json!({"level": "error"})).await.expect(200);
    let silent = client.tenant("acme").get(USERS).await.expect(200);
    assert!(!server.logs().await.unwrap().contains(silent.header("x-request-id")));
    for wrong in [
        json!({"level": "loud"}),
        json!({}),
        json!({"level": "info", "x": 1}),
        json!(7),
    ] {
        operator.put(path, &wrong).await.problem(400, "request_invalid");
    }
    let text = operator.request(Method::PUT, path).body("level=info");
    send(text).await.problem(415, "unsupported_media_type");
}
