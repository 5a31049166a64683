//! Builds the JSON Schema of the whole file from the typed sections and all registered plugins.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use tenantry_core::Registry;

use super::{
    plugins::PluginConfig,
    sections::Config,
    tree::{Kind, Node},
};

/// A plugin with other plugins inside marks their places in its schema by `{"x-tenantry-plugin":
/// "resolver"}`.
const PLUGIN_KEYWORD: &str = "x-tenantry-plugin";

/// The families of plugins that `type` chooses from.
pub(crate) const FAMILIES: [&str; 2] = ["resolver", "provider"];

/// The most plugins in one list with a schema of their own; no plugin has as many.
const MOST_IN_A_LIST: usize = 64;

/// The JSON Schema (draft 2020-12) of `config.yaml` for the plugins of `registry`. `tenantry
/// schema` prints it, and editors check and complete with it.
pub fn schema(registry: &Registry) -> Value {
    let mut schema = base();
    let mut definitions = Map::new();
    for family in FAMILIES {
        let branches: Vec<Value> = types(registry, family)
            .into_iter()
            .filter_map(|type_name| plugin(registry, family, type_name))
            .map(|mut branch| {
                refer_to_definitions(&mut branch);
                branch
            })
            .collect();
        let any = json!({"type": "object", "required": ["type"], "oneOf": branches});
        definitions.insert(family.to_owned(), any);
        put(&mut schema, &["tenancy", family], json!({"$ref": definition(family)}));
    }
    let default = PluginConfig::default_resolver().mapping();
    if let Some(resolver) = schema.pointer_mut("/properties/tenancy/properties/resolver") {
        resolver["default"] = default;
    }
    put(&mut schema, &["drivers"], drivers(registry));
    tables_or_file(&mut schema);
    add_sections(&mut schema, registry);
    if let Some(root) = schema.as_object_mut() {
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

/// Allows a file's path in place of the tables. The file is read before the check.
fn tables_or_file(schema: &mut Value) {
    let rest = member(schema, "rest").and_then(|rest| member(rest, "tables")).cloned();
    let Some(mut tables) = rest else { return };
    let description = tables
        .as_object_mut()
        .and_then(|members| members.shift_remove("description"));
    let default = tables
        .as_object_mut()
        .and_then(|members| members.shift_remove("default"));
    let either = json!({
        "description": description,
        "default": default,
        "anyOf": [{"type": "string", "minLength": 1}, tables]
    });
    if let Some(place) = schema.pointer_mut("/properties/rest/properties/tables") {
        *place = either;
    }
}

fn definition(family: &str) -> String {
    format!("#/$defs/{family}")
}

/// Replaces each mark for an inner plugin by a choice of all plugins of its family.
fn refer_to_definitions(schema: &mut Value) {
    if let Some(family) = held_family(schema) {
        *schema = json!({"$ref": definition(family)});
        return;
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(refer_to_definitions),
        Value::Array(items) => items.iter_mut().for_each(refer_to_definitions),
        _ => {}
    }
}

fn held_family(schema: &Value) -> Option<&'static str> {
    let family = schema.get(PLUGIN_KEYWORD)?.as_str()?;
    FAMILIES.into_iter().find(|known| *known == family)
}

/// The schema for one configuration, with only the plugin that `type` chooses in each family. A
/// fault then names that plugin's key, and not a failed choice between all plugins.
pub(crate) fn for_configuration(registry: &Registry, root: &Node) -> Value {
    let mut schema = base();
    for family in FAMILIES {
        let chosen = chosen(registry, family, root.at(&["tenancy", family]));
        put(&mut schema, &["tenancy", family], chosen);
    }
    put(&mut schema, &["drivers"], drivers(registry));
    add_sections(&mut schema, registry);
    schema
}

/// Adds the sections of a program of one's own. One that has the name of a built-in section is left
/// out; [`load`](super::load) reports it.
fn add_sections(schema: &mut Value, registry: &Registry) {
    for section in registry.sections() {
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            return;
        };
        if properties.contains_key(section.name) {
            continue;
        }
        properties.insert(section.name.to_owned(), section.schema().to_value());
        if section.is_required()
            && let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut)
        {
            required.push(section.name.into());
        }
    }
}

/// Whether Tenantry has a section of this name itself.
pub(crate) fn is_built_in(name: &str) -> bool {
    base()
        .get("properties")
        .is_some_and(|sections| sections.get(name).is_some())
}

/// The schema of the plugin that `mapping` chooses, or of all that it may choose if it chooses
/// none.
fn chosen(registry: &Registry, family: &str, mapping: Option<&Node>) -> Value {
    let type_name = mapping.and_then(|node| node.get("type")).and_then(Node::as_text);
    match type_name.and_then(|type_name| plugin(registry, family, type_name)) {
        Some(mut branch) => {
            choose_within(registry, &mut branch, mapping);
            branch
        }
        None => json!({
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"type": "string", "enum": types(registry, family)}}
        }),
    }
}

