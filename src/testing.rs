//! Tests of a program of your own (feature `testing`): the real server on a free port, each tenant
//! with a SQLite database in a temporary folder.
//!
//! ```
//! use tenantry::{App, testing::TestApp};
//!
//! # #[tokio::main]
//! # async fn main() {
//! let server = TestApp::start(App::new(), ["acme", "globex"]).await;
//! let acme = server.tenant("acme");
//! let user = serde_json::json!({"name": "Jo", "email": "jo@acme.example"});
//! acme.post("/api/v1/tenant/users", &user).await.expect(201);
//! let users = acme.get("/api/v1/tenant/users").await.expect(200).json();
//! assert_eq!(users["items"][0]["name"], "Jo");
//! let none = server.tenant("globex").get("/api/v1/tenant/users").await.expect(200).json();
//! assert_eq!(none["items"], serde_json::json!([]));
//! server.stop().await;
//! # }
//! ```
//!
//! The server's log is part of a test's output, which `cargo test` shows if the test fails.
//!
//! A unit test needs no server: [`tenant_database`] makes a tenant's database of SeaORM's
//! `MockDatabase`, or of SQLite in memory.
//!
//! What goes wrong here ends the test: these functions panic and say why. A plugin of your own runs
//! the suite of its family, in [`conformance`](crate::conformance).

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry_core::engine::{TenantDatabase, Tenants};

pub use tenantry_core::tenant_database;

use crate::{App, RunningServer};

/// The file of the configuration, in the test's folder.
const FILE: &str = "config.yaml";

/// A server that runs for a test.
pub struct TestApp {
    server: RunningServer,
    client: reqwest::Client,
    folder: Arc<TempDir>,
}

impl TestApp {
    /// Starts `app` with these tenants, which requests name in the header `X-Tenant-ID`.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn start<'a>(app: App, tenants: impl IntoIterator<Item = &'a str>) -> Self {
        Self::start_with(app, tenants, "{}").await
    }

    /// As [`start`](Self::start), with more configuration in YAML: sections of your own, or another
    /// resolver. Its keys are put over those of the test, level by level.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn start_with<'a>(app: App, tenants: impl IntoIterator<Item = &'a str>, configuration: &str) -> Self {
        let secret = |id: &str| (id.to_owned(), json!({"type": "sqlite", "path": format!("{id}.db")}));
        let tenants: serde_json::Map<String, Value> = tenants.into_iter().map(secret).collect();
        let mut all = json!({
            "server": {"listen": "127.0.0.1:0"},
            "tenancy": {"resolver": {"type": "header"}, "provider": {"type": "static", "tenants": tenants}},
            "migrations": {"on_connect": true},
        });
        let own = serde_saphyr::from_str(configuration);
        merge(
            &mut all,
            own.unwrap_or_else(|error| panic!("the configuration is no YAML: {error}")),
        );
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        // JSON is YAML.
        if let Err(error) = std::fs::write(folder.path().join(FILE), all.to_string()) {
            panic!("the configuration cannot be written: {error}");
        }
        Self::start_in(app, Arc::new(folder)).await
    }

    /// Starts another instance of the program, with the same configuration and the same databases:
    /// to test what two instances do at once, such as a job that only one of them may run.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn start_another(&self, app: App) -> Self {
        Self::start_in(app, self.folder.clone()).await
    }

    async fn start_in(app: App, folder: Arc<TempDir>) -> Self {
        let server = match app.start(folder.path().join(FILE)).await {
            Ok(server) => server,
            Err(error) => panic!("the server does not start: {}", chain(&error)),
        };
        crate::telemetry::start_in_test();
        let client = reqwest::Client::builder().no_proxy().build();
        Self {
            server,
            client: client.unwrap_or_else(|error| panic!("no HTTP client: {error}")),
            folder,
        }
    }

    /// A client that sends requests for this tenant.
    pub fn tenant(&self, id: &str) -> TestClient {
        self.client().header("X-Tenant-ID", id)
    }

    /// A client that names no tenant: an operator, as it comes from this machine.
    pub fn client(&self) -> TestClient {
        TestClient {
            client: self.client.clone(),
            url: format!("http://{}", self.server.address()),
            headers: HeaderMap::new(),
        }
    }

    /// The tenants, as [`App::background`] gets them.
    pub fn tenants(&self) -> &Tenants {
        self.server.tenants()
    }

    /// A tenant's database, to check the effects of a request.
    ///
    /// # Panics
    /// It is not available.
    pub async fn database(&self, id: &str) -> TenantDatabase {
        let tenant = id
            .parse()
            .unwrap_or_else(|error| panic!("`{id}` is no tenant id: {error}"));
        match self.tenants().acquire(&tenant).await {
            Ok(database) => database,
            Err(error) => panic!("the database of `{id}` cannot be had: {}", chain(&error)),
        }
    }

    /// The folder of the configuration, `config.yaml`, and of the databases. It is deleted at the
    /// end.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Stops the server as SIGTERM does.
    ///
    /// # Panics
    /// Requests did not end in time.
    pub async fn stop(self) {
        if let Err(error) = self.server.stop().await {
            panic!("the server did not stop well: {}", chain(&error));
        }
    }
}

