//! Query parameters, with the texts that they take as patterns.

use serde_json::{Value, json};

use crate::{declaration::ColumnType, model::Column};

use super::Described;

/// Any text. Values are at least as wide as what the server reads: a client must not be kept from a
/// valid request.
const TEXT: &str = "[^\\x00]*";
const TIME: &str = "-?[0-9]{1,3}:[0-9]{1,2}(:[0-9]{1,2}(\\.[0-9]+)?)?";
const DAY: &str = "[0-9]{4,7}-[0-9]{1,2}-[0-9]{1,2}";
const ZONE: &str = "( ?(Z|z|UTC|[-+][0-9]{2}(:?[0-9]{2})?))?";

/// What a value of a type looks like in a filter, as a regular expression, and an example.
pub(super) fn value(kind: &ColumnType) -> Option<(String, &'static str)> {
    let moment = || format!("({DAY}([Tt ]{TIME}{ZONE})?( BC)?|-?infinity)");
    Some(match kind {
        ColumnType::Bool => (" *[A-Za-z01]{1,5} *".to_owned(), "true"),
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 => (" *[-+]?[0-9]+ *".to_owned(), "18"),
        ColumnType::Float4 | ColumnType::Float8 | ColumnType::Numeric => (
            " *([-+]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][-+]?[0-9]+)?|NaN|-?Infinity) *".to_owned(),
            "9.5",
        ),
        ColumnType::Text => (TEXT.to_owned(), "Ann"),
        ColumnType::Uuid => (
            " *(urn:uuid:)?\\{?[0-9A-Fa-f-]{32,36}\\}? *".to_owned(),
            "0f8fad5b-d9cb-469f-a165-70867728950e",
        ),
        ColumnType::Date => (moment(), "2026-01-02"),
        ColumnType::Time => (TIME.to_owned(), "03:04:05"),
        ColumnType::Timestamp => (moment(), "2026-01-02T03:04:05"),
        ColumnType::Timestamptz => (moment(), "2026-01-02T03:04:05Z"),
        ColumnType::Bytea => ("\\\\x([0-9a-fA-F]{2})*".to_owned(), "\\x6869"),
        ColumnType::Enum(values) => {
            let values: Vec<String> = values.iter().map(|value| escaped(value)).collect();
            (format!("({})", values.join("|")), "")
        }
        ColumnType::Json => return None,
    })
}

/// An element of a list: a value, or one in double quotes.
fn element(kind: &ColumnType, value: &str) -> String {
    match kind {
        ColumnType::Text | ColumnType::Enum(_) => "(\"([^\"\\\\\\x00]|\\\\[^\\x00])*\"|[^,)\\x00]*)".to_owned(),
        _ => format!("( *{value} *| *\"{value}\" *)"),
    }
}

