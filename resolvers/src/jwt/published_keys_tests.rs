//! Keys that an issuer publishes, and when they are fetched.

use std::time::Duration;

use serde_json::json;

use super::{
    key::PUBLIC_KEY_ALGORITHMS,
    test_issuer::*,
    tests::{bearer_of, build, corrupted, finds, refuses, resolve},
    *,
};

fn key(id: &str, algorithm: Algorithm) -> Value {
    published(id, algorithm, &signing_key(algorithm), json!({}))
}

fn token(id: Option<&str>, algorithm: Algorithm) -> String {
    sign(algorithm, id, &signing_key(algorithm), &claims("tenant1", json!({})))
}

/// Lets time pass for whatever looks at the clock, without waiting for it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn is_unavailable(resolver: &JwtResolver, token: &str) {
    match resolve(resolver, &bearer_of(token)).await {
        Err(ResolveError::Unavailable { retry_after, .. }) => assert!(retry_after > Duration::ZERO),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn they_are_fetched_once_and_at_the_first_use() {
    let all = PUBLIC_KEY_ALGORITHMS
        .iter()
        .map(|algorithm| key(&format!("{algorithm:?}"), *algorithm));
    let server = KeyServer::start(all.collect()).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    assert_eq!(server.requests(), 0);
    for algorithm in PUBLIC_KEY_ALGORITHMS {
        finds(&resolver, &token(Some(&format!("{algorithm:?}")), *algorithm)).await;
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_not_searched_again_at_once() {
    let server = KeyServer::start(vec![key("a", Algorithm::ES256)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    refuses(&resolver, &token(Some("b"), Algorithm::ES256), "unknown key").await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn one_first_fetch_serves_all_who_wait_for_it() {
    let server = KeyServer::start(vec![key("a", Algorithm::ES256)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    let token = token(Some("a"), Algorithm::ES256);
    futures_util::future::join_all((0..50).map(|_| finds(&resolver, &token))).await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_at_once_and_a_withdrawn_one_is_not() {
    let server = KeyServer::start(vec![key("a", Algorithm::ES256)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    finds(&resolver, &token(Some("a"), Algorithm::ES256)).await;
    server.publish(vec![key("b", Algorithm::EdDSA)]);
    finds(&resolver, &token(Some("b"), Algorithm::EdDSA)).await;
    refuses(&resolver, &token(Some("a"), Algorithm::ES256), "unknown key").await;
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_storm_of_unknown_keys_causes_one_fetch_an_interval() {
    let server = KeyServer::start(vec![key("a", Algorithm::ES256)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    finds(&resolver, &token(Some("a"), Algorithm::ES256)).await;
    let tokens: Vec<String> = (0..50)
        .map(|n| token(Some(&format!("x{n}")), Algorithm::ES256))
        .collect();
    for expected in [2, 3] {
        for _ in 0..2 {
            let storm = tokens.iter().map(|token| refuses(&resolver, token, "unknown key"));
            futures_util::future::join_all(storm).await;
            assert_eq!(server.requests(), expected);
        }
        pass(Duration::from_secs(11)).await;
    }
    finds(&resolver, &token(Some("a"), Algorithm::ES256)).await;
}

#[tokio::test]
async fn old_keys_are_renewed_while_they_are_used() {
    let mut server = KeyServer::start(vec![key("a", Algorithm::ES256)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    let token = token(Some("a"), Algorithm::ES256);
    finds(&resolver, &token).await;
    pass(Duration::from_secs(500)).await;
    finds(&resolver, &token).await;
    assert_eq!(server.requests(), 1);
    pass(Duration::from_secs(101)).await;
    finds(&resolver, &token).await;
    server.wait_for_requests(2).await;
}

#[tokio::test]
async fn keys_stay_in_use_while_their_host_is_down() {
    let server = KeyServer::start(vec![key("a", Algorithm::ES256)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    let known = token(Some("a"), Algorithm::ES256);
    finds(&resolver, &known).await;
    assert_eq!(server.stop().await, 1);
    pass(Duration::from_secs(3600)).await;
    finds(&resolver, &known).await;
    is_unavailable(&resolver, &token(Some("b"), Algorithm::ES256)).await;
    finds(&resolver, &known).await;
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_changes_nothing() {
    let server = KeyServer::start(vec![key("a", Algorithm::ES256)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    let known = token(Some("a"), Algorithm::ES256);
    finds(&resolver, &known).await;
    let long = json!({"keys": [], "more": "x".repeat(256 * 1024)}).to_string();
    let redirect = format!("location: {}\r\n", server.url);
    let answers = [
        ("200 OK", "", "<html>"),
        ("200 OK", "", &long),
        ("500 Oops", "", "{}"),
        ("302 Found", &redirect, ""),
    ];
    for (count, (status, headers, body)) in answers.into_iter().enumerate() {
        server.answer(status, headers, body);
        is_unavailable(&resolver, &token(Some("b"), Algorithm::ES256)).await;
        assert_eq!(server.requests(), 2 + count, "{status}");
        finds(&resolver, &known).await;
        pass(Duration::from_secs(11)).await;
    }
}

#[tokio::test]
async fn the_tenant_is_undetermined_until_the_key_host_is_back() {
    let server = KeyServer::start(vec![]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    let token = token(Some("a"), Algorithm::ES256);
    server.answer("503 Service Unavailable", "", "");
    for _ in 0..2 {
        is_unavailable(&resolver, &token).await;
        assert_eq!(server.requests(), 1);
    }
    server.publish(vec![key("a", Algorithm::ES256)]);
    pass(Duration::from_secs(3)).await;
    finds(&resolver, &token).await;
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let resolver = build(json!({"jwks_url": url})).await.unwrap();
    let token = token(Some("a"), Algorithm::ES256);
    let given_up = tokio::time::timeout(Duration::from_secs(9), is_unavailable(&resolver, &token)).await;
    assert!(given_up.is_ok(), "it still waits");
}

/// A key with this id, of `pem`.
fn rsa_key(id: Value, pem: &str) -> Value {
    published("", Algorithm::RS256, &rsa(pem), json!({ "kid": id }))
}

fn rsa_token(id: Option<&str>, pem: &str) -> String {
    sign(Algorithm::RS256, id, &rsa(pem), &claims("tenant1", json!({})))
}

#[tokio::test]
async fn a_token_without_a_key_id_is_verified_with_each_key_that_fits() {
    let keys = vec![
        key("a", Algorithm::ES256),
        rsa_key(json!("old"), OTHER_RSA),
        rsa_key(json!(null), RSA),
    ];
    let server = KeyServer::start(keys).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    for pem in [RSA, OTHER_RSA] {
        finds(&resolver, &rsa_token(None, pem)).await;
        refuses(&resolver, &corrupted(&rsa_token(None, pem)), "signature").await;
    }
    finds(&resolver, &token(None, Algorithm::ES256)).await;
    // A name is believed: the other key is not tried.
    finds(&resolver, &rsa_token(Some("old"), OTHER_RSA)).await;
    refuses(&resolver, &rsa_token(Some("old"), RSA), "signature").await;
    refuses(&resolver, &rsa_token(Some("new"), RSA), "unknown key").await;
    let expired = claims("tenant1", json!({"exp": seconds_from_now(-60)}));
    let expired = sign(Algorithm::RS256, None, &rsa(RSA), &expired);
    refuses(&resolver, &expired, "expired").await;
}

#[tokio::test]
async fn two_keys_of_one_name_are_both_tried() {
    let server = KeyServer::start(vec![rsa_key(json!("a"), OTHER_RSA), rsa_key(json!("a"), RSA)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    finds(&resolver, &rsa_token(Some("a"), RSA)).await;
    finds(&resolver, &rsa_token(Some("a"), OTHER_RSA)).await;
}

#[tokio::test]
async fn a_new_key_without_a_name_is_found_and_the_old_one_forgotten() {
    let server = KeyServer::start(vec![rsa_key(json!(null), OTHER_RSA)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    finds(&resolver, &rsa_token(None, OTHER_RSA)).await;
    server.publish(vec![rsa_key(json!(null), RSA)]);
    finds(&resolver, &rsa_token(None, RSA)).await;
    refuses(&resolver, &rsa_token(None, OTHER_RSA), "signature").await;
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn of_many_keys_without_a_name_a_bounded_number_is_tried() {
    let mut keys = vec![rsa_key(json!(null), OTHER_RSA); 16];
    keys.push(rsa_key(json!("last"), RSA));
    let server = KeyServer::start(keys).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    refuses(&resolver, &rsa_token(None, RSA), "signature").await;
    finds(&resolver, &rsa_token(Some("last"), RSA)).await;
}

#[tokio::test]
async fn keys_are_used_for_a_day_while_their_host_is_down() {
    let server = KeyServer::start(vec![key("a", Algorithm::ES256)]).await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    let known = token(Some("a"), Algorithm::ES256);
    finds(&resolver, &known).await;
    server.answer("503 Service Unavailable", "", "");
    pass(Duration::from_secs(24 * 60 * 60 - 60)).await;
    finds(&resolver, &known).await;
    pass(Duration::from_secs(120)).await;
    is_unavailable(&resolver, &known).await;
}

#[tokio::test]
async fn plain_http_is_for_this_machine() {
    for url in [
        "http://login.example.com/keys",
        "http://192.0.2.1/keys",
        "http://localhost.evil.example/",
    ] {
        let error = build(json!({"jwks_url": url})).await.unwrap_err();
        assert!(error.to_string().contains("plain `http`"), "{error}");
    }
    for url in [
        "http://localhost:1/keys",
        "http://127.0.0.1:1/keys",
        "http://[::1]:1/keys",
        "https://a.example/",
    ] {
        build(json!({"jwks_url": url})).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_is_used_for_what_it_was_published_for() {
    let rsa_key = |id: &str, changes| published(id, Algorithm::RS256, &signing_key(Algorithm::RS256), changes);
    let secret = published("secret", Algorithm::HS256, &signing_key(Algorithm::HS256), json!({}));
    let server = KeyServer::start(vec![
        json!("no key"),
        json!({"kty": "future", "kid": "future"}),
        secret,
        rsa_key("enc", json!({"use": "enc"})),
        rsa_key("ops", json!({"key_ops": ["encrypt"]})),
        rsa_key("oaep", json!({"alg": "RSA-OAEP"})),
        rsa_key("es", json!({"alg": "ES256"})),
        rsa_key("short", json!({"n": "AQAB"})),
        rsa_key("sig", json!({"use": "sig"})),
        rsa_key("any", json!({"alg": null, "key_ops": ["verify"]})),
    ])
    .await;
    let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
    for id in ["enc", "ops", "oaep", "es", "short", "future"] {
        refuses(&resolver, &token(Some(id), Algorithm::RS256), "unknown key").await;
    }
    refuses(&resolver, &token(Some("secret"), Algorithm::HS256), "algorithm").await;
    refuses(&resolver, &token(Some("sig"), Algorithm::PS256), "unknown key").await;
    finds(&resolver, &token(Some("sig"), Algorithm::RS256)).await;
    finds(&resolver, &token(Some("any"), Algorithm::PS256)).await;
}
