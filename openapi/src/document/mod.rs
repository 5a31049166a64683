//! Builds the OpenAPI document: combines the APIs' descriptions, and adds the configured resolver's
//! way to name a tenant.

mod answer_schemas;
mod answers;
mod location;
mod merge;
mod nullable;
mod tidy;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tenantry_core::{DEFAULT_TENANT_ID_PATTERN, TenantIdPattern, TenantLocation};

use crate::{api_set::Description, operator::OPERATOR_SCHEME, tenant::TENANT_SCHEME};

pub use location::Origin;
pub(crate) use location::{challenge_scheme, connect_sources, describe_location, describe_place, needs_credential};
pub use merge::ApiConflict;
pub(crate) use tidy::number as bound_integer;

/// The settings of the document.
#[derive(Debug, Clone)]
pub struct DocumentSettings {
    /// The title.
    pub title: String,
    /// The program's version.
    pub version: String,
    /// A sentence about the product. The document's description begins with it.
    pub description: Option<String>,
    /// How a client names its tenant.
    pub location: TenantLocation,
    /// Whether the resolver can refuse a request for a credential: tenants' operations may answer
    /// 401 then.
    pub authenticates: bool,
    /// The rule for tenant ids.
    pub id_pattern: TenantIdPattern,
    /// How a client reaches the server, for resolvers that read the host name.
    pub origin: Origin,
    /// The server for operators' operations if it differs from the others', such as
    /// `http://localhost:9090`.
    pub operator_server: Option<String>,
}

/// The finished document in both its forms.
#[derive(Debug, Clone)]
pub struct ApiDocument {
    json: Bytes,
    yaml: Bytes,
}

impl ApiDocument {
    /// The document as JSON.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The document as YAML.
    pub fn yaml(&self) -> &Bytes {
        &self.yaml
    }
}

/// What a client needs to use an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Tenant,
    Operator,
    Anyone,
}

/// Puts the document together. The APIs of `operators` are served on the operators' listener as a
/// whole.
pub(crate) fn build<'a>(
    settings: &DocumentSettings,
    descriptions: impl Iterator<Item = &'a Description>,
    operators: &'a [Description],
) -> Result<ApiDocument, ApiConflict> {
    let value = build_value(settings, descriptions, operators)?;
    let json = serde_json::to_vec_pretty(&value).map_err(ApiConflict::unwritable)?;
    let yaml = serde_saphyr::to_string(&value).map_err(ApiConflict::unwritable)?;
    Ok(ApiDocument {
        json: json.into(),
        yaml: yaml.into(),
    })
}

fn build_value<'a>(
    settings: &DocumentSettings,
    descriptions: impl Iterator<Item = &'a Description>,
    operators: &'a [Description],
) -> Result<Value, ApiConflict> {
    let mut merged = merge::merge(descriptions.chain(operators))?;
    let plan = location::plan(settings);
    let merged_paths = std::mem::take(&mut merged.paths);
    let paths = paths(settings, &plan, operators, merged_paths, &merged.schemas);
    for (name, scheme) in plan.schemes {
        merged.security_schemes.insert(name, scheme);
    }
    merged.security_schemes.insert(
        OPERATOR_SCHEME.to_owned(),
        json!({
            "type": "http", "scheme": "bearer",
            "description": "The operator's token, `admin.token` of the configuration. Without a configured token, requests from the server's own machine need none.",
        }),
    );
    let mut document = json!({
        "openapi": "3.0.3",
        "info": {
            "title": settings.title,
            "description": description(settings),
            "version": settings.version,
        },
        "servers": plan.servers,
        "tags": merged.tags,
        "paths": paths,
        "components": {
            "schemas": merged.schemas,
            "headers": answers::headers(),
            "securitySchemes": merged.security_schemes,
        },
    });
    tidy::tidy(&mut document, &id_pattern(&settings.id_pattern));
    answer_schemas::open(&mut document);
    nullable::allow(&mut document);
    Ok(document)
}

