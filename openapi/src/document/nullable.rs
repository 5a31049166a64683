//! References that may be null. By OpenAPI 3.0.3, `nullable` adds null to the `type` beside it, so
//! beside a reference it allows nothing: the schema that is referred to must allow null itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::tidy::VALUES;

const SCHEMAS: &str = "#/components/schemas/";

/// Lets each schema be null that is referred to as one that may be. If it is referred to elsewhere
/// too, those references get a schema of their own.
pub(super) fn allow(document: &mut Value) {
    let (mut nullable, mut plain) = (BTreeSet::new(), BTreeSet::new());
    collect(document, &mut nullable, &mut plain);
    for name in &nullable {
        let Some(mut schema) = document["components"]["schemas"].get(name).cloned() else {
            continue;
        };
        // Without a type, `nullable` means nothing in it either.
        let Some(members) = schema.as_object_mut().filter(|members| members.contains_key("type")) else {
            continue;
        };
        members.insert("nullable".to_owned(), json!(true));
        if let Some(Value::Array(values)) = members.get_mut("enum") {
            values.push(json!(null));
        }
        let own_name = match plain.contains(name) {
            true => format!("Nullable{name}"),
            false => name.clone(),
        };
        document["components"]["schemas"][&own_name] = schema;
        if own_name != *name {
            refer(document, name, &own_name);
        }
    }
}

/// Collects the names of the schemas that are referred to, those that may be null apart.
fn collect(value: &Value, nullable: &mut BTreeSet<String>, plain: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(name) = referred(members) {
                nullable.insert(name.to_owned());
                return;
            }
            if let Some(name) = members.get("$ref").and_then(name_of) {
                plain.insert(name.to_owned());
            }
            let described = members.iter().filter(|(key, _)| !VALUES.contains(&key.as_str()));
            described.for_each(|(_, value)| collect(value, nullable, plain));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, nullable, plain)),
        _ => {}
    }
}

/// Lets references that may be null lead to another schema.
fn refer(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(members) => {
            if referred(members) == Some(from) {
                members.insert("allOf".to_owned(), json!([{"$ref": format!("{SCHEMAS}{to}")}]));
                return;
            }
            let described = members.iter_mut().filter(|(key, _)| !VALUES.contains(&key.as_str()));
            described.for_each(|(_, value)| refer(value, from, to));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, from, to)),
        _ => {}
    }
}

/// The name of the only schema in the `allOf` of one that may be null.
fn referred(members: &Map<String, Value>) -> Option<&str> {
    let [only] = members.get("allOf")?.as_array()?.as_slice() else {
        return None;
    };
    let is_nullable = members.get("nullable") == Some(&Value::Bool(true)) && !members.contains_key("type");
    name_of(only.get("$ref")?).filter(|_| is_nullable)
}

fn name_of(reference: &Value) -> Option<&str> {
    reference.as_str()?.strip_prefix(SCHEMAS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_that_may_be_null_leads_to_a_schema_that_may() {
        let nullable = |name: &str| json!({"nullable": true, "allOf": [{"$ref": format!("{SCHEMAS}{name}")}]});
        let mut document = json!({"components": {"schemas": {
            "Kind": {"type": "string", "enum": ["a"]},
            "Size": {"type": "object", "properties": {"kind": nullable("Kind")}},
            "Page": {"type": "object", "properties": {
                "size": nullable("Size"),
                "kind": {"allOf": [{"$ref": format!("{SCHEMAS}Kind")}]},
            }},
        }}});
        allow(&mut document);
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Kind"], json!({"type": "string", "enum": ["a"]}));
        let kind = json!({"type": "string", "enum": ["a", null], "nullable": true});
        assert_eq!(schemas["NullableKind"], kind);
        assert_eq!(schemas["Size"]["nullable"], true);
        assert_eq!(schemas["Size"]["properties"]["kind"], nullable("NullableKind"));
        assert_eq!(schemas["Page"]["properties"]["size"], nullable("Size"));
        assert_eq!(schemas["Page"]["nullable"], Value::Null);
    }
}
