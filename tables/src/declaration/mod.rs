//! The declaration of tables as a file holds it.

mod check;
mod column_type;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::DeclarationFault;
pub use column_type::ColumnType;

/// Names in URLs, JSON and rules: letters, digits, `_` and `-`.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    begins && name.len() <= 63 && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A name in PascalCase, as the OpenAPI document and the code that is generated from it have it.
pub(crate) fn pascal(name: &str) -> String {
    let words = name.split(['_', '-']);
    let words = words.map(|word| match word.split_at_checked(1) {
        Some((first, rest)) => format!("{}{rest}", first.to_uppercase()),
        None => String::new(),
    });
    words.collect()
}

/// The declared tables: the name in URLs, and what the table is.
pub type Tables = BTreeMap<String, TableDeclaration>;

/// One table, or one view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableDeclaration {
    /// The name in the database; by default the name in URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub table: Option<String>,
    /// The schema that holds it, on PostgreSQL and Oracle; by default that of the tenant's
    /// connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub schema: Option<String>,
    /// What the table holds, for the OpenAPI document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The columns of its primary key. Without a key rows are only read, and pages have no `after`.
    #[serde(default)]
    pub key: Vec<String>,
    /// The columns, by their names in URLs and JSON. Columns that are not declared are never
    /// selected.
    #[serde(deserialize_with = "in_order", serialize_with = "as_mapping")]
    #[schemars(with = "BTreeMap<String, ColumnDeclaration>")]
    pub columns: Vec<(String, ColumnDeclaration)>,
    /// The rows of other tables that belong to a row of this one, by their names in `select`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relations: BTreeMap<String, RelationDeclaration>,
    /// What each role may do. A role that is not named may do nothing. The role of requests without
    /// a token is `anon`.
    #[serde(default)]
    pub allow: BTreeMap<String, RoleDeclaration>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnDeclaration {
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether it may hold NULL.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nullable: bool,
    /// Whether the database has a default for it, so that a new row may leave it out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub default: bool,
    /// Whether the database makes its value, such as that of a sequence. Clients never write it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub generated: bool,
    /// Whether clients only read it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// The name in the database; by default the name in URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub column: Option<String>,
    /// The most characters of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max: Option<u32>,
    /// The version of the migration that adds it. Tenants at an earlier version do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub since: Option<String>,
    /// What it holds, for the OpenAPI document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Rows of another table that belong to a row of this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelationDeclaration {
    /// The other table, by its name in URLs.
    pub to: String,
    /// Columns of this table, and the columns of the other one that have the same values.
    #[schemars(extend("minProperties" = 1))]
    pub on: BTreeMap<String, String>,
    /// Whether there may be several such rows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub many: bool,
}

/// What one role may do with the rows of a table. An action that is left out is not allowed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoleDeclaration {
    /// Reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<AccessDeclaration>,
    /// Making new rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<AccessDeclaration>,
    /// Changing rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<AccessDeclaration>,
    /// Removing rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete: Option<AccessDeclaration>,
}

/// The columns and the rows that an action is allowed for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessDeclaration {
    /// The columns; by default all that are declared. Removing takes whole rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// A filter such as `customer_id=eq.{claims.customer}`: the action is allowed for the rows that
    /// match. `{claims.x}` is a claim of the request's token, `{tenant}` the tenant's id. By
    /// default all rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
}

/// The number of a version such as `0004`.
pub(crate) fn version(text: &str) -> Option<i64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Reads a mapping and keeps the order in which it was written: it is the order of `select=*`.
fn in_order<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, ColumnDeclaration)>, D::Error> {
    struct Ordered;
    impl<'de> serde::de::Visitor<'de> for Ordered {
        type Value = Vec<(String, ColumnDeclaration)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a mapping")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut columns = Vec::new();
            while let Some(column) = members.next_entry()? {
                columns.push(column);
            }
            Ok(columns)
        }
    }
    deserializer.deserialize_map(Ordered)
}

fn as_mapping<S: serde::Serializer>(columns: &[(String, ColumnDeclaration)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(columns.iter().map(|(name, column)| (name, column)))
}
