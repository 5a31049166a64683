//! Forged tokens: what attacks on JWTs are known for (RFC 8725), against a public RSA key.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tenantry_test_support::TenantryProcess;

use super::{INFO, ask};
use crate::raw::{Answer, program};

const PUBLIC: &str = include_str!("../../../resolvers/tests/keys/rsa.public.pem");
const PRIVATE: &str = include_str!("../../../resolvers/tests/keys/rsa.private.pem");
const OTHER: &str = include_str!("../../../resolvers/tests/keys/rsa_other.private.pem");

async fn started() -> TenantryProcess {
    let resolver = format!(
        "{{ type: jwt, public_key: {}, issuer: \"https://id.example\", audience: api }}",
        json!(PUBLIC)
    );
    program(&resolver, "").start().await.unwrap()
}

fn claims() -> Value {
    json!({"tenant": "acme", "iss": "https://id.example", "aud": "api", "exp": get_current_timestamp() + 600})
}

fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with this header, signed as RS256 by this key, whatever the header says.
fn signed(header: &Value, payload: &str, key: &str) -> String {
    let message = format!("{}.{}", part(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_rsa_pem(key.as_bytes()).unwrap();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::RS256).unwrap();
    format!("{message}.{signature}")
}

/// A token as the issuer would sign it, with these claims.
fn issued(claims: &Value) -> String {
    signed(&json!({"alg": "RS256", "typ": "JWT"}), &claims.to_string(), PRIVATE)
}

async fn bear(server: &TenantryProcess, token: &str) -> Answer {
    ask(server, INFO, &[&format!("Authorization: Bearer {token}")]).await
}

#[tokio::test]
async fn no_forged_signature_is_believed() {
    let server = started().await;
    let good = issued(&claims());
    assert!(bear(&server, &good).await.body.contains("\"id\":\"acme\""));

    let mut forged = Vec::new();
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = format!("{}.{}", part(&json!({"alg": none, "typ": "JWT"})), part(&claims()));
        forged.extend([format!("{unsigned}."), unsigned]);
    }
    // The public key, which everyone knows, as if it were a shared secret.
    for secret in [PUBLIC, PUBLIC.trim_end(), &PUBLIC.replace('\n', "\r\n")] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            forged.push(encode(&Header::new(algorithm), &claims(), &key).unwrap());
        }
    }
    let jwk = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    for header in [
        json!({"alg": "RS256"}),
        json!({"alg": "RS256", "jku": "http://127.0.0.1:9/keys"}),
        json!({"alg": "RS256", "x5u": "http://127.0.0.1:9/certificate"}),
        json!({"alg": "RS256", "jwk": jwk}),
        json!({"alg": "RS256", "x5c": ["AAAA"]}),
        json!({"alg": "RS256", "kid": "../../../../dev/null"}),
        json!({"alg": "RS256", "kid": "' UNION SELECT 'key"}),
    ] {
        forged.push(signed(&header, &claims().to_string(), OTHER));
    }
    // The issuer's own signature under another header or over other claims.
    let parts: Vec<&str> = good.split('.').collect();
    forged.push(format!(
        "{}.{}.{}",
        parts[0],
        part(&with(json!({"tenant": "zeta"}))),
        parts[2]
    ));
    forged.push(format!("{}.{}.{}", part(&json!({"alg": "RS512"})), parts[1], parts[2]));
    forged.push(format!("{}.{}.{}", part(&json!({"alg": "ES256"})), parts[1], parts[2]));
    forged.push(format!("{}.{}.", parts[0], parts[1]));
    forged.push(format!("{good}A"));
    forged.push(format!("{good}="));
    forged.push(format!("{good}.{}", parts[2]));
    forged.push(format!("{good}.."));
    forged.push(good[..good.len() - 4].to_owned());
    forged.push("..".to_owned());
    forged.push("null".to_owned());
    for token in &forged {
        bear(&server, token).await.is_refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_header_that_is_not_understood_is_refused() {
    let server = started().await;
    for header in [
        json!({"alg": "RS256", "crit": ["b64"], "b64": false}),
        json!({"alg": "RS256", "crit": ["exp"]}),
        json!({"alg": "RS256", "crit": []}),
        json!({"alg": "RS256", "crit": "x"}),
    ] {
        let token = signed(&header, &claims().to_string(), PRIVATE);
        bear(&server, &token).await.is_refused(401, "unauthenticated");
    }
    // A token may bring a key or an address of keys: they are not looked at.
    for header in [
        json!({"alg": "RS256", "jku": "http://127.0.0.1:9/keys"}),
        json!({"alg": "RS256", "x5u": "http://127.0.0.1:9/certificate"}),
    ] {
        let token = signed(&header, &claims().to_string(), PRIVATE);
        assert_eq!(bear(&server, &token).await.status, 200);
    }
}

#[tokio::test]
async fn claims_that_do_not_hold_are_refused() {
    let server = started().await;
    let now = get_current_timestamp();
    for changes in [
        json!({"exp": now - 60}),
        json!({"exp": null}),
        json!({"exp": 0}),
        json!({"exp": -1}),
        json!({"exp": "9999999999"}),
        json!({"exp": [now + 600]}),
        json!({"nbf": now + 600}),
        json!({"iss": null}),
        json!({"iss": "https://id.example/"}),
        json!({"iss": "https://evil.example"}),
        json!({"iss": ["https://evil.example"]}),
        json!({"aud": null}),
        json!({"aud": "another"}),
        json!({"aud": []}),
        json!({"aud": ["another", "Api"]}),
        json!({"aud": {"api": true}}),
    ] {
        let answer = bear(&server, &issued(&with(changes.clone()))).await;
        assert_eq!(
            answer.problem(),
            (401, "unauthenticated".to_owned()),
            "{changes}: {answer:?}"
        );
        answer.shows_nothing();
    }
    let several = issued(&with(json!({"aud": ["another", "api"]})));
    assert_eq!(bear(&server, &several).await.status, 200);
    for tenant in ["../zeta", "ACME", "", "acme\u{0}", "acme zeta"] {
        let answer = bear(&server, &issued(&with(json!({"tenant": tenant})))).await;
        answer.is_refused(400, "tenant_malformed");
    }
    for tenant in [
        json!(["acme", "zeta"]),
        json!({"id": "acme"}),
        json!(1),
        json!(true),
        Value::Null,
    ] {
        let answer = bear(&server, &issued(&with(json!({"tenant": tenant})))).await;
        answer.is_refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_token_that_is_a_bomb_is_refused() {
    let server = started().await;
    let expires = get_current_timestamp() + 600;
    let header = json!({"alg": "RS256"});
    let deep = format!(
        "{{\"tenant\":\"acme\",\"iss\":\"https://id.example\",\"aud\":\"api\",\"exp\":{expires},\"x\":{}{}}}",
        "[".repeat(3_000),
        "]".repeat(3_000)
    );
    bear(&server, &signed(&header, &deep, PRIVATE))
        .await
        .is_refused(401, "unauthenticated");
    let long = issued(&with(json!({"x": "x".repeat(13_000)})));
    assert!(long.len() > 16 * 1024);
    bear(&server, &long).await.is_refused(401, "unauthenticated");
    let number = r#"{"tenant":"acme","iss":"https://id.example","aud":"api","exp":1e400}"#;
    bear(&server, &signed(&header, number, PRIVATE))
        .await
        .is_refused(401, "unauthenticated");
    // Two requests' worth of credentials in one.
    let good = issued(&claims());
    let other = issued(&with(json!({"tenant": "zeta"})));
    for headers in [
        [
            format!("Authorization: Bearer {good}"),
            format!("Authorization: Bearer {other}"),
        ],
        [
            format!("Authorization: Bearer {other}"),
            "Authorization: Basic eDp5".to_owned(),
        ],
    ] {
        let answer = ask(&server, INFO, &[&headers[0], &headers[1]]).await;
        assert!(matches!(answer.status, 400 | 401), "{answer:?}");
        answer.shows_nothing();
    }
    for header in [
        format!("Authorization: Bearer {good}, Bearer {other}"),
        format!("Authorization: Bearer {good} {other}"),
        format!("Authorization: Basic {good}"),
        format!("Authorization: {good}"),
        format!("Proxy-Authorization: Bearer {good}"),
        format!("Cookie: token={good}; Authorization=Bearer {good}"),
    ] {
        ask(&server, INFO, &[&header]).await.is_refused(401, "unauthenticated");
    }
    ask(&server, &format!("GET /api/v1/tenant/info?access_token={good}"), &[])
        .await
        .is_refused(401, "unauthenticated");
}
