//! The environment variables, and the keys of the configuration that they set.

use std::{collections::BTreeMap, env, ffi::OsString, fmt};

use serde_json::Value;
use tenantry_core::Registry;

use super::{
    fault::{Fault, Place, Step},
    schema,
    tree::{Kind, Node},
    yaml::parse,
};

/// What a variable that sets a key begins with; `__` parts the levels below it.
pub const OVERRIDE_PREFIX: &str = "TENANTRY__";

/// Variables that other programs know as well, and the keys they set. A `TENANTRY__` variable for
/// the same key wins; an empty one counts as not set.
pub const WELL_KNOWN: &[(&str, &[&str])] = &[
    ("APP_ENV", &["app.environment"]),
    ("APP_NAME", &["app.name"]),
    ("LOG_LEVEL", &["logging.level"]),
    ("MULTITENANT_RESOLVER_TYPE", &["tenancy.resolver.type"]),
    ("MULTITENANT_LIMITS_TENANTS", &["tenancy.pools.max"]),
    ("AWS_SECRETS_CACHE_TTL", &["tenancy.secrets.ttl"]),
    ("AWS_SECRETS_CACHE_MAX_SIZE", &["tenancy.secrets.max_entries"]),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        &["observability.trace.endpoint", "observability.metrics.endpoint"],
    ),
    ("OTEL_SERVICE_NAME", &["observability.service.name"]),
];

/// Like [`WELL_KNOWN`], but only for a plugin of the given type: the variable, the mapping, the
/// type and its key.
pub const WELL_KNOWN_OF_PLUGINS: &[(&str, &str, &str, &str)] = &[
    ("MULTITENANT_RESOLVER_HEADER", "resolver", "header", "name"),
    ("AWS_REGION", "provider", "aws-secrets-manager", "region"),
    ("AWS_ENDPOINT_URL", "provider", "aws-secrets-manager", "endpoint_url"),
    ("AWS_REGION", "provider", "aws-ssm", "region"),
    ("AWS_ENDPOINT_URL", "provider", "aws-ssm", "endpoint_url"),
];

/// Name, section and key of variables that set a key only if nothing else does. The shipped file
/// refers to them (`${TENANTRY_ADMIN_TOKEN:-}`); so a file that leaves the key out behaves as the
/// shipped one. An empty variable counts as not set.
pub const OF_LEFT_OUT_KEYS: &[(&str, &str, &str)] = &[("TENANTRY_ADMIN_TOKEN", "admin", "token")];

/// The environment variables that the configuration may use. It is a value, so that a test can make
/// its own.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The variables of this process. A name that is not UTF-8 is left out, since no configuration
    /// can contain it.
    pub fn of_process() -> Self {
        Self(
            env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
        )
    }

    /// The value of `name`; `None` if it is not set.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn get(&self, name: &str) -> Result<Option<&str>, NotUtf8> {
        let value = self.0.get(name);
        value.map(|value| value.to_str().ok_or(NotUtf8)).transpose()
    }

    /// The names of all variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Like [`get`](Self::get), but an empty value counts as not set, and a value that is not UTF-8
    /// is a fault.
    fn non_empty(&self, name: &str, faults: &mut Vec<Fault>) -> Option<&str> {
        match self.get(name) {
            Ok(value) => value.filter(|value| !value.is_empty()),
            Err(error) => {
                faults.push(Fault::new(Place::variable(name), &[], error.to_string()));
                None
            }
        }
    }

    /// Sets in `root` whatever the environment sets. The resolver's and the provider's type come
    /// first, because they decide which other keys there are.
    pub(crate) fn apply(&self, root: &mut Node, registry: &Registry, faults: &mut Vec<Fault>) {
        let overrides = self.overrides(faults);
        for (name, keys) in WELL_KNOWN {
            let Some(value) = self.non_empty(name, faults) else {
                continue;
            };
            for key in *keys {
                let path: Vec<String> = key.split('.').map(str::to_owned).collect();
                let is_replaced = |levels: &[String]| levels.len() < path.len() && path.starts_with(levels);
                if !overrides.iter().any(|(_, levels, _)| is_replaced(levels)) {
                    open_texts(root, &path, faults);
                }
                root.set(&path, loose(name, value));
            }
        }
        let decides = |levels: &[String]| {
            let family = matches!(levels.get(1).map(String::as_str), Some("resolver" | "provider") | None);
            let kind = levels.get(2).is_none_or(|key| key == "type");
            levels[0] == "tenancy" && family && kind && levels.len() <= 3
        };
        let (first, others): (Vec<_>, Vec<_>) = overrides.into_iter().partition(|(_, levels, _)| decides(levels));
        for (name, levels, value) in first {
            open_texts(root, &levels, faults);
            root.set(&levels, loose(name, value));
        }
        for family in schema::FAMILIES {
            open_texts(root, &["tenancy".into(), family.into(), "type".into()], faults);
            drop_keys_of_the_former_type(root, family, registry);
        }
        for (name, family, type_name, key) in WELL_KNOWN_OF_PLUGINS {
            let chosen = root.at(&["tenancy", family, "type"]).and_then(Node::as_text);
            if chosen == Some(type_name)
                && !matches!(root.at(&["tenancy", family, key]), Some(node) if node.place.is_variable())
                && let Some(value) = self.non_empty(name, faults)
            {
                root.set(&["tenancy".into(), (*family).into(), (*key).into()], loose(name, value));
            }
        }
        let schema = schema::for_configuration(registry, root);
        for (name, levels, value) in others {
            let path = known_spelling(root, &schema, &levels);
            open_texts(root, &path, faults);
            root.set(&path, loose(name, value));
        }
        self.apply_to_left_out_keys(root, faults);
    }

    /// Last, so that a variable that sets the section has set it, and decides whether the key is
    /// left out.
    fn apply_to_left_out_keys(&self, root: &mut Node, faults: &mut Vec<Fault>) {
        for (name, section, key) in OF_LEFT_OUT_KEYS {
            let Some(value) = self.non_empty(name, faults) else {
                continue;
            };
            let path = [section, key].map(|level| (*level).to_owned());
            open_texts(root, &path, faults);
            let is_left_out = match root.at(&[section]) {
                None => true,
                Some(node) => match &node.kind {
                    Kind::Null => true,
                    Kind::Map(_) => node.get(key).is_none(),
                    // A fault of the section, which is reported.
                    _ => false,
                },
            };
            if is_left_out {
                root.set(&path, loose(name, value));
            }
        }
    }

    /// The `TENANTRY__` variables: name, levels in lower case, value; a level before those below
    /// it.
    fn overrides(&self, faults: &mut Vec<Fault>) -> Vec<(&str, Vec<String>, &str)> {
        let mut found: Vec<(&str, Vec<String>, &str)> = Vec::new();
        for (name, value) in &self.0 {
            let Some(rest) = name.strip_prefix(OVERRIDE_PREFIX) else {
                continue;
            };
            let place = Place::variable(name);
            let levels: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
            let Some(value) = value.to_str() else {
                faults.push(Fault::new(place, &[], NotUtf8.to_string()));
                continue;
            };
            if levels.iter().any(String::is_empty) {
                faults.push(Fault::new(place, &[], "names no key: a level is empty"));
            } else if let Some((other, ..)) = found.iter().find(|(_, known, _)| *known == levels) {
                faults.push(Fault::new(place, &[], format!("sets the same key as `{other}`")));
            } else {
                found.push((name, levels, value));
            }
        }
        found.sort_by_key(|(_, levels, _)| levels.len());
        found
    }
}

