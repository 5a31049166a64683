//! For each resolver: the document has exactly what a client needs, and a client that does what the
//! document says reaches its tenant.

use serde_json::{Value, json};
use tenantry_test_support::TenantryProcess;

use crate::{
    document_client::{DocumentClient, Way},
    http::{USERS, send, send_body},
    tenants::{TENANT1, TENANT2, Tenant, server, start},
};

/// The resolver's configuration here. `scripts/resolver_servers.py` reads the same files.
fn configuration(resolver: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resolvers/configurations");
    let file = format!("{folder}/{resolver}.yaml");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every resolver that the program has.
async fn resolvers() -> Vec<String> {
    let printed = server(&configuration("header"), None)
        .run(["plugins", "--json"])
        .await
        .unwrap();
    let plugins: Vec<Value> = serde_json::from_str(&printed.stdout).unwrap();
    let resolvers = plugins.iter().filter(|plugin| plugin["family"] == "resolver");
    resolvers
        .map(|plugin| plugin["type"].as_str().unwrap().to_owned())
        .collect()
}

/// What the document has for a resolver, its descriptions left out.
struct Shown {
    /// All security schemes but the operator's.
    schemes: Value,
    /// `security` of each tenant operation.
    security: Value,
    /// Parameters of each tenant operation that come with the resolver.
    parameters: Value,
    /// What comes before `/api/v1/tenant/` in the paths of tenant operations.
    prefix: &'static str,
    /// The document's servers.
    servers: Value,
    /// `servers` of each operation for operators.
    operator_servers: Value,
}

impl Shown {
    /// Nothing at all.
    fn nothing() -> Self {
        Self {
            schemes: json!({}),
            security: Value::Null,
            parameters: json!([]),
            prefix: "",
            servers: json!([{"url": "/"}]),
            operator_servers: Value::Null,
        }
    }

    fn scheme(name: &str, scheme: Value) -> Self {
        Self {
            schemes: json!({name: scheme}),
            security: json!([{name: []}]),
            ..Self::nothing()
        }
    }

    fn servers(servers: Value) -> Self {
        Self {
            servers,
            operator_servers: json!([{"url": "/"}]),
            ..Self::nothing()
        }
    }

    fn of(resolver: &str, port: u16) -> Self {
        let key = |place: &str, name: &str| json!({"type": "apiKey", "in": place, "name": name});
        let host = |host: &str| {
            json!({
                "url": format!("{{scheme}}://{host}{{port}}"),
                "variables": {"scheme": {"default": "http", "enum": ["http", "https"]}, "port": {"default": format!(":{port}")}},
            })
        };
        let mut subdomain = host("{tenant}.example.com");
        subdomain["variables"]["tenant"] = json!({"default": "tenant1"});
        let mut own_host = host("{host}");
        own_host["variables"]["host"] = json!({"default": "tenant1.example.com"});
        match resolver {
            "header" => Self::scheme("TenantHeader", key("header", "X-Tenant-ID")),
            "query" => Self::scheme("TenantQuery", key("query", "tenant")),
            "cookie" => Self::scheme("TenantCookie", key("cookie", "tenant")),
            "jwt" => Self::scheme(
                "TenantToken",
                json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}),
            ),
            "static" => Self::nothing(),
            "path" => Self {
                parameters: json!([{"name": "tenant", "in": "path", "required": true}]),
                prefix: "/t/{tenant}",
                ..Self::nothing()
            },
            "subdomain" => Self::servers(json!([subdomain])),
            "host" => Self::servers(json!([{"url": "/"}, own_host])),
            "chain" => Self {
                schemes: json!({"TenantHeader": key("header", "X-Tenant-ID"), "TenantQuery": key("query", "tenant")}),
                security: json!([{"TenantHeader": []}, {"TenantQuery": []}, {}]),
                ..Self::servers(json!([
                    {"url": "/"},
                    subdomain,
                    {"url": "/t/{tenant}", "variables": {"tenant": {"default": "tenant1"}}},
                ]))
            },
            other => panic!("{other} is not known"),
        }
    }
}

