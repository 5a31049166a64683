//! One schema of an operation, and what is wrong with a value of it.

use std::sync::OnceLock;

use jsonschema::{
    Draft, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind as Wrong},
    types::JsonType,
};
use serde_json::{Value, json};

use crate::{document::bound_integer, input::unknown};

/// The most faults that are looked for in one part of a request.
const MOST: usize = 20;

/// A schema with what it refers to, made ready when it is needed first: most operations never see a
/// bad request.
pub(super) struct Schema {
    value: Value,
    validator: OnceLock<Option<Validator>>,
}

impl Schema {
    pub(super) fn new(value: &Value, components: &Value) -> Self {
        let mut value = json!({"allOf": [value], "components": components});
        adapt(&mut value);
        Self {
            value,
            validator: OnceLock::new(),
        }
    }

    /// The schema itself, behind a reference if it is one.
    pub(super) fn resolved(&self) -> &Value {
        let own = &self.value["allOf"][0];
        let found = own["$ref"]
            .as_str()
            .and_then(|path| self.value.pointer(path.strip_prefix('#')?));
        found.unwrap_or(own)
    }

    /// The faults of `value`: the place and the message of each.
    pub(super) fn faults(&self, value: &Value) -> Vec<(String, String)> {
        let validator = self.validator.get_or_init(|| {
            let mut options = jsonschema::options()
                .with_draft(Draft::Draft4)
                .should_validate_formats(true);
            for (name, check) in FORMATS {
                options = options.with_format(*name, check);
            }
            match options.build(&self.value) {
                Ok(validator) => Some(validator),
                Err(error) => {
                    tracing::warn!(%error, "requests are not checked whole: an operation's schema is not valid");
                    None
                }
            }
        });
        let errors = validator.iter().flat_map(|validator| validator.iter_errors(value));
        errors.take(MOST).flat_map(|error| words(&error)).take(MOST).collect()
    }
}

type Format = (&'static str, fn(&str) -> bool);

/// The formats that poem-openapi's types have and JSON Schema's draft 4 does not.
const FORMATS: &[Format] = &[
    ("date", |text| text.parse::<chrono::NaiveDate>().is_ok()),
    ("naive-date", |text| text.parse::<chrono::NaiveDate>().is_ok()),
    ("naive-date-time", |text| text.parse::<chrono::NaiveDateTime>().is_ok()),
    ("naive-time", |text| text.parse::<chrono::NaiveTime>().is_ok()),
    ("uuid", |text| uuid::Uuid::parse_str(text).is_ok()),
];

/// Rewrites a schema of OpenAPI 3.0 as one of JSON Schema. poem-openapi accepts `null` for an
/// optional member.
fn adapt(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let required = members.get("required").cloned();
            let is_required = |name: &str| {
                let all = required.as_ref().and_then(Value::as_array);
                all.is_some_and(|all| all.iter().any(|required| required == name))
            };
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                for (name, property) in properties.iter_mut() {
                    adapt(property);
                    if !is_required(name) {
                        *property = json!({"anyOf": [{"type": "null"}, property.take()]});
                    }
                }
            }
            bound_integer(members);
            let others = members
                .iter_mut()
                .filter(|(key, _)| *key != "properties" && *key != "example");
            others.for_each(|(_, value)| adapt(value));
            if members.shift_remove("nullable") == Some(Value::Bool(true)) {
                *schema = json!({"anyOf": [{"type": "null"}, schema.take()]});
            }
        }
        Value::Array(items) => items.iter_mut().for_each(adapt),
        _ => {}
    }
}