fn merge(into: &mut Value, over: Value) {
    match (into, over) {
        // A plugin of another type has other keys.
        (Value::Object(into), Value::Object(over)) if !over.contains_key("type") => {
            for (key, value) in over {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, over) => *into = over,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Sends requests to a [`TestApp`].
#[derive(Clone)]
pub struct TestClient {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
}

impl TestClient {
    /// Adds a header to each request.
    ///
    /// # Panics
    /// The header is not valid.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            panic!("`{name}` or its value cannot be in a header");
        };
        self.headers.insert(name, value);
        self
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    /// Sends a POST with a body of JSON.
    pub async fn post(&self, path: &str, body: &(impl Serialize + ?Sized)) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a PUT with a body of JSON.
    pub async fn put(&self, path: &str, body: &(impl Serialize + ?Sized)) -> Answer {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    /// Sends a PATCH with a body of JSON.
    pub async fn patch(&self, path: &str, body: &(impl Serialize + ?Sized)) -> Answer {
        answer(self.request(Method::PATCH, path).json(body)).await
    }

    /// Sends a POST with a body of this media type, such as `application/octet-stream`.
    pub async fn post_bytes(&self, path: &str, media_type: &str, body: impl Into<Bytes>) -> Answer {
        answer(self.bytes(Method::POST, path, media_type, body.into())).await
    }

    /// Sends a PUT with a body of this media type.
    pub async fn put_bytes(&self, path: &str, media_type: &str, body: impl Into<Bytes>) -> Answer {
        answer(self.bytes(Method::PUT, path, media_type, body.into())).await
    }

    fn bytes(&self, method: Method, path: &str, media_type: &str, body: Bytes) -> reqwest::RequestBuilder {
        let request = self.request(method, path);
        request.header(CONTENT_TYPE, media_type).body(body)
    }

    /// Sends a DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    /// A request of any other kind, such as one with `multipart/form-data`; [`answer`] sends it.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.headers(self.headers.clone())
    }
}

/// Sends a request and reads the whole answer.
///
/// # Panics
/// There is no answer, or its body ends early.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let read = async {
        let response = request.send().await?;
        Ok::<_, reqwest::Error>(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?,
        })
    };
    match read.await {
        Ok(answer) => answer,
        Err(error) => panic!("no whole answer: {}", chain(&error)),
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The answer, which must have this status.
    ///
    /// # Panics
    /// It has another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(
            self.status == status,
            "expected {status}, found {}: {}",
            self.status,
            self.text()
        );
        self
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("the body is no JSON ({error}): {}", self.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use poem::Request;
    use poem_openapi::{
        OpenApi,
        payload::{Binary, PlainText},
    };

    use super::*;

    /// Answers with what it was sent.
    struct Echo;

    fn echo(request: &Request, body: &[u8]) -> PlainText<String> {
        let content_type = request.content_type().unwrap_or("none");
        let tenant = request.header("X-Tenant-ID").unwrap_or("none");
        let text = format!("{} {tenant} {content_type} ", request.method());
        PlainText(text + &String::from_utf8_lossy(body))
    }

    #[OpenApi(prefix_path = "/echo")]
    impl Echo {
        #[oai(path = "/", method = "get", operation_id = "echoGet")]
        async fn get(&self, request: &Request) -> PlainText<String> {
            echo(request, b"")
        }

        #[oai(path = "/", method = "post", operation_id = "echoPost")]
        async fn post(&self, request: &Request, body: Binary<Vec<u8>>) -> PlainText<String> {
            echo(request, &body.0)
        }

        #[oai(path = "/", method = "put", operation_id = "echoPut")]
        async fn put(&self, request: &Request, body: Binary<Vec<u8>>) -> PlainText<String> {
            echo(request, &body.0)
        }

        #[oai(path = "/", method = "patch", operation_id = "echoPatch")]
        async fn patch(&self, request: &Request, body: Binary<Vec<u8>>) -> PlainText<String> {
            echo(request, &body.0)
        }

        #[oai(path = "/", method = "delete", operation_id = "echoDelete")]
        async fn delete(&self, request: &Request) -> PlainText<String> {
            echo(request, b"")
        }
    }

    #[tokio::test]
    async fn each_method_sends_its_own_request() {
        let server = TestApp::start(App::new().api(Echo), ["acme"]).await;
        let acme = server.tenant("acme");
        let (path, body) = ("/echo", json!({"n": 1}));
        let answers = [
            acme.get(path).await,
            acme.post(path, &body).await,
            acme.put(path, &body).await,
            acme.patch(path, &body).await,
            acme.post_bytes(path, "text/csv", "a,b").await,
            acme.put_bytes(path, "text/csv", "a,b").await,
            acme.delete(path).await,
        ];
        assert_eq!(
            answers.map(|answer| answer.expect(200).text()),
            [
                "GET acme none ",
                "POST acme application/json {\"n\":1}",
                "PUT acme application/json {\"n\":1}",
                "PATCH acme application/json {\"n\":1}",
                "POST acme text/csv a,b",
                "PUT acme text/csv a,b",
                "DELETE acme none ",
            ]
        );
        let other = server.client().header("X-Other", "1").get(path).await.expect(200);
        assert_eq!(other.text(), "GET none none ");
        server.stop().await;
    }
}