/// A word in letters of either case.
fn any_case(word: &str) -> String {
    let letter = |c: char| match c.is_ascii_lowercase() {
        true => format!("[{c}{}]", c.to_ascii_uppercase()),
        false => c.to_string(),
    };
    word.chars().map(letter).collect()
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
    let words: &[&str] = match kind {
        ColumnType::Bool => &["null", "not_null", "true", "false", "unknown"],
        _ => &["null", "not_null"],
    };
    let words: Vec<String> = words.iter().map(|word| any_case(word)).collect();
    let is = format!("is\\.({})", words.join("|"));
    let Some((value, example)) = value(kind) else {
        return (is, "not.is.null".to_owned());
    };
    let element = element(kind, &value);
    let (like, likes) = match kind.is_text() {
        true => (format!("|(like|ilike)\\.{TEXT}"), "|like|ilike"),
        false => (String::new(), ""),
    };
    let pattern = format!(
        "(eq|neq|gt|gte|lt|lte|isdistinct)\\.{value}{like}|(eq|gt|gte|lt|lte{likes})\\((any|all)\\)\\.\\{{{TEXT}\\}}\
         |in\\. *\\( *{element}(,{element})*\\) *|in\\. *\\( *\\) *|{is}"
    );
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

    /// `and` and `or`. Their pattern is wider than the grammar: groups hold groups.
    pub(super) fn groups(&self, columns: &[usize]) -> Vec<Value> {
        let examples = columns.iter().take(2).map(|place| {
            let column = &self.table.columns[*place];
            format!("{}.{}", column.name, test(&column.kind).1)
        });
        let example = format!("({})", examples.collect::<Vec<_>>().join(","));
        [
            ("and", "Filters that must all hold"),
            ("or", "Filters of which one must hold"),
        ]
        .into_iter()
        .map(|(name, words)| {
            let description =
                format!("{words}, such as `{example}`. Groups may hold groups: `(a.eq.1,not.or(b.gt.2,c.is.null))`.");
            let schema = json!({"type": "string", "pattern": "^ *\\([^\\x00]+\\) *$", "example": example});
            parameter(name, &description, schema, None)
        })
        .collect()
    }

    /// `select`, with the relations that there are. No pattern describes tables within tables.
    pub(super) fn select(&self, columns: &[usize]) -> Value {
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
        let schema = json!({"type": "string", "example": first});
        parameter("select", &description, schema, None)
    }

    pub(super) fn order(&self, columns: &[usize]) -> Value {
        let first = columns.first().map_or("", |place| &self.table.columns[*place].name);
        let name = "(\"[^\"]*\"|[^\".,()]+)";
        let one = format!(" *{name}(\\({name}\\))?(\\.(asc|desc))?(\\.(nullsfirst|nullslast))? *");
        let pattern = format!("^{one}(,{one})*$");
        let example = format!("{first}.desc");
        let schema = json!({"type": "string", "pattern": pattern, "example": example});
        let description = "The columns by which rows are sorted. Ties are broken by the key.";
        parameter("order", description, schema, None)
    }

    /// Columns by their names: `columns` and `on_conflict` of new rows.
    pub(super) fn names(&self, name: &str, description: &str, example: &str) -> Value {
        let schema = json!({"type": "string", "example": example});
        parameter(name, description, schema, None)
    }

    pub(super) fn page(&self) -> Vec<Value> {
        let limit = json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": i32::MAX, "example": 25});
        let offset = json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX, "example": 0});
        vec![
            parameter(
                "limit",
                &format!("The most rows of the answer, and never more than {}.", self.max_rows),
                limit,
                None,
            ),
            parameter(
                "offset",
                "How many rows are left out before the first. The header `Link` has the URL of the next page, which begins `after` this one.",
                offset,
                None,
            ),
            parameter(
                "after",
                "Where the page before this one ended: it stands in the URL of that page's `Link`, and goes with the same order.",
                json!({"type": "string"}),
                None,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::{Rest, Settings},
        request::{
            filter::{Test, filter},
            scan::Scan,
        },
        value::Datum,
    };

    /// The pattern of a filter of a column of this type.
    fn pattern(kind: &Value) -> (ColumnType, Regex) {
        let kind: ColumnType = serde_json::from_value(kind.clone()).unwrap();
        let (tested, _) = test(&kind);
        (kind, Regex::new(&format!("^(not\\.)?({tested})$")).unwrap())
    }

    #[test]
    fn a_filter_that_is_valid_fits_its_pattern() {
        for (kind, texts) in [
            (
                json!("timestamptz"),
                &[
                    "gte.2026-01-31T00:00:00Z",
                    "lt.2026-02-28 23:59:59.5+02:00",
                    "eq.2026-12-30",
                    "eq.1850-01-29T01:02Z",
                    "in.(2026-01-31T00:00:00Z,\"2026-01-30\")",
                    "eq.0044-03-15 BC",
                    "not.eq.infinity",
                ][..],
            ),
            (json!("date"), &["eq.2024-02-29", "gt.10000-01-01"]),
            (json!("time"), &["eq.24:00:00", "gt.03:04", "lt.-12:00:00.5"]),
            (
                json!("int8"),
                &["eq.1541815603606036480", "eq.-9223372036854775808", "eq(any).{1,2}"],
            ),
            (
                json!("int4"),
                &[
                    "eq.2147483647",
                    "in.(1,2,3,4,5,6,7,8,9,10,11,12,13)",
                    "in.()",
                    "is.NULL",
                ],
            ),
            (json!("int2"), &["eq.32767", "eq.+7", "eq. 7 "]),
            (json!("numeric"), &["eq.0.0000001", "gt.1e20", "lt.-.5", "eq.NaN"]),
            (json!("float8"), &["eq.1e-300", "eq.-Infinity"]),
            (json!("bool"), &["is.true", "eq.TRUE", "is.Unknown", "eq.f"]),
            (
                json!("text"),
                &[
                    "eq.a, (b) \"c\" \\",
                    "like(any).{A*,\"B,*\"}",
                    "ilike.*ä*",
                    "in.(\"a,b\",c\"d,\"e\\\"f\")",
                    "eq.line\nline",
                    "eq.",
                ],
            ),
            (
                json!("uuid"),
                &[
                    "eq.0F8FAD5B-D9CB-469F-A165-70867728950E",
                    "eq.0f8fad5bd9cb469fa16570867728950e",
                    "eq.{0f8fad5b-d9cb-469f-a165-70867728950e}",
                ],
            ),
            (json!("bytea"), &["eq.\\x00FF"]),
            (
                json!({"enum": ["new", "a,b"]}),
                &["eq.a,b", "in.(\"a,b\",new)", "like.n*", "gt(all).{new}"],
            ),
            (json!("json"), &["is.null", "not.is.not_null"]),
        ] {
            let (kind, pattern) = pattern(&kind);
            for text in texts {
                let read = filter("x".to_owned(), &mut Scan::new(text)).unwrap();
                if let Test::Compare(operator, value) = &read.test
                    && !format!("{operator:?}").contains("Like")
                {
                    Datum::parse(&kind, value).unwrap();
                }
                assert!(pattern.is_match(text), "{text}: {pattern}");
            }
        }
    }

    #[test]
    fn a_pattern_follows_its_type() {
        for (kind, text) in [
            (json!("int4"), "eq.ann"),
            (json!("int4"), "18"),
            (json!("date"), "eq.today"),
            (json!({"enum": ["new"]}), "eq.old"),
            (json!("json"), "eq.1"),
            (json!("int4"), "like.1*"),
        ] {
            assert!(!pattern(&kind).1.is_match(text), "{text}");
        }
    }

    #[test]
    fn every_example_fits_its_pattern() {
        let words = ColumnType::WORDS.map(|(word, _)| (word.to_owned(), json!({"type": word})));
        let columns: serde_json::Map<String, Value> = words.into_iter().collect();
        let tables = json!({"all": {"key": ["int8"], "columns": columns, "allow": {"anon": {
            "read": {}, "create": {}, "update": {}, "delete": {}
        }}}});
        let settings = Settings {
            max_rows: 100,
            role_claim: "role".to_owned(),
            other_parameters: Vec::new(),
        };
        let rest = Rest::new(&serde_json::from_value(tables).unwrap(), settings);
        let document: Value = serde_json::from_str(&rest.document("/rest/v1")).unwrap();
        let mut checked = 0;
        for operation in document["paths"]["/rest/v1/all"].as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().unwrap() {
                let schema = &parameter["schema"];
                if let (Some(pattern), Some(example)) = (schema["pattern"].as_str(), schema["example"].as_str()) {
                    assert!(Regex::new(pattern).unwrap().is_match(example), "{parameter}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 40, "{checked}");
    }
}
