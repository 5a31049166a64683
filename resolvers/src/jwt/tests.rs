use http::Request;
use jsonwebtoken::EncodingKey;
use serde_json::json;
use tenantry_core::{Registry, TenantIdPattern, TrustedProxies, conformance::resolver::ResolverCase};

use super::{test_issuer::*, *};
use crate::test_requests::{plain, with};

async fn build(keys: Value) -> Result<JwtResolver, BuildError> {
    let config: JwtConfig = serde_json::from_value(keys).unwrap();
    JwtResolver::build(config, &BuildContext::for_tests(Registry::new())).await
}

fn bearer_of(token: impl AsRef<str>) -> Request<()> {
    with("authorization", [format!("Bearer {}", token.as_ref())]).unwrap()
}

async fn resolve(resolver: &JwtResolver, request: &Request<()>) -> Result<Resolution, ResolveError> {
    let head = RequestHead {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        peer: None,
        trusted_proxies: &TrustedProxies::default(),
        id_pattern: &TenantIdPattern::default(),
    };
    resolver.resolve(&head).await
}

async fn finds(resolver: &JwtResolver, token: &str) {
    match resolve(resolver, &bearer_of(token)).await {
        Ok(Resolution::Found(tenant)) if tenant.as_str() == "tenant1" => {}
        other => panic!("{other:?}"),
    }
}

/// The token is refused as `invalid_token`, for this reason, and the answer has no part of it.
async fn refuses(resolver: &JwtResolver, token: &str, expected: &str) {
    match resolve(resolver, &bearer_of(token)).await {
        Err(ResolveError::Unauthenticated { error, description }) => {
            assert_eq!(error, Some("invalid_token"));
            assert!(description.contains(expected), "{description}");
            let repeats = token
                .split('.')
                .any(|part| part.len() > 3 && description.contains(part));
            assert!(!repeats && !description.contains(['"', '\\']), "{description}");
        }
        other => panic!("{other:?}"),
    }
}

fn hs256(claims: &Value) -> String {
    sign(Algorithm::HS256, None, &signing_key(Algorithm::HS256), claims)
}

#[tokio::test]
async fn it_keeps_what_every_resolver_keeps() {
    let token = |tenant: &str| hs256(&claims(json!(null), json!({"org": {"tenant": tenant}})));
    ResolverCase::new(json!({"type": "jwt", "secret": SECRET, "claim": "org.tenant"}))
        .names(move |raw| Some(bearer_of(token(std::str::from_utf8(raw).ok()?))))
        .names_two(move |first, second| {
            with(
                "authorization",
                [first, second].map(|name| format!("Bearer {}", token(name))),
            )
        })
        .names_none(plain())
        .names_none(with("authorization", ["Basic dGVuYW50MTp4"]).unwrap())
        .names_none(with("authorization", [b"Negotiate \xff"]).unwrap())
        .names_none(with("authorization", [""]).unwrap())
        .finds(
            with("authorization", [format!("bEARER   {} ", token("tenant1"))]).unwrap(),
            "tenant1",
        )
        .run::<JwtResolver>()
        .await;
}

#[tokio::test]
async fn a_good_token_of_every_algorithm_is_believed() {
    let keys = [
        (json!({"secret": SECRET}), SECRET_ALGORITHMS),
        (json!({"public_key": RSA_PUBLIC}), &PUBLIC_KEY_ALGORITHMS[..6]),
        (json!({"public_key": EC256_PUBLIC}), &[Algorithm::ES256]),
        (json!({"public_key": EC384_PUBLIC}), &[Algorithm::ES384]),
        (json!({"public_key": ED25519_PUBLIC}), &[Algorithm::EdDSA]),
    ];
    for (key, algorithms) in keys {
        let resolver = build(key.clone()).await.unwrap();
        for algorithm in algorithms {
            let token = sign(
                *algorithm,
                None,
                &signing_key(*algorithm),
                &claims("tenant1", json!({})),
            );
            finds(&resolver, &token).await;
            let mut named = key.clone();
            named["algorithms"] = json!([format!("{algorithm:?}")]);
            let resolver = build(named).await.unwrap();
            finds(&resolver, &token).await;
            refuses(&resolver, &corrupted(&token), "signature").await;
            for other in algorithms.iter().filter(|other| *other != algorithm) {
                let token = sign(*other, None, &signing_key(*other), &claims("tenant1", json!({})));
                refuses(&resolver, &token, "algorithm").await;
            }
        }
    }
}

