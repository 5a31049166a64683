//! The first requests of a tenant, all at once.

use futures_util::future::join_all;
use serde_json::Value;

use crate::{client::Client, counting::Counted, databases::Database};

const AT_ONCE: usize = 100;

async fn all_at_once(client: &Client) {
    let answers = join_all((0..AT_ONCE).map(|_| client.get("/api/v1/tenant/users"))).await;
    for answer in answers {
        assert_eq!(answer.expect(200).json()["items"], Value::Array(Vec::new()));
    }
}

fn assert_one_of_each(cache: &Value) {
    assert_eq!(cache["metrics"]["misses"], 1, "{cache}");
    assert_eq!(cache["metrics"]["entries"], 1, "{cache}");
    assert_eq!(cache["pools"]["open"], 1, "{cache}");
    // The requests that waited for the fetch were answered without another fetch.
    assert_eq!(cache["metrics"]["hits"].as_u64(), Some(AT_ONCE as u64 - 1), "{cache}");
}

#[tokio::test]
async fn a_hundred_first_requests_fetch_one_secret() {
    for database in Database::ALL {
        let (_server, client) = database.serve(&["cold", "other"]).await;
        all_at_once(&client.tenant("cold")).await;
        assert_one_of_each(&client.cache().await);
    }
}

#[tokio::test]
async fn a_hundred_first_requests_ask_a_slow_provider_once() {
    let counted = Counted::start("cold_start", "{ type: header }").await;
    all_at_once(&counted.client.tenant("tenant1")).await;
    assert_eq!(counted.asked(), 1);
    assert_one_of_each(&counted.client.cache().await);
    counted.server.stop().await.unwrap();
}

#[tokio::test]
async fn a_hundred_requests_for_an_unknown_tenant_fetch_once() {
    let counted = Counted::start("cold_unknown", "{ type: header }").await;
    let client = counted.client.tenant("nobody");
    for answer in join_all((0..AT_ONCE).map(|_| client.get("/api/v1/tenant/info"))).await {
        answer.problem(404, "tenant_unknown");
    }
    assert_eq!(counted.asked(), 1);
    client.get("/api/v1/tenant/info").await.problem(404, "tenant_unknown");
    assert_eq!(counted.asked(), 1);
    counted.server.stop().await.unwrap();
}
