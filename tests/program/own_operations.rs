//! Operations of a program of one's own beside the built-in ones: on which listener each of them is
//! served, and that the document says so.

use poem_openapi::{OpenApi, payload::PlainText};
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::{App, Operator, RunningServer, Tenant};

use crate::client::{Client, send};

struct Jobs;

#[OpenApi]
impl Jobs {
    /// Run the jobs
    #[oai(path = "/jobs/run", method = "post", operation_id = "runJobs")]
    async fn run(&self, _operator: Operator) -> PlainText<String> {
        PlainText("run".to_owned())
    }

    /// Stop the jobs
    #[oai(path = "/jobs/stop", method = "post", hidden = true)]
    async fn stop(&self, _operator: Operator) -> PlainText<String> {
        PlainText("stopped".to_owned())
    }

    /// Run the jobs of a tenant
    #[oai(path = "/jobs/tenant", method = "post", operation_id = "runTenant")]
    async fn tenant(&self, _operator: Operator, tenant: Tenant) -> PlainText<String> {
        PlainText(tenant.tenant().to_string())
    }

    /// List a tenant's jobs
    #[oai(path = "/jobs/list", method = "post", operation_id = "listJobs")]
    async fn list(&self, tenant: Tenant) -> PlainText<String> {
        PlainText(tenant.tenant().to_string())
    }

    /// List a tenant's old jobs
    #[oai(path = "/jobs/old", method = "post", hidden = true)]
    async fn old(&self, tenant: Tenant) -> PlainText<String> {
        PlainText(tenant.tenant().to_string())
    }
}

struct OwnPage;

#[OpenApi]
impl OwnPage {
    /// Show an own page
    #[oai(path = "/admin", method = "get", operation_id = "getOwnPage")]
    async fn page(&self) -> PlainText<String> {
        PlainText("own".to_owned())
    }
}

struct Started {
    _folder: tempfile::TempDir,
    server: RunningServer,
    main: Client,
    /// The same as `main` if operators have no listener of their own.
    operators: Client,
}

/// A server with the tenant `acme`, which its clients name in the header, unless the resolver reads
/// another place.
async fn start(app: App, resolver: &str, is_apart: bool) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let apart = if is_apart {
        ", admin_listen: \"127.0.0.1:0\""
    } else {
        ""
    };
    let config = format!(
        "server: {{ listen: \"127.0.0.1:0\"{apart} }}\n\
         tenancy:\n  resolver: {{ type: {resolver} }}\n  \
         provider: {{ type: static, tenants: {{ acme: {{ type: sqlite, path: acme.db }} }} }}\n"
    );
    std::fs::write(&file, config).unwrap();
    let server = app.start(&file).await.unwrap();
    let client = |address| Client::at(format!("http://{address}")).tenant("acme");
    Started {
        _folder: folder,
        main: client(server.address()),
        operators: client(server.operator_address().unwrap_or(server.address())),
        server,
    }
}

async fn status(client: &Client, path: &str) -> u16 {
    client.post(path, &json!({})).await.status
}

#[tokio::test]
async fn an_own_operator_s_operation_is_where_operators_are() {
    for (resolver, is_apart) in [("header", false), ("header", true), ("path", false), ("path", true)] {
        let started = start(App::new().api(Jobs), resolver, is_apart).await;
        let (main, operators) = (&started.main, &started.operators);
        let at = format!("{resolver} {is_apart}");
        for path in ["/jobs/run", "/jobs/stop", "/admin/cache/clear"] {
            // What is hidden from the document is not known to be an operator's.
            let is_served = path != "/jobs/stop" || !is_apart;
            let expected = if is_served { 200 } else { 404 };
            assert_eq!(status(operators, path).await, expected, "{path} {at}");
            let on_main = if is_apart { 404 } else { 200 };
            assert_eq!(status(main, path).await, on_main, "{path} {at}");
            for client in [main, operators] {
                assert_eq!(status(client, &format!("/t/acme{path}")).await, 404, "{path} {at}");
            }
        }
        let prefix = if resolver == "path" { "/t/acme" } else { "" };
        for path in ["/jobs/list", "/jobs/old"] {
            assert_eq!(status(main, &format!("{prefix}{path}")).await, 200, "{path} {at}");
        }
        for path in ["/jobs/list", "/jobs/old"] {
            assert_eq!(status(operators, path).await == 404, is_apart, "{path} {at}");
        }
        started.server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_operation_for_a_tenant_and_an_operator_is_an_operator_s() {
    for (resolver, expected) in [("header", 200), ("path", 400)] {
        let started = start(App::new().api(Jobs), resolver, true).await;
        let path = "/jobs/tenant";
        assert_eq!(status(&started.operators, path).await, expected, "{resolver}");
        assert_eq!(status(&started.main, path).await, 404, "{resolver}");
        assert_eq!(
            status(&started.main, &format!("/t/acme{path}")).await,
            404,
            "{resolver}"
        );
        started.server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn each_operation_is_served_where_the_document_says() {
    for (resolver, is_apart) in [("header", false), ("header", true), ("path", false), ("path", true)] {
        let app = App::new().api(Jobs).api(OwnPage);
        let started = start(app, resolver, is_apart).await;
        let document = started.main.get("/openapi.json").await.expect(200).json();
        let mut of_operators = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            let path = path.replace("{tenant}", "acme").replace("{id}", "1");
            for (method, operation) in methods.as_object().unwrap() {
                let server: &Value = &operation["servers"][0]["description"];
                let client = match server == "The operators' listener." {
                    true => &started.operators,
                    false => &started.main,
                };
                of_operators += usize::from(server == "The operators' listener.");
                // No operation has this method, so the answer lists those that there are.
                let refused = send(client.request(Method::OPTIONS, &path)).await;
                let allowed = refused.header("allow").split(", ").collect::<Vec<_>>();
                let method = method.to_uppercase();
                assert!(
                    refused.status == 405 && allowed.contains(&method.as_str()),
                    "{method} {path} {resolver} {is_apart}"
                );
            }
        }
        assert_eq!(of_operators > 12, is_apart, "{of_operators}");
        started.server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_own_operation_at_the_fleet_page_s_path_is_served() {
    for is_apart in [false, true] {
        let started = start(App::new().api(OwnPage), "header", is_apart).await;
        assert_eq!(started.main.get("/admin").await.expect(200).text(), "own");
        let document = started.main.get("/openapi.json").await.expect(200).json();
        assert_eq!(document["paths"]["/admin"]["get"]["operationId"], "getOwnPage");
        let page = started.operators.get("/admin").await.expect(200);
        assert_eq!(page.header("content-type").starts_with("text/html"), is_apart);
        started.server.stop().await.unwrap();
    }
    let without = start(App::new(), "header", false).await;
    let page = without.main.get("/admin").await.expect(200);
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
    without.server.stop().await.unwrap();
}
