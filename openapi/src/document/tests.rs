use std::{collections::BTreeSet, fs, path::Path};

use poem_openapi::{OpenApi, payload::Json};

use super::*;
use crate::{ApiSet, Operator, Tenant};

fn settings(location: TenantLocation) -> DocumentSettings {
    DocumentSettings {
        title: "tenantry".to_owned(),
        version: "0.1.0".to_owned(),
        description: None,
        authenticates: false,
        location,
        id_pattern: TenantIdPattern::default(),
        origin: Origin::default(),
        operator_server: None,
    }
}

fn header() -> TenantLocation {
    TenantLocation::Header {
        name: "X-Tenant-ID".to_owned(),
    }
}

fn query() -> TenantLocation {
    TenantLocation::Query {
        name: "tenant".to_owned(),
    }
}

fn bearer() -> TenantLocation {
    TenantLocation::Bearer {
        claim: "tenant".to_owned(),
    }
}

fn path() -> TenantLocation {
    TenantLocation::Path {
        prefix: "/t".to_owned(),
    }
}

fn subdomain() -> TenantLocation {
    TenantLocation::Subdomain {
        domain: "example.com".to_owned(),
    }
}

fn of(settings: &DocumentSettings) -> Value {
    let document = crate::document(settings, &ApiSet::new()).unwrap();
    serde_json::from_slice(document.json()).unwrap()
}

fn document(location: TenantLocation) -> Value {
    of(&settings(location))
}

/// Every operation: method, path, itself.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    });
    methods.collect()
}

fn list_users(document: &Value) -> &Value {
    let found = operations(document)
        .into_iter()
        .find(|(.., operation)| operation["operationId"] == "listUsers");
    found.unwrap().2
}

fn is_tenants(path: &str) -> bool {
    path.contains("/api/v1/tenant")
}

#[test]
fn the_document_is_the_one_in_the_repository() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let document = crate::document(&settings(header()), &ApiSet::new()).unwrap();
    let text = format!("{}\n", std::str::from_utf8(document.json()).unwrap());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    assert!(kept == text, "openapi.json differs; UPDATE_SNAPSHOTS=1 writes it anew");
}

#[test]
fn every_route_of_the_contract_is_there_under_its_name() {
    let document = document(header());
    let found: BTreeSet<String> = operations(&document)
        .into_iter()
        .map(|(method, path, operation)| format!("{} {method} {path}", operation["operationId"].as_str().unwrap()))
        .collect();
    let expected = [
        "clearCache post /admin/cache/clear",
        "closeTenantPool delete /admin/tenants/{id}/pool",
        "createUser post /api/v1/tenant/users",
        "deleteUser delete /api/v1/tenant/users/{id}",
        "getCacheHealth get /health/cache",
        "getLiveness get /health/live",
        "getMetrics get /metrics",
        "getReadiness get /health/ready",
        "getTenantHealth get /health/tenant/{id}",
        "getTenantInfo get /api/v1/tenant/info",
        "getTenantStats get /api/v1/tenant/stats",
        "getUser get /api/v1/tenant/users/{id}",
        "listTenantsHealth get /health/tenants",
        "listUsers get /api/v1/tenant/users",
        "refreshTenant post /admin/tenants/{id}/refresh",
        "resumeTenant post /admin/tenants/{id}/resume",
        "setLogLevel put /admin/log-level",
        "suspendTenant post /admin/tenants/{id}/suspend",
        "updateUser put /api/v1/tenant/users/{id}",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn every_operation_has_what_a_reader_and_a_generator_need() {
    let document = document(header());
    let tags: Vec<&Value> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| &tag["name"])
        .collect();
    for (method, path, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(
            operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()),
            "{at}"
        );
        assert!(tags.contains(&&operation["tags"][0]), "{at}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter.get("example").is_some(), "{at} {parameter}");
            assert!(parameter["description"].is_string(), "{at} {parameter}");
        }
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("500"), "{at}");
        for (status, response) in responses {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{at} {status}");
            assert!(response["headers"]["X-Request-ID"].is_object(), "{at} {status}");
            let content = response["content"].as_object();
            let is_error = status.parse::<u16>().unwrap() >= 400;
            let has_problem = content.is_some_and(|content| content.contains_key("application/problem+json"));
            assert!(
                has_problem == is_error || (path == "/health/ready" && status == "503"),
                "{at} {status}"
            );
            for (media_type, media) in content.into_iter().flatten() {
                let has_example = media.get("example").is_some() || media.get("examples").is_some();
                assert!(has_example || media_type == "text/plain", "{at} {status} {media_type}");
                assert!(!media_type.contains(';'), "{at} {media_type}");
            }
        }
    }
}

