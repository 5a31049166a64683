//! The resolver `jwt` through the server: what each token is answered with.

use std::net::Ipv4Addr;

use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp, jwk::Jwk};
use serde_json::{Value, json};
use tenantry_test_support::TenantryProcess;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    http::{Answer, USERS, send},
    tenants::{ISSUER, SECRET, TENANT1, TENANT2, claims, server, start},
};

const RSA: &str = include_str!("../../resolvers/tests/keys/rsa.private.pem");
const RSA_PUBLIC: &str = include_str!("../../resolvers/tests/keys/rsa.public.pem");
const OTHER_RSA: &str = include_str!("../../resolvers/tests/keys/rsa_other.private.pem");
const EC256: &str = include_str!("../../resolvers/tests/keys/ec256.private.pem");
const EC384: &str = include_str!("../../resolvers/tests/keys/ec384.private.pem");
const ED25519: &str = include_str!("../../resolvers/tests/keys/ed25519.private.pem");
const AUDIENCE: &str = "https://api.example.com/";

fn rsa(pem: &str) -> EncodingKey {
    EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
}

/// The key that signs with this algorithm, and the name under which [`KeyServer`] publishes it.
fn signing_key(algorithm: Algorithm) -> (&'static str, EncodingKey) {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => ("", EncodingKey::from_secret(SECRET.as_bytes())),
        Algorithm::ES256 => ("ec256", EncodingKey::from_ec_pem(EC256.as_bytes()).unwrap()),
        Algorithm::ES384 => ("ec384", EncodingKey::from_ec_pem(EC384.as_bytes()).unwrap()),
        Algorithm::EdDSA => ("ed25519", EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap()),
        _ => ("rsa", rsa(RSA)),
    }
}

const PUBLISHED: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

