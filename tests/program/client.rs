//! An HTTP client that checks of every answer what holds for every answer.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;
use tenantry_test_support::{CANARY, TenantryProcess};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long one answer may take; a test that waits longer has found a server that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A client of one server, for a tenant or as an operator.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    tenant: Option<String>,
    token: Option<String>,
}

impl Client {
    pub(crate) fn of(server: &TenantryProcess) -> Self {
        Self::at(server.base_url())
    }

    pub(crate) fn at(base: impl Into<String>) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none());
        Self::with(http.build().unwrap(), base)
    }

    pub(crate) fn with(http: reqwest::Client, base: impl Into<String>) -> Self {
        Self {
            http,
            base: base.into(),
            tenant: None,
            token: None,
        }
    }

    /// The same connections, for a tenant.
    pub(crate) fn tenant(&self, tenant: &str) -> Self {
        Self {
            tenant: Some(tenant.to_owned()),
            ..self.clone()
        }
    }

    /// The same connections, with an operator's token.
    pub(crate) fn token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(tenant) = &self.tenant {
            request = request.header("X-Tenant-ID", tenant);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// The counters of `/health/cache`.
    pub(crate) async fn cache(&self) -> Value {
        self.get("/health/cache").await.expect(200).json()
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Sends it. Every answer has a request id, and every error is a problem of RFC 9457, except for
/// the two health answers with a 503 of their own.
#[track_caller]
pub(crate) fn send(request: RequestBuilder) -> impl Future<Output = Answer> {
    let caller = std::panic::Location::caller();
    async move {
        let answer = match Answer::read(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("{caller}: no answer: {error:?}"),
        };
        assert!(
            !answer.header("x-request-id").is_empty(),
            "{caller}: an answer without an id: {answer:?}"
        );
        let own = answer.status == 503 && answer.header("content-type").starts_with("application/json");
        let problem = answer.header("content-type") == "application/problem+json";
        assert_eq!(answer.status >= 400 && !own, problem, "{caller}: {answer:?}");
        // No error repeats a secret, whatever the test is about.
        assert!(
            !problem || !answer.text().contains(CANARY),
            "{caller}: a secret is in {answer:?}"
        );
        answer
    }
}

impl Answer {
    pub(crate) async fn read(request: RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert!(self.header("content-type").starts_with("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The whole problem: every mandatory member, and the same status and id as the answer.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, "application/problem+json"),
            "{}",
            self.text()
        );
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for text in ["title", "detail"] {
            assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        for member in problem.as_object().unwrap().keys() {
            let known = ["type", "title", "status", "code", "detail", "request_id", "errors"];
            assert!(known.contains(&member.as_str()), "{problem}");
        }
        // What may have happened must not be repeated without a look.
        if code == "outcome_unknown" {
            assert!(!self.headers.contains_key("retry-after"), "{self:?}");
        } else if matches!(status, 429 | 503) {
            let seconds: u64 = self.header("retry-after").parse().unwrap();
            assert!(seconds >= 1, "{self:?}");
        }
        problem
    }

    /// The problem's faults: the place and the message of each.
    #[track_caller]
    pub(crate) fn faults(&self, code: &str) -> Vec<(String, String)> {
        let problem = self.problem(self.status, code);
        let faults = problem["errors"].as_array().cloned().unwrap_or_default();
        let place = |fault: &Value| {
            let place = fault["pointer"].as_str().or(fault["parameter"].as_str());
            (place.unwrap().to_owned(), fault["detail"].as_str().unwrap().to_owned())
        };
        faults.iter().map(place).collect()
    }
}

/// Sends a request just as it is written, which no client library would, and gives everything the
/// server says until it closes.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(LIMIT, exchange).await.unwrap()
}
