//! Rewrites parts of poem-openapi's document that client generators misread. The meaning of the
//! document does not change.

use serde_json::{Map, Value, json};

use crate::operator_input::TENANT_ID_FORMAT;

/// Tidies the whole document; `id_pattern` is the rule for tenant ids.
pub(super) fn tidy(document: &mut Value, id_pattern: &str) {
    walk(document, id_pattern);
    let schemas = document["components"]["schemas"].clone();
    for operation in operations(document) {
        for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
            let example = parameter["schema"]["example"].clone();
            if !example.is_null() {
                parameter["example"] = example;
            }
        }
        add_examples(&mut operation["requestBody"], &schemas);
        for response in operation["responses"]
            .as_object_mut()
            .into_iter()
            .flat_map(Map::values_mut)
        {
            add_examples(response, &schemas);
        }
        // The lookup above inserts a null if there were none.
        if let Some(members) = operation.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
    }
}

pub(super) fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut)
}

/// Copies a schema's example beside the content, since generators and pages look for it there.
fn add_examples(body: &mut Value, schemas: &Value) {
    let Some(content) = body.get_mut("content").and_then(Value::as_object_mut) else {
        return;
    };
    for media in content.values_mut() {
        let name = media["schema"]["$ref"]
            .as_str()
            .and_then(|path| path.rsplit('/').next());
        let example = name.map(|name| schemas[name]["example"].clone());
        let has_own = media.get("examples").is_some() || media.get("example").is_some();
        if let Some(example) = example.filter(|example| !example.is_null() && !has_own) {
            media["example"] = example;
        }
    }
}

/// Keys below which there are values of the interfaces, not descriptions.
pub(super) const VALUES: [&str; 4] = ["default", "enum", "example", "examples"];

fn walk(value: &mut Value, id_pattern: &str) {
    match value {
        Value::Object(members) => {
            tidy_object(members, id_pattern);
            let schemas = members.iter_mut().filter(|(key, _)| !VALUES.contains(&key.as_str()));
            schemas.for_each(|(_, value)| walk(value, id_pattern));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| walk(value, id_pattern)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn tidy_object(members: &mut Map<String, Value>, id_pattern: &str) {
    if members.get("deprecated") == Some(&Value::Bool(false)) {
        members.shift_remove("deprecated");
    }
    if members.get("format").is_some_and(|format| format == TENANT_ID_FORMAT) {
        members.shift_remove("format");
        members.insert("pattern".to_owned(), id_pattern.into());
    }
    // `explode` means something for arrays and objects alone.
    let is_primitive = members.get("schema").is_some_and(|schema| {
        let kind = schema["type"].as_str();
        kind.is_some_and(|kind| !matches!(kind, "array" | "object"))
    });
    if is_primitive {
        members.shift_remove("explode");
    }
    number(members);
    unrepeat(members);
    close(members);
    if let Some(Value::Object(content)) = members.get_mut("content") {
        // The parameters of a media type are no part of its name here.
        *content = std::mem::take(content)
            .into_iter()
            .map(|(name, media)| (name.split(';').next().unwrap_or_default().trim().to_owned(), media))
            .collect();
    }
}

/// Replaces Rust's own integer formats by OpenAPI's with explicit bounds, and writes bounds of
/// integers as integers. Generators take an unknown format for 32 bits, and `200.0` for a number
/// with a fraction.
pub(crate) fn number(members: &mut Map<String, Value>) {
    if members.get("type").is_none_or(|kind| kind != "integer") {
        return;
    }
    let (format, least, most) = match members.get("format").and_then(Value::as_str) {
        Some("int8") => ("int32", Some(i64::from(i8::MIN)), Some(i64::from(i8::MAX))),
        Some("int16") => ("int32", Some(i64::from(i16::MIN)), Some(i64::from(i16::MAX))),
        Some("uint8") => ("int32", Some(0), Some(i64::from(u8::MAX))),
        Some("uint16") => ("int32", Some(0), Some(i64::from(u16::MAX))),
        Some("uint32") => ("int64", Some(0), Some(i64::from(u32::MAX))),
        Some("uint64" | "uint") => ("int64", Some(0), None),
        Some("int64" | "int") => ("int64", None, None),
        _ => ("int32", None, None),
    };
    if members.contains_key("format") {
        members.insert("format".to_owned(), format.into());
    }
    for (bound, value) in [("minimum", least), ("maximum", most)] {
        if let Some(value) = value {
            members.entry(bound).or_insert(json!(value));
        }
    }
    for bound in ["minimum", "maximum", "multipleOf"] {
        if let Some(whole) = members.get(bound).and_then(whole) {
            members.insert(bound.to_owned(), json!(whole));
        }
    }
}

/// A number without a fraction, if `f64` represents it exactly.
fn whole(number: &Value) -> Option<i64> {
    let number = number
        .as_f64()
        .filter(|number| number.fract() == 0.0 && number.abs() < 9.0e15)?;
    // The check above guarantees that it fits and has no fraction.
    Some(number as i64)
}

/// Removes a repeated description: for a reference with its own description, poem-openapi writes it
/// beside the `allOf` and again inside.
fn unrepeat(members: &mut Map<String, Value>) {
    let repeated = match members.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([reference, Value::Object(extra)]) => {
            let same = extra.iter().all(|(key, value)| members.get(key) == Some(value));
            (same && reference.get("$ref").is_some()).then(|| reference.clone())
        }
        _ => None,
    };
    if let Some(reference) = repeated {
        members.insert("allOf".to_owned(), json!([reference]));
    }
}

/// An object that may have as many members as it must have, all of them known, may have no others:
/// poem-openapi cannot say so.
fn close(members: &mut Map<String, Value>) {
    let Some(most) = members.get("maxProperties").and_then(Value::as_u64) else {
        return;
    };
    let count = |key: &str| match members.get(key) {
        Some(Value::Array(items)) => items.len() as u64,
        Some(Value::Object(members)) => members.len() as u64,
        _ => 0,
    };
    if count("required") == most && count("properties") == most {
        members.shift_remove("maxProperties");
        members.insert("additionalProperties".to_owned(), json!(false));
    }
}
