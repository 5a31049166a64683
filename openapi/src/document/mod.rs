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
enum Scope {
    Tenant,
    Operator,
    Anyone,
}

/// Puts the document together.
pub(crate) fn build<'a>(
    settings: &DocumentSettings,
    descriptions: impl Iterator<Item = &'a Description>,
) -> Result<ApiDocument, ApiConflict> {
    let value = build_value(settings, descriptions)?;
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
) -> Result<Value, ApiConflict> {
    let mut merged = merge::merge(descriptions)?;
    let plan = location::plan(settings);
    let paths = paths(settings, &plan, std::mem::take(&mut merged.paths), &merged.schemas);
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
    merged: Vec<(String, Map<String, Value>)>,
    schemas: &Map<String, Value>,
) -> Map<String, Value> {
    let mut paths = Map::new();
    for (path, methods) in merged {
        let (mut moved, mut stays) = (Map::new(), Map::new());
        for (method, mut operation) in methods {
            let scope = scope_of(&operation);
            answers::complete(&mut operation, scope, settings, schemas);
            secure(&mut operation, scope, plan);
            if scope == Scope::Operator
                && let Some(server) = operator_server(settings, plan)
            {
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

fn scope_of(operation: &Value) -> Scope {
    let marked = |scheme| {
        let security = operation["security"].as_array();
        security.is_some_and(|all| all.iter().any(|requirement| requirement.get(scheme).is_some()))
    };
    if marked(TENANT_SCHEME) {
        Scope::Tenant
    } else if marked(OPERATOR_SCHEME) {
        Scope::Operator
    } else {
        Scope::Anyone
    }
}

/// Replaces the extractor's placeholder by the resolver's schemes. poem-openapi lists an
/// operation's schemes as alternatives, but a handler with two of them needs both.
fn secure(operation: &mut Value, scope: Scope, plan: &location::Plan) {
    let own: Vec<Map<String, Value>> = operation["security"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .filter(|requirement| !requirement.contains_key(TENANT_SCHEME) && !requirement.contains_key(OPERATOR_SCHEME))
        .cloned()
        .collect();
    let marks: Vec<Map<String, Value>> = match scope {
        Scope::Tenant => plan.requirements(),
        Scope::Operator => vec![Map::from_iter([(OPERATOR_SCHEME.to_owned(), json!([]))])],
        Scope::Anyone => Vec::new(),
    };
    let combined = match (marks.is_empty(), own.is_empty()) {
        (true, _) => own,
        (false, true) => marks,
        (false, false) => marks
            .iter()
            .flat_map(|mark| {
                own.iter()
                    .map(|own| mark.clone().into_iter().chain(own.clone()).collect())
            })
            .collect(),
    };
    if let Some(members) = operation.as_object_mut() {
        members.shift_remove("security");
        if !combined.is_empty() {
            members.insert("security".to_owned(), json!(combined));
        }
    }
}

/// The server of operators' operations, unless it is the document's first.
fn operator_server(settings: &DocumentSettings, plan: &location::Plan) -> Option<Value> {
    match &settings.operator_server {
        Some(url) => Some(json!({"url": url, "description": "The operators' listener."})),
        None => plan.names_tenant_in_server.then(|| json!({"url": "/"})),
    }
}

#[cfg(test)]
mod tests;
