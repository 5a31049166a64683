//! Forwarded headers, which count from trusted proxies alone.

use tenantry_test_support::TenantryProcess;

use crate::{
    http::{Answer, USERS, send},
    tenants::{TENANT1, TENANT2, Tenant, server},
};

const SUBDOMAIN: &str = include_str!("configurations/subdomain.yaml");

async fn trusting(networks: &str, header: &str) -> TenantryProcess {
    server(SUBDOMAIN, None)
        .env("TENANTRY__SERVER__TRUSTED_PROXIES", networks)
        .env("TENANTRY__SERVER__FORWARDED", header)
        .start()
        .await
        .unwrap()
}

async fn users(server: &TenantryProcess, headers: &[(&str, &str)]) -> Answer {
    send(server, "GET", USERS, headers).await
}

fn is_of(answer: &Answer, tenant: Tenant) -> bool {
    answer.status == 200 && answer.body["items"][0]["email"] == tenant.sample_user()
}

const OWN: (&str, &str) = ("Host", "tenant1.example.com");

#[tokio::test]
async fn a_forwarded_host_from_an_untrusted_peer_changes_nothing() {
    for networks in ["[]", "[192.0.2.0/24]"] {
        let server = trusting(networks, "x-forwarded").await;
        for forwarded in [
            ("X-Forwarded-Host", "tenant2.example.com"),
            ("Forwarded", "host=tenant2.example.com"),
            ("X-Forwarded-Host", "a b"),
            ("X-Forwarded-Host", "other.example.org"),
        ] {
            let answer = users(&server, &[OWN, forwarded]).await;
            assert!(is_of(&answer, TENANT1), "{networks} {forwarded:?}: {answer:?}");
        }
        let alone = users(&server, &[("X-Forwarded-Host", "tenant2.example.com")]).await;
        assert_eq!(alone.problem(), (400, "tenant_missing"));
    }
}

#[tokio::test]
async fn a_forwarded_host_from_a_trusted_proxy_is_the_host() {
    const INSIDE: (&str, &str) = ("Host", "tenantry.internal:8080");
    for (header, name, values) in [
        (
            "x-forwarded",
            "X-Forwarded-Host",
            ["TENANT2.Example.com:443", "tenant1.example.com, tenant2.example.com"],
        ),
        (
            "forwarded",
            "Forwarded",
            [
                "for=192.0.2.1;host=tenant2.example.com;proto=https",
                "host=tenant1.example.com, host=\"tenant2.example.com:8443\"",
            ],
        ),
    ] {
        let server = trusting("[127.0.0.1/32]", header).await;
        for value in values {
            let answer = users(&server, &[INSIDE, (name, value)]).await;
            assert!(is_of(&answer, TENANT2), "{name}: {value}: {answer:?}");
            let answer = users(&server, &[("Host", "tenant2.example.com"), (name, value)]).await;
            assert!(is_of(&answer, TENANT2), "{name}: {value}: {answer:?}");
            let differs = users(&server, &[OWN, (name, value)]).await;
            assert_eq!(differs.problem(), (403, "tenant_mismatch"), "{name}: {value}");
        }
        assert!(is_of(&users(&server, &[OWN]).await, TENANT1));
        let malformed = match header {
            "forwarded" => "host=a.b.example.com",
            _ => "a.b.example.com",
        };
        let malformed = users(&server, &[OWN, (name, malformed)]).await;
        assert_eq!(malformed.problem(), (400, "tenant_malformed"));
    }
}
