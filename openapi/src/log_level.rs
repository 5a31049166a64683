//! How much is logged, and changing it while the server runs.

use std::{borrow::Cow, fmt};

use poem_openapi::{
    Enum,
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;
use serde_json::{Value, json};
use strum::IntoStaticStr;

use crate::{
    Fault,
    input::{Input, text, unknown},
};

/// Sets how much this process logs.
pub trait LogControl: Send + Sync {
    /// Sets the level, for everything.
    ///
    /// # Errors
    /// Logging was not started by this program.
    fn set(&self, level: LogLevel) -> Result<(), LogControlLost>;
}

/// The level cannot be set: another part of this process has set up logging.
#[derive(Debug, thiserror::Error)]
#[error("logging was not started by the server")]
pub struct LogControlLost;

/// The least level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Defects.
    Error,
    /// Problems that an operator should look at.
    Warn,
    /// One line a request.
    Info,
    /// Why things were done.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level, the most silent first.
    pub const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much the server logs.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct LogSettings {
    pub(crate) level: LogLevel,
}

impl Type for LogSettings {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "LogSettings".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(Self::name().into_owned())
    }

    fn register(registry: &mut Registry) {
        LogLevel::register(registry);
        registry.create_schema::<Self, _>(Self::name().into_owned(), |_| MetaSchema {
            description: Some("How much the server logs, until it stops."),
            required: vec!["level"],
            properties: vec![("level", LogLevel::schema_ref())],
            // Exactly the required members; the document expresses that by `additionalProperties:
            // false`.
            max_properties: Some(1),
            example: Some(json!({"level": "debug"})),
            ..MetaSchema::new("object")
        });
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl Input for LogSettings {
    fn read(value: Value) -> Result<Self, Vec<Fault>> {
        let Value::Object(mut members) = value else {
            return Err(vec![Fault::pointer("", "is not an object")]);
        };
        let mut faults = Vec::new();
        let level = text(&mut members, "level", &mut faults).and_then(|word| {
            let known = LogLevel::ALL.into_iter().find(|level| level.as_str() == word);
            if known.is_none() {
                let detail = "is not one of `off`, `error`, `warn`, `info`, `debug`, `trace`";
                faults.push(Fault::pointer("/level", detail));
            }
            known
        });
        faults.extend(members.keys().map(|key| unknown(key)));
        match level {
            Some(level) if faults.is_empty() => Ok(Self { level }),
            _ => Err(faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::ToJSON as _;

    use super::*;

    #[test]
    fn every_level_is_read_by_its_word_in_the_document() {
        for level in LogLevel::ALL {
            assert_eq!(level.to_json(), Some(json!(level.as_str())));
            let read = LogSettings::read(json!({"level": level.as_str()})).unwrap();
            assert_eq!(read.level, level);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (value, pointer) in [
            (json!({"level": "loud"}), "/level"),
            (json!({"level": 1}), "/level"),
            (json!({}), "/level"),
            (json!({"level": "info", "x": 1}), "/x"),
            (json!([]), ""),
        ] {
            let faults = LogSettings::read(value.clone()).unwrap_err();
            assert_eq!(faults.len(), 1, "{value}");
            assert_eq!(serde_json::to_value(&faults[0]).unwrap()["pointer"], pointer, "{value}");
        }
    }
}