#[test]
fn tenants_and_operators_operations_list_their_errors() {
    let document = document(header());
    for (method, path, operation) in operations(&document) {
        let has = |status: &str| operation["responses"].get(status).is_some();
        if is_tenants(path) {
            for status in ["400", "403", "404", "429", "500", "503", "504"] {
                assert!(has(status), "{method} {path} {status}");
            }
            assert!(!has("401"), "{method} {path}");
            let has_body = matches!(method, "post" | "put");
            assert_eq!(has("413") && has("415") && has("409"), has_body, "{method} {path}");
        } else {
            let open = ["/health/live", "/health/ready"].contains(&path);
            assert_eq!(has("401"), !open, "{method} {path}");
            assert!(!has("429"), "{method} {path}");
        }
    }
}

#[test]
fn a_header_a_query_a_cookie_and_a_token_are_exactly_one_scheme() {
    let cookie = TenantLocation::Cookie {
        name: "tenant".to_owned(),
    };
    for (location, name, kind, place) in [
        (header(), "TenantHeader", "apiKey", json!("header")),
        (query(), "TenantQuery", "apiKey", json!("query")),
        (cookie, "TenantCookie", "apiKey", json!("cookie")),
        (bearer(), "TenantToken", "http", Value::Null),
    ] {
        let document = document(location);
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        assert_eq!(schemes.keys().collect::<Vec<_>>(), [name, "Operator"]);
        assert_eq!(schemes[name]["type"], kind);
        assert_eq!(schemes[name].get("in").cloned().unwrap_or_default(), place);
        for (method, path, operation) in operations(&document) {
            let expected = match path {
                "/health/live" | "/health/ready" => Value::Null,
                path if is_tenants(path) => json!([{name: []}]),
                _ => json!([{"Operator": []}]),
            };
            assert_eq!(
                operation.get("security").cloned().unwrap_or_default(),
                expected,
                "{method} {path}"
            );
        }
        assert_eq!(document["servers"], json!([{"url": "/"}]));
    }
}

#[test]
fn operations_with_a_token_document_401() {
    let document = document(bearer());
    let responses = &list_users(&document)["responses"];
    assert!(responses.get("401").is_some());
    let examples = &responses["400"]["content"]["application/problem+json"]["examples"];
    assert!(examples.get("tenant_missing").is_none());
    assert!(examples.get("request_invalid").is_some());
}

#[test]
fn only_tenants_operations_have_the_path_parameter() {
    let document = document(path());
    for (method, path, operation) in operations(&document) {
        assert_eq!(
            path.starts_with("/t/{tenant}/api/"),
            is_tenants(path),
            "{method} {path}"
        );
        let first = &operation["parameters"][0];
        assert_eq!(
            first["name"] == "tenant" && first["in"] == "path",
            is_tenants(path),
            "{method} {path}"
        );
        if is_tenants(path) {
            assert!(operation.get("security").is_none(), "{method} {path}");
            assert_eq!(first["schema"]["pattern"], DEFAULT_TENANT_ID_PATTERN);
        }
    }
}