/// Does the same for the plugins that a plugin holds. How deep that goes is bounded by how deep a
/// file may be nested.
fn choose_within(registry: &Registry, schema: &mut Value, node: Option<&Node>) {
    if let Some(family) = held_family(schema) {
        *schema = chosen(registry, family, node);
        return;
    }
    let Some(members) = schema.as_object_mut() else {
        return;
    };
    for (key, inner) in members
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        choose_within(registry, inner, node.and_then(|node| node.get(key)));
    }
    if let (Some(items), Some(Kind::List(nodes))) = (members.get("items"), node.map(|node| &node.kind))
        && held_family(items).is_some()
        // `prefixItems` must not be empty (JSON Schema Core 2020-12 §10.3.1.1).
        && !nodes.is_empty()
    {
        let each = nodes.iter().take(MOST_IN_A_LIST).map(|node| {
            let mut item = items.clone();
            choose_within(registry, &mut item, Some(node));
            item
        });
        let each: Vec<Value> = each.collect();
        members.insert("prefixItems".to_owned(), Value::Array(each));
    }
}

/// The typed sections.
fn base() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Tenantry configuration".into());
    }
    schema
}

fn types<'r>(registry: &'r Registry, family: &str) -> Vec<&'r str> {
    match family {
        "resolver" => registry.resolvers().map(|plugin| plugin.type_name).collect(),
        _ => registry.providers().map(|plugin| plugin.type_name).collect(),
    }
}

/// The schema of one resolver's or provider's flat mapping, with `type`; `None` if there is no such
/// plugin.
pub(crate) fn plugin(registry: &Registry, family: &str, type_name: &str) -> Option<Value> {
    let (keys, summary) = match family {
        "resolver" => registry
            .resolvers()
            .find(|plugin| plugin.type_name == type_name)
            .map(|plugin| (plugin.schema(), plugin.summary()))?,
        _ => registry
            .providers()
            .find(|plugin| plugin.type_name == type_name)
            .map(|plugin| (plugin.schema(), plugin.summary()))?,
    };
    let chooses = json!({"description": summary, "type": "string", "const": type_name});
    Some(with_key(keys.to_value(), type_name, "type", chooses, true))
}

fn drivers(registry: &Registry) -> Value {
    let properties: Map<String, Value> = registry
        .drivers()
        .map(|driver| {
            let enabled = json!({
                "description": "Whether this driver is on.",
                "type": "boolean",
                "default": true
            });
            let keys = driver.schema().to_value();
            (
                driver.type_name.to_owned(),
                with_key(keys, driver.type_name, "enabled", enabled, false),
            )
        })
        .collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

/// A plugin's schema with an additional first key.
fn with_key(mut schema: Value, title: &str, key: &str, key_schema: Value, required: bool) -> Value {
    let Some(members) = schema.as_object_mut() else {
        return schema;
    };
    members.insert("title".to_owned(), title.into());
    let mut properties = Map::new();
    properties.insert(key.to_owned(), key_schema);
    if let Some(Value::Object(own)) = members.remove("properties") {
        properties.extend(own);
    }
    members.insert("properties".to_owned(), Value::Object(properties));
    if required {
        let mut names = vec![Value::from(key)];
        if let Some(Value::Array(own)) = members.remove("required") {
            names.extend(own);
        }
        members.insert("required".to_owned(), Value::Array(names));
    }
    schema
}

/// Replaces the schema of the key at `path` by `inner`, but keeps its description and default.
fn put(schema: &mut Value, path: &[&str], mut inner: Value) {
    let found = path
        .iter()
        .try_fold(schema, |at, key| at.get_mut("properties")?.get_mut(*key));
    if let Some(place) = found {
        for kept in ["description", "default"] {
            if let (Some(value), Some(members)) = (place.get(kept), inner.as_object_mut()) {
                members.insert(kept.to_owned(), value.clone());
            }
        }
        *place = inner;
    }
}

/// The schema of the member `key` of a mapping.
pub(crate) fn member<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    let property = schema.get("properties").and_then(|known| known.get(key));
    property
        .or_else(|| in_branches(schema, |branch| member(branch, key)))
        .or_else(|| schema.get("additionalProperties").filter(|rest| rest.is_object()))
}

/// The keys of a mapping that a schema names.
pub(crate) fn keys(schema: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    let own = schema.get("properties").and_then(Value::as_object);
    let own = own.into_iter().flat_map(|known| known.keys().map(String::as_str));
    Box::new(own.chain(branches(schema).flat_map(keys)))
}

/// The schema of one item of a list.
pub(crate) fn item(schema: &Value, index: usize) -> Option<&Value> {
    let prefix = schema.get("prefixItems").and_then(|each| each.get(index));
    prefix
        .or_else(|| schema.get("items"))
        .or_else(|| in_branches(schema, |branch| item(branch, index)))
}

/// The branches of a choice, such as that between a mapping and nothing.
pub(crate) fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf", "allOf"]
        .into_iter()
        .filter_map(|keyword| schema.get(keyword)?.as_array())
        .flatten()
}

fn in_branches<'s>(schema: &'s Value, find: impl Fn(&'s Value) -> Option<&'s Value>) -> Option<&'s Value> {
    branches(schema).find_map(find)
}
