//! What the documentation and every other answer say to browsers, caches and strangers.

use super::{ACME, INFO, USERS, ask, send_json};
use crate::raw::{program, start};

const PAGES: [&str; 3] = ["/docs", "/docs/redoc", "/docs/scalar"];

#[tokio::test]
async fn no_document_and_no_page_names_a_customer_s_host() {
    let resolver = "{ type: host, hosts: { canary-customer.example: acme, other-canary.example: zeta } }";
    let server = program(resolver, "").start().await.unwrap();
    for path in ["/openapi.json", "/openapi.yaml", "/"].iter().chain(&PAGES) {
        let answer = ask(&server, &format!("GET {path}"), &[]).await;
        assert!(matches!(answer.status, 200 | 307), "{path}");
        for text in [&answer.head, &answer.body] {
            assert!(!text.contains("canary"), "{path} names a customer's host");
        }
    }
    let unknown = ask(&server, INFO, &[]).await;
    unknown.is_refused(400, "tenant_missing");
    assert!(!unknown.body.contains("canary"));
}

#[tokio::test]
async fn every_answer_forbids_sniffing_and_caching() {
    let server = start("server: { body_limit: 1KiB }").await;
    let tag = ask(&server, "GET /openapi.json", &[]).await.header("etag")[0].to_owned();
    let local = "Host: localhost";
    let requests: [(&str, &[&str], u16, &str); 13] = [
        ("GET /openapi.json", &[], 200, "no-cache"),
        (
            "GET /openapi.json",
            &[&format!("If-None-Match: {tag}")],
            304,
            "no-cache",
        ),
        ("HEAD /docs", &[], 200, "no-cache"),
        ("GET /docs/scalar", &["Accept-Encoding: gzip"], 200, "no-cache"),
        ("GET /", &[], 307, "no-store"),
        (INFO, &[ACME], 200, "no-store"),
        ("HEAD /api/v1/tenant/info", &[ACME], 200, "no-store"),
        (INFO, &[], 400, "no-store"),
        (INFO, &["X-Tenant-ID: nobody"], 404, "no-store"),
        ("GET /nowhere", &[], 404, "no-store"),
        ("PATCH /api/v1/tenant/info", &[ACME], 405, "no-store"),
        ("GET /metrics", &[], 401, "no-store"),
        ("DELETE /api/v1/tenant/users/1", &[ACME], 204, "no-store"),
    ];
    for (line, headers, status, caching) in requests {
        let answer = ask(&server, line, headers).await;
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.header("x-content-type-options"), ["nosniff"], "{line}");
        assert_eq!(answer.header("cache-control"), [caching], "{line}");
    }
    for line in ["GET /metrics", "GET /health/tenants", "GET /health/live"] {
        let answer = crate::raw::send(&server, line, &[local]).await;
        assert_eq!(answer.status, 200, "{line}");
        assert_eq!(answer.header("x-content-type-options"), ["nosniff"], "{line}");
        assert_eq!(answer.header("cache-control"), ["no-store"], "{line}");
    }
    let too_large = send_json(&server, &format!("POST {USERS}"), &[b' '; 2048]).await;
    too_large.is_refused(413, "body_too_large");
    assert_eq!(too_large.header("x-content-type-options"), ["nosniff"]);
}

#[tokio::test]
async fn no_page_may_be_framed_or_load_from_elsewhere() {
    let server = start("").await;
    for path in PAGES {
        let answer = ask(&server, &format!("GET {path}"), &[]).await;
        let policies = answer.header("content-security-policy");
        let [policy] = policies.as_slice() else {
            panic!("{path}: {policies:?}");
        };
        for directive in [
            "default-src 'none'",
            "connect-src 'self' data: blob:;",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(directive), "{path}: {policy}");
        }
        assert!(!policy.contains("http"), "{path}: {policy}");
        assert_eq!(answer.header("referrer-policy"), ["no-referrer"], "{path}");
    }
    let swagger = ask(&server, "GET /docs", &[]).await;
    assert!(swagger.body.contains("persistAuthorization: false,"));
    assert!(!swagger.body.contains("persistAuthorization: true"));
}