/// The same without parts that a client does not need: descriptions, examples, and the schemas of
/// parameters.
fn bare(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let left_out = ["description", "example", "schema"];
            let kept = members.iter().filter(|(name, _)| !left_out.contains(&name.as_str()));
            kept.map(|(name, value)| (name.clone(), bare(value))).collect()
        }
        Value::Array(items) => items.iter().map(bare).collect(),
        other => other.clone(),
    }
}

/// Everything that makes a tenant operation differ from one resolver to another.
fn assert_shown(document: &DocumentClient, resolver: &str, shown: &Shown) {
    let mut schemes = bare(&document.document["components"]["securitySchemes"]);
    let operator = schemes.as_object_mut().unwrap().shift_remove("Operator");
    assert_eq!(operator, Some(json!({"type": "http", "scheme": "bearer"})));
    assert_eq!(schemes, shown.schemes, "{resolver}");
    assert_eq!(bare(&document.document["servers"]), shown.servers, "{resolver}");
    assert!(document.document["security"].is_null());

    let (mut tenant_operations, mut others) = (0, 0);
    for (path, operation) in document.operations() {
        let place = format!("{resolver}: {}", operation["operationId"]);
        let Some((prefix, _)) = path.split_once("/api/v1/tenant/") else {
            let security = &operation["security"];
            assert!(security.is_null() || *security == json!([{"Operator": []}]), "{place}");
            let expected = if security.is_null() {
                &Value::Null
            } else {
                &shown.operator_servers
            };
            assert_eq!(bare(&operation["servers"]), *expected, "{place}");
            others += 1;
            continue;
        };
        assert_eq!(prefix, shown.prefix, "{place}");
        assert_eq!(bare(&operation["security"]), shown.security, "{place}");
        assert!(operation["servers"].is_null(), "{place}");
        let own = ["limit", "after", "id"];
        let of_the_resolver = |parameter: &&Value| !own.contains(&parameter["name"].as_str().unwrap());
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<Value> = parameters.filter(of_the_resolver).map(bare).collect();
        assert_eq!(json!(parameters), shown.parameters, "{place}");
        tenant_operations += 1;
    }
    assert_eq!(tenant_operations, 7, "{resolver}");
    assert!(others >= 11, "{resolver}");
}

/// The email addresses that `listUsers` answers with.
async fn emails(client: &DocumentClient, way: &Way, tenant: Tenant) -> Vec<String> {
    let answer = client.call("listUsers", way, tenant, None).await;
    let status = answer.status();
    let page: Value = answer.json().await.unwrap();
    assert_eq!(status, 200, "{way:?}: {page}");
    let items = page["items"].as_array().unwrap().iter();
    items.map(|user| user["email"].as_str().unwrap().to_owned()).collect()
}

async fn create(client: &DocumentClient, way: &Way, tenant: Tenant, email: &str) {
    let answer = client
        .call("createUser", way, tenant, Some(json!({"name": "Ada", "email": email})))
        .await;
    let status = answer.status();
    assert_eq!(status, 201, "{way:?}: {}", answer.text().await.unwrap());
}

/// In each of the document's ways, a user that one tenant creates is seen by that tenant and by no
/// other.
async fn assert_reached(client: &DocumentClient, resolver: &str, ways: usize) {
    let offered = client.ways("listUsers");
    assert_eq!(offered.len(), ways, "{resolver}: {offered:?}");
    for (index, way) in offered.iter().enumerate() {
        let email = format!("way{index}@example.com");
        create(client, way, TENANT1, &email).await;
        let of_first = emails(client, way, TENANT1).await;
        let of_second = emails(client, way, TENANT2).await;
        assert!(
            of_first.contains(&email) && of_first.contains(&TENANT1.sample_user()),
            "{resolver}: {of_first:?}"
        );
        assert_eq!(
            of_second.first(),
            Some(&TENANT2.sample_user()),
            "{resolver}: {of_second:?}"
        );
        assert!(
            of_second.iter().all(|other| !of_first.contains(other)),
            "{resolver}: {of_second:?}"
        );
    }
}

async fn started(resolver: &str) -> (TenantryProcess, DocumentClient) {
    let server = start(&configuration(resolver)).await;
    let client = DocumentClient::of(&server).await;
    assert_shown(&client, resolver, &Shown::of(resolver, server.port()));
    (server, client)
}

async fn shows_and_reaches(resolver: &str, ways: usize) {
    let (_server, client) = started(resolver).await;
    assert_reached(&client, resolver, ways).await;
}

