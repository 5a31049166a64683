//! Lengths of time as people write them.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in configuration and secrets: a text such as `30m`, `200ms` or `1h 30m`, or whole nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// From whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads `30m`, `200ms`, `1h30m`.
    pub fn parse(text: &str) -> Option<Self> {
        humantime::parse_duration(text.trim()).ok().map(Self)
    }
}

impl From<HumanDuration> for Duration {
    fn from(value: HumanDuration) -> Self {
        value.0
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as `30m`, or whole nanoseconds")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                HumanDuration::parse(text).ok_or_else(|| E::custom("is not a duration such as `30m` or `200ms`"))
            }

            fn visit_u64<E: de::Error>(self, nanoseconds: u64) -> Result<HumanDuration, E> {
                Ok(HumanDuration(Duration::from_nanos(nanoseconds)))
            }

            fn visit_i64<E: de::Error>(self, nanoseconds: i64) -> Result<HumanDuration, E> {
                u64::try_from(nanoseconds)
                    .map(|n| HumanDuration(Duration::from_nanos(n)))
                    .map_err(|_| E::custom("is a negative duration"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration: a text such as `30m` or `200ms`, or whole nanoseconds.",
            "type": ["string", "integer"],
            "pattern": r"^\s*(\d+\s*[a-zA-Zµ]+\s*)+$",
            "minimum": 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_nanoseconds_are_read() {
        let read = |json: &str| serde_json::from_str::<HumanDuration>(json);
        assert_eq!(read("\"30m\"").unwrap(), HumanDuration::from_secs(1800));
        assert_eq!(read("\"1h30m\"").unwrap(), HumanDuration::from_secs(5400));
        assert_eq!(read("200000000").unwrap().0, Duration::from_millis(200));
        assert!(read("-1").is_err());
    }

    #[test]
    fn an_error_does_not_repeat_what_was_written() {
        let error = serde_json::from_str::<HumanDuration>("\"canary-value\"").unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
