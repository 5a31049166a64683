//! Requests that name a tenant more than once, or wrongly while another resolver would find one.

use crate::{
    http::{USERS, send},
    tenants::{ISSUER, SECRET, TENANT1, TENANT2, start},
};

const HEADER: &str = include_str!("configurations/header.yaml");

fn chain(agreement: &str) -> String {
    format!(
        "type: chain\nagreement: {agreement}\nresolvers:\n  - type: header\n  - type: jwt\n    issuer: {ISSUER}\n    secret: {SECRET}\n  \
         - type: subdomain\n    domain: example.com\n"
    )
}

#[tokio::test]
async fn two_headers_that_differ_are_malformed() {
    let server = start(HEADER).await;
    let both = [("X-Tenant-ID", "tenant1"), ("x-tenant-id", "tenant2")];
    let answer = send(&server, "GET", USERS, &both).await;
    assert_eq!(answer.problem(), (400, "tenant_malformed"));
    assert!(
        answer.body["detail"].as_str().unwrap().contains("X-Tenant-ID"),
        "{}",
        answer.body
    );

    let same = [("X-Tenant-ID", "tenant1"), ("x-tenant-id", "tenant1")];
    assert_eq!(send(&server, "GET", USERS, &same).await.status, 200);
    let listed = [("X-Tenant-ID", "tenant1, tenant2")];
    assert_eq!(
        send(&server, "GET", USERS, &listed).await.problem(),
        (400, "tenant_malformed")
    );
}

#[tokio::test]
async fn two_host_lines_that_differ_are_malformed() {
    let server = start(include_str!("configurations/subdomain.yaml")).await;
    let both = [("Host", "tenant1.example.com"), ("Host", "tenant2.example.com")];
    let answer = send(&server, "GET", USERS, &both).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    // RFC 9112 §3.2.2: the target's host replaces the header's. A proxy in front may have read the
    // other one.
    let target = format!("http://tenant2.example.com{USERS}");
    let answer = send(&server, "GET", &target, &[("Host", "tenant1.example.com")]).await;
    assert_eq!(answer.problem(), (400, "tenant_malformed"));
    let answer = send(&server, "GET", &target, &[("Host", "tenant2.example.com")]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn names_that_disagree_are_a_mismatch_if_all_must_agree() {
    let server = start(&chain("all")).await;
    let bearer = format!("Bearer {}", TENANT1.token());
    let names = |header: &'static str, host: &'static str| {
        [
            ("X-Tenant-ID", header),
            ("Host", host),
            ("Authorization", bearer.as_str()),
        ]
    };
    let (host1, host2) = ("tenant1.example.com", "tenant2.example.com");
    assert_eq!(send(&server, "GET", USERS, &names(TENANT1.id, host1)).await.status, 200);
    for headers in [
        names(TENANT2.id, host1),
        names(TENANT1.id, host2),
        names(TENANT2.id, host2),
    ] {
        let answer = send(&server, "GET", USERS, &headers).await;
        assert_eq!(answer.problem(), (403, "tenant_mismatch"), "{headers:?}");
    }
}

/// An attacker without a token, or who leaves out another of the names, reads nothing.
#[tokio::test]
async fn a_request_without_one_of_all_names_is_refused() {
    let server = start(&chain("all")).await;
    let bearer = format!("Bearer {}", TENANT1.token());
    let (header, host) = (("X-Tenant-ID", "tenant1"), ("Host", "tenant1.example.com"));
    let token = ("Authorization", bearer.as_str());
    for method in ["GET", "POST"] {
        for headers in [vec![header, host], vec![header], vec![host], vec![]] {
            let answer = send(&server, method, USERS, &headers).await;
            assert_eq!(answer.problem(), (401, "unauthenticated"), "{headers:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{headers:?}");
        }
        for headers in [vec![token, host], vec![token, header], vec![token]] {
            let answer = send(&server, method, USERS, &headers).await;
            assert_eq!(answer.problem(), (400, "tenant_missing"), "{headers:?}");
        }
    }
    let other_scheme = [header, host, ("Authorization", "Basic dGVuYW50MTp4")];
    assert_eq!(
        send(&server, "GET", USERS, &other_scheme).await.problem(),
        (401, "unauthenticated")
    );
}

#[tokio::test]
async fn a_bad_token_is_refused_whatever_else_names_a_tenant() {
    let server = start(&chain("all")).await;
    let headers = [
        ("X-Tenant-ID", "tenant1"),
        ("Authorization", "Bearer x.y.z"),
        ("Host", "tenant1.example.com"),
    ];
    assert_eq!(
        send(&server, "GET", USERS, &headers).await.problem(),
        (401, "unauthenticated")
    );
}

#[tokio::test]
async fn a_malformed_name_never_falls_through_to_the_next_resolver() {
    for agreement in ["first", "all"] {
        let server = start(&chain(agreement)).await;
        let bearer = format!("Bearer {}", TENANT1.token());
        let good = [("Host", "tenant1.example.com"), ("Authorization", bearer.as_str())];
        let named = [("X-Tenant-ID", "tenant1"), good[0], good[1]];
        assert_eq!(send(&server, "GET", USERS, &named).await.status, 200, "{agreement}");
        for malformed in ["Tenant1", "../tenant1", "", "tenant1.example.com", "%74enant1"] {
            let headers = [("X-Tenant-ID", malformed), good[0], good[1]];
            let answer = send(&server, "GET", USERS, &headers).await;
            assert_eq!(
                answer.problem(),
                (400, "tenant_malformed"),
                "{agreement}: {malformed:?}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_in_any_of_a_chain_s_places_is_a_missing_tenant() {
    let server = start(&chain("first")).await;
    assert_eq!(
        send(&server, "GET", USERS, &[]).await.problem(),
        (400, "tenant_missing")
    );
}