fn sign(algorithm: Algorithm, key_id: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = key_id.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// Claims that the resolver of [`public_key`] accepts for tenant1, with these changed; `null` takes
/// one out.
fn changed(changes: Value) -> Value {
    let mut claims = claims(json!(TENANT1.id));
    claims["aud"] = json!(AUDIENCE);
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn public_key() -> String {
    let key = json!(RSA_PUBLIC);
    format!("type: jwt\nissuer: {ISSUER}\naudience: {AUDIENCE}\nalgorithms: [RS256]\npublic_key: {key}\n")
}

async fn get(server: &TenantryProcess, token: &str) -> Answer {
    send(server, "GET", USERS, &[("Authorization", &format!("Bearer {token}"))]).await
}

/// RFC 6750 §3: `WWW-Authenticate` reports an invalid token.
async fn assert_refused(server: &TenantryProcess, what: &str, token: &str, description: &str) {
    let answer = get(server, token).await;
    assert_eq!(answer.problem(), (401, "unauthenticated"), "{what}: {answer:?}");
    let challenge = answer.header("WWW-Authenticate").unwrap();
    let said = challenge
        .strip_prefix("Bearer error=\"invalid_token\", error_description=\"")
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_else(|| panic!("{what}: {challenge}"));
    assert!(said.contains(description), "{what}: {said}");
    assert!(!said.contains(['"', '\\']), "{what}: {said}");
    // The answer says no more than that, and repeats no part of the token.
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!format!("{answer:?}").contains(part), "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn a_request_without_a_token_is_challenged() {
    let server = start(&public_key()).await;
    for headers in [
        &[][..],
        &[("Authorization", "Basic dXNlcjpwYXNz")],
        &[("X-Tenant-ID", "tenant1")],
    ] {
        let answer = send(&server, "GET", USERS, headers).await;
        assert_eq!(answer.problem(), (401, "unauthenticated"), "{headers:?}");
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"), "{headers:?}");
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_with_the_reason() {
    let server = start(&public_key()).await;
    let key = rsa(RSA);
    let token = |changes| sign(Algorithm::RS256, None, &key, &changed(changes));
    let good = token(json!({}));
    assert_eq!(get(&server, &good).await.status, 200);

    let now = get_current_timestamp();
    let hs256 = EncodingKey::from_secret(RSA_PUBLIC.as_bytes());
    let encoded = |value: Value| {
        // The library signs what it encodes, so an unsigned part is cut from a signed token.
        let key = EncodingKey::from_secret(b"x");
        sign(Algorithm::HS256, None, &key, &value)
            .split('.')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    let unsigned = format!(
        "{}.{}.",
        encoded(json!({"alg": "none", "typ": "JWT"})),
        encoded(changed(json!({})))
    );
    let parts: Vec<&str> = good.split('.').collect();
    let tampered = format!(
        "{}.{}.{}",
        parts[0],
        encoded(changed(json!({"tenant": TENANT2.id}))),
        parts[2]
    );
    for (what, token, description) in [
        ("expired", token(json!({"exp": now - 60})), "has expired"),
        ("without an expiry", token(json!({"exp": null})), "`exp`"),
        ("not yet valid", token(json!({"nbf": now + 60})), "not valid yet"),
        (
            "wrong issuer",
            token(json!({"iss": "https://evil.example.com/"})),
            "another issuer",
        ),
        ("no issuer", token(json!({"iss": null})), "`iss`"),
        (
            "wrong audience",
            token(json!({"aud": ["https://other.example.com/"]})),
            "another audience",
        ),
        ("no audience", token(json!({"aud": null})), "`aud`"),
        ("alg none", unsigned, "algorithm"),
        (
            "HS256 with the public key",
            sign(Algorithm::HS256, None, &hs256, &changed(json!({}))),
            "algorithm",
        ),
        (
            "an algorithm that is not listed",
            sign(Algorithm::RS512, None, &key, &changed(json!({}))),
            "algorithm",
        ),
        (
            "another key",
            sign(Algorithm::RS256, None, &rsa(OTHER_RSA), &changed(json!({}))),
            "signature",
        ),
        ("tampered", tampered, "signature"),
        // One character less is never base64url; several less are, for one signature in sixteen, a
        // wrong signature.
        ("cut short", good[..good.len() - 1].to_owned(), "not a JWT"),
        ("no claim", token(json!({"tenant": null})), "no claim `tenant`"),
        ("a claim that is a number", token(json!({"tenant": 7})), "not a string"),
        (
            "a claim that is a list",
            token(json!({"tenant": ["tenant1"]})),
            "not a string",
        ),
        (
            "no token",
            "x".to_owned(),
            "not a JWT signed with a supported algorithm",
        ),
    ] {
        assert_refused(&server, what, &token, description).await;
    }
    // The token is valid, but the name in it is not a tenant id.
    for malformed in ["../tenant1", "Tenant1", "", "a/b"] {
        let answer = get(&server, &token(json!({"tenant": malformed}))).await;
        assert_eq!(answer.problem(), (400, "tenant_malformed"), "{malformed:?}");
    }
    assert_eq!(
        get(&server, &token(json!({"tenant": "nobody"}))).await.problem(),
        (404, "tenant_unknown")
    );
}

#[tokio::test]
async fn two_tokens_in_one_request_are_refused() {
    let server = start(&public_key()).await;
    let token = |tenant| sign(Algorithm::RS256, None, &rsa(RSA), &changed(json!({"tenant": tenant})));
    let [first, second] = ["tenant1", "tenant2"].map(|tenant| format!("Bearer {}", token(tenant)));
    let answer = send(
        &server,
        "GET",
        USERS,
        &[("Authorization", &first), ("Authorization", &second)],
    )
    .await;
    assert_eq!(answer.problem(), (400, "tenant_malformed"));
}

/// Publishes the keys of every algorithm in [`PUBLISHED`].
struct KeyServer {
    url: String,
    task: JoinHandle<()>,
}

impl KeyServer {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let published = |algorithm| {
            let (id, key) = signing_key(algorithm);
            let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
            let members = jwk.as_object_mut().unwrap();
            members.insert("kid".to_owned(), json!(id));
            // One RSA key serves six algorithms.
            members.shift_remove("alg");
            jwk
        };
        let keys = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA].map(published);
        let body = json!({ "keys": keys }).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, task }
    }

    fn mapping(&self) -> String {
        format!("type: jwt\nissuer: {ISSUER}\njwks_url: {}\n", self.url)
    }
}

#[tokio::test]
async fn a_good_token_of_every_algorithm_is_accepted() {
    let issuer = KeyServer::start().await;
    let published = start(&issuer.mapping()).await;
    let secret = start(include_str!("configurations/jwt.yaml")).await;
    let algorithms = PUBLISHED.map(|algorithm| (&published, algorithm));
    let secrets = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512].map(|algorithm| (&secret, algorithm));
    for (server, algorithm) in algorithms.into_iter().chain(secrets) {
        for tenant in [TENANT1, TENANT2] {
            let (id, key) = signing_key(algorithm);
            let id = Some(id).filter(|id| !id.is_empty());
            let answer = get(server, &sign(algorithm, id, &key, &claims(json!(tenant.id)))).await;
            assert_eq!(answer.status, 200, "{algorithm:?}: {answer:?}");
            assert_eq!(answer.body["items"][0]["email"], tenant.sample_user(), "{algorithm:?}");
        }
    }
}

#[tokio::test]
async fn an_unpublished_key_is_refused_and_known_ones_stay_usable() {
    let issuer = KeyServer::start().await;
    let server = start(&issuer.mapping()).await;
    let good = sign(Algorithm::RS256, Some("rsa"), &rsa(RSA), &claims(json!("tenant1")));
    assert_eq!(get(&server, &good).await.status, 200);
    let unknown = sign(Algorithm::RS256, Some("unknown"), &rsa(RSA), &claims(json!("tenant1")));
    assert_refused(&server, "unknown kid", &unknown, "key").await;
    issuer.task.abort();
    assert!(issuer.task.await.unwrap_err().is_cancelled());
    assert_eq!(get(&server, &good).await.status, 200);
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_an_outage_and_no_refusal() {
    let issuer = KeyServer::start().await;
    issuer.task.abort();
    assert!(issuer.task.await.unwrap_err().is_cancelled());
    let mapping = format!("type: jwt\nissuer: {ISSUER}\njwks_url: {}\n", issuer.url);
    let server = server(&mapping, None).start().await.unwrap();
    let answer = get(
        &server,
        &sign(Algorithm::RS256, Some("rsa"), &rsa(RSA), &claims(json!("tenant1"))),
    )
    .await;
    assert_eq!(answer.problem(), (503, "provider_unavailable"), "{answer:?}");
    assert!(answer.header("Retry-After").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(answer.header("WWW-Authenticate").is_none());
}
