//! How much is logged, and changing it while the server runs.

use std::fmt;

use poem_openapi::{Enum, Object, types::Example};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Fault,
    input::{Input, text, unknown},
};

/// Sets how much this process logs.
pub trait LogControl: Send + Sync {
    /// The level that was set last; `None` while it is the configuration's.
    fn level(&self) -> Option<LogLevel>;
    /// Sets another, for everything.
    ///
    /// # Errors
    /// Logging was not started by this program.
    fn set(&self, level: LogLevel) -> Result<(), LogControlLost>;
}

/// The level cannot be set: logging belongs to somebody else in this process.
#[derive(Debug, thiserror::Error)]
#[error("logging was not started by the server")]
pub struct LogControlLost;

/// The least level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Defects.
    Error,
    /// What an operator should look at.
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
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much the server logs.
#[derive(Debug, Clone, Copy, Object, Serialize)]
#[oai(example, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// The least level that is logged. It holds until the server stops.
    pub(crate) level: LogLevel,
}

impl Example for LogSettings {
    fn example() -> Self {
        Self { level: LogLevel::Debug }
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
    use serde_json::json;

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
