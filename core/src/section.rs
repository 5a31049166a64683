//! Sections of the configuration that belong to a program of one's own.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{BuildError, registry::deserialize};

/// One value of a section, of the type that it was registered with.
type SectionValue = Arc<dyn Any + Send + Sync>;

/// A registered section of the configuration.
pub struct RegisteredSection {
    /// The key at the top of the configuration.
    pub name: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
    read: fn(Value) -> Result<SectionValue, BuildError>,
}

impl RegisteredSection {
    pub(crate) fn new<T: DeserializeOwned + JsonSchema + Send + Sync + 'static>(name: &'static str) -> Self {
        Self {
            name,
            schema: |generator| generator.root_schema_for::<T>(),
            read: |value| Ok(Arc::new(deserialize::<T>(value)?)),
        }
    }

    /// The JSON Schema of the section, everything it refers to being inside.
    pub fn schema(&self) -> Schema {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        (self.schema)(&mut settings.into_generator())
    }

    /// Whether a configuration without the section is wrong: one of its keys has no default.
    pub fn is_required(&self) -> bool {
        let required = self.schema().get("required").and_then(Value::as_array).cloned();
        required.is_some_and(|keys| !keys.is_empty())
    }
}

impl fmt::Debug for RegisteredSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The sections of one configuration, read. Nothing of them is printed: they may hold secrets.
#[derive(Clone, Default)]
pub struct Sections(BTreeMap<&'static str, SectionValue>);

impl Sections {
    /// Parses a section of the configuration.
    ///
    /// # Errors
    /// Which key is wrong, and why.
    pub fn read(&mut self, section: &RegisteredSection, value: Value) -> Result<(), BuildError> {
        self.0.insert(section.name, (section.read)(value)?);
        Ok(())
    }

    /// The section of this type, if there is one.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.values().find_map(|value| value.clone().downcast::<T>().ok())
    }
}

impl fmt::Debug for Sections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
