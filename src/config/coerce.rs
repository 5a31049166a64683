//! Converts text from the environment to the type that the schema expects.
//!
//! If the schema allows several types, they are tried in this order: empty is null, `true` and
//! `false`, whole numbers, numbers, `[...]` and `{...}`, text. A list may also be written `a, b`. A
//! text that fits none of the allowed types stays text, and the validation that follows reports the
//! fault.

use serde_json::{Number, Value};

use super::{
    fault::{Fault, Step, below},
    schema,
    tree::{Kind, Node},
    yaml::parse,
};

/// The types that a schema allows; all of them if it has no `type`.
#[derive(Clone, Copy, Default)]
struct Types {
    anything: bool,
    null: bool,
    boolean: bool,
    integer: bool,
    number: bool,
    text: bool,
    list: bool,
    map: bool,
}

impl Types {
    fn of(schema: Option<&Value>) -> Self {
        let anything = Self {
            anything: true,
            ..Self::default()
        };
        let Some(schema) = schema.filter(|schema| schema.is_object()) else {
            return anything;
        };
        let mut types = Self::default();
        match schema.get("type") {
            Some(Value::String(name)) => types.add(name),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).for_each(|name| types.add(name)),
            _ => {
                let constants = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
                let constants: Vec<&Value> = constants.chain(schema.get("const")).collect();
                let mut branches = schema::branches(schema).peekable();
                if constants.is_empty() && branches.peek().is_none() {
                    return anything;
                }
                constants.into_iter().for_each(|constant| types.add(type_of(constant)));
                for branch in branches {
                    types = types.or(Self::of(Some(branch)));
                }
            }
        }
        types
    }

    fn add(&mut self, name: &str) {
        match name {
            "null" => self.null = true,
            "boolean" => self.boolean = true,
            "integer" => self.integer = true,
            "number" => self.number = true,
            "string" => self.text = true,
            "array" => self.list = true,
            "object" => self.map = true,
            _ => {}
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            anything: self.anything || other.anything,
            null: self.null || other.null,
            boolean: self.boolean || other.boolean,
            integer: self.integer || other.integer,
            number: self.number || other.number,
            text: self.text || other.text,
            list: self.list || other.list,
            map: self.map || other.map,
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Makes `node` and everything in it fit `schema`, if there is only one way to do so. A section
/// without keys, which YAML reads as null, becomes an empty mapping. A whole number written `1.0`
/// becomes an integer if only integers are allowed.
pub(crate) fn coerce(node: &mut Node, schema: Option<&Value>, path: &[Step], faults: &mut Vec<Fault>) {
    let types = Types::of(schema);
    if let Kind::Loose(text) = &node.kind {
        let text = text.clone();
        node.kind = read(&text, types, node, path, faults);
    }
    match &mut node.kind {
        Kind::Null if types.map && !types.null => node.kind = Kind::Map(Vec::new()),
        Kind::Number(number) if types.integer && !types.number => {
            // Beyond 2^53 a float has lost digits, and what was meant is not known.
            if let Some(float) = number.as_f64()
                && number.is_f64()
                && float.fract() == 0.0
                && (0.0..9e15).contains(&float)
            {
                *number = Number::from(float as u64);
            }
        }
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let of_item = schema.and_then(|schema| schema::item(schema, index));
                coerce(item, of_item, &below(path, Step::Index(index)), faults);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let of_member = schema.and_then(|schema| schema::member(schema, &entry.key));
                coerce(&mut entry.value, of_member, &below(path, entry.key.as_str()), faults);
            }
        }
        _ => {}
    }
}

