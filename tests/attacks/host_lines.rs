//! Requests with a `Host` that two programs could read differently.

use crate::raw::{send, start};

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let server = start("").await;
    let acme = "X-Tenant-ID: acme";
    for line in [
        "GET /api/v1/tenant/info",
        "GET /health/live",
        "POST /admin/cache/clear",
        "GET /nowhere",
    ] {
        for headers in [
            &[acme] as &[_],
            &[acme, "Host: localhost", "Host: localhost"],
            &[acme, "Host: localhost", "host: evil.example"],
        ] {
            let answer = send(&server, line, headers).await;
            assert_eq!(
                answer.problem(),
                (400, "request_invalid".to_owned()),
                "{line} {headers:?}"
            );
            let head = answer.head.to_ascii_lowercase();
            for header in [
                "x-request-id: ",
                "x-content-type-options: nosniff",
                "application/problem+json",
            ] {
                assert!(head.contains(header), "{head}");
            }
        }
    }
    let one = send(&server, "GET /api/v1/tenant/info", &[acme, "Host: x"]).await;
    assert_eq!(one.status, 200);
}
