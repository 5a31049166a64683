//! `tenancy.warm_up`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The tenants with pools that are opened before a request needs them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WarmUp {
    /// No tenant.
    #[default]
    None,
    /// Those of every tenant the provider lists.
    All,
    /// Those of these tenants.
    Tenants(Vec<String>),
}

impl<'de> Deserialize<'de> for WarmUp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = WarmUp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, `all` or a list of tenant ids")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<WarmUp, E> {
                match text {
                    "none" => Ok(WarmUp::None),
                    "all" => Ok(WarmUp::All),
                    _ => Err(E::custom("is not `none`, `all` or a list of tenant ids")),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<WarmUp, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(items)).map(WarmUp::Tenants)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for WarmUp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::All => serializer.serialize_str("all"),
            Self::Tenants(ids) => ids.serialize(serializer),
        }
    }
}

impl JsonSchema for WarmUp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WarmUp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {"type": "string", "enum": ["none", "all"]},
                {"type": "array", "items": {"type": "string"}}
            ]
        })
    }
}
