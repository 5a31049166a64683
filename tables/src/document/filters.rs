//! Query parameters, with the texts that they take as patterns.

use serde_json::{Value, json};

use crate::{declaration::ColumnType, model::Column};

use super::Described;

/// What a value of a type looks like in a filter, as a regular expression, and an example.
fn value(kind: &ColumnType) -> Option<(String, &'static str)> {
    const DATE: &str = "(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])";
    const TIME: &str = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?";
    Some(match kind {
        ColumnType::Bool => ("(true|false)".to_owned(), "true"),
        ColumnType::Int2 => ("-?[0-9]{1,4}".to_owned(), "18"),
        ColumnType::Int4 => ("-?[0-9]{1,9}".to_owned(), "18"),
        ColumnType::Int8 => ("-?[0-9]{1,18}".to_owned(), "18"),
        ColumnType::Float4 | ColumnType::Float8 | ColumnType::Numeric => {
            ("-?[0-9]{1,15}(\\.[0-9]{1,6})?".to_owned(), "9.5")
        }
        ColumnType::Text => ("[^\\x00-\\x1f\\x7f\\\\\"(){},]{0,100}".to_owned(), "Ann"),
        ColumnType::Uuid => (
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".to_owned(),
            "0f8fad5b-d9cb-469f-a165-70867728950e",
        ),
        ColumnType::Date => (DATE.to_owned(), "2026-01-02"),
        ColumnType::Time => (TIME.to_owned(), "03:04:05"),
        ColumnType::Timestamp => (format!("{DATE}T{TIME}"), "2026-01-02T03:04:05"),
        ColumnType::Timestamptz => (format!("{DATE}T{TIME}Z"), "2026-01-02T03:04:05Z"),
        ColumnType::Bytea => ("\\\\x([0-9a-f]{2}){0,16}".to_owned(), "\\x6869"),
        ColumnType::Enum(values) => {
            let values: Vec<String> = values.iter().map(|value| escaped(value)).collect();
            (format!("({})", values.join("|")), "")
        }
        ColumnType::Json => return None,
    })
}

/// A text in a regular expression.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "\\^$.|?*+()[]{}/-".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// An operator and its value, without `not.`.
fn test(kind: &ColumnType) -> (String, String) {
    let Some((value, example)) = value(kind) else {
        return ("is\\.(null|not_null)".to_owned(), "not.is.null".to_owned());
    };
    let likes = if kind.is_text() { "|like|ilike" } else { "" };
    let is = match kind {
        ColumnType::Bool => "null|not_null|true|false|unknown",
        _ => "null|not_null",
    };
    let pattern =
        format!("(eq|neq|gt|gte|lt|lte|isdistinct{likes})\\.{value}|in\\.\\({value}(,{value}){{0,9}}\\)|is\\.({is})");
    let example = match kind {
        ColumnType::Enum(values) => format!("eq.{}", values.first().map_or("", String::as_str)),
        ColumnType::Bool => "is.true".to_owned(),
        kind if kind.is_text() => format!("eq.{example}"),
        ColumnType::Uuid | ColumnType::Bytea => format!("eq.{example}"),
        _ => format!("gte.{example}"),
    };
    (pattern, example)
}

/// The pattern of a filter, and an example.
fn filter(column: &Column) -> (String, String) {
    let (pattern, example) = test(&column.kind);
    (format!("^(not\\.)?({pattern})$"), example)
}

fn parameter(name: &str, description: &str, schema: Value, example: Option<&str>) -> Value {
    let mut parameter = json!({
        "name": name,
        "in": "query",
        "description": description,
        "required": false,
        "schema": schema,
    });
    if let Some(example) = example {
        parameter["example"] = example.into();
    }
    parameter
}