#[tokio::test]
async fn a_client_reaches_its_tenant_by_the_documented_header() {
    shows_and_reaches("header", 1).await;
}

#[tokio::test]
async fn a_client_reaches_its_tenant_by_the_query_parameter() {
    shows_and_reaches("query", 1).await;
}

#[tokio::test]
async fn a_client_reaches_its_tenant_by_the_documented_cookie() {
    shows_and_reaches("cookie", 1).await;
}

#[tokio::test]
async fn a_client_reaches_its_tenant_by_the_documented_token() {
    shows_and_reaches("jwt", 1).await;
}

#[tokio::test]
async fn a_client_reaches_its_tenant_by_the_documented_path() {
    shows_and_reaches("path", 1).await;
}

#[tokio::test]
async fn a_client_reaches_its_tenant_by_the_documented_subdomain() {
    shows_and_reaches("subdomain", 1).await;
}

#[tokio::test]
async fn a_client_reaches_its_tenant_by_the_documented_host() {
    shows_and_reaches("host", 1).await;
}

/// Two schemes on the plain server; on each of the two servers that name the tenant, both schemes
/// and none.
#[tokio::test]
async fn a_client_reaches_its_tenant_by_a_chain() {
    shows_and_reaches("chain", 2 + 3 + 3).await;
}

#[tokio::test]
async fn a_client_reaches_the_static_tenant() {
    let data = tempfile::tempdir().unwrap();
    let under = |tenant: Tenant| {
        let mapping = configuration("static").replace(TENANT1.id, tenant.id);
        server(&mapping, Some(data.path())).start()
    };
    {
        let server = under(TENANT1).await.unwrap();
        let client = DocumentClient::of(&server).await;
        assert_shown(&client, "static", &Shown::of("static", server.port()));
        let ways = client.ways("listUsers");
        assert_eq!(ways.len(), 1);
        create(&client, &ways[0], TENANT1, "ada@example.com").await;
        assert!(
            emails(&client, &ways[0], TENANT1)
                .await
                .contains(&"ada@example.com".to_owned())
        );
    }
    // The same files, another tenant.
    let server = under(TENANT2).await.unwrap();
    let client = DocumentClient::of(&server).await;
    let emails = emails(&client, &client.ways("listUsers")[0], TENANT2).await;
    assert_eq!(emails.first(), Some(&TENANT2.sample_user()));
    assert!(!emails.contains(&"ada@example.com".to_owned()));
}

/// Whatever the resolver, operators' and anyone's operations are documented alike, but for the
/// server that they are sent to.
#[tokio::test]
async fn operations_for_operators_know_nothing_of_the_resolver() {
    let mut expected = None;
    for resolver in resolvers().await {
        let (server, client) = started(&resolver).await;
        let others = client
            .operations()
            .filter(|(path, _)| !path.contains("/api/v1/tenant/"));
        let others: Vec<(String, Value)> = others
            .map(|(path, operation)| {
                let mut operation = operation.clone();
                operation.as_object_mut().unwrap().shift_remove("servers");
                (path.to_owned(), operation)
            })
            .collect();
        assert!(others.len() >= 11);
        assert_eq!(*expected.get_or_insert_with(|| others.clone()), others, "{resolver}");
        let live = reqwest::get(format!("{}/health/live", server.base_url()))
            .await
            .unwrap();
        let cache = reqwest::get(format!("{}/health/cache", server.base_url()))
            .await
            .unwrap();
        assert_eq!(
            (live.status().as_u16(), cache.status().as_u16()),
            (200, 200),
            "{resolver}"
        );
    }
}

#[tokio::test]
async fn a_new_user_s_location_names_the_tenant_in_the_query() {
    let server = start(&configuration("query")).await;
    let user = json!({"name": "Ada", "email": "ada@example.com"}).to_string();
    let created = send_body(&server, "POST", &format!("{USERS}?tenant=tenant1"), &[], &user).await;
    assert_eq!(created.status, 201);
    let location = created.header("Location").unwrap();
    assert_eq!(location, format!("{USERS}/{}?tenant=tenant1", created.body["id"]));
    let found = send(&server, "GET", location, &[]).await;
    assert_eq!((found.status, &found.body), (200, &created.body));
}
