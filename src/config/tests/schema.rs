use serde_json::{Value, json};

use super::{super::validate::validator, *};
use crate::config::{SHIPPED, schema};

fn read(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).expect("YAML")
}

#[test]
fn an_editor_accepts_the_shipped_file_and_refuses_a_typo() {
    let schema = schema(&registry());
    // As an editor does it, which knows none of our own forms.
    let validator = jsonschema::validator_for(&schema).unwrap();
    let shipped = read(SHIPPED);
    let faults: Vec<String> = validator.iter_errors(&shipped).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    for (pointer, value) in [
        ("/server/listne", json!("127.0.0.1:80")),
        ("/tenancy/resolver/nmae", json!("x")),
        ("/tenancy/resolver/type", json!("haeder")),
        ("/tenancy/pools/max", json!("many")),
        ("/drivers/sqlit", json!({})),
        ("/logging/format", json!("jsn")),
        ("/tenancy/provider", json!(null)),
    ] {
        let mut changed = shipped.clone();
        let (outer, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(outer).unwrap()[key] = value;
        assert!(!validator.is_valid(&changed), "{pointer}");
    }
}

#[test]
fn a_plugin_inside_a_plugin_is_in_the_schema() {
    let schema = schema(&registry());
    let validator = validator(&schema).unwrap();
    let mut file = read(SHIPPED);
    file["tenancy"]["resolver"] = json!({"type": "chain", "resolvers": [{"type": "header", "name": "x"}]});
    assert!(validator.is_valid(&file));
    file["tenancy"]["resolver"]["resolvers"][0] = json!({"type": "header", "nmae": "x"});
    assert!(!validator.is_valid(&file));
}

#[test]
fn every_key_is_documented_and_closed() {
    fn walk(schema: &Value, path: &str, found: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            if schema["additionalProperties"] != json!(false) {
                found.push(format!("{path}: takes unknown keys"));
            }
            for (key, inner) in properties {
                let path = format!("{path}.{key}");
                if inner
                    .get("description")
                    .is_none_or(|text| text.as_str().is_none_or(str::is_empty))
                {
                    found.push(format!("{path}: not documented"));
                }
                walk(inner, &path, found);
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            for branch in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
                walk(branch, path, found);
            }
        }
    }
    let mut found = Vec::new();
    let schema = schema(&registry());
    walk(&schema, "", &mut found);
    walk(&schema["$defs"]["resolver"], "resolver", &mut found);
    walk(&schema["$defs"]["provider"], "provider", &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn defaults_and_summaries_reach_the_schema() {
    let schema = schema(&registry());
    let of = |pointer: &str| schema.pointer(pointer).unwrap_or(&Value::Null).clone();
    assert_eq!(of("/properties/server/properties/body_limit/default"), "1MiB");
    assert_eq!(of("/properties/server/properties/listen/default"), "127.0.0.1:8080");
    assert_eq!(of("/properties/tenancy/properties/warm_up/default"), "none");
    assert_eq!(
        of("/properties/tenancy/properties/secrets/properties/ttl/default"),
        "5m"
    );
    assert_eq!(of("/properties/drivers/properties/sqlite/description"), "Opens files.");
    assert_eq!(of("/required"), json!(["tenancy"]));
    assert_eq!(of("/$schema"), "https://json-schema.org/draft/2020-12/schema");
}

/// The paths of all durations below `schema`.
fn durations(schema: &Value, path: &[&str], found: &mut Vec<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = [path, &[key.as_str()]].concat();
        let is_duration = |schema: &Value| schema["pattern"].as_str().is_some_and(|it| it.contains("a-zA-Zµ"));
        let branches = inner["anyOf"].as_array().into_iter().flatten();
        if is_duration(inner) || branches.clone().any(is_duration) {
            found.push(path.join("."));
        }
        for schema in std::iter::once(inner).chain(branches) {
            durations(schema, &path, found);
        }
    }
}

#[test]
fn every_duration_has_its_bounds() {
    /// Each of them switches off what it limits.
    const MAY_BE_ZERO: [&str; 4] = [
        "server.shutdown_grace",
        "tenancy.secrets.stale_if_error",
        "tenancy.secrets.not_found_ttl",
        "tenancy.pools.defaults.idle_time",
    ];
    let mut paths = Vec::new();
    durations(&schema(&registry()), &[], &mut paths);
    assert!(paths.len() >= 13, "{paths:?}");
    for path in &paths {
        let variable = format!("TENANTRY__{}", path.to_uppercase().replace('.', "__"));
        let faults = |value: &str| match load_text(LEAST, [(variable.as_str(), value)]) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(faults("1s"), [""; 0], "{path}");
        let huge = faults("400000000000years");
        assert!(
            huge.len() == 1 && huge[0].contains("at most 3650 days"),
            "{path}: {huge:?}"
        );
        let zero = faults("0s");
        if MAY_BE_ZERO.contains(&path.as_str()) {
            assert_eq!(zero, [""; 0], "{path}");
        } else {
            assert!(zero.len() == 1 && zero[0].contains("at least 1ms"), "{path}: {zero:?}");
        }
    }
}

#[test]
fn the_shipped_file_has_every_key_with_its_default() {
    /// What the shipped file sets for a first start.
    const OTHERWISE: [&str; 2] = ["/migrations/on_connect", "/migrations/sample_data"];
    /// Plugins and tables have keys of their own.
    const NOT_OURS: [&str; 4] = ["/tenancy/resolver", "/tenancy/provider", "/drivers", "/rest/tables"];
    fn compare(schema: &Value, shipped: &Value, path: &str, wrong: &mut Vec<String>) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}/{key}");
            if NOT_OURS.contains(&path.as_str()) {
                continue;
            }
            match shipped.get(key) {
                None => wrong.push(format!("{path} is not in the file")),
                Some(value) if value.is_object() => compare(inner, value, &path, wrong),
                Some(value) => {
                    let is_default = inner.get("default").is_none_or(|default| default == value);
                    if is_default == OTHERWISE.contains(&path.as_str()) {
                        wrong.push(format!("{path}: {value}"));
                    }
                }
            }
        }
    }
    let mut wrong = Vec::new();
    compare(&schema(&registry()), &read(SHIPPED), "", &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
