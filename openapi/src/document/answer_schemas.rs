//! Allows unknown members in the schemas of answers.
//!
//! A later version may add a member to an answer, which must not break generated clients. A client
//! must also ignore unknown members of a problem (RFC 9457 §3.2). OpenAPI 3.0.3 allows other
//! members if `additionalProperties` is absent, but generated clients for Go and Java then reject
//! them, so the document allows them explicitly.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::tidy::{VALUES, operations};

const SCHEMAS: &str = "#/components/schemas/";

/// Allows other members in every object that the document has for answers alone.
pub(super) fn open(document: &mut Value) {
    let mut answers = BTreeSet::new();
    let mut inputs = BTreeSet::new();
    for operation in operations(document) {
        references(&operation["responses"], &mut answers);
        references(&operation["requestBody"], &mut inputs);
        references(&operation["parameters"], &mut inputs);
    }
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else {
        return;
    };
    let inputs = closure(schemas, inputs);
    for name in closure(schemas, answers).difference(&inputs) {
        if let Some(Value::Object(schema)) = schemas.get_mut(name)
            && schema.contains_key("properties")
        {
            schema.entry("additionalProperties").or_insert(json!(true));
        }
    }
}

/// The names of the schemas that a part of the document refers to.
fn references(part: &Value, found: &mut BTreeSet<String>) {
    match part {
        Value::Object(members) => {
            let name = members.get("$ref").and_then(Value::as_str);
            found.extend(name.and_then(|name| name.strip_prefix(SCHEMAS)).map(ToOwned::to_owned));
            let parts = members.iter().filter(|(key, _)| !VALUES.contains(&key.as_str()));
            parts.for_each(|(_, part)| references(part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| references(part, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// These schemas and those that they refer to, however indirectly.
fn closure(schemas: &Map<String, Value>, mut new: BTreeSet<String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    while let Some(name) = new.pop_first() {
        let mut referred = BTreeSet::new();
        schemas
            .get(&name)
            .iter()
            .for_each(|schema| references(schema, &mut referred));
        all.insert(name);
        new.extend(referred.into_iter().filter(|name| !all.contains(name)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(properties: Value) -> Value {
        json!({"type": "object", "properties": properties})
    }

    fn content(name: &str) -> Value {
        json!({"content": {"application/json": {"schema": {"$ref": format!("{SCHEMAS}{name}")}}}})
    }

    #[test]
    fn only_objects_of_answers_allow_other_members() {
        let mut document = json!({
            "paths": {"/orders": {"put": {
                "requestBody": content("OrderInput"),
                "responses": {"200": content("Order")},
            }}},
            "components": {"schemas": {
                "OrderInput": object(json!({"address": {"$ref": "#/components/schemas/Address"}})),
                "Order": object(json!({
                    "address": {"$ref": "#/components/schemas/Address"},
                    "lines": {"type": "array", "items": {"$ref": "#/components/schemas/Line"}},
                    "state": {"$ref": "#/components/schemas/State"},
                    "labels": {"$ref": "#/components/schemas/Labels"},
                })),
                "Address": object(json!({})),
                "Line": object(json!({"replaces": {"$ref": "#/components/schemas/Line"}})),
                "State": {"type": "string", "enum": ["open", "closed"]},
                "Labels": {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
                "Unused": object(json!({})),
            }},
        });
        let before = document.clone();
        open(&mut document);
        let mut expected = before;
        for name in ["Order", "Line"] {
            expected["components"]["schemas"][name]["additionalProperties"] = json!(true);
        }
        assert_eq!(document, expected);
    }
}
