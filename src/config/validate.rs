//! Checks the configuration against its schema. Each fault is described without repeating a value.

use std::fmt;

use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind as Wrong},
    types::JsonType,
};
use schemars::SchemaGenerator;
use serde_json::Value;
use tenantry_core::{HumanDuration, UNIT_MISSING, is_bare_number, nearest};

use crate::plugins;

use super::{
    checks::needs_feature,
    fault::{Fault, Step, below},
    schema,
    tree::{Kind, Node, Places},
    values::FORMS,
};

/// Every way in which `root` is not what `schema` says.
pub(crate) fn validate(root: &Node, places: &Places, schema: &Value) -> Vec<Fault> {
    let validator = match validator(schema) {
        Ok(validator) => validator,
        // Only a plugin with a broken schema leads here; the schema holds no value.
        Err(error) => {
            let message = format!("cannot be checked: a plugin's schema is not valid: {error}");
            return vec![Fault::new(places.value(&[]), &[], message)];
        }
    };
    let value = root.to_value();
    let checker = Checker { root, places, schema };
    let mut faults = Vec::new();
    for error in validator.iter_errors(&value) {
        checker.report(&error, &mut faults);
    }
    faults
}

/// The fault of a plugin that this program is built without, if the unknown type is one.
fn left_out(type_name: &str) -> Option<String> {
    let mut known = plugins::FEATURES.into_iter();
    let (_, feature) = known.find(|(known, _)| *known == type_name)?;
    Some(needs_feature(feature))
}

/// A validator that knows the forms of our own values.
pub(crate) fn validator(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let mut options = jsonschema::options().should_validate_formats(true);
    for form in FORMS {
        options = options.with_format(form.name, form.check);
    }
    options.build(schema)
}

struct Checker<'a> {
    root: &'a Node,
    places: &'a Places,
    schema: &'a Value,
}