#[test]
fn a_tenant_in_the_host_name_is_a_server() {
    let by_subdomain = document(subdomain());
    let server = &by_subdomain["servers"][0];
    assert_eq!(server["url"], "{scheme}://{tenant}.example.com{port}");
    assert_eq!(server["variables"]["tenant"]["default"], "tenant1");
    assert_eq!(server["variables"]["port"]["default"], ":8080");
    let by_host = document(TenantLocation::Host);
    assert_eq!(by_host["servers"][0]["url"], "/");
    assert_eq!(by_host["servers"][1]["url"], "{scheme}://{host}{port}");
    for document in [&by_subdomain, &by_host] {
        for (method, path, operation) in operations(document) {
            let is_operators = operation["security"] == json!([{"Operator": []}]);
            let own = operation.get("servers").cloned().unwrap_or_default();
            assert_eq!(
                own,
                if is_operators {
                    json!([{"url": "/"}])
                } else {
                    Value::Null
                },
                "{method} {path}"
            );
            assert!(
                !is_tenants(path) || operation.get("security").is_none(),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn a_fixed_tenant_needs_nothing() {
    let document = document(TenantLocation::Fixed);
    let operation = list_users(&document);
    assert!(operation.get("security").is_none());
    assert_eq!(operation["parameters"].as_array().unwrap().len(), 2);
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes.keys().collect::<Vec<_>>(), ["Operator"]);
}

#[test]
fn of_several_places_any_one_will_do() {
    let other_header = TenantLocation::Header {
        name: "X-Org".to_owned(),
    };
    let security = |location| list_users(&document(location))["security"].clone();
    assert_eq!(
        security(TenantLocation::AnyOf(vec![header(), bearer(), other_header])),
        json!([{"TenantHeader": []}, {"TenantToken": []}, {"TenantHeader2": []}])
    );
    let agreeing = document(TenantLocation::AllOf(vec![header(), bearer()]));
    let operation = list_users(&agreeing);
    assert_eq!(operation["security"], json!([{"TenantHeader": [], "TenantToken": []}]));
    let refusals = &operation["responses"]["403"]["content"]["application/problem+json"]["examples"];
    assert!(refusals.get("tenant_mismatch").is_some());

    let mixed = document(TenantLocation::AnyOf(vec![header(), subdomain(), path()]));
    let operation = list_users(&mixed);
    assert_eq!(operation["security"], json!([{"TenantHeader": []}, {}]));
    let servers = mixed["servers"].as_array().unwrap();
    let urls: Vec<&Value> = servers.iter().map(|server| &server["url"]).collect();
    assert_eq!(urls, ["/", "{scheme}://{tenant}.example.com{port}", "/t/{tenant}"]);
    let with_host = document(TenantLocation::AllOf(vec![subdomain(), bearer()]));
    assert_eq!(list_users(&with_host)["security"], json!([{"TenantToken": []}]));
    let servers: Vec<&Value> = with_host["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|server| &server["url"])
        .collect();
    assert_eq!(servers, ["{scheme}://{tenant}.example.com{port}"]);
    let either = TenantLocation::AnyOf(vec![header(), subdomain()]);
    assert_eq!(
        security(TenantLocation::AllOf(vec![either, bearer()])),
        json!([{"TenantHeader": [], "TenantToken": []}, {"TenantToken": []}])
    );
    let nested = TenantLocation::AnyOf(vec![TenantLocation::AnyOf(vec![header()]), header()]);
    assert_eq!(security(nested), json!([{"TenantHeader": []}]));
}

#[test]
fn operators_on_their_own_listener_have_its_server() {
    let mut settings = settings(header());
    settings.operator_server = Some("http://localhost:9090".to_owned());
    let document = of(&settings);
    // The probes are there too, although they are open to everyone.
    for path in ["/health/tenants", "/health/live"] {
        let operation = &document["paths"][path]["get"];
        assert_eq!(operation["servers"][0]["url"], "http://localhost:9090", "{path}");
    }
    assert!(list_users(&document).get("servers").is_none());
}

#[test]
fn a_configured_pattern_of_ids_is_the_document_s() {
    let mut settings = settings(path());
    settings.id_pattern = TenantIdPattern::new("T[0-9]+|x").unwrap();
    let document = of(&settings);
    assert_eq!(
        list_users(&document)["parameters"][0]["schema"]["pattern"],
        "^(?:T[0-9]+|x)$"
    );
    let text = document.to_string();
    assert!(!text.contains(DEFAULT_TENANT_ID_PATTERN) && !text.contains("tenant-id"));
}

#[test]
fn the_yaml_is_the_json() {
    let document = crate::document(&settings(header()), &ApiSet::new()).unwrap();
    let json: Value = serde_json::from_slice(document.json()).unwrap();
    let yaml: Value = serde_saphyr::from_str(std::str::from_utf8(document.yaml()).unwrap()).unwrap();
    assert_eq!(json, yaml);
}

/// Whether an object is described in this place, where a generator must make up a name such as
/// `InlineObject` for it.
fn has_unnamed_object(schema: &Value) -> bool {
    let members = schema.as_object().into_iter().flatten();
    schema.get("properties").is_some()
        || members
            .filter(|(key, _)| ["allOf", "anyOf", "oneOf", "items", "additionalProperties"].contains(&key.as_str()))
            .flat_map(|(_, value)| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice))
            .any(has_unnamed_object)
}

#[test]
fn every_object_has_a_name_that_generated_clients_can_take() {
    let document = document(header());
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert!(!has_unnamed_object(schema), "{name} {member}");
        }
    }
    for (method, path, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap().values();
        let parts = responses.chain(operation.get("requestBody"));
        for media in parts.filter_map(|part| part["content"].as_object()).flatten() {
            assert!(!has_unnamed_object(&media.1["schema"]), "{method} {path} {}", media.0);
        }
    }
}

#[test]
fn inputs_forbid_other_members_and_answers_allow_them() {
    let document = document(header());
    let input = &document["components"]["schemas"]["UserInput"];
    assert_eq!(input["additionalProperties"], false);
    assert!(input.get("maxProperties").is_none());
    let page = &document["components"]["schemas"]["UserPage"];
    assert_eq!(page["required"], json!(["items", "next"]));
    assert_eq!(page["properties"]["next"]["nullable"], true);
    for answer in ["Problem", "Fault", "TenantHealth", "User", "UserPage"] {
        assert_eq!(
            document["components"]["schemas"][answer]["additionalProperties"], true,
            "{answer}"
        );
    }
}

#[test]
fn integers_are_those_of_openapi() {
    let document = document(header());
    let properties = &document["components"]["schemas"]["Problem"]["properties"];
    assert_eq!(
        (&properties["status"]["format"], &properties["status"]["maximum"]),
        (&json!("int32"), &json!(599))
    );
    let text = document.to_string();
    assert!(!text.contains("\"uint") && !text.contains("\"int16\""));
    let set = ApiSet::new().with(Plain);
    let document = crate::document(&settings(header()), &set).unwrap();
    let document: Value = serde_json::from_slice(document.json()).unwrap();
    let content = &document["paths"]["/orders/{number}"]["get"]["responses"]["200"]["content"]["application/json"];
    let expected = json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 255});
    assert_eq!(content["schema"], expected);
}

