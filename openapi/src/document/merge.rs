//! Several documents of poem-openapi as one.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tenantry_core::BoxError;

use crate::{
    api_set::{Description, parse},
    operator::OPERATOR_SCHEME,
    tenant::TENANT_SCHEME,
};

/// Why several APIs cannot be served as one.
#[derive(Debug, thiserror::Error)]
pub enum ApiConflict {
    /// Two have the same operation.
    #[error("two APIs have an operation `{method} {path}`")]
    Operation {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// Two have the same path but for the names of its parameters.
    #[error("the paths `{first}` and `{second}` differ in nothing but the names of their parameters")]
    Path {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// Two operations have the same id.
    #[error("two operations have the id `{id}`")]
    OperationId {
        /// The id.
        id: String,
    },
    /// Two have different things of the same name.
    #[error("two APIs mean different things by the {kind} `{name}`")]
    Component {
        /// The kind of the repeated part.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The router cannot take a path.
    #[error("a path cannot be routed")]
    Route(#[source] BoxError),
    /// A document could not be read or written.
    #[error("the OpenAPI document cannot be written")]
    Unwritable(#[source] BoxError),
    /// A documentation page is not as this program knows it.
    #[error("the documentation page `{page}` cannot be made: its template has no `{part}`")]
    Page {
        /// Which page.
        page: &'static str,
        /// The part that was not found.
        part: String,
    },
}

impl ApiConflict {
    pub(crate) fn unwritable(error: impl Into<BoxError>) -> Self {
        Self::Unwritable(error.into())
    }
}

/// The combined parts of the documents.
#[derive(Default)]
pub(super) struct Merged {
    pub(super) paths: Vec<(String, Map<String, Value>)>,
    pub(super) schemas: Map<String, Value>,
    pub(super) security_schemes: Map<String, Value>,
    pub(super) tags: Vec<Value>,
    /// The index in `paths` of each path, without the names of its parameters.
    shapes: HashMap<String, usize>,
    operation_ids: HashMap<String, ()>,
}

pub(super) fn merge<'a>(descriptions: impl Iterator<Item = &'a Description>) -> Result<Merged, ApiConflict> {
    let mut merged = Merged::default();
    for description in descriptions {
        let mut spec = parse(&description.spec).map_err(ApiConflict::unwritable)?;
        for (path, methods) in take_object(&mut spec["paths"]) {
            merged.add_path(path, methods)?;
        }
        for tag in spec["tags"].as_array().into_iter().flatten() {
            if !merged.tags.iter().any(|known| known["name"] == tag["name"]) {
                merged.tags.push(tag.clone());
            }
        }
        let components = &mut spec["components"];
        add_components(&mut merged.schemas, take_object(&mut components["schemas"]), "schema")?;
        let mut schemes = take_object(&mut components["securitySchemes"]);
        schemes.retain(|name, _| name != TENANT_SCHEME && name != OPERATOR_SCHEME);
        add_components(&mut merged.security_schemes, schemes, "security scheme")?;
    }
    merged.schemas.sort_keys();
    // In the order of their operations: the tenants' operations come before the operators'.
    let mut tags = std::mem::take(&mut merged.tags);
    tags.sort_by_cached_key(|tag| {
        let mut operations = merged.paths.iter().flat_map(|(_, methods)| methods.values());
        operations
            .position(|operation| operation["tags"][0] == tag["name"])
            .unwrap_or(usize::MAX)
    });
    merged.tags = tags;
    Ok(merged)
}

fn take_object(value: &mut Value) -> Map<String, Value> {
    match value.take() {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn add_components(
    to: &mut Map<String, Value>,
    from: Map<String, Value>,
    kind: &'static str,
) -> Result<(), ApiConflict> {
    for (name, component) in from {
        match to.get(&name) {
            Some(known) if *known != component => return Err(ApiConflict::Component { kind, name }),
            Some(_) => {}
            None => {
                to.insert(name, component);
            }
        }
    }
    Ok(())
}

impl Merged {
    fn add_path(&mut self, path: String, mut methods: Value) -> Result<(), ApiConflict> {
        let shape = shape(&path);
        let at = *self.shapes.entry(shape).or_insert_with(|| {
            self.paths.push((path.clone(), Map::new()));
            self.paths.len() - 1
        });
        let (known, operations) = &mut self.paths[at];
        if *known != path {
            return Err(ApiConflict::Path {
                first: known.clone(),
                second: path,
            });
        }
        for (method, mut operation) in take_object(&mut methods) {
            if operations.contains_key(&method) {
                let method = method.to_uppercase();
                return Err(ApiConflict::Operation { method, path });
            }
            name_operation(&mut operation, &method, &path);
            let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
            if self.operation_ids.insert(id.clone(), ()).is_some() {
                return Err(ApiConflict::OperationId { id });
            }
            if operation["tags"][0] == "Other" && !self.tags.iter().any(|tag| tag["name"] == "Other") {
                self.tags.push(json!({"name": "Other"}));
            }
            operations.insert(method, operation);
        }
        Ok(())
    }
}

/// OpenAPI 3.0.3, paths object: templated paths of the same shape are the same path.
fn shape(path: &str) -> String {
    let segments = path
        .split('/')
        .map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// Gives an operation what a client generator needs and its author left out: an id, a summary, a
/// tag.
fn name_operation(operation: &mut Value, method: &str, path: &str) {
    if operation["operationId"].is_null() {
        let words = path
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty());
        let words = words.map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..]));
        operation["operationId"] = format!("{method}{}", words.collect::<String>()).into();
    }
    if operation["summary"].is_null() {
        operation["summary"] = operation["operationId"].clone();
    }
    if operation["tags"].is_null() {
        operation["tags"] = json!(["Other"]);
    }
}