impl Checker<'_> {
    fn report(&self, error: &ValidationError<'_>, faults: &mut Vec<Fault>) {
        let path = self.path(error.instance_path().as_str());
        match error.kind() {
            Wrong::AdditionalProperties { unexpected } | Wrong::UnevaluatedProperties { unexpected } => {
                let known = self.known_keys(error.schema_path().as_str());
                for key in unexpected {
                    let path = below(&path, key.as_str());
                    let is_driver = matches!(path.as_slice(), [family, _] if *family == "drivers".into());
                    let left_out = is_driver.then(|| left_out(key)).flatten();
                    let message = left_out.clone().unwrap_or_else(|| "unknown key".to_owned());
                    let meant = left_out.is_none().then(|| nearest(key, known.iter().copied()));
                    let fault = Fault::new(self.places.key(&path), &path, message);
                    faults.push(fault.with_suggestion(meant.flatten()));
                }
            }
            Wrong::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let path = below(&path, name);
                let mut fault = Fault::new(self.places.key(&path), &path, "is missing");
                // The valid keys depend on `type`, so a misspelt `type` is not reported as an
                // unknown key.
                let mut written = error
                    .instance()
                    .as_object()
                    .into_iter()
                    .flat_map(|object| object.keys());
                if name == "type"
                    && let Some(typo) = written.find(|key| nearest(key, [name]).is_some())
                {
                    fault.message = format!("is missing; is it the key `{typo}`?");
                }
                faults.push(fault);
            }
            _ if self.lacks_unit(error) => faults.push(self.wrong_value(&path, UNIT_MISSING.to_owned())),
            Wrong::AnyOf { context } | Wrong::OneOfNotValid { context } => {
                self.report_choice(error, context, &path, faults)
            }
            Wrong::Enum { options } => {
                let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
                faults.push(self.wrong_choice(error, &path, options.iter(), &[]));
            }
            _ => faults.push(self.wrong_value(&path, words(error))),
        }
    }

    /// Whether the value is a bare number at the place of a duration.
    fn lacks_unit(&self, error: &ValidationError<'_>) -> bool {
        let bare = match error.instance().as_ref() {
            Value::Number(_) => true,
            Value::String(text) => is_bare_number(text),
            _ => false,
        };
        let pointer = error.schema_path().to_string();
        let outer = pointer
            .rsplit_once('/')
            .and_then(|(outer, _)| self.schema.pointer(outer));
        let takes_duration = |schema: &Value| schema["pattern"].as_str().is_some_and(is_duration);
        bare && outer.is_some_and(|outer| takes_duration(outer) || schema::branches(outer).any(takes_duration))
    }

    /// Reports a failed choice by the branch that was probably meant: one of several constants, the
    /// only branch with a fitting type, or the branch with the fewest faults.
    fn report_choice(&self, error: &ValidationError<'_>, context: &[Branch], path: &[Step], faults: &mut Vec<Fault>) {
        let of_type = |branch: &&Branch| !branch.iter().any(|inner| is_type_of(inner, error));
        let fitting: Vec<&Branch> = context.iter().filter(of_type).collect();
        let constants: Vec<Option<Vec<&Value>>> = fitting.iter().map(|branch| constants_of(branch, error)).collect();
        if let Some(constants) = constants.into_iter().collect::<Option<Vec<_>>>()
            && !constants.is_empty()
        {
            let types = refused_types(error, context);
            faults.push(self.wrong_choice(error, path, constants.into_iter().flatten(), &types));
            return;
        }
        let fewest = fitting.iter().map(|branch| branch.len()).min();
        let mut best = fitting.into_iter().filter(|branch| Some(branch.len()) == fewest);
        match (best.next(), best.next()) {
            (Some(branch), None) => branch.iter().for_each(|inner| self.report(inner, faults)),
            (None, _) => {
                let message = type_message(&refused_types(error, context), error.instance());
                faults.push(self.wrong_value(path, message));
            }
            _ => faults.push(self.wrong_value(path, "matches none of the allowed forms".to_owned())),
        }
    }

    /// The message for a value that is none of `options` and of none of `types`.
    fn wrong_choice<'v>(
        &self,
        error: &ValidationError<'_>,
        path: &[Step],
        options: impl Iterator<Item = &'v Value>,
        types: &[JsonType],
    ) -> Fault {
        let is_type = path.last() == Some(&"type".into());
        if let Some(message) = error.instance().as_str().filter(|_| is_type).and_then(left_out) {
            return self.wrong_value(path, message);
        }
        let options: Vec<String> = options.map(plain).collect();
        let mut shown: Vec<String> = options.iter().map(|option| format!("`{option}`")).collect();
        shown.extend(
            types
                .iter()
                .filter(|name| **name != JsonType::Null)
                .map(|name| TypeName(*name).to_string()),
        );
        let message = match shown.as_slice() {
            [] => "no value is valid here".to_owned(),
            [only] => format!("must be {only}"),
            several => format!("must be one of {}", several.join(", ")),
        };
        let meant = error
            .instance()
            .as_str()
            .and_then(|written| nearest(written, options.iter().map(String::as_str)));
        self.wrong_value(path, message).with_suggestion(meant)
    }

    fn wrong_value(&self, path: &[Step], message: String) -> Fault {
        Fault::new(self.places.value(path), path, message)
    }

    /// The steps of a JSON pointer. The tree decides whether a number is an index or a key.
    fn path(&self, pointer: &str) -> Vec<Step> {
        let mut node = Some(self.root);
        let mut path = Vec::new();
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            let (step, next) = match (node.map(|node| &node.kind), segment.parse::<usize>()) {
                (Some(Kind::List(items)), Ok(index)) => (Step::Index(index), items.get(index)),
                _ => {
                    let next = node.and_then(|node| node.get(&segment));
                    (Step::Key(segment), next)
                }
            };
            path.push(step);
            node = next;
        }
        path
    }

    /// The valid keys of the mapping that the keyword at `pointer` belongs to.
    fn known_keys(&self, pointer: &str) -> Vec<&str> {
        let mapping = pointer
            .rsplit_once('/')
            .and_then(|(outer, _)| self.schema.pointer(outer));
        let properties = mapping.and_then(|mapping| mapping.get("properties")?.as_object());
        properties
            .into_iter()
            .flat_map(|known| known.keys().map(String::as_str))
            .collect()
    }
}

type Branch = Vec<ValidationError<'static>>;

/// The constants of a branch that fails for nothing but them.
fn constants_of<'c>(branch: &'c Branch, outer: &ValidationError<'_>) -> Option<Vec<&'c Value>> {
    let [only] = branch.as_slice() else {
        return None;
    };
    match only.kind() {
        _ if only.instance_path() != outer.instance_path() => None,
        Wrong::Constant { expected_value } => Some(vec![expected_value.as_ref()]),
        Wrong::Enum { options } => Some(options.as_array()?.iter().collect()),
        _ => None,
    }
}