/// The same token with the first character of its signature changed.
fn corrupted(token: &str) -> String {
    let at = token.rfind('.').unwrap() + 1;
    let other = if token[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

#[tokio::test]
async fn a_token_is_believed_only_in_its_time() {
    let resolver = build(json!({"secret": SECRET, "leeway": "10s"})).await.unwrap();
    let token = |changes| hs256(&claims("tenant1", changes));
    refuses(&resolver, &token(json!({"exp": seconds_from_now(-60)})), "expired").await;
    refuses(&resolver, &token(json!({"exp": seconds_from_now(-11)})), "expired").await;
    refuses(&resolver, &token(json!({"nbf": seconds_from_now(60)})), "not valid yet").await;
    refuses(&resolver, &token(json!({"nbf": "tomorrow"})), "`nbf`").await;
    for exp in [json!(null), json!("tomorrow"), json!(-1), json!({}), json!(1e300)] {
        refuses(&resolver, &token(json!({ "exp": exp })), "`exp`").await;
    }
    finds(&resolver, &token(json!({"exp": seconds_from_now(-5)}))).await;
    finds(&resolver, &token(json!({"nbf": seconds_from_now(5)}))).await;
    finds(
        &resolver,
        &token(json!({"nbf": seconds_from_now(-60), "exp": seconds_from_now(60) as f64 + 0.5})),
    )
    .await;
    let strict = build(json!({"secret": SECRET, "leeway": "0s"})).await.unwrap();
    refuses(&strict, &token(json!({"exp": seconds_from_now(0)})), "expired").await;
}

#[tokio::test]
async fn issuer_and_audience_are_demanded_where_they_are_configured() {
    let config = json!({"secret": SECRET, "issuer": "https://a.example/", "audience": ["api", "admin"]});
    let resolver = build(config).await.unwrap();
    let token = |issuer: Value, audience: Value| hs256(&claims("tenant1", json!({"iss": issuer, "aud": audience})));
    let issuer = || json!("https://a.example/");
    finds(&resolver, &token(issuer(), json!("api"))).await;
    finds(&resolver, &token(issuer(), json!(["other", "admin"]))).await;
    refuses(&resolver, &token(json!("https://a.example"), json!("api")), "issuer").await;
    refuses(&resolver, &token(json!(null), json!("api")), "`iss`").await;
    refuses(&resolver, &token(json!(7), json!("api")), "`iss`").await;
    refuses(&resolver, &token(issuer(), json!("other")), "audience").await;
    refuses(&resolver, &token(issuer(), json!([])), "audience").await;
    refuses(&resolver, &token(issuer(), json!(null)), "`aud`").await;
    let open = build(json!({"secret": SECRET})).await.unwrap();
    finds(&open, &token(json!("anyone"), json!("anything"))).await;
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    let resolver = build(json!({"secret": SECRET})).await.unwrap();
    let good = hs256(&claims("tenant1", json!({})));
    let (unsigned, signature) = good.rsplit_once('.').unwrap();
    let payload = unsigned.split_once('.').unwrap().1;
    // {"alg":"none"}, {"alg":"None"}
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIn0"] {
        refuses(&resolver, &format!("{header}.{payload}."), "algorithm").await;
        refuses(&resolver, &format!("{header}.{payload}.{signature}"), "algorithm").await;
    }
    refuses(&resolver, &format!("{unsigned}."), "signature").await;
    refuses(&resolver, unsigned, "").await;
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret() {
    let forged = |secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        sign(Algorithm::HS256, None, &key, &claims("tenant1", json!({})))
    };
    let resolver = build(json!({"public_key": RSA_PUBLIC})).await.unwrap();
    for secret in [RSA_PUBLIC, RSA_PUBLIC.trim()] {
        refuses(&resolver, &forged(secret), "algorithm").await;
    }
    for key in ["public_key", "jwks_url"] {
        let value = if key == "public_key" {
            RSA_PUBLIC
        } else {
            "http://127.0.0.1:1/keys"
        };
        for algorithms in [json!(["HS256"]), json!(["RS256", "HS512"])] {
            let error = build(json!({key: value, "algorithms": algorithms})).await.unwrap_err();
            assert_eq!(error.path, ["algorithms"], "{error}");
        }
    }
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused() {
    let resolver = build(json!({"public_key": RSA_PUBLIC})).await.unwrap();
    let token = |key: &str, tenant: &str| sign(Algorithm::RS256, None, &rsa(key), &claims(tenant, json!({})));
    let (own, foreign) = (token(RSA, "tenant2"), token(OTHER_RSA, "tenant1"));
    let [own, other]: [Vec<&str>; 2] = [own.split('.').collect(), foreign.split('.').collect()];
    refuses(&resolver, &[own[0], other[1], own[2]].join("."), "signature").await;
    refuses(&resolver, &foreign, "signature").await;
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let resolver = build(json!({"secret": SECRET})).await.unwrap();
    let good = hs256(&claims("tenant1", json!({})));
    refuses(&resolver, "", "empty").await;
    for token in [
        "x",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        &format!("{good}.x"),
        &format!("{good}, Bearer {good}"),
        "ünïcode",
    ] {
        refuses(&resolver, token, "token").await;
    }
    refuses(&resolver, &"a".repeat(MAX_TOKEN_BYTES + 1), "longer").await;
    let unreadable = with("authorization", [b"Bearer \xff"]).unwrap();
    let refused = resolve(&resolver, &unreadable).await;
    assert!(
        matches!(refused, Err(ResolveError::Unauthenticated { .. })),
        "{refused:?}"
    );
    let array = jsonwebtoken::encode(
        &jsonwebtoken::Header::default(),
        &json!(["tenant1"]),
        &signing_key(Algorithm::HS256),
    );
    refuses(&resolver, &array.unwrap(), "token").await;
}

#[tokio::test]
async fn critical_headers_are_not_passed_over() {
    let resolver = build(json!({"secret": SECRET})).await.unwrap();
    let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
    header.crit = Some(vec!["exp".to_owned()]);
    let token = jsonwebtoken::encode(&header, &claims("tenant1", json!({})), &signing_key(Algorithm::HS256)).unwrap();
    refuses(&resolver, &token, "critical").await;
}

#[tokio::test]
async fn a_claim_that_is_no_text_is_refused() {
    let resolver = build(json!({"secret": SECRET})).await.unwrap();
    refuses(&resolver, &hs256(&claims(json!(null), json!({}))), "no claim `tenant`").await;
    for value in [json!(7), json!(true), json!(["tenant1"]), json!({"id": "tenant1"})] {
        refuses(&resolver, &hs256(&claims(value, json!({}))), "not a string").await;
    }
    let malformed = resolve(&resolver, &bearer_of(hs256(&claims("../x", json!({}))))).await;
    assert!(
        matches!(malformed, Err(ResolveError::Malformed { .. })),
        "{malformed:?}"
    );
}

#[test]
fn dots_go_deeper_but_a_name_with_dots_of_its_own_goes_first() {
    let claims = json!({
        "a.b": "literal",
        "a": {"b": "nested", "c": {"d": "deep"}, "e.f": "half"},
        "https://example.com/claims": {"tenant": "namespaced"},
        "https://example.com/tenant": "url",
    });
    let find = |name| find(claims.as_object().unwrap(), name).and_then(Value::as_str);
    assert_eq!(find("a.b"), Some("literal"));
    assert_eq!(find("a.c.d"), Some("deep"));
    assert_eq!(find("a.e.f"), Some("half"));
    assert_eq!(find("https://example.com/tenant"), Some("url"));
    assert_eq!(find("https://example.com/claims.tenant"), Some("namespaced"));
    for absent in ["a.x", "a.b.c", ".", "a.", ".a", "a.c"] {
        assert_eq!(find(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_at_its_key() {
    let ec521 = include_str!("../../tests/keys/ec521.public.pem");
    let certificate = include_str!("../../tests/keys/ec256.certificate.pem");
    let rsa1024 = include_str!("../../tests/keys/rsa1024.public.pem");
    let wrong = [
        (json!({}), ""),
        (json!({"secret": "x", "public_key": RSA_PUBLIC}), ""),
        (json!({"secret": "x", "jwks_url": "https://a.example/"}), ""),
        (json!({"secret": ""}), "secret"),
        (json!({"secret": "x", "claim": ""}), "claim"),
        (json!({"secret": "x", "claim": "a\"b"}), "claim"),
        (json!({"secret": "x", "algorithms": []}), "algorithms"),
        (json!({"secret": "x", "algorithms": ["RS256"]}), "algorithms"),
        (
            json!({"public_key": EC256_PUBLIC, "algorithms": ["ES384"]}),
            "algorithms",
        ),
        (json!({"secret": "x", "issuer": ""}), "issuer"),
        (json!({"secret": "x", "audience": []}), "audience"),
        (json!({"secret": "x", "leeway": "1500ms"}), "leeway"),
        (json!({"secret": "x", "leeway": "1h"}), "leeway"),
        (json!({"public_key": "no/such/file.pem"}), "public_key"),
        (json!({"public_key": RSA}), "public_key"),
        (json!({"public_key": certificate}), "public_key"),
        (json!({"public_key": ec521}), "public_key"),
        (json!({"public_key": rsa1024}), "public_key"),
        (json!({"public_key": RSA_PUBLIC.replace('A', "B")}), "public_key"),
        (json!({"jwks_url": "keys"}), "jwks_url"),
        (json!({"jwks_url": "file:///etc/keys"}), "jwks_url"),
    ];
    for (config, key) in wrong {
        let error = build(config.clone()).await.unwrap_err();
        let place = error.path.first().map_or("", String::as_str);
        assert_eq!(place, key, "{error}: {config}");
    }
}

#[tokio::test]
async fn a_public_key_may_be_a_file_below_the_configuration() {
    let config = JwtConfig {
        public_key: Some("keys/ec256.public.pem".to_owned()),
        ..JwtConfig::default()
    };
    let mut context = BuildContext::for_tests(Registry::new());
    context.base_dir = [env!("CARGO_MANIFEST_DIR"), "tests"].iter().collect();
    let resolver = JwtResolver::build(config, &context).await.unwrap();
    let token = sign(
        Algorithm::ES256,
        None,
        &signing_key(Algorithm::ES256),
        &claims("tenant1", json!({})),
    );
    finds(&resolver, &token).await;
}

#[tokio::test]
async fn no_key_is_printed() {
    let resolver = build(json!({"secret": SECRET})).await.unwrap();
    let printed = format!("{resolver:?}");
    let bytes = format!("{:?}", SECRET.as_bytes());
    assert!(
        !printed.contains(SECRET) && !printed.contains(bytes.trim_matches(['[', ']'])),
        "{printed}"
    );
}

mod published_keys {
    use std::time::Duration;

    use super::*;

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
    async fn a_key_that_the_first_fetch_did_not_bring_is_not_searched_again_at_once() {
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
    async fn a_key_that_is_new_is_found_at_once_and_one_that_is_gone_is_not() {
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
    async fn without_any_key_the_tenant_cannot_be_determined_until_the_host_is_back() {
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

    #[tokio::test]
    async fn a_token_without_a_key_id_is_verified_where_one_key_fits() {
        let server = KeyServer::start(vec![key("a", Algorithm::ES256), key("b", Algorithm::EdDSA)]).await;
        let resolver = build(json!({"jwks_url": server.url})).await.unwrap();
        finds(&resolver, &token(None, Algorithm::ES256)).await;
        server.publish(vec![key("a", Algorithm::ES256), key("b", Algorithm::ES256)]);
        refuses(&resolver, &token(Some("x"), Algorithm::ES256), "unknown key").await;
        refuses(&resolver, &token(None, Algorithm::ES256), "does not name its key").await;
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
}