fn read(text: &str, types: Types, node: &Node, path: &[Step], faults: &mut Vec<Fault>) -> Kind {
    let trimmed = text.trim();
    if types.null && trimmed.is_empty() {
        return Kind::Null;
    }
    if types.boolean
        && let Ok(value) = trimmed.to_lowercase().parse()
    {
        return Kind::Bool(value);
    }
    if types.integer || types.number {
        let integer = trimmed.parse::<u64>().map(Number::from);
        let integer = integer.or_else(|_| trimmed.parse::<i64>().map(Number::from));
        if let Ok(number) = integer {
            return Kind::Number(number);
        }
    }
    if types.number
        && let Some(number) = trimmed.parse().ok().and_then(Number::from_f64)
    {
        return Kind::Number(number);
    }
    let bracketed = (types.list && trimmed.starts_with('[')) || (types.map && trimmed.starts_with('{'));
    let only_structured = !types.text && !types.anything && (types.list || types.map);
    if bracketed || (only_structured && types.map) {
        let mut found = Vec::new();
        match parse(text, &node.place, path, &mut found) {
            Some(read) => {
                faults.append(&mut found);
                return read.kind;
            }
            None if types.text => {}
            None => {
                let unread = || Fault::new(node.place.clone(), path, "is not valid YAML");
                return Kind::Broken(Box::new(found.pop().unwrap_or_else(unread)));
            }
        }
    } else if only_structured {
        let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
        let item = |item: &str| Node::new(node.place.clone(), Kind::Loose(item.to_owned()));
        return Kind::List(items.map(item).collect());
    }
    Kind::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::fault::Place;

    fn read_as(text: &str, schema: Value) -> Value {
        let mut node = Node::new(Place::variable("V"), Kind::Loose(text.to_owned()));
        let mut faults = Vec::new();
        coerce(&mut node, Some(&schema), &[], &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        node.to_value()
    }

    #[test]
    fn text_is_read_as_what_the_schema_expects() {
        for (text, schema, expected) in [
            ("5", json!({"type": "integer"}), json!(5)),
            ("5", json!({"type": "string"}), json!("5")),
            ("5", json!({}), json!("5")),
            ("5", json!({"type": ["string", "integer"]}), json!(5)),
            ("5m", json!({"type": ["string", "integer"]}), json!("5m")),
            ("-5", json!({"type": "integer"}), json!(-5)),
            ("x", json!({"type": "integer"}), json!("x")),
            ("0.5", json!({"type": "number"}), json!(0.5)),
            ("TRUE", json!({"type": "boolean"}), json!(true)),
            ("true", json!({"type": "string"}), json!("true")),
            ("yes", json!({"type": "boolean"}), json!("yes")),
            ("", json!({"type": ["string", "null"]}), json!(null)),
            ("", json!({"type": "string"}), json!("")),
            ("null", json!({"type": ["string", "null"]}), json!("null")),
            (
                "a, b",
                json!({"type": "array", "items": {"type": "string"}}),
                json!(["a", "b"]),
            ),
            (
                "1,2",
                json!({"type": "array", "items": {"type": "integer"}}),
                json!([1, 2]),
            ),
            (
                "[a, b]",
                json!({"oneOf": [{"type": "string"}, {"type": "array"}]}),
                json!(["a", "b"]),
            ),
            (
                "[a",
                json!({"oneOf": [{"type": "string"}, {"type": "array"}]}),
                json!("[a"),
            ),
            ("", json!({"type": "array"}), json!([])),
            (
                "{a: 1, b: x}",
                json!({"anyOf": [{"type": "object"}, {"type": "null"}]}),
                json!({"a": 1, "b": "x"}),
            ),
            ("a: 1", json!({"type": "object"}), json!({"a": 1})),
        ] {
            assert_eq!(read_as(text, schema.clone()), expected, "{text} as {schema}");
        }
    }

    #[test]
    fn a_mapping_that_cannot_be_read_is_told_without_its_text() {
        let mut node = Node::new(Place::variable("V"), Kind::Loose("{canary: [".to_owned()));
        let mut faults = Vec::new();
        coerce(
            &mut node,
            Some(&json!({"type": "object"})),
            &[Step::from("a")],
            &mut faults,
        );
        let shown = node.broken()[0].to_string();
        assert!(shown.starts_with("V: a: is not valid YAML"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}
