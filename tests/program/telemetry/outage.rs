//! A collector that is not there.

use serde_json::Value;
use tenantry_test_support::free_port;

use super::{
    collector::{Collector, Protocol},
    serve_with,
};
use crate::{
    client::Client,
    databases::{Database, config, program},
    users::USERS,
};

async fn a_collector_that_is_down_is_reported_once(protocol: Protocol) {
    let secrets = Database::Sqlite.secrets(&["acme"]).await;
    let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
    let (server, client) = serve_with(&secrets, &nobody, protocol, 1.0).await;
    let acme = client.tenant("acme");
    // Several batches of spans and several intervals of metrics.
    for what in ["traces", "metrics"] {
        let line = format!("\"what\":\"{what}\"");
        let mut requests = 0;
        while !server.logs().await.unwrap().contains(&line) {
            acme.get(USERS).await.expect(200);
            requests += 1;
            assert!(requests < 20_000, "{}", server.logs().await.unwrap());
        }
    }
    for _ in 0..500 {
        acme.get(USERS).await.expect(200);
    }
    server.terminate().await.unwrap();
    assert_eq!(server.wait().await.unwrap(), 0);
    let logs = server.logs().await.unwrap();
    let lines: Vec<Value> = logs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warnings: Vec<&Value> = lines
        .iter()
        .filter(|line| matches!(line["level"].as_str(), Some("WARN" | "ERROR")))
        // On a slow machine the queue may have been full at first.
        .filter(|line| line["dropped"].is_null())
        .collect();
    // One for traces and one for metrics, and nothing else of all that went wrong.
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(
        warnings
            .iter()
            .all(|warning| warning["message"].as_str().unwrap().contains("cannot be sent"))
    );
}

#[tokio::test]
async fn dropped_spans_are_reported() {
    let secrets = Database::Sqlite.secrets(&["acme"]).await;
    let collector = Collector::start(Protocol::Http).await;
    let config = format!(
        "{}observability: {{ enabled: true, trace: {{ endpoint: \"{}\", protocol: http }}, metrics: {{ enabled: false }} }}\n",
        config(&secrets),
        collector.url()
    );
    let server = program().config(config).env("OTEL_BSP_MAX_QUEUE_SIZE", "1");
    let server = server.start().await.unwrap();
    for _ in 0..20 {
        // A trace of several spans, which end at nearly the same time.
        Client::of(&server).tenant("acme").get(USERS).await.expect(200);
    }
    server.terminate().await.unwrap();
    assert_eq!(server.wait().await.unwrap(), 0);
    let logs = server.logs().await.unwrap();
    let reports = logs.matches("spans were dropped").count();
    // The last one is that of the end.
    assert!((1..=3).contains(&reports), "{logs}");
}

#[tokio::test]
async fn a_collector_that_is_down_is_reported_once_over_grpc() {
    a_collector_that_is_down_is_reported_once(Protocol::Grpc).await;
}

#[tokio::test]
async fn a_collector_that_is_down_is_reported_once_over_http() {
    a_collector_that_is_down_is_reported_once(Protocol::Http).await;
}
