//! Names that are no tenant's: they are refused before anything is looked up.

use reqwest::{Method, header::HeaderValue};

use crate::{
    client::{raw, send},
    counting::Counted,
};

const INFO: &str = "/api/v1/tenant/info";

/// As a client writes them in a place that allows any character.
fn malformed() -> Vec<String> {
    let long = "a".repeat(65);
    let longer = "a".repeat(4000);
    let texts = [
        "../x",
        "..",
        ".",
        "a/b",
        "a\\b",
        "%2e%2e",
        "%2e%2e%2fx",
        "%00",
        "tenänt",
        "テナント",
        "TENANT1",
        "Tenant1",
        "-tenant1",
        "tenant1-",
        "_t",
        "t_",
        "a.b",
        "a b",
        "a,b",
        "a;b",
        "a'b",
        "tenant1'--",
        "tenant1\u{200b}",
        "${HOME}",
        "*",
        "a:b",
        "a@b",
        "~",
    ];
    texts
        .into_iter()
        .map(str::to_owned)
        .chain([long, longer, "a".repeat(64), String::new()])
        .collect()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn a_malformed_tenant_in_a_header_reaches_no_provider() {
    let counted = Counted::start("malformed_header", "{ type: header, name: X-Tenant-ID }").await;
    for id in malformed() {
        let value = HeaderValue::from_bytes(id.as_bytes()).unwrap();
        let answer = send(counted.client.request(Method::GET, INFO).header("X-Tenant-ID", value)).await;
        let problem = answer.problem(400, "tenant_malformed");
        assert!(
            id.len() < 4 || !problem["detail"].as_str().unwrap().contains(&id),
            "{problem}"
        );
    }
    let twice = counted
        .client
        .request(Method::GET, INFO)
        .header("X-Tenant-ID", "tenant1")
        .header("X-Tenant-ID", "tenant2");
    send(twice).await.problem(400, "tenant_malformed");
    counted.client.get(INFO).await.problem(400, "tenant_missing");
    ends_unasked(counted, |counted| {
        counted.client.tenant("tenant1").request(Method::GET, INFO)
    })
    .await;
}

#[tokio::test]
async fn a_malformed_tenant_in_the_query_reaches_no_provider() {
    let counted = Counted::start("malformed_query", "{ type: query }").await;
    for id in malformed() {
        let answer = counted.client.get(&format!("{INFO}?tenant={}", encoded(&id))).await;
        answer.problem(400, "tenant_malformed");
    }
    // Taken apart once and not again: what is left is `%2e%2e`.
    counted
        .client
        .get(&format!("{INFO}?tenant=%252e%252e"))
        .await
        .problem(400, "tenant_malformed");
    counted.client.get(INFO).await.problem(400, "tenant_missing");
    ends_unasked(counted, |counted| {
        counted.client.request(Method::GET, &format!("{INFO}?tenant=tenant1"))
    })
    .await;
}

#[tokio::test]
async fn a_malformed_tenant_in_a_cookie_reaches_no_provider() {
    let counted = Counted::start("malformed_cookie", "{ type: cookie }").await;
    for id in ["../x", "a/b", "%2e%2e", "TENANT1", "", &"a".repeat(65), "a.b"] {
        let answer = send(
            counted
                .client
                .request(Method::GET, INFO)
                .header("Cookie", format!("tenant={id}")),
        )
        .await;
        answer.problem(400, "tenant_malformed");
    }
    counted.client.get(INFO).await.problem(400, "tenant_missing");
    ends_unasked(counted, |counted| {
        counted
            .client
            .request(Method::GET, INFO)
            .header("Cookie", "tenant=tenant1")
    })
    .await;
}

#[tokio::test]
async fn a_malformed_tenant_in_the_path_reaches_no_provider() {
    let counted = Counted::start("malformed_path", "{ type: path, prefix: /t }").await;
    let long = "a".repeat(65);
    // Written to the socket as they are: a client library would tidy them up.
    for segment in [
        "..",
        ".",
        "%2e%2e",
        "%2E%2E%2Fx",
        "a%2fb",
        "a%5cb",
        "TENANT1",
        "%C3%A9",
        "%00",
        "%",
        "%zz",
        "a;b",
        &long,
    ] {
        let answer = raw(
            counted.server.address(),
            format!("GET /t/{segment}{INFO} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{segment}: {answer}");
        assert!(answer.contains("\"code\":\"tenant_malformed\""), "{segment}: {answer}");
    }
    // Two segments instead of one, and none at all, are not routed.
    for path in [format!("/t/../x{INFO}"), format!("/t/a/b{INFO}")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(counted.server.address(), request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 404 ") && answer.contains("\"code\":\"not_found\""),
            "{path}: {answer}"
        );
    }
    let empty = format!("GET /t/{INFO} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(
        raw(counted.server.address(), empty.as_bytes())
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    ends_unasked(counted, |counted| {
        counted.client.request(Method::GET, &format!("/t/tenant1{INFO}"))
    })
    .await;
}

#[tokio::test]
async fn a_malformed_tenant_of_an_operator_reaches_no_provider() {
    let counted = Counted::start("malformed_operator", "{ type: header }").await;
    // An empty segment is another route, and those of dots alone are walked by the client itself.
    for id in malformed()
        .into_iter()
        .filter(|id| !matches!(id.as_str(), "" | "." | ".."))
    {
        let id = encoded(&id);
        for (method, path) in [
            (Method::GET, format!("/health/tenant/{id}")),
            (Method::POST, format!("/admin/tenants/{id}/refresh")),
            (Method::POST, format!("/admin/tenants/{id}/suspend")),
            (Method::POST, format!("/admin/tenants/{id}/resume")),
            (Method::DELETE, format!("/admin/tenants/{id}/pool")),
            (Method::POST, format!("/admin/cache/clear?tenant={id}")),
        ] {
            let answer = send(counted.client.request(method, &path)).await;
            answer.problem(400, "tenant_malformed");
        }
    }
    counted
        .client
        .post("/admin/cache/clear?tenant=", &serde_json::json!({}))
        .await
        .problem(400, "tenant_malformed");
    for segment in ["..", "%2e%2e", "%2e", "%2e%2e%2fx"] {
        let request = format!("GET /health/tenant/{segment} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(counted.server.address(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{segment}: {answer}");
        assert!(answer.contains("tenant_malformed"), "{segment}: {answer}");
    }
    ends_unasked(counted, |counted| {
        counted.client.request(Method::GET, "/health/tenant/tenant1")
    })
    .await;
}

/// Nothing was asked, nothing is kept; and a good name is asked for once, so the counting counts.
async fn ends_unasked(counted: Counted, good: impl Fn(&Counted) -> reqwest::RequestBuilder) {
    assert_eq!(counted.asked(), 0);
    let cache = counted.client.cache().await;
    for counter in ["hits", "misses", "entries", "not_found_hits"] {
        assert_eq!(cache["metrics"][counter], 0, "{cache}");
    }
    send(good(&counted)).await.expect(200);
    assert_eq!(counted.asked(), 1);
    counted.server.stop().await.unwrap();
}

#[tokio::test]
async fn an_unknown_tenant_is_not_found() {
    let counted = Counted::start("unknown", "{ type: header }").await;
    let longest = "n".repeat(63);
    for id in ["nobody", "0", "a_b", "a-b", &longest] {
        let problem = counted.client.tenant(id).get(INFO).await.problem(404, "tenant_unknown");
        assert_eq!(problem["detail"], format!("No tenant is named \"{id}\"."));
    }
    assert_eq!(counted.asked(), 5);
    counted.server.stop().await.unwrap();
}