impl<V: Into<OsString>> FromIterator<(String, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(variables: I) -> Self {
        let variables = variables.into_iter();
        Self(variables.map(|(name, value)| (name, value.into())).collect())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.map(|(name, value)| (name.to_owned(), value.into())).into())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A variable's value is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its value is not UTF-8")]
pub struct NotUtf8;

fn loose(variable: &str, value: &str) -> Node {
    Node::new(Place::variable(variable), Kind::Loose(value.to_owned()))
}

/// Reads what lies on the way to `path` and is still a text, so that one variable can hold a
/// mapping and another a key of it.
fn open_texts(root: &mut Node, path: &[String], faults: &mut Vec<Fault>) {
    let mut steps = Vec::new();
    let mut node = root;
    for key in path {
        if let Kind::Loose(text) = &node.kind
            && let Some(read) = parse(text, &node.place, &steps, faults)
        {
            node.kind = read.kind;
        }
        steps.push(Step::from(key.as_str()));
        match node.at_mut(&[key]) {
            Some(next) => node = next,
            None => return,
        }
    }
}

/// If the environment changed a plugin's type, removes the file's keys that the new type does not
/// have: they belong to the former type. Keys from the environment stay, and are reported if they
/// are unknown.
fn drop_keys_of_the_former_type(root: &mut Node, family: &str, registry: &Registry) {
    let Some(mapping) = root.at_mut(&["tenancy", family]) else {
        return;
    };
    let chosen = mapping.get("type").filter(|node| node.place.is_variable());
    let Some(plugin) = chosen
        .and_then(Node::as_text)
        .and_then(|name| schema::plugin(registry, family, name))
    else {
        return;
    };
    if let Some(known) = plugin.get("properties").and_then(Value::as_object)
        && let Kind::Map(entries) = &mut mapping.kind
    {
        entries.retain(|entry| entry.key == "type" || entry.key_place.is_variable() || known.contains_key(&entry.key));
    }
}

/// `levels` as the keys are spelled: in the schema, else in the file, else in lower case.
fn known_spelling(root: &Node, schema: &Value, levels: &[String]) -> Vec<String> {
    let mut path: Vec<String> = Vec::with_capacity(levels.len());
    let mut node = Some(root);
    let mut schema = Some(schema);
    for level in levels {
        let same = |key: &&str| key.to_lowercase() == *level;
        let in_schema = schema.and_then(|schema| schema::keys(schema).find(same));
        let in_file = || node.and_then(|node| node.entries().iter().map(|entry| entry.key.as_str()).find(same));
        let key = in_schema.or_else(in_file).unwrap_or(level).to_owned();
        node = node.and_then(|node| node.get(&key));
        schema = schema.and_then(|schema| schema::member(schema, &key));
        path.push(key);
    }
    path
}
