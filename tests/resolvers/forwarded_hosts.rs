//! Forwarded headers, which count from trusted proxies alone.

use tenantry_test_support::TenantryProcess;

use crate::{
    http::{Answer, USERS, send},
    tenants::{TENANT1, TENANT2, Tenant, server},
};

const SUBDOMAIN: &str = include_str!("configurations/subdomain.yaml");

async fn trusting(networks: &str) -> TenantryProcess {
    server(SUBDOMAIN, None)
        .env("TENANTRY__SERVER__TRUSTED_PROXIES", networks)
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
        let server = trusting(networks).await;
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
    let server = trusting("[127.0.0.1/32]").await;
    for forwarded in [
        ("X-Forwarded-Host", "tenant2.example.com"),
        ("X-Forwarded-Host", "TENANT2.Example.com:443"),
        ("X-Forwarded-Host", "tenant1.example.com, tenant2.example.com"),
        ("Forwarded", "for=192.0.2.1;host=tenant2.example.com;proto=https"),
        (
            "Forwarded",
            "host=tenant1.example.com, host=\"tenant2.example.com:8443\"",
        ),
    ] {
        let answer = users(&server, &[OWN, forwarded]).await;
        assert!(is_of(&answer, TENANT2), "{forwarded:?}: {answer:?}");
    }
    assert!(is_of(&users(&server, &[OWN]).await, TENANT1));
    let malformed = users(&server, &[OWN, ("X-Forwarded-Host", "a.b.example.com")]).await;
    assert_eq!(malformed.problem(), (400, "tenant_malformed"));
    let contradictory = [
        OWN,
        ("X-Forwarded-Host", "tenant2.example.com"),
        ("Forwarded", "host=tenant1.example.com"),
    ];
    assert_eq!(
        users(&server, &contradictory).await.problem(),
        (400, "tenant_malformed")
    );
}
