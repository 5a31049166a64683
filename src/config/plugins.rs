//! The parts of the configuration that belong to plugins. They stay JSON until the registry builds
//! the plugins, and are never printed: a provider's mapping may hold every tenant's password.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, json};
use tenantry_core::{Registry, SecretValue};

/// A resolver's or a provider's flat mapping: `type` and the plugin's keys.
#[derive(Clone)]
pub struct PluginConfig {
    type_name: String,
    mapping: SecretValue,
}

impl PluginConfig {
    /// The default resolver: the header `X-Tenant-ID`.
    pub fn default_resolver() -> Self {
        Self {
            type_name: "header".to_owned(),
            mapping: SecretValue::new(json!({"type": "header", "name": "X-Tenant-ID"})),
        }
    }

    /// The `type`.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// The whole mapping, as [`Registry::build_resolver`] and [`Registry::build_provider`] take it.
    /// Nothing of it may be printed.
    pub fn mapping(&self) -> Value {
        self.mapping.expose().clone()
    }
}

impl fmt::Debug for PluginConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginConfig")
            .field("type", &self.type_name)
            .finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for PluginConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mapping = Map::deserialize(deserializer)?;
        let Some(type_name) = mapping.get("type").and_then(Value::as_str) else {
            return Err(D::Error::custom("has no `type`"));
        };
        Ok(Self {
            type_name: type_name.to_owned(),
            mapping: SecretValue::new(Value::Object(mapping)),
        })
    }
}

/// The valid keys depend on the registry; [`schema`](super::schema()) replaces this schema.
impl JsonSchema for PluginConfig {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Plugin".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object"})
    }
}

/// Settings per database driver.
#[derive(Debug, Clone, Default)]
pub struct Drivers(BTreeMap<String, DriverSettings>);

#[derive(Clone)]
struct DriverSettings {
    enabled: bool,
    keys: SecretValue,
}

impl fmt::Debug for DriverSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverSettings")
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

impl Drivers {
    /// Whether this driver is on: it is unless its settings say `enabled: false`.
    pub fn is_enabled(&self, type_name: &str) -> bool {
        self.0.get(type_name).is_none_or(|settings| settings.enabled)
    }

    /// Every driver of `registry` that is on, with its flat mapping as [`Registry::build_driver`]
    /// takes it.
    pub fn enabled<'r>(&self, registry: &'r Registry) -> Vec<(&'r str, Value)> {
        registry
            .drivers()
            .filter(|driver| self.is_enabled(driver.type_name))
            .map(|driver| {
                let keys = self
                    .0
                    .get(driver.type_name)
                    .map(|settings| settings.keys.expose().clone());
                let mut mapping = match keys {
                    Some(Value::Object(keys)) => keys,
                    _ => Map::new(),
                };
                mapping.insert("type".to_owned(), driver.type_name.into());
                (driver.type_name, Value::Object(mapping))
            })
            .collect()
    }
}

impl<'de> Deserialize<'de> for Drivers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = BTreeMap::<String, Map<String, Value>>::deserialize(deserializer)?;
        let settings = all.into_iter().map(|(name, mut keys)| {
            let enabled = match keys.remove("enabled") {
                None => true,
                Some(Value::Bool(enabled)) => enabled,
                Some(_) => return Err(D::Error::custom(format!("`enabled` of `{name}` is not a boolean"))),
            };
            let keys = SecretValue::new(Value::Object(keys));
            Ok((name, DriverSettings { enabled, keys }))
        });
        settings.collect::<Result<_, _>>().map(Self)
    }
}

/// As with [`PluginConfig`], the registry decides which keys there are.
impl JsonSchema for Drivers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Drivers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object"})
    }
}
