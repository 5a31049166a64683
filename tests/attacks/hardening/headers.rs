//! Headers and other places that name a tenant twice, in disguise, or not as the resolver reads it.

use super::{ACME, INFO, ZETA, ask};
use crate::raw::{exchange, program, start};

#[tokio::test]
async fn a_header_that_names_a_tenant_names_one() {
    let server = start("").await;
    for name in [
        "x-tenant-id: acme",
        "X-TENANT-ID: acme",
        "x-TeNaNt-Id:acme",
        "X-Tenant-ID:   acme  ",
    ] {
        let answer = ask(&server, INFO, &[name]).await;
        assert!(answer.body.contains("\"id\":\"acme\""), "{name}: {answer:?}");
    }
    for headers in [
        &[ACME, ZETA][..],
        &[ZETA, "x-tenant-id: acme"],
        &[ACME, "X-Tenant-ID: "],
        &["X-Tenant-ID: acme,zeta"],
        &["X-Tenant-ID: acme, zeta"],
        &["X-Tenant-ID: "],
        &["X-Tenant-ID: Acme"],
        &["X-Tenant-ID: acme\tzeta"],
        &["X-Tenant-ID: \"acme\""],
        &["X-Tenant-ID: acme%00"],
        &["X-Tenant-ID: ../acme"],
        &["X-Tenant-ID: acme/../zeta"],
        &["X-Tenant-ID: acme\u{200b}"],
        &["X-Tenant-ID: аcme"],
        &["X-Tenant-ID: ａｃｍｅ"],
        &["X-Tenant-ID: acme'--"],
        &["X-Tenant-ID: ${jndi:ldap://x}"],
        &["X-Tenant-ID: {{7*7}}"],
    ] {
        ask(&server, INFO, headers).await.is_refused(400, "tenant_malformed");
    }
    let long = format!("X-Tenant-ID: {}", "a".repeat(8_000));
    ask(&server, INFO, &[&long]).await.is_refused(400, "tenant_malformed");
    for elsewhere in [
        "X_Tenant_ID: acme",
        "X-Tenant-ID2: acme",
        "Tenant: acme",
        "Cookie: tenant=acme; X-Tenant-ID=acme",
    ] {
        ask(
            &server,
            "GET /api/v1/tenant/info?tenant=acme&X-Tenant-ID=acme",
            &[elsewhere],
        )
        .await
        .is_refused(400, "tenant_missing");
    }
}

#[tokio::test]
async fn a_request_that_is_no_http_is_not_answered_as_one() {
    let server = start("").await;
    for request in [
        "GET /api/v1/tenant/info HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: ac\r\n me\r\nConnection: close\r\n\r\n",
        "GET /api/v1/tenant/info HTTP/1.1\r\nHost: x\r\nX-Tenant-ID : acme\r\nConnection: close\r\n\r\n",
        "GET /api/v1/tenant/info HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: ac\0me\r\nConnection: close\r\n\r\n",
        "GET /api/v1/tenant/info HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: acme\rX: y\r\nConnection: close\r\n\r\n",
        "GET /api/v1/tenant/info\0 HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: acme\r\nConnection: close\r\n\r\n",
        "GET /api/v1/tenant/info HTTP/9.9\r\nHost: x\r\nX-Tenant-ID: acme\r\nConnection: close\r\n\r\n",
    ] {
        let answer = exchange(&server, request.as_bytes()).await;
        assert_eq!(answer.status, 400, "{request:?}: {answer:?}");
        answer.shows_nothing();
    }
}

#[tokio::test]
async fn a_query_or_a_cookie_that_names_two_tenants_is_refused() {
    let query = program("{ type: query }", "").start().await.unwrap();
    for (target, code) in [
        ("?tenant=acme&tenant=zeta", "tenant_malformed"),
        ("?tenant=acme&tenant=", "tenant_malformed"),
        ("?tenant=acme%00", "tenant_malformed"),
        ("?tenant=%2e%2e%2facme", "tenant_malformed"),
        ("?tenant=acme%26tenant=zeta", "tenant_malformed"),
        ("?tenant[]=acme", "tenant_missing"),
        ("?Tenant=acme", "tenant_missing"),
        ("?x=1#tenant=acme", "tenant_missing"),
    ] {
        let answer = ask(&query, &format!("{INFO}{target}"), &[]).await;
        if answer.header("x-request-id").is_empty() {
            // No URI has a fragment in a request: it is refused before it is one.
            assert_eq!(answer.status, 400, "{target}");
        } else {
            answer.is_refused(400, code);
        }
    }
    let cookie = program("{ type: cookie }", "").start().await.unwrap();
    for (line, code) in [
        ("Cookie: tenant=acme; tenant=zeta", "tenant_malformed"),
        ("Cookie: tenant=acme\r\nCookie: tenant=zeta", "tenant_malformed"),
        ("Cookie: tenant=../acme", "tenant_malformed"),
        ("Cookie: tenant=", "tenant_malformed"),
        ("Cookie: Tenant=acme", "tenant_missing"),
        ("Cookie: xtenant=acme", "tenant_missing"),
    ] {
        ask(&cookie, INFO, &[line]).await.is_refused(400, code);
    }
}
