//! Types of the interfaces that poem-openapi has none for.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A value that is always in the answer, and may be `null`: poem-openapi's `Option` documents one
/// that may be absent and never is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Nullable<T>(pub Option<T>);

impl<T> From<Option<T>> for Nullable<T> {
    fn from(value: Option<T>) -> Self {
        Self(value)
    }
}

impl<T: Type> Type for Nullable<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = T::RawValueType;
    type RawElementValueType = T::RawElementValueType;

    fn name() -> Cow<'static, str> {
        format!("nullable_{}", T::name()).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let nullable = MetaSchema {
            nullable: true,
            ..MetaSchema::ANY
        };
        match T::schema_ref() {
            // OpenAPI 3.0.3, schema object: a `$ref` may have no siblings.
            reference @ MetaSchemaRef::Reference(_) => MetaSchemaRef::Inline(Box::new(MetaSchema {
                all_of: vec![reference],
                ..nullable
            })),
            inline @ MetaSchemaRef::Inline(_) => inline.merge(nullable),
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        self.0.as_ref().and_then(Type::as_raw_value)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        match &self.0 {
            Some(value) => value.raw_element_iter(),
            None => Box::new(std::iter::empty()),
        }
    }
}

impl<T: ParseFromJSON> ParseFromJSON for Nullable<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::Null) => Ok(Self(None)),
            value => T::parse_from_json(value)
                .map(|value| Self(Some(value)))
                .map_err(ParseError::propagate),
        }
    }
}

impl<T: ToJSON> ToJSON for Nullable<T> {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.as_ref().and_then(ToJSON::to_json).unwrap_or(Value::Null))
    }
}

/// A time, written as RFC 3339 has it, in UTC, with a `Z`: poem-openapi's `DateTime<Utc>` writes
/// `+00:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub DateTime<Utc>);

impl Type for Timestamp {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "timestamp".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "date-time")))
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for Timestamp {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::String(text)) => match DateTime::parse_from_rfc3339(&text) {
                Ok(time) => Ok(Self(time.to_utc())),
                Err(_) => Err(ParseError::custom("is not a time of RFC 3339")),
            },
            Some(_) => Err(ParseError::custom("is not a text")),
            None => Err(ParseError::expected_input()),
        }
    }
}

impl ToJSON for Timestamp {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As one text: chrono's own `Serialize` hands it over in a dozen pieces, each of which
        // serde_json searches for characters to escape.
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::Object;
    use serde_json::json;

    use super::*;

    #[derive(Object)]
    struct Inner {
        a: u8,
    }

    #[derive(Object)]
    struct Outer {
        text: Nullable<String>,
        inner: Nullable<Inner>,
    }

    #[test]
    fn a_nullable_value_is_required_and_may_be_null() {
        let mut registry = Registry::new();
        Outer::register(&mut registry);
        let schema = serde_json::to_value(&registry.schemas["Outer"]).unwrap();
        assert_eq!(schema["required"], json!(["text", "inner"]));
        assert_eq!(
            schema["properties"]["text"],
            json!({"type": "string", "nullable": true})
        );
        let reference = json!({"nullable": true, "allOf": [{"$ref": "#/components/schemas/Inner"}]});
        assert_eq!(schema["properties"]["inner"], reference);
        let value = Outer {
            text: Nullable(None),
            inner: Some(Inner { a: 1 }).into(),
        };
        assert_eq!(value.to_json(), Some(json!({"text": null, "inner": {"a": 1}})));
    }

    #[test]
    fn a_time_is_written_the_same_in_both_ways() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-12-31T23:59:59.120Z",
            "2026-01-02T03:04:05.000001Z",
            "2026-01-02T03:04:05.678901234Z",
            "0001-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "+12026-01-02T03:04:05Z",
            "2016-12-31T23:59:60Z",
        ] {
            let time = Timestamp(text.parse().unwrap());
            assert_eq!(time.to_json(), Some(serde_json::to_value(time).unwrap()), "{text}");
        }
    }

    #[test]
    fn a_time_ends_in_z() {
        let time = "2026-01-02T03:04:05+01:00".parse::<DateTime<Utc>>().unwrap();
        assert_eq!(Timestamp(time).to_json(), Some("2026-01-02T02:04:05Z".into()));
    }
}