impl Described<'_> {
    /// A filter for each of these columns.
    pub(super) fn filters(&self, columns: &[usize]) -> Vec<Value> {
        let each = columns.iter().map(|place| {
            let column = &self.table.columns[*place];
            let (pattern, example) = filter(column);
            let words = column.description.as_deref().unwrap_or("A filter of the column");
            let description = format!("{words}: an operator and a value, such as `{example}`.");
            let schema = json!({"type": "string", "pattern": pattern, "example": example});
            parameter(&column.parameter(), &description, schema, None)
        });
        each.collect()
    }

    /// The key: each of its columns is required, with `eq`.
    pub(super) fn key_filters(&self) -> Vec<Value> {
        let each = self.table.key.iter().filter_map(|place| {
            let column = &self.table.columns[*place];
            let (value, example) = value(&column.kind)?;
            let schema =
                json!({"type": "string", "pattern": format!("^eq\\.{value}$"), "example": format!("eq.{example}")});
            let mut parameter = parameter(&column.parameter(), "The row's key, with `eq`.", schema, None);
            parameter["required"] = true.into();
            Some(parameter)
        });
        each.collect()
    }

    /// `and` and `or`.
    pub(super) fn groups(&self, columns: &[usize]) -> Vec<Value> {
        let each = columns.iter().take(20).map(|place| {
            let column = &self.table.columns[*place];
            let (pattern, example) = test(&column.kind);
            let name = escaped(&column.name);
            (
                format!("{name}\\.(not\\.)?({pattern})"),
                format!("{}.{example}", column.name),
            )
        });
        let (patterns, examples): (Vec<String>, Vec<String>) = each.unzip();
        let one = format!("({})", patterns.join("|"));
        let pattern = format!("^\\({one}(,{one}){{0,4}}\\)$");
        let example = format!("({})", examples.into_iter().take(2).collect::<Vec<_>>().join(","));
        [
            ("and", "Filters that must all hold"),
            ("or", "Filters of which one must hold"),
        ]
        .into_iter()
        .map(|(name, words)| {
            let description =
                format!("{words}, such as `{example}`. Groups may hold groups: `(a.eq.1,not.or(b.gt.2,c.is.null))`.");
            let schema = json!({"type": "string", "pattern": pattern, "example": example});
            parameter(name, &description, schema, None)
        })
        .collect()
    }

    /// `select`, with the relations that there are.
    pub(super) fn select(&self, columns: &[usize]) -> Value {
        let names: Vec<String> = columns
            .iter()
            .map(|place| escaped(&self.table.columns[*place].name))
            .collect();
        let first = columns.first().map_or("", |place| &self.table.columns[*place].name);
        let mut description = "The members of a row: columns, `alias:column`, and the rows of relations.".to_owned();
        let relations: Vec<&str> = self
            .table
            .relations
            .iter()
            .map(|relation| relation.name.as_str())
            .collect();
        if !relations.is_empty() {
            description.push_str(&format!(
                " Relations: {}, such as `{first},{}(*)`.",
                relations.join(", "),
                relations[0]
            ));
        }
        let one = format!("(\\*|{})", names.join("|"));
        let pattern = format!("^({one}(,{one}){{0,9}})?$");
        let schema = json!({"type": "string", "pattern": pattern, "example": first});
        parameter("select", &description, schema, None)
    }

    pub(super) fn order(&self, columns: &[usize]) -> Value {
        let names: Vec<String> = columns
            .iter()
            .map(|place| escaped(&self.table.columns[*place].name))
            .collect();
        let first = columns.first().map_or("", |place| &self.table.columns[*place].name);
        let one = format!("({})(\\.(asc|desc))?(\\.(nullsfirst|nullslast))?", names.join("|"));
        let pattern = format!("^{one}(,{one}){{0,3}}$");
        let example = format!("{first}.desc");
        let schema = json!({"type": "string", "pattern": pattern, "example": example});
        let description = "The columns by which rows are sorted. Ties are broken by the key.";
        parameter("order", description, schema, None)
    }

    pub(super) fn page(&self) -> Vec<Value> {
        let limit =
            json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": self.max_rows, "example": 25});
        let offset = json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX, "example": 0});
        vec![
            parameter("limit", "The most rows of the answer.", limit, None),
            parameter(
                "offset",
                "How many rows are left out before the first. The header `Link` has the URL of the next page, which begins `after` this one.",
                offset,
                None,
            ),
        ]
    }
}
