//! A client that knows only the server's OpenAPI document, and of its tenant only what a user would
//! know.

use std::collections::BTreeMap;

use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use tenantry_test_support::TenantryProcess;

use crate::tenants::{TENANT1, TENANT2, Tenant};

/// The client, with the document that the server served.
pub(crate) struct DocumentClient {
    pub(crate) document: Value,
    /// The URL of the document, which relative servers are based on (OpenAPI 3.0.3, Server Object).
    origin: Url,
    http: Client,
}

/// One way to name the tenant that the document offers for an operation: a server, and the schemes
/// of one security requirement.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    server: Value,
    pub(crate) schemes: Vec<String>,
}

struct Operation<'a> {
    method: Method,
    path: &'a str,
    object: &'a Value,
}

impl DocumentClient {
    /// Fetches the document. Every host name that stands for a tenant leads to this machine, as its
    /// owner's DNS would have it.
    pub(crate) async fn of(server: &TenantryProcess) -> Self {
        let address = ([127, 0, 0, 1], server.port()).into();
        let hosts = [TENANT1, TENANT2].map(|tenant| [tenant.host.to_owned(), format!("{}.example.com", tenant.id)]);
        let mut http = Client::builder().no_proxy();
        for host in hosts.as_flattened() {
            http = http.resolve(host, address);
        }
        let http = http.build().unwrap();
        let origin = Url::parse(&server.base_url()).unwrap();
        let answer = http.get(origin.join("/openapi.json").unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Self {
            document: answer.json().await.unwrap(),
            origin,
            http,
        }
    }

    /// Every operation with its path.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&str, &Value)> {
        let paths = self.document["paths"].as_object().unwrap();
        paths.iter().flat_map(|(path, methods)| {
            let operations = methods.as_object().unwrap().values();
            operations.map(move |operation| (path.as_str(), operation))
        })
    }

    fn operation(&self, id: &str) -> Operation<'_> {
        let paths = self.document["paths"].as_object().unwrap();
        let mut found = paths.iter().flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().filter_map(move |(method, object)| {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                (object["operationId"] == id).then_some(Operation { method, path, object })
            })
        });
        let operation = found.next().unwrap();
        assert!(found.next().is_none(), "two operations are named {id}");
        operation
    }

    /// The ways in which a tenant can be named for an operation: every server with every
    /// requirement that name it between them.
    pub(crate) fn ways(&self, operation_id: &str) -> Vec<Way> {
        let operation = self.operation(operation_id);
        let listed = |here: &Value, above: &Value| -> Vec<Value> {
            let list = if here.is_null() { above } else { here };
            list.as_array().cloned().unwrap_or_default()
        };
        let servers = listed(&operation.object["servers"], &self.document["servers"]);
        let mut requirements = listed(&operation.object["security"], &self.document["security"]);
        if requirements.is_empty() {
            requirements.push(json!({}));
        }
        let mut ways = Vec::new();
        for server in &servers {
            for requirement in &requirements {
                ways.push(Way {
                    server: server.clone(),
                    schemes: requirement.as_object().unwrap().keys().cloned().collect(),
                });
            }
        }
        let names_by_url = |way: &Way| {
            let url = way.server["url"].as_str().unwrap();
            url.contains("{tenant}") || url.contains("{host}")
        };
        let is_offered =
            servers.len() > 1 || requirements.len() > 1 || !requirements[0].as_object().unwrap().is_empty();
        // If there is only one way, it is used even if it seems to name no tenant: a path
        // parameter, or a fixed tenant.
        ways.retain(|way| !is_offered || names_by_url(way) || !way.schemes.is_empty());
        ways
    }

    /// Calls an operation in one of its ways.
    pub(crate) async fn call(
        &self,
        operation_id: &str,
        way: &Way,
        tenant: Tenant,
        body: Option<Value>,
    ) -> reqwest::Response {
        let operation = self.operation(operation_id);
        let mut path = operation.path.to_owned();
        for parameter in operation.object["parameters"].as_array().into_iter().flatten() {
            if parameter["required"] == true {
                assert_eq!(
                    (&parameter["in"], &parameter["name"]),
                    (&json!("path"), &json!("tenant"))
                );
                path = path.replace("{tenant}", tenant.id);
            }
        }
        let mut url = Url::parse(&format!("{}{path}", self.server_url(&way.server, tenant))).unwrap();
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for name in &way.schemes {
            let scheme = &self.document["components"]["securitySchemes"][name];
            let text = |member: &str| scheme[member].as_str().unwrap();
            match (text("type"), scheme["in"].as_str()) {
                ("apiKey", Some("header")) => drop(headers.insert(text("name").to_owned(), tenant.id.to_owned())),
                ("apiKey", Some("cookie")) => {
                    drop(headers.insert("Cookie".to_owned(), format!("{}={}", text("name"), tenant.id)));
                }
                ("apiKey", Some("query")) => drop(url.query_pairs_mut().append_pair(text("name"), tenant.id)),
                ("http", None) => {
                    assert_eq!(text("scheme"), "bearer");
                    headers.insert("Authorization".to_owned(), format!("Bearer {}", tenant.token()));
                }
                other => panic!("{other:?}"),
            }
        }
        let mut request = self.http.request(operation.method, url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    /// A server's URL with its variables put in, less a slash at its end.
    fn server_url(&self, server: &Value, tenant: Tenant) -> String {
        let mut url = server["url"].as_str().unwrap().to_owned();
        for (name, variable) in server["variables"].as_object().into_iter().flatten() {
            let value = match name.as_str() {
                "tenant" => tenant.id,
                "host" => tenant.host,
                _ => variable["default"].as_str().unwrap(),
            };
            url = url.replace(&format!("{{{name}}}"), value);
        }
        let url = self.origin.join(&url).unwrap();
        url.as_str().trim_end_matches('/').to_owned()
    }
}