/// What is wrong, in words that repeat no value: the pointer, and what follows "the body's
/// `/name`".
fn words(error: &ValidationError<'_>) -> Vec<(String, String)> {
    let pointer = error.instance_path().as_str().to_owned();
    let detail = match error.kind() {
        Wrong::Required { property } => {
            let missing = unknown(property.as_str().unwrap_or_default())
                .pointer
                .unwrap_or_default();
            return vec![(pointer + &missing, "is missing".to_owned())];
        }
        Wrong::AdditionalProperties { unexpected } => {
            let members = unexpected.iter().map(|key| {
                let fault = unknown(key);
                (pointer.clone() + &fault.pointer.unwrap_or_default(), fault.detail)
            });
            return members.collect();
        }
        // A member that may be null: what is wrong with it otherwise is what matters.
        Wrong::AnyOf { context } => {
            let others = context.iter().find(|branch| !branch.iter().any(is_not_null));
            if let Some(others) = others.filter(|others| !others.is_empty()) {
                return others.iter().flat_map(words).collect();
            }
            "matches none of the allowed forms".to_owned()
        }
        Wrong::OneOfNotValid { .. } => "matches none of the allowed forms".to_owned(),
        Wrong::Type { kind } => format!("is not {}", type_names(kind)),
        Wrong::Enum { options } => format!("is not one of {}", listed(options)),
        Wrong::Constant { expected_value } => format!("is not {}", quoted(expected_value)),
        Wrong::Format { format } => match format.as_str() {
            "date-time" => "is not a time such as `2026-01-02T03:04:05Z`".to_owned(),
            "date" | "naive-date" => "is not a date such as `2026-01-02`".to_owned(),
            "naive-date-time" => "is not a time such as `2026-01-02T03:04:05`".to_owned(),
            "naive-time" => "is not a time such as `03:04:05`".to_owned(),
            "email" => "is not an email address".to_owned(),
            "uuid" => "is not a UUID".to_owned(),
            other => format!("is not of the form `{other}`"),
        },
        bound => broken_bound(bound),
    };
    vec![(pointer, detail)]
}

fn broken_bound(kind: &Wrong) -> String {
    match kind {
        Wrong::MinLength { limit: 1 } => "is empty".to_owned(),
        Wrong::MinLength { limit } => format!("is shorter than {limit} characters"),
        Wrong::MaxLength { limit: 1 } => "is longer than 1 character".to_owned(),
        Wrong::MaxLength { limit } => format!("is longer than {limit} characters"),
        Wrong::Minimum { limit } => format!("is less than {}", number(limit)),
        Wrong::Maximum { limit } => format!("is more than {}", number(limit)),
        Wrong::ExclusiveMinimum { limit } => format!("is not more than {}", number(limit)),
        Wrong::ExclusiveMaximum { limit } => format!("is not less than {}", number(limit)),
        Wrong::MultipleOf { multiple_of } => format!("is not a multiple of {multiple_of}"),
        Wrong::Pattern { pattern } => format!("does not match the pattern `{pattern}`"),
        Wrong::MinItems { limit: 1 } => "is empty".to_owned(),
        Wrong::MinItems { limit } => format!("has fewer than {limit} items"),
        Wrong::MaxItems { limit: 1 } => "has more than 1 item".to_owned(),
        Wrong::MaxItems { limit } => format!("has more than {limit} items"),
        Wrong::UniqueItems => "contains the same item twice".to_owned(),
        _ => "is not valid".to_owned(),
    }
}

fn is_not_null(error: &ValidationError<'_>) -> bool {
    matches!(
        error.kind(),
        Wrong::Type {
            kind: TypeKind::Single(JsonType::Null)
        }
    )
}

fn type_names(kind: &TypeKind) -> String {
    let names: Vec<&str> = match kind {
        TypeKind::Single(one) => vec![type_name(*one)],
        TypeKind::Multiple(several) => several.iter().map(type_name).collect(),
    };
    names.join(" or ")
}

fn type_name(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "`true` or `false`",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "a string",
        JsonType::Array => "a list",
        JsonType::Object => "an object",
    }
}

fn listed(options: &Value) -> String {
    let all: Vec<String> = options.as_array().into_iter().flatten().map(quoted).collect();
    all.join(", ")
}

fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// `200` for `200.0`.
fn number(limit: &Value) -> String {
    match limit.as_f64() {
        Some(whole) if whole.fract() == 0.0 && whole.abs() < 9.0e15 => (whole as i64).to_string(),
        _ => limit.to_string(),
    }
}
