//! Attempts to pass for an operator.

use std::time::Duration;

use crate::raw::{send, start};

const ACTIONS: [&str; 6] = [
    "GET /metrics",
    "GET /health/tenants",
    "POST /admin/tenants/acme/suspend",
    "DELETE /admin/tenants/acme/pool",
    "POST /admin/cache/clear",
    "POST /admin/tenants/acme/refresh",
];
const LOCAL: &str = "Host: localhost:8080";

#[tokio::test]
async fn a_page_that_rebinds_its_name_to_this_machine_is_no_operator() {
    let server = start("").await;
    for action in ACTIONS {
        for host in [
            "localtest.me",
            "evil.example:8080",
            "localhost.evil.example",
            "evil@localhost",
            "0.0.0.0:8080",
            "",
        ] {
            let answer = send(&server, action, &[&format!("Host: {host}")]).await;
            assert!(matches!(answer.status, 400 | 401), "{action} {host}: {answer:?}");
        }
        let twice = send(&server, action, &[LOCAL, "Host: evil.example"]).await;
        assert!(matches!(twice.status, 400 | 401), "{action}: {twice:?}");
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_no_operator_s() {
    let server = start("").await;
    for action in ACTIONS {
        for header in [
            "Origin: https://evil.example",
            "Origin: http://localhost.evil.example:8080",
            "Origin: null",
            "Sec-Fetch-Site: cross-site",
        ] {
            let answer = send(&server, action, &[LOCAL, header]).await;
            assert_eq!(
                answer.problem(),
                (401, "unauthenticated".to_owned()),
                "{action} {header}"
            );
        }
    }
    let acme = send(&server, "GET /api/v1/tenant/info", &["Host: x", "X-Tenant-ID: acme"]).await;
    assert_eq!(acme.status, 200, "an attack had an effect: {acme:?}");
}

#[tokio::test]
async fn what_a_proxy_on_this_machine_forwards_is_no_operator_s() {
    let server = start("server: { trusted_proxies: [127.0.0.0/8], forwarded: x-forwarded }").await;
    for action in ACTIONS {
        for header in [
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Host: localhost",
            "X-Forwarded-Proto: http",
            "X-Real-IP: 127.0.0.1",
            "Forwarded: for=127.0.0.1",
            "Via: 1.1 proxy",
        ] {
            let answer = send(&server, action, &[LOCAL, header]).await;
            assert_eq!(
                answer.problem(),
                (401, "unauthenticated".to_owned()),
                "{action} {header}"
            );
        }
    }
}

#[tokio::test]
async fn a_local_request_is_an_operator_s_until_that_is_turned_off() {
    let (open, shut) = (start("").await, start("admin: { loopback: false }").await);
    for action in ACTIONS {
        for host in ["Host: 127.0.0.1:8080", "Host: app.localhost", "Host: [::1]"] {
            let answer = send(&open, action, &[host, "Origin: http://localhost:3000"]).await;
            assert!(matches!(answer.status, 200 | 204), "{action} {host}: {answer:?}");
            let refused = send(&shut, action, &[host]).await;
            assert_eq!(refused.problem(), (401, "unauthenticated".to_owned()), "{action}");
        }
    }
    send(&open, "POST /admin/tenants/acme/resume", &[LOCAL]).await;
}

#[tokio::test]
async fn a_token_is_needed_once_it_is_set_and_no_other_will_do() {
    let server = start("admin: { token: an-operator-token-of-the-tests }").await;
    for header in [
        "X-Nothing: 1",
        "Authorization: Bearer an-operator-token-of-the-test",
        "Authorization: Bearer an-operator-token-of-the-testss",
        "Authorization: Basic an-operator-token-of-the-tests",
        "Authorization: an-operator-token-of-the-tests",
        "Cookie: token=an-operator-token-of-the-tests",
    ] {
        for action in ACTIONS {
            let answer = send(&server, action, &[LOCAL, header]).await;
            assert_eq!(
                answer.problem(),
                (401, "unauthenticated".to_owned()),
                "{action} {header}"
            );
            assert!(
                answer.head.to_ascii_lowercase().contains("www-authenticate: bearer"),
                "{answer:?}"
            );
        }
    }
    let in_query = "POST /admin/cache/clear?token=an-operator-token-of-the-tests";
    assert_eq!(send(&server, in_query, &[LOCAL]).await.status, 401);
    let metrics = ["Authorization: Bearer an-operator-token-of-the-tests", LOCAL];
    let metrics = send(&server, "GET /metrics", &metrics).await;
    assert_eq!(metrics.status, 200);
    let refused = metrics.body.lines().find(|line| {
        line.starts_with("http_server_request_duration_seconds_count")
            && line.contains("/metrics")
            && line.contains("401")
    });
    assert!(refused.is_some_and(|line| line.ends_with(" 6")), "{}", metrics.body);
}

#[tokio::test]
async fn what_operators_do_is_logged_at_every_level() {
    for format in ["text", "json"] {
        let server = start(&format!("logging: {{ level: off, format: {format} }}")).await;
        let id = "X-Request-ID: an-action-of-the-tests";
        for (action, headers, status) in [
            ("POST /admin/tenants/acme/suspend", &[LOCAL, id] as &[_], 204),
            ("POST /admin/tenants/acme/resume", &["Host: evil.example", id], 401),
            ("GET /metrics", &["Host: evil.example", id], 401),
            ("POST /admin/cache/clear?tenant=zeta", &[LOCAL, id], 200),
            ("POST /admin/tenants/%0Aforged/suspend", &[LOCAL, id], 400),
        ] {
            let answer = send(&server, action, headers).await;
            assert_eq!(answer.status, status, "{action}: {answer:?}");
        }
        let logs = server.logs_with("cache/clear", Duration::from_secs(10)).await.unwrap();
        let lines: Vec<&str> = logs.lines().collect();
        assert_eq!(lines.len(), 5, "{logs}");
        for (line, words) in lines.iter().zip([
            ["POST /admin/tenants/{id}/suspend", "admitted", "acme"],
            ["POST /admin/tenants/{id}/resume", "refused", "acme"],
            ["GET /metrics", "refused", "127.0.0.1"],
            ["POST /admin/cache/clear", "admitted", "zeta"],
            ["POST /admin/tenants/{id}/suspend", "admitted", "127.0.0.1"],
        ]) {
            assert!(words.iter().all(|word| line.contains(word)), "{line}");
            assert!(
                line.contains("an-action-of-the-tests") && line.contains("127.0.0.1"),
                "{line}"
            );
        }
        assert!(!logs.contains("forged"), "{logs}");
    }
}
