use http::Request;
use jsonwebtoken::EncodingKey;
use serde_json::json;
use tenantry_core::{Registry, TenantIdPattern, TrustedProxies, conformance::resolver::ResolverCase};

use super::{
    key::{PUBLIC_KEY_ALGORITHMS, SECRET_ALGORITHMS},
    test_issuer::*,
    *,
};
use crate::test_requests::{plain, with};

pub(super) async fn build(keys: Value) -> Result<JwtResolver, BuildError> {
    let config: JwtConfig = serde_json::from_value(keys).unwrap();
    JwtResolver::build(config, &BuildContext::for_tests(Registry::new())).await
}

pub(super) fn bearer_of(token: impl AsRef<str>) -> Request<()> {
    with("authorization", [format!("Bearer {}", token.as_ref())]).unwrap()
}

pub(super) async fn resolve(resolver: &JwtResolver, request: &Request<()>) -> Result<Resolution, ResolveError> {
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

pub(super) async fn finds(resolver: &JwtResolver, token: &str) {
    match resolve(resolver, &bearer_of(token)).await {
        Ok(Resolution::Found { tenant, .. }) if tenant.as_str() == "tenant1" => {}
        other => panic!("{other:?}"),
    }
}

/// The token is refused as `invalid_token`, for this reason, and the answer has no part of it.
pub(super) async fn refuses(resolver: &JwtResolver, token: &str, expected: &str) {
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
pub(super) fn corrupted(token: &str) -> String {
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

/// Three issuers: two are one customer's each, and the third may name any other tenant.
fn several() -> Value {
    json!({"claim": "org", "issuers": [
        {"issuer": "https://one.example/", "tenant": "tenant1", "public_key": EC256_PUBLIC, "audience": "api"},
        {"issuer": ["https://two.example/", "https://two.example"], "tenant": "tenant2", "public_key": RSA_PUBLIC},
        {"issuer": "https://all.example/", "public_key": ED25519_PUBLIC, "claim": "tenant", "leeway": "0s"},
    ]})
}

#[tokio::test]
async fn an_issuer_names_only_the_tenant_it_is_bound_to() {
    let resolver = build(several()).await.unwrap();
    let token = |algorithm, changes: Value| {
        let claims = claims(json!(null), changes);
        sign(algorithm, None, &signing_key(algorithm), &claims)
    };
    let (one, two, all) = ("https://one.example/", "https://two.example", "https://all.example/");
    use Algorithm::{ES256, EdDSA, RS256};
    let found = async |token: &str| resolve(&resolver, &bearer_of(token)).await;
    for (algorithm, claims, tenant) in [
        (ES256, json!({"iss": one, "aud": "api", "org": "tenant1"}), "tenant1"),
        (ES256, json!({"iss": one, "aud": "api"}), "tenant1"),
        (RS256, json!({"iss": two, "org": "tenant2"}), "tenant2"),
        (RS256, json!({"iss": "https://two.example/"}), "tenant2"),
        (EdDSA, json!({"iss": all, "tenant": "tenant3"}), "tenant3"),
    ] {
        match found(&token(algorithm, claims.clone())).await {
            Ok(Resolution::Found { tenant: found, .. }) if found.as_str() == tenant => {}
            other => panic!("{claims}: {other:?}"),
        }
    }
    for (algorithm, claims, reason) in [
        (
            ES256,
            json!({"iss": one, "aud": "api", "org": "tenant2"}),
            "may not name",
        ),
        (
            ES256,
            json!({"iss": one, "aud": "api", "org": "tenant3"}),
            "may not name",
        ),
        (RS256, json!({"iss": two, "org": "tenant1"}), "may not name"),
        (EdDSA, json!({"iss": all, "tenant": "tenant1"}), "may not name"),
        (EdDSA, json!({"iss": all, "tenant": "tenant2"}), "may not name"),
        (EdDSA, json!({"iss": all, "org": "tenant3"}), "no claim `tenant`"),
        // The name of another issuer does not help against its key.
        (RS256, json!({"iss": one, "aud": "api", "org": "tenant1"}), "algorithm"),
        (ES256, json!({"iss": two, "org": "tenant2"}), "algorithm"),
        (ES256, json!({"iss": one, "aud": "other", "org": "tenant1"}), "audience"),
        (
            ES256,
            json!({"iss": "https://one.example", "aud": "api"}),
            "another issuer",
        ),
        (ES256, json!({"iss": [one], "aud": "api"}), "`iss`"),
        (ES256, json!({"aud": "api"}), "`iss`"),
    ] {
        refuses(&resolver, &token(algorithm, claims), reason).await;
    }
    let other_key = sign(
        Algorithm::RS256,
        None,
        &rsa(OTHER_RSA),
        &claims(json!(null), json!({"iss": two})),
    );
    refuses(&resolver, &other_key, "signature").await;
    refuses(&resolver, "a.b.c", "JWT").await;
}

#[tokio::test]
async fn a_list_of_issuers_is_checked() {
    let key = |more: Value| {
        let mut issuer = json!({"issuer": "https://a.example/", "secret": SECRET});
        for (name, value) in more.as_object().unwrap() {
            issuer[name] = value.clone();
        }
        issuer
    };
    let a = || key(json!({}));
    let b = |more| key(json!({"issuer": "https://b.example/", "tenant": more}));
    for (config, path, reason) in [
        (json!({"issuers": []}), &["issuers"] as &[_], "is empty"),
        (
            json!({"issuers": [a()], "secret": SECRET}),
            &["secret"],
            "beside `issuers`",
        ),
        (
            json!({"issuers": [a(), {"secret": SECRET}]}),
            &["issuers", "1", "issuer"],
            "is missing",
        ),
        (
            json!({"issuers": [a(), key(json!({"tenant": "x"}))]}),
            &["issuers", "1", "issuer"],
            "another issuer",
        ),
        (
            json!({"issuers": [key(json!({"tenant": "x"})), b(json!("x"))]}),
            &["issuers", "1", "tenant"],
            "another issuer",
        ),
        (
            json!({"issuers": [a(), b(json!("../x"))]}),
            &["issuers", "1", "tenant"],
            "",
        ),
        (
            json!({"issuers": [key(json!({"claim": ""}))]}),
            &["issuers", "0", "claim"],
            "is empty",
        ),
        (
            json!({"issuers": [key(json!({"leeway": "1h"}))]}),
            &["issuers", "0", "leeway"],
            "10 minutes",
        ),
        (json!({"issuers": [{"issuer": "a"}]}), &["issuers", "0"], "needs one of"),
    ] {
        let error = build(config.clone()).await.unwrap_err();
        assert_eq!(error.path, path, "{config}");
        assert!(error.to_string().contains(reason), "{config}: {error}");
    }
    let resolver = build(json!({"issuers": [a()]})).await.unwrap();
    assert_eq!(resolver.warnings().len(), 1, "{:?}", resolver.warnings());
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