/// The paths with their operations as the configured resolver has them. A tenant's operation moves
/// below the prefix of a path resolver.
fn paths(
    settings: &DocumentSettings,
    plan: &location::Plan,
    operators: &[Description],
    merged: Vec<(String, Map<String, Value>)>,
    schemas: &Map<String, Value>,
) -> Map<String, Value> {
    let mut paths = Map::new();
    for (path, methods) in merged {
        let (mut moved, mut stays) = (Map::new(), Map::new());
        for (method, mut operation) in methods {
            let scope = scope_of(&operation);
            answers::complete(&mut operation, scope, settings, schemas);
            secure(&mut operation, plan);
            let is_built_in = operators.iter().any(|api| api.has(&method, &path));
            if let Some(server) = own_server(settings, plan, scope, is_built_in) {
                operation["servers"] = json!([server]);
            }
            if scope == Scope::Tenant && plan.path_parameter.is_some() {
                plan.add_path_parameter(&path, &mut operation);
                moved.insert(method, operation);
            } else {
                stays.insert(method, operation);
            }
        }
        for (path, operations) in [(plan.path_below(&path), moved), (path, stays)] {
            if !operations.is_empty() {
                paths.insert(path, Value::Object(operations));
            }
        }
    }
    paths
}

fn description(settings: &DocumentSettings) -> String {
    let own = settings.description.as_deref().map(|own| format!("{own}\n\n"));
    format!(
        "{}Each tenant's requests run on that tenant's own database. The tenant is named in {}.\n\nEvery error is a problem of RFC 9457; its \
         `code` identifies the kind of problem. Every answer has `X-Request-ID`.",
        own.unwrap_or_default(),
        describe_location(&settings.location)
    )
}

/// The pattern of tenant ids in JSON Schema's form, which is anchored only by `^` and `$`.
pub(crate) fn id_pattern(pattern: &TenantIdPattern) -> String {
    match pattern.pattern() {
        None => DEFAULT_TENANT_ID_PATTERN.to_owned(),
        Some(own) => format!("^(?:{own})$"),
    }
}

/// What a client needs to use an operation, by its description. An operation that takes a tenant
/// and an operator is served as an operator's.
pub(crate) fn scope_of(operation: &Value) -> Scope {
    if takes(operation, OPERATOR_SCHEME) {
        Scope::Operator
    } else if takes(operation, TENANT_SCHEME) {
        Scope::Tenant
    } else {
        Scope::Anyone
    }
}

/// Whether an operation's handler takes the extractor with this placeholder.
fn takes(operation: &Value, scheme: &str) -> bool {
    let security = operation["security"].as_array();
    security.is_some_and(|all| all.iter().any(|requirement| requirement.get(scheme).is_some()))
}

/// One way to satisfy the security of an operation: its schemes, and the scopes of each.
type Requirement = Map<String, Value>;

/// Replaces the extractors' placeholders by the schemes of the resolver and of operators.
/// poem-openapi lists an operation's schemes as alternatives, but a handler with several of them
/// needs all.
fn secure(operation: &mut Value, plan: &location::Plan) {
    let security = operation["security"].as_array().into_iter().flatten();
    let own: Vec<Requirement> = security
        .filter_map(Value::as_object)
        .filter(|requirement| !requirement.contains_key(TENANT_SCHEME) && !requirement.contains_key(OPERATOR_SCHEME))
        .cloned()
        .collect();
    let tenants = match takes(operation, TENANT_SCHEME) {
        true => plan.requirements(),
        false => Vec::new(),
    };
    let operators = match takes(operation, OPERATOR_SCHEME) {
        true => vec![Map::from_iter([(OPERATOR_SCHEME.to_owned(), json!([]))])],
        false => Vec::new(),
    };
    let lists = [tenants, operators, own].into_iter().filter(|list| !list.is_empty());
    let combined = lists.reduce(combine).unwrap_or_default();
    if let Some(members) = operation.as_object_mut() {
        members.shift_remove("security");
        if !combined.is_empty() {
            members.insert("security".to_owned(), json!(combined));
        }
    }
}

/// Every way to satisfy one requirement of each list.
fn combine(these: Vec<Requirement>, those: Vec<Requirement>) -> Vec<Requirement> {
    let with_each = |one: &Requirement| -> Vec<Requirement> {
        let both = |other: &Requirement| -> Requirement { one.clone().into_iter().chain(other.clone()).collect() };
        those.iter().map(both).collect()
    };
    these.iter().flat_map(with_each).collect()
}

/// The server of an operation that the document's servers do not serve. `is_built_in` says whether
/// it is of the built-in APIs that are served on the operators' listener as a whole.
fn own_server(settings: &DocumentSettings, plan: &location::Plan, scope: Scope, is_built_in: bool) -> Option<Value> {
    let is_operators = scope == Scope::Operator;
    let apart = |url: &String| json!({"url": url, "description": "The operators' listener."});
    match &settings.operator_server {
        // The probes are there too, although they are open to everyone.
        Some(url) => (is_operators || is_built_in).then(|| apart(url)),
        None => (is_operators && plan.names_tenant_in_server).then(|| json!({"url": "/"})),
    }
}

#[cfg(test)]
mod tests;