/// Whether `inner` says that the value `outer` is about is of a wrong type.
fn is_type_of(inner: &ValidationError<'_>, outer: &ValidationError<'_>) -> bool {
    matches!(inner.kind(), Wrong::Type { .. }) && inner.instance_path() == outer.instance_path()
}

/// The types of the branches that refuse the value for its type.
fn refused_types(error: &ValidationError<'_>, context: &[Branch]) -> Vec<JsonType> {
    let mut types: Vec<JsonType> = Vec::new();
    for inner in context.iter().flatten().filter(|inner| is_type_of(inner, error)) {
        if let Wrong::Type { kind } = inner.kind() {
            for name in expected_types(kind) {
                if !types.contains(&name) {
                    types.push(name);
                }
            }
        }
    }
    types
}

fn words(error: &ValidationError<'_>) -> String {
    let plural = |count: &u64, what: &str| format!("{count} {what}{}", if *count == 1 { "" } else { "s" });
    match error.kind() {
        Wrong::Type { kind } => type_message(&expected_types(kind), error.instance()),
        Wrong::Constant { expected_value } => format!("must be `{}`", plain(expected_value)),
        Wrong::Minimum { limit } => format!("must be at least {limit}"),
        Wrong::Maximum { limit } => format!("must be at most {limit}"),
        Wrong::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Wrong::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Wrong::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Wrong::MinLength { limit: 1 } => "must not be empty".to_owned(),
        Wrong::MinLength { limit } => format!("must have at least {}", plural(limit, "character")),
        Wrong::MaxLength { limit } => format!("must have at most {}", plural(limit, "character")),
        Wrong::MinItems { limit } => format!("must have at least {}", plural(limit, "item")),
        Wrong::MaxItems { limit } => format!("must have at most {}", plural(limit, "item")),
        Wrong::MinProperties { limit } => format!("must have at least {}", plural(limit, "key")),
        Wrong::MaxProperties { limit } => format!("must have at most {}", plural(limit, "key")),
        Wrong::UniqueItems => "contains the same item twice".to_owned(),
        Wrong::Pattern { pattern } if is_duration(pattern) => "is not a duration such as `30m` or `200ms`".to_owned(),
        Wrong::Pattern { pattern } => format!("does not match `{pattern}`"),
        Wrong::PropertyNames { error } => format!("a key in it {}", words(error)),
        Wrong::OneOfMultipleValid { .. } => "matches more than one of the allowed forms".to_owned(),
        Wrong::Format { format } => match FORMS.iter().find(|form| form.name == format) {
            Some(form) => form.message.to_owned(),
            None => format!("is not of the form `{format}`"),
        },
        other => format!("is not valid (`{}`)", other.keyword()),
    }
}

/// Whether `pattern` is that of durations; the message then explains it in words.
fn is_duration(pattern: &str) -> bool {
    let duration = SchemaGenerator::default().into_root_schema_for::<HumanDuration>();
    duration.get("pattern").and_then(Value::as_str) == Some(pattern)
}

fn expected_types(kind: &TypeKind) -> Vec<JsonType> {
    match kind {
        TypeKind::Single(one) => vec![*one],
        TypeKind::Multiple(several) => several.iter().collect(),
    }
}

fn type_message(expected: &[JsonType], found: &Value) -> String {
    // "or null" is no help for a value that is present.
    let names = expected
        .iter()
        .filter(|name| expected.len() == 1 || **name != JsonType::Null);
    let names: Vec<String> = names.map(|name| TypeName(*name).to_string()).collect();
    let found_name = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    let quotes = expected.contains(&JsonType::String) && matches!(found, Value::Bool(_) | Value::Number(_));
    let hint = if quotes { " (put it in quotes)" } else { "" };
    format!("expected {}, found {found_name}{hint}", names.join(" or "))
}

struct TypeName(JsonType);

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            JsonType::Null => "nothing",
            JsonType::Boolean => "`true` or `false`",
            JsonType::Integer => "a whole number",
            JsonType::Number => "a number",
            JsonType::String => "a string",
            JsonType::Array => "a list",
            JsonType::Object => "a mapping",
        })
    }
}

/// A constant of the schema as YAML would write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
