//! With the plugins that the program is built with, rather than those of the other tests.

use std::fs;

use serde_json::Value;
use tenantry_core::Registry;

use crate::{
    config::{Environment, load_in, schema},
    plugins,
};

fn built_in() -> Registry {
    let mut registry = Registry::new();
    plugins::register(&mut registry);
    registry
}

#[test]
fn the_shipped_file_loads() {
    let folder = tempfile::TempDir::new().unwrap();
    if let Err(faults) = load_in(folder.path(), None, &Environment::default(), &built_in()) {
        panic!("{faults}");
    }
}

#[test]
fn every_plugins_example_is_valid_where_it_is_configured() {
    let registry = built_in();
    let resolvers = registry.resolvers().map(|plugin| ("resolver", plugin.example));
    let providers = registry.providers().map(|plugin| ("provider", plugin.example));
    for (family, example) in resolvers.chain(providers) {
        let folder = tempfile::TempDir::new().unwrap();
        let indented: String = example.lines().map(|line| format!("    {line}\n")).collect();
        let other = match family {
            "resolver" => "  provider: { type: static, tenants: {} }\n",
            _ => "",
        };
        let yaml = format!("tenancy:\n  {family}:\n{indented}{other}");
        fs::write(folder.path().join("config.yaml"), &yaml).unwrap();
        if let Err(faults) = load_in(folder.path(), None, &Environment::default(), &registry) {
            panic!("{yaml}\n{faults}");
        }
    }
}

#[test]
fn every_key_of_every_plugin_is_documented() {
    fn walk(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (key, inner) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let path = format!("{path}.{key}");
            let description = inner.get("description").and_then(Value::as_str);
            if description.is_none_or(str::is_empty) && inner.get("$ref").is_none() {
                found.push(path.clone());
            }
            walk(inner, &path, found);
        }
        for branch in ["anyOf", "oneOf"]
            .into_iter()
            .filter_map(|k| schema.get(k)?.as_array())
            .flatten()
        {
            let title = branch.get("title").and_then(Value::as_str).unwrap_or_default();
            walk(branch, &format!("{path}{title}"), found);
        }
    }
    let schema = schema(&built_in());
    let mut found = Vec::new();
    walk(&schema, "", &mut found);
    walk(&schema["$defs"]["resolver"], "resolver ", &mut found);
    walk(&schema["$defs"]["provider"], "provider ", &mut found);
    assert!(found.is_empty(), "not documented: {found:#?}");
}

/// `config.schema.json` is what `config.yaml` names for editors. `UPDATE_SNAPSHOTS=1` writes it
/// anew.
#[test]
#[cfg(all(
    feature = "aws",
    feature = "jwt",
    feature = "mysql",
    feature = "postgresql",
    feature = "sqlite"
))]
fn the_schema_for_editors_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.schema.json");
    let current = format!("{:#}\n", schema(&built_in()));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &current).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    assert!(
        kept == current,
        "config.schema.json is not current: run the tests with UPDATE_SNAPSHOTS=1"
    );
    let validator = jsonschema::validator_for(&schema(&built_in())).unwrap();
    let shipped: Value = serde_saphyr::from_str(crate::config::SHIPPED).unwrap();
    assert!(validator.is_valid(&shipped));
}
