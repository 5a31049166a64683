//! Paths that are encoded, doubled or dotted, so as to pass a proxy's rule or to reach another route.

use super::{ACME, INFO, ask};
use crate::raw::{program, send, start};

const TOKEN: &str = "admin: { token: an-operator-token-of-the-tests }";

#[tokio::test]
async fn no_spelling_of_an_operator_s_path_reaches_it() {
    let server = start(TOKEN).await;
    for path in [
        "//admin/cache/clear",
        "/admin//cache/clear",
        "/./admin/cache/clear",
        "/admin/./cache/clear",
        "/admin/cache/../cache/clear",
        "/api/../admin/cache/clear",
        "/api/v1/tenant/..;/admin/cache/clear",
        "/ADMIN/cache/clear",
        "/admin;x/cache/clear",
        "/admin%2fcache%2fclear",
        "/admin%2Fcache/clear",
        "/admin%5ccache%5cclear",
        "/admin/cache/clear/",
        "/admin/cache/clear%00",
        "/admin/cache/clear%20",
        "/%2561dmin/cache/clear",
        "/admin/cache/clear.json",
        "/t/x/../../admin/cache/clear",
        "/t/acme/admin/cache/clear",
        "/api/v1/tenant/%2e%2e/%2e%2e/%2e%2e/admin/cache/clear",
    ] {
        ask(&server, &format!("POST {path}"), &[ACME])
            .await
            .is_refused(404, "not_found");
    }
    // Those that a URL means the same by reach the route, and its gate.
    for path in [
        "/admin/cache/clear?",
        "/admin/cache/clear?tenant=acme",
        "/%61dmin/cache/clear",
        "http://x/admin/cache/clear",
    ] {
        let answer = ask(&server, &format!("POST {path}"), &[ACME]).await;
        assert!(matches!(answer.problem(), (401, _) | (404, _)), "{path}: {answer:?}");
    }
    for path in ["/health/tenants", "/health/tenant/acme", "/health/cache", "/metrics"] {
        ask(&server, &format!("GET {path}"), &[ACME])
            .await
            .is_refused(401, "unauthenticated");
        ask(&server, &format!("GET {path}/"), &[ACME])
            .await
            .is_refused(404, "not_found");
        ask(&server, &format!("GET /{path}"), &[ACME])
            .await
            .is_refused(404, "not_found");
    }
}

#[tokio::test]
async fn no_spelling_of_a_tenant_s_path_passes_without_a_tenant() {
    let server = start("").await;
    for path in [
        "//api/v1/tenant/info",
        "/api//v1/tenant/info",
        "/./api/v1/tenant/info",
        "/docs/../api/v1/tenant/info",
        "/health/live/../../api/v1/tenant/info",
        "/API/v1/tenant/info",
        "/api/v1/tenant/info/",
        "/api%2fv1%2ftenant%2finfo",
        "/api/v1/tenant/info;x=1",
        "/api/v1/tenant/info%2f",
        "/api/v1/tenant\\info",
    ] {
        for headers in [&[][..], &[ACME]] {
            ask(&server, &format!("GET {path}"), headers)
                .await
                .is_refused(404, "not_found");
        }
    }
    for path in [
        "/%61pi/v1/tenant/info",
        "/api/v1/tenant/%69nfo",
        "http://zeta/api/v1/tenant/info",
    ] {
        let answer = ask(&server, &format!("GET {path}"), &[]).await;
        assert!(matches!(answer.problem(), (400, _) | (404, _)), "{path}: {answer:?}");
    }
    for method in ["TRACE", "CONNECT", "OPTIONS", "get", "PROPFIND"] {
        let answer = ask(&server, &format!("{method} /api/v1/tenant/info"), &[ACME]).await;
        assert!(matches!(answer.status, 400 | 405), "{method}: {answer:?}");
    }
    // What a proxy or a framework elsewhere takes for the path or the method.
    for header in [
        "X-Original-URL: /admin/cache/clear",
        "X-Rewrite-URL: /metrics",
        "X-HTTP-Method-Override: DELETE",
    ] {
        let answer = ask(&server, INFO, &[ACME, header]).await;
        assert!(
            answer.status == 200 && answer.body.contains("\"id\":\"acme\""),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_tenant_in_the_path_is_the_one_that_is_written_there() {
    let server = program("{ type: path }", TOKEN).start().await.unwrap();
    for (path, status, code) in [
        ("/t/acme/../zeta/api/v1/tenant/info", 404, "not_found"),
        ("/t/acme/./api/v1/tenant/info", 404, "not_found"),
        ("/t/../t/zeta/api/v1/tenant/info", 404, "not_found"),
        ("/t/acme/t/zeta/api/v1/tenant/info", 404, "not_found"),
        ("/t/acme%2f..%2fzeta/api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t/%2e%2e/api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t/../api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t/./api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t//api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t/%00/api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t/acme%00/api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t/ACME/api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t/acme;zeta/api/v1/tenant/info", 400, "tenant_malformed"),
        ("/t/%61cme%2500/api/v1/tenant/info", 400, "tenant_malformed"),
        ("/T/acme/api/v1/tenant/info", 404, "not_found"),
        ("//t/acme/api/v1/tenant/info", 404, "not_found"),
        ("/t/acme/metrics", 404, "not_found"),
        ("/t/acme/health/tenants", 404, "not_found"),
        ("/t/acme/../../metrics", 404, "not_found"),
        ("/t/x/../../admin/cache/clear", 404, "not_found"),
        ("/t/acme/docs", 404, "not_found"),
    ] {
        ask(&server, &format!("GET {path}"), &[]).await.is_refused(status, code);
    }
    let without = ask(&server, INFO, &["X-Tenant-ID: acme"]).await;
    without.is_refused(400, "tenant_missing");
    let acme = send(&server, "GET /t/acme/api/v1/tenant/info", &["Host: zeta"]).await;
    assert!(acme.body.contains("\"id\":\"acme\""), "{acme:?}");
}
