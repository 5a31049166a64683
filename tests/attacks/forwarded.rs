//! Attempts to name another tenant, or to be traced, in headers that a proxy writes.

use crate::raw::{Answer, program, send};

const INFO: &str = "GET /api/v1/tenant/info";
const PROXY: &str = "[127.0.0.1]";

async fn info(forwarded: &str, proxies: &str, resolver: &str, headers: &[&str]) -> Answer {
    let more = format!("server: {{ trusted_proxies: {proxies}, forwarded: {forwarded} }}");
    let server = program(resolver, &more).start().await.unwrap();
    send(&server, INFO, headers).await
}

#[tokio::test]
async fn only_the_header_that_the_proxy_writes_is_read() {
    const ACME: &str = "Host: acme.example.com";
    const HOSTS: &str = "{ type: host, hosts: { acme.example.com: acme, zeta.example.com: zeta } }";
    for resolver in ["{ type: subdomain, domain: example.com }", HOSTS] {
        for (forwarded, proxies, header) in [
            ("none", PROXY, "X-Forwarded-Host: zeta.example.com"),
            ("none", PROXY, "Forwarded: host=zeta.example.com"),
            ("x-forwarded", PROXY, "Forwarded: host=zeta.example.com"),
            ("forwarded", PROXY, "X-Forwarded-Host: zeta.example.com"),
            ("x-forwarded", "[192.0.2.1]", "X-Forwarded-Host: zeta.example.com"),
            ("forwarded", "[]", "Forwarded: host=zeta.example.com"),
        ] {
            let answer = info(forwarded, proxies, resolver, &[ACME, header]).await;
            assert!(answer.body.contains("\"acme\""), "{forwarded} {header}: {answer:?}");
        }
        for (forwarded, header) in [
            ("x-forwarded", "X-Forwarded-Host: zeta.example.com"),
            ("forwarded", "Forwarded: for=192.0.2.1;host=zeta.example.com"),
        ] {
            let inside = info(forwarded, PROXY, resolver, &["Host: tenantry:8080", header]).await;
            assert!(inside.body.contains("\"zeta\""), "{inside:?}");
            let answer = info(forwarded, PROXY, resolver, &[ACME, header]).await;
            assert_eq!(answer.problem(), (403, "tenant_mismatch".to_owned()), "{answer:?}");
        }
    }
}
