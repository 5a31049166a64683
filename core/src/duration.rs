//! Lengths of time as people write them.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time as the configuration writes it: a text such as `30m`, `200ms` or `1h 30m`. A
/// bare number is refused, since its unit is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// From whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The longest that is read: ten years. Points in time are computed from durations, and a much
    /// longer one would overflow them.
    pub const LONGEST: Self = Self::from_secs(3650 * 24 * 60 * 60);

    /// The name, in the `format` of a schema, of durations up to [`LONGEST`](Self::LONGEST).
    pub const ANY_FORM: &str = "duration-with-unit";

    /// The same for those that are also at least 1 ms. A field has it by
    /// `#[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]`.
    pub const POSITIVE_FORM: &str = "positive-duration-with-unit";

    /// Reads `30m`, `200ms`, `1h30m`.
    ///
    /// # Errors
    /// Why it is refused, without the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if is_bare_number(text) {
            return Err(UNIT_MISSING);
        }
        let read = humantime::parse_duration(text.trim()).map(Self);
        let read = read.map_err(|_| "is not a duration such as `30m` or `200ms`")?;
        if read > Self::LONGEST { Err(TOO_LONG) } else { Ok(read) }
    }
}

/// The reason for refusing a duration that is longer than [`HumanDuration::LONGEST`].
pub const TOO_LONG: &str = "must be at most 3650 days";

/// The reason for refusing a duration that is a bare number.
pub const UNIT_MISSING: &str = "has no unit: write `30s` for 30 seconds, or `200ms`";

/// Whether a text is a number and no more, so that a duration's unit is missing. `0` needs none.
pub fn is_bare_number(text: &str) -> bool {
    let text = text.trim();
    text != "0" && text.parse::<f64>().is_ok()
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
                f.write_str("a duration such as `30m`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                HumanDuration::parse(text).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<HumanDuration, E> {
                Err(E::custom(UNIT_MISSING))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<HumanDuration, E> {
                Err(E::custom(UNIT_MISSING))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<HumanDuration, E> {
                Err(E::custom(UNIT_MISSING))
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
            "description": "A duration with its unit, such as `30m` or `200ms`.",
            "type": "string",
            "format": Self::ANY_FORM,
            "pattern": r"^\s*(\d+\s*[a-zA-Zµ]+\s*)+$"
        })
    }
}

/// A length of time as answers and log lines write it, in their fields that end in `_ms`: to the
/// microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_units_is_read_and_a_bare_number_is_refused() {
        let read = |json: &str| serde_json::from_str::<HumanDuration>(json);
        assert_eq!(read("\"30m\"").unwrap(), HumanDuration::from_secs(1800));
        assert_eq!(read("\"1h30m\"").unwrap(), HumanDuration::from_secs(5400));
        for bare in ["200000000", "-1", "30", "1.5", "\"30\"", "\" 1e3 \""] {
            let error = read(bare).unwrap_err().to_string();
            assert!(error.contains("has no unit"), "{bare}: {error}");
        }
    }

    #[test]
    fn a_duration_that_overflows_a_point_in_time_is_refused() {
        assert_eq!(HumanDuration::parse("3650days"), Ok(HumanDuration::LONGEST));
        for long in ["3650days 1s", "400000000000years", "18446744073709551615s"] {
            assert_eq!(HumanDuration::parse(long), Err(TOO_LONG), "{long}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_what_was_written() {
        let error = serde_json::from_str::<HumanDuration>("\"canary-value\"").unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
