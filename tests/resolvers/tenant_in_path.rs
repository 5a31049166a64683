//! The resolver `path` through the router.

use serde_json::json;
use tenantry_test_support::TenantryProcess;

use crate::{
    http::{Answer, USERS, send, send_body},
    tenants::{TENANT1, TENANT2, start},
};

const PATH: &str = include_str!("configurations/path.yaml");

async fn get(server: &TenantryProcess, target: &str) -> Answer {
    send(server, "GET", target, &[]).await
}

#[tokio::test]
async fn the_rest_of_the_path_is_routed_as_if_the_prefix_were_absent() {
    let server = start(PATH).await;
    for (tenant, other) in [(TENANT1, TENANT2), (TENANT2, TENANT1)] {
        let answer = get(&server, &format!("/t/{}{USERS}?limit=200", tenant.id)).await;
        assert_eq!(answer.status, 200);
        let page = answer.body.to_string();
        assert!(
            page.contains(&tenant.sample_user()) && !page.contains(&other.sample_user()),
            "{page}"
        );
    }
    assert_eq!(
        get(&server, "/t/nobody/api/v1/tenant/users").await.problem(),
        (404, "tenant_unknown")
    );
    let absolute = format!("http://127.0.0.1:{}/t/tenant1{USERS}", server.port());
    assert_eq!(get(&server, &absolute).await.status, 200);
}

#[tokio::test]
async fn without_the_prefix_the_tenant_is_missing() {
    let server = start(PATH).await;
    for target in [USERS, "/api/v1/tenant/info", "/api/v1/tenant/users?x=/t/tenant1/"] {
        assert_eq!(
            get(&server, target).await.problem(),
            (400, "tenant_missing"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_new_user_s_location_is_below_the_prefix() {
    let server = start(PATH).await;
    let user = json!({"name": "Ada", "email": "ada@example.com"}).to_string();
    let created = send_body(&server, "POST", &format!("/t/tenant1{USERS}"), &[], &user).await;
    assert_eq!(created.status, 201);
    let location = created.header("Location").unwrap();
    assert_eq!(location, format!("/t/tenant1{USERS}/{}", created.body["id"]));
    let found = get(&server, location).await;
    assert_eq!((found.status, &found.body), (200, &created.body));
    let others = location.replace("tenant1", "tenant2");
    assert_eq!(get(&server, &others).await.problem(), (404, "not_found"));
}

#[tokio::test]
async fn encoded_slashes_and_dot_segments_are_refused() {
    let server = start(PATH).await;
    // In the tenant's place, and with a dot segment that leads to a route.
    for target in [
        "/t/tenant1%2F/api/v1/tenant/users",
        "/t/tenant1%2f..%2ftenant2/api/v1/tenant/users",
        "/t/tenant1%5C/api/v1/tenant/users",
        "/t/%74enant1/api/v1/tenant/users",
        "/t/../api/v1/tenant/users",
        "/t/./api/v1/tenant/users",
        "/t/%2e%2E/api/v1/tenant/users",
        "/t//api/v1/tenant/users",
        "/t/Tenant1/api/v1/tenant/users",
        "/t/tenant1;x/api/v1/tenant/users",
        "/t/tenant1/api/v1/tenant/users/..",
        "/t/tenant1/api/v1/tenant/users/%2e",
    ] {
        assert_eq!(
            get(&server, target).await.problem(),
            (400, "tenant_malformed"),
            "{target}"
        );
    }
    // What leads to no route has no tenant either.
    for target in [
        "/t/tenant1%2Fapi/v1/tenant/users",
        "/t/tenant1/../tenant2/api/v1/tenant/users",
        "/t/tenant1/%2e%2e/tenant2/api/v1/tenant/users",
        "/t/tenant1/./api/v1/tenant/users",
        "/t/tenant1//api/v1/tenant/users",
        "/t/tenant1/api%2Fv1/tenant/users",
        "/t%2Ftenant1/api/v1/tenant/users",
        "/T/tenant1/api/v1/tenant/users",
        "/x/../t/tenant1/api/v1/tenant/users",
        "//t/tenant1/api/v1/tenant/users",
        "/t/t/tenant1/api/v1/tenant/users",
        "/t/tenant1/t/tenant1/api/v1/tenant/users",
    ] {
        assert_eq!(get(&server, target).await.problem(), (404, "not_found"), "{target}");
    }
}

#[tokio::test]
async fn nothing_but_tenants_operations_is_below_the_prefix() {
    let server = start(PATH).await;
    let served = [
        "/health/live",
        "/health/cache",
        "/health/tenants",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/",
    ];
    for target in served {
        let plain = get_status(&server, target).await;
        assert!([200, 307].contains(&plain), "{target}: {plain}");
        assert_eq!(
            get_status(&server, &format!("/t/tenant1{target}")).await,
            404,
            "{target}"
        );
    }
    let clear = send(&server, "POST", "/t/tenant1/admin/cache/clear", &[]).await;
    assert_eq!(clear.problem(), (404, "not_found"));
}

/// The status of an answer with any kind of body.
async fn get_status(server: &TenantryProcess, target: &str) -> u16 {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    client
        .get(server.base_url() + target)
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}
