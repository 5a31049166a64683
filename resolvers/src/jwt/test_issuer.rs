//! An issuer for tests: it signs tokens, and serves its keys over HTTP.

use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};

pub(super) const RSA: &str = include_str!("../../tests/keys/rsa.private.pem");
pub(super) const RSA_PUBLIC: &str = include_str!("../../tests/keys/rsa.public.pem");
pub(super) const OTHER_RSA: &str = include_str!("../../tests/keys/rsa_other.private.pem");
pub(super) const EC256: &str = include_str!("../../tests/keys/ec256.private.pem");
pub(super) const EC256_PUBLIC: &str = include_str!("../../tests/keys/ec256.public.pem");
pub(super) const EC384: &str = include_str!("../../tests/keys/ec384.private.pem");
pub(super) const EC384_PUBLIC: &str = include_str!("../../tests/keys/ec384.public.pem");
pub(super) const ED25519: &str = include_str!("../../tests/keys/ed25519.private.pem");
pub(super) const ED25519_PUBLIC: &str = include_str!("../../tests/keys/ed25519.public.pem");
pub(super) const SECRET: &str = "a secret of more than thirty-two bytes";

pub(super) fn rsa(pem: &str) -> EncodingKey {
    EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
}

/// The key that signs with this algorithm.
pub(super) fn signing_key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => EncodingKey::from_secret(SECRET.as_bytes()),
        Algorithm::ES256 => EncodingKey::from_ec_pem(EC256.as_bytes()).unwrap(),
        Algorithm::ES384 => EncodingKey::from_ec_pem(EC384.as_bytes()).unwrap(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap(),
        _ => rsa(RSA),
    }
}

/// A time so many seconds from now, negative for the past.
pub(super) fn seconds_from_now(seconds: i64) -> i64 {
    i64::try_from(get_current_timestamp()).unwrap() + seconds
}

/// The claims of a token for `tenant` that is good for an hour, with these changed; `null` takes
/// one out.
pub(super) fn claims(tenant: impl Into<Value>, changes: Value) -> Value {
    let mut claims = json!({"tenant": tenant.into(), "exp": seconds_from_now(3600)});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

pub(super) fn sign(algorithm: Algorithm, key_id: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = key_id.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// The JWK Set entry of a key that signs with this algorithm, with these members changed; `null`
/// takes one out.
pub(super) fn published(key_id: &str, algorithm: Algorithm, key: &EncodingKey, changes: Value) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
    jwk["kid"] = json!(key_id);
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    jwk
}

/// The HTTP server that has the issuer's keys.
pub(super) struct KeyServer {
    pub(super) url: String,
    answer: Arc<Mutex<String>>,
    requests: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl KeyServer {
    pub(super) async fn start(keys: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(String::new()));
        let (count, requests) = watch::channel(0);
        let served = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
                count.send_modify(|count| *count += 1);
                let answer = served.lock().unwrap().clone();
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        let server = Self {
            url,
            answer,
            requests,
            task,
        };
        server.publish(keys);
        server
    }

    pub(super) fn publish(&self, keys: Vec<Value>) {
        self.answer("200 OK", "", &json!({ "keys": keys }).to_string());
    }

    pub(super) fn answer(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}");
    }

    /// How many requests there have been.
    pub(super) fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    pub(super) async fn wait_for_requests(&mut self, count: usize) {
        let waited = self.requests.wait_for(|requests| *requests >= count);
        tokio::time::timeout(std::time::Duration::from_secs(30), waited)
            .await
            .unwrap()
            .unwrap();
    }

    pub(super) async fn stop(self) -> usize {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        *self.requests.borrow()
    }
}
