//! All registered plugins, by family and type. It is a value and not a global, so a test can make
//! its own.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{BuildContext, BuildError, DatabaseDriver, Plugin, RegisteredSection, SecretProvider, TenantResolver};

type Building<'a, T> = Pin<Box<dyn Future<Output = Result<Arc<T>, BuildError>> + Send + 'a>>;

/// A registered plugin.
pub struct Registered<T: ?Sized> {
    /// The word that chooses it.
    pub type_name: &'static str,
    /// A complete YAML mapping that chooses it.
    pub example: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
    build: for<'a> fn(Value, &'a BuildContext) -> Building<'a, T>,
}

impl<T: ?Sized> Registered<T> {
    /// The JSON Schema of its keys, without `type`, everything it refers to being inside.
    pub fn schema(&self) -> Schema {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        (self.schema)(&mut settings.into_generator())
    }

    /// A one-line summary: the first paragraph of its `Config`'s documentation.
    pub fn summary(&self) -> String {
        let schema = self.schema();
        let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        description.split("\n\n").next().unwrap_or_default().replace('\n', " ")
    }
}

impl<T: ?Sized> fmt::Debug for Registered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name)
    }
}

type Family<T> = BTreeMap<&'static str, Registered<T>>;

/// The plugins that configuration can choose from.
#[derive(Debug, Default)]
pub struct Registry {
    resolvers: Family<dyn TenantResolver>,
    providers: Family<dyn SecretProvider>,
    drivers: Family<dyn DatabaseDriver>,
    sections: BTreeMap<&'static str, RegisteredSection>,
}

/// The three families differ in nothing but their trait; a generic function cannot turn `Arc<P>`
/// into `Arc<T>` for a `T` it does not know.
macro_rules! family {
    ($register:ident, $all:ident, $build:ident, $trait:ident, $what:literal) => {
        #[doc = concat!("Adds a ", $what, "; one of the same type that was there is replaced.")]
        pub fn $register<P: Plugin<dyn $trait> + $trait>(&mut self) -> &mut Self {
            let registered = Registered {
                type_name: P::TYPE,
                example: P::EXAMPLE,
                schema: |generator| generator.root_schema_for::<P::Config>(),
                build: |mapping, context| {
                    Box::pin(async move {
                        let config = deserialize::<P::Config>(mapping)?;
                        let plugin: Arc<dyn $trait> = Arc::new(P::build(config, context).await?);
                        Ok(plugin)
                    })
                },
            };
            self.$all.insert(P::TYPE, registered);
            self
        }

        #[doc = concat!("Every ", $what, ", by type.")]
        pub fn $all(&self) -> impl Iterator<Item = &Registered<dyn $trait>> {
            self.$all.values()
        }

        #[doc = concat!("Builds a ", $what, " from its flat mapping: `type` names it, the rest is its configuration.")]
        ///
        /// # Errors
        /// The type is missing or unknown, a key is unknown or wrong, or the plugin itself refuses.
        pub async fn $build(&self, mapping: Value, context: &BuildContext) -> Result<Arc<dyn $trait>, BuildError> {
            let (type_name, rest) = split_type(mapping)?;
            let Some(registered) = self.$all.get(type_name.as_str()) else {
                let known: Vec<&str> = self.$all.keys().copied().collect();
                return Err(unknown_type($what, &type_name, &known));
            };
            (registered.build)(rest, context).await
        }
    };
}

