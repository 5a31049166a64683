use http::StatusCode;
use poem::{EndpointExt as _, test::TestClient};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Header, Path, Query},
    payload::{Json, PlainText},
};

use serde_json::{Value, json};

use crate::{ApiSet, Problems, RequestIds};

use super::*;

#[derive(Object)]
struct Line {
    /// What it is for.
    #[oai(validator(min_length = 1, max_length = 10))]
    text: String,
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    count: u8,
    note: Option<String>,
}

#[derive(Enum)]
#[oai(rename_all = "lowercase")]
enum Currency {
    Eur,
    Usd,
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Order {
    #[oai(validator(pattern = "^[a-z]+$"))]
    customer: String,
    currency: Currency,
    #[oai(validator(max_items = 2))]
    lines: Vec<Line>,
    due: Option<chrono::DateTime<chrono::Utc>>,
}

struct Orders;

#[OpenApi]
impl Orders {
    #[oai(path = "/shops/:shop/orders", method = "post", operation_id = "order")]
    async fn order(
        &self,
        shop: Path<u32>,
        #[oai(validator(maximum(value = "50")))] limit: Query<u32>,
        since: Query<Option<chrono::NaiveDate>>,
        #[oai(name = "X-Dry-Run")] dry_run: Header<Option<bool>>,
        order: Json<Order>,
    ) -> PlainText<String> {
        let (limit, since, dry) = (limit.0, since.0.is_some(), dry_run.0);
        let notes = order
            .0
            .lines
            .iter()
            .filter(|line| line.note.is_some() && line.count > 0)
            .count();
        PlainText(format!(
            "{} {limit} {since} {dry:?} {notes} {}",
            shop.0, order.0.lines[0].text
        ))
    }
}

fn client() -> TestClient<impl Endpoint> {
    let router = ApiSet::new().with(Orders).into_checked_routes().into_router().unwrap();
    TestClient::new(router.with(Problems::default()).with(RequestIds::default()))
}

/// The status, and each fault as a place and what is wrong there.
async fn post(path: &str, header: &str, body: Value) -> (StatusCode, Vec<(String, String)>) {
    let sent = client()
        .post(path)
        .header("X-Dry-Run", header)
        .body_json(&body)
        .send()
        .await
        .0;
    let status = sent.status();
    let text = sent.into_body().into_string().await.unwrap();
    assert!(!text.contains("canary"), "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let faults = answer["errors"].as_array().into_iter().flatten();
    let place = |fault: &Value| {
        fault["pointer"]
            .as_str()
            .or(fault["parameter"].as_str())
            .unwrap()
            .to_owned()
    };
    let faults = faults.map(|fault| (place(fault), fault["detail"].as_str().unwrap().to_owned()));
    (status, faults.collect())
}

fn order() -> Value {
    json!({"customer": "acme", "currency": "eur", "lines": [{"text": "tea", "count": 3, "note": null}]})
}

#[tokio::test]
async fn a_good_request_is_taken() {
    let (status, faults) = post("/shops/7/orders?limit=50&since=2026-01-02", "true", order()).await;
    assert_eq!((status, faults), (StatusCode::OK, Vec::new()));
}

#[tokio::test]
async fn every_fault_of_a_request_is_named_at_once() {
    let body = json!({
        "customer": "CANARY canary", "currency": "canary", "colour": "canary",
        "lines": [{"text": "canary canary", "count": 300}, {"count": "canary", "note": 5}, {"text": "", "count": 0}],
        "due": "canary",
    });
    let (status, faults) = post("/shops/seven/orders?limit=60&since=canary", "canary", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    for (place, detail) in [
        ("shop", "is not a whole number"),
        ("limit", "is more than 50"),
        ("since", "is not a date such as `2026-01-02`"),
        ("X-Dry-Run", "is not `true` or `false`"),
        ("/customer", "does not match the pattern `^[a-z]+$`"),
        ("/currency", "is not one of `eur`, `usd`"),
        ("/lines", "has more than 2 items"),
        ("/lines/0/text", "is longer than 10 characters"),
        ("/lines/0/count", "is more than 100"),
        ("/lines/1/text", "is missing"),
        ("/lines/1/count", "is not a whole number"),
        ("/lines/1/note", "is not a string"),
        ("/lines/2/text", "is empty"),
        ("/lines/2/count", "is less than 1"),
        ("/due", "is not a time such as `2026-01-02T03:04:05Z`"),
    ] {
        let found = faults.iter().any(|fault| fault.0 == place && fault.1 == detail);
        assert!(found, "`{place}` `{detail}` is not in {faults:?}");
    }
}

#[tokio::test]
async fn a_missing_parameter_and_a_bad_body_are_named_together() {
    let client = client();
    let request = client
        .post("/shops/7/orders")
        .content_type("application/json")
        .body("{\"customer\": ");
    let answer: Value = request.send().await.json().await.value().deserialize();
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(errors[0], json!({"parameter": "limit", "detail": "is missing"}));
    let detail = errors[1]["detail"].as_str().unwrap();
    assert!(
        errors[1]["pointer"] == "" && detail.starts_with("is not JSON: "),
        "{answer}"
    );
}

#[tokio::test]
async fn an_unknown_member_is_named() {
    let mut body = order();
    body["colour"] = "canary".into();
    let (status, faults) = post("/shops/7/orders?limit=1", "true", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(faults.len(), 1, "{faults:?}");
}
