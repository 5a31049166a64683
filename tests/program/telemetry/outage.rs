//! A collector that is not there.

use serde_json::Value;
use tenantry_test_support::free_port;

use super::{collector::Protocol, serve_with};
use crate::{databases::Database, users::USERS};

async fn a_collector_that_is_down_is_told_of_once(protocol: Protocol) {
    let secrets = Database::Sqlite.secrets(&["acme"]).await;
    let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
    let (server, client) = serve_with(&secrets, &nobody, protocol, 1.0).await;
    let acme = client.tenant("acme");
    // Several batches of spans and several intervals of metrics.
    for what in ["traces", "metrics"] {
        let told = format!("\"what\":\"{what}\"");
        let mut requests = 0;
        while !server.logs().await.unwrap().contains(&told) {
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
async fn a_collector_that_is_down_is_told_of_once_over_grpc() {
    a_collector_that_is_down_is_told_of_once(Protocol::Grpc).await;
}

#[tokio::test]
async fn a_collector_that_is_down_is_told_of_once_over_http() {
    a_collector_that_is_down_is_told_of_once(Protocol::Http).await;
}