impl Registry {
    /// A registry without any plugin.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a section at the top of the configuration, such as `billing`. What its keys may hold is
    /// checked like every other key, and is part of the JSON Schema.
    pub fn section<T>(&mut self, name: &'static str) -> &mut Self
    where
        T: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    {
        self.sections.insert(name, RegisteredSection::new::<T>(name));
        self
    }

    /// Every section, by name.
    pub fn sections(&self) -> impl Iterator<Item = &RegisteredSection> {
        self.sections.values()
    }

    /// Whether nothing is registered.
    pub fn is_empty(&self) -> bool {
        let plugins = self.resolvers.len() + self.providers.len() + self.drivers.len();
        plugins + self.sections.len() == 0
    }

    family!(resolver, resolvers, build_resolver, TenantResolver, "resolver");
    family!(provider, providers, build_provider, SecretProvider, "provider");
    family!(driver, drivers, build_driver, DatabaseDriver, "driver");
}

/// Parts `type` from the rest, so that `deny_unknown_fields` holds for it.
fn split_type(mapping: Value) -> Result<(String, Value), BuildError> {
    let Value::Object(mut members) = mapping else {
        return Err(BuildError::new("is not a mapping"));
    };
    match members.remove("type") {
        Some(Value::String(type_name)) => Ok((type_name, Value::Object(members))),
        Some(_) => Err(BuildError::key("type", "is not a string")),
        None => Err(BuildError::key("type", "is missing")),
    }
}

fn unknown_type(family: &str, type_name: &str, known: &[&str]) -> BuildError {
    let mut reason = format!("names no {family} that is built in ({})", known.join(", "));
    if let Some(nearest) = nearest(type_name, known.iter().copied()) {
        reason.push_str(&format!("; did you mean `{nearest}`?"));
    }
    BuildError::key("type", reason)
}

/// The known name that a typo most likely meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&written.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Reads a plugin's configuration; serde's messages repeat values, so what goes out is
/// [without_value].
pub(crate) fn deserialize<C: DeserializeOwned>(rest: Value) -> Result<C, BuildError> {
    serde_path_to_error::deserialize(rest).map_err(|error| {
        let path = error.path().iter().map(ToString::to_string).collect();
        BuildError {
            path,
            reason: without_value(&error.inner().to_string()),
            source: None,
        }
    })
}

/// A message of serde without the value that it repeats: of `invalid type: string "hunter2",
/// expected u16` only the expectation remains.
pub fn without_value(message: &str) -> String {
    let repeats = ["invalid type: ", "invalid value: ", "unknown variant "];
    if repeats.iter().any(|start| message.starts_with(start)) {
        return match message.rsplit_once(", expected ") {
            Some((_, expected)) => match range(expected) {
                Some(range) => format!("is not a whole number {range}"),
                None => format!("is not {expected}"),
            },
            None => "is not valid".to_owned(),
        };
    }
    message.to_owned()
}

/// The values of a type of Rust, which serde names where a number does not fit.
fn range(type_name: &str) -> Option<String> {
    let (type_name, least) = match type_name.strip_prefix("a nonzero ") {
        Some(type_name) => (type_name, 1),
        None => (type_name, 0),
    };
    let bits: u32 = match type_name.strip_prefix('u')? {
        "size" => usize::BITS,
        bits => bits.parse().ok().filter(|bits| (8..=64).contains(bits))?,
    };
    Some(format!("from {least} to {}", u64::MAX >> (64 - bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["header", "subdomain", "static"];
        assert_eq!(nearest("haeder", known), Some("header"));
        assert_eq!(nearest("subdomains", known), Some("subdomain"));
        assert_eq!(nearest("kubernetes", known), None);
    }

    #[test]
    fn a_serde_message_loses_the_value() {
        let error = serde_json::from_str::<u16>("\"canary, expected x\"").unwrap_err();
        assert!(!without_value(&error.to_string()).contains("canary"));
        assert_eq!(without_value("missing field `name`"), "missing field `name`");
        let number =
            |expected: &str| without_value(&format!("invalid value: integer `99999999999`, expected {expected}"));
        assert_eq!(number("u32"), "is not a whole number from 0 to 4294967295");
        assert_eq!(number("a nonzero u16"), "is not a whole number from 1 to 65535");
        assert_eq!(number("usize"), "is not a whole number from 0 to 18446744073709551615");
        assert_eq!(number("a unit"), "is not a unit");
    }
}
