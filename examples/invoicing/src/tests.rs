//! The service, as its clients see it.

use std::time::Duration;

use poem::http::Request;
use serde_json::json;
use tenantry::{
    conformance::resolver::ResolverCase,
    jobs::Schedule,
    testing::{TestApp, TestClient},
};

use crate::{api_key::ApiKey, app};

const CONFIGURATION: &str = "
tenancy: { resolver: { type: api-key, keys: { k-acme: acme, k-globex: globex } } }
billing: { currency: EUR }
";

async fn start(overdue: Schedule) -> (TestApp, TestClient, TestClient) {
    let server = TestApp::start_with(app(overdue), ["acme", "globex"], CONFIGURATION).await;
    let client = |key| server.client().header("X-Api-Key", key);
    let (acme, globex) = (client("k-acme"), client("k-globex"));
    (server, acme, globex)
}

#[tokio::test]
async fn a_tenant_s_invoices_are_its_own() {
    let (server, acme, globex) = start(Schedule::daily(2, 30)).await;
    acme.post("/api/v1/customers", &json!({"name": "Jo"})).await.expect(201);
    let taken = acme.post("/api/v1/customers", &json!({"name": "Jo"})).await.expect(409);
    assert_eq!(taken.json()["code"], "conflict");
    let invoice = json!({"customer_id": 1, "amount": 1250, "due": "2030-01-02"});
    let made = acme.post("/api/v1/invoices", &invoice).await.expect(201).json();
    assert_eq!((&made["currency"], &made["state"]), (&json!("EUR"), &json!("open")));
    let paid = acme
        .put("/api/v1/invoices/1/payment", &json!(null))
        .await
        .expect(200)
        .json();
    assert_eq!(paid["state"], "paid");
    let csv = acme.get("/api/v1/invoices.csv").await.expect(200).text();
    assert_eq!(csv, "id,customer,amount,due,state\n1,1,1250,2030-01-02,paid\n");

    assert_eq!(globex.get("/api/v1/invoices").await.expect(200).json(), json!([]));
    globex.get("/api/v1/invoices/1").await.expect(404);
    let metrics = server.client().get("/metrics").await.expect(200).text();
    assert!(
        metrics.contains("invoices_made_total") && metrics.contains("} 1\n"),
        "{metrics}"
    );
    server.stop().await;
}

#[tokio::test]
async fn every_fault_of_a_request_is_named() {
    let (server, acme, _) = start(Schedule::daily(2, 30)).await;
    let refused = acme
        .post("/api/v1/invoices", &json!({"amount": 0, "due": "soon"}))
        .await
        .expect(400);
    let mut pointers: Vec<String> = refused.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["pointer"].to_string())
        .collect();
    pointers.sort();
    assert_eq!(pointers, [r#""/amount""#, r#""/customer_id""#, r#""/due""#]);
    server.client().get("/api/v1/invoices").await.expect(401);
    server
        .client()
        .header("X-Api-Key", "k-made-up")
        .get("/api/v1/invoices")
        .await
        .expect(401);
    server.stop().await;
}

#[tokio::test]
async fn an_invoice_past_its_day_becomes_overdue() {
    let (server, acme, _) = start(Schedule::every(Duration::from_secs(1))).await;
    let another = server.start_another(app(Schedule::every(Duration::from_secs(1)))).await;
    acme.post("/api/v1/customers", &json!({"name": "Jo"})).await.expect(201);
    let invoice = json!({"customer_id": 1, "amount": 5, "due": "2020-01-02"});
    acme.post("/api/v1/invoices", &invoice).await.expect(201);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while acme.get("/api/v1/invoices/1").await.expect(200).json()["state"] != "overdue" {
        assert!(tokio::time::Instant::now() < deadline, "it is still open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    another.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn the_resolver_keeps_what_resolvers_promise() {
    let with_key = |key: &str| Request::builder().header("X-Api-Key", key).body(()).unwrap();
    ResolverCase::new(json!({"type": "api-key", "keys": {"k-acme": "acme"}}))
        .finds(with_key("k-acme"), "acme")
        .names_none(Request::new(()))
        .run::<ApiKey>()
        .await;
}