struct Plain;

#[OpenApi]
impl Plain {
    #[oai(path = "/orders/:number", method = "get")]
    async fn get(&self, _tenant: Tenant) -> Json<u8> {
        Json(1)
    }
}

struct Same;

#[OpenApi]
impl Same {
    #[oai(path = "/orders/:number", method = "get", operation_id = "other")]
    async fn get(&self) -> Json<u8> {
        Json(2)
    }
}

struct OtherName;

#[OpenApi]
impl OtherName {
    #[oai(path = "/orders/:id", method = "put")]
    async fn get(&self) -> Json<u8> {
        Json(2)
    }
}

struct SameId;

#[OpenApi]
impl SameId {
    #[oai(path = "/others", method = "get", operation_id = "listUsers")]
    async fn get(&self) -> Json<u8> {
        Json(2)
    }
}

#[test]
fn an_api_of_ones_own_is_described_with_the_others() {
    let document = crate::document(&settings(header()), &ApiSet::new().with(Plain)).unwrap();
    let document: Value = serde_json::from_slice(document.json()).unwrap();
    let operation = &document["paths"]["/orders/{number}"]["get"];
    assert_eq!(operation["operationId"], "getOrdersNumber");
    assert_eq!(operation["tags"], json!(["Other"]));
    assert_eq!(operation["security"], json!([{"TenantHeader": []}]));
    assert!(operation["responses"].get("429").is_some());
}

struct ForBoth;

#[OpenApi]
impl ForBoth {
    #[oai(path = "/orders/:number", method = "delete")]
    async fn delete(&self, _operator: Operator, _tenant: Tenant) -> Json<u8> {
        Json(1)
    }
}

struct Hidden;

#[OpenApi]
impl Hidden {
    #[oai(path = "/metrics", method = "get", hidden = true)]
    async fn get(&self) -> Json<u8> {
        Json(1)
    }
}

#[test]
fn an_operation_for_both_needs_a_tenant_and_an_operator() {
    for (location, expected) in [
        (header(), json!([{"TenantHeader": [], "Operator": []}])),
        (path(), json!([{"Operator": []}])),
    ] {
        let set = ApiSet::new().with(ForBoth);
        let document = crate::document(&settings(location), &set).unwrap();
        let document: Value = serde_json::from_slice(document.json()).unwrap();
        let operation = &document["paths"]["/orders/{number}"]["delete"];
        assert_eq!(operation["security"], expected);
        let has = |status: &str| operation["responses"].get(status).is_some();
        assert!(has("401") && has("429"), "{operation}");
    }
}

#[test]
fn apis_that_contradict_each_other_are_refused() {
    let refusal = |set: ApiSet| crate::document(&settings(header()), &set).unwrap_err().to_string();
    let set = || ApiSet::new().with(Plain);
    assert_eq!(
        refusal(set().with(Same)),
        "two APIs have an operation `GET /orders/{number}`"
    );
    assert_eq!(
        refusal(set().with(OtherName)),
        "the paths `/orders/{number}` and `/orders/{id}` differ in nothing but the names of their parameters"
    );
    assert_eq!(refusal(set().with(SameId)), "two operations have the id `listUsers`");
    let hidden = refusal(ApiSet::new().with(Hidden));
    assert_eq!(hidden, "two APIs have an operation `GET /metrics`");
}
