//! The types of columns.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess},
    ser::SerializeMap as _,
};

/// The type of a column's values, whatever the database calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// A whole number of 16 bits.
    Int2,
    /// A whole number of 32 bits.
    Int4,
    /// A whole number of 64 bits.
    Int8,
    /// A floating-point number of 32 bits.
    Float4,
    /// A floating-point number of 64 bits.
    Float8,
    /// A decimal number with all of its digits.
    Numeric,
    /// Text.
    Text,
    /// A UUID.
    Uuid,
    /// A day.
    Date,
    /// A time of day.
    Time,
    /// A day and a time of day.
    Timestamp,
    /// A point in time.
    Timestamptz,
    /// Bytes.
    Bytea,
    /// JSON.
    Json,
    /// One of these texts.
    Enum(Vec<String>),
}

impl ColumnType {
    /// The types that are one word.
    pub(crate) const WORDS: [(&'static str, Self); 15] = [
        ("bool", Self::Bool),
        ("int2", Self::Int2),
        ("int4", Self::Int4),
        ("int8", Self::Int8),
        ("float4", Self::Float4),
        ("float8", Self::Float8),
        ("numeric", Self::Numeric),
        ("text", Self::Text),
        ("uuid", Self::Uuid),
        ("date", Self::Date),
        ("time", Self::Time),
        ("timestamp", Self::Timestamp),
        ("timestamptz", Self::Timestamptz),
        ("bytea", Self::Bytea),
        ("json", Self::Json),
    ];

    /// The word in the declaration; `enum` for one of several texts.
    pub fn word(&self) -> &'static str {
        let mut words = Self::WORDS.iter();
        words.find(|(_, kind)| kind == self).map_or("enum", |(word, _)| word)
    }

    /// Whether its values are texts in the database.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Enum(_))
    }

    /// The name that PostgreSQL's error messages use.
    pub(crate) fn in_messages(&self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamp with time zone",
            other => other.word(),
        }
    }
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Enum(values) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("enum", values)?;
                map.end()
            }
            other => serializer.serialize_str(other.word()),
        }
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ColumnType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a type, or a mapping with `enum`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ColumnType, E> {
                let mut words = ColumnType::WORDS.into_iter();
                let found = words.find(|(word, _)| *word == text).map(|(_, kind)| kind);
                found.ok_or_else(|| E::custom("is not the name of a type"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<ColumnType, A::Error> {
                let mut values = None;
                while let Some(key) = members.next_key::<String>()? {
                    match key.as_str() {
                        "enum" => values = Some(members.next_value()?),
                        _ => return Err(de::Error::custom("unknown key")),
                    }
                }
                values
                    .map(ColumnType::Enum)
                    .ok_or_else(|| de::Error::missing_field("enum"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ColumnType {
    fn schema_name() -> Cow<'static, str> {
        "ColumnType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = Self::WORDS.iter().map(|(word, _)| *word).collect();
        json_schema!({
            "anyOf": [
                {"type": "string", "enum": words},
                {
                    "type": "object",
                    "properties": {
                        "enum": {
                            "description": "The texts that the column may hold.",
                            "type": "array",
                            "items": {"type": "string"},
                            "minItems": 1,
                            "maxItems": 1000,
                            "uniqueItems": true,
                        }
                    },
                    "required": ["enum"],
                    "additionalProperties": false,
                },
            ]
        })
    }
}
