//! The texts that filters take, as regular expressions.

use crate::{declaration::ColumnType, model::Column};

/// Any text. A pattern takes every value that the server reads, but for white space around it: a
/// client must not be kept from a valid request.
const TEXT: &str = "[^\\x00]*";
/// The minutes of a time of day, and what may follow them.
const MINUTES: &str = "[0-5]?[0-9](:[0-5]?[0-9](\\.[0-9]+)?)?";
const ZONE: &str = "( ?(Z|z|UTC|[-+](0[0-9]|1[0-8])(:?[0-5][0-9])?))?";
/// The words for a truth value, in small letters.
const TRUTHS: [&str; 12] = ["true", "t", "yes", "y", "on", "1", "false", "f", "no", "n", "off", "0"];

/// What a value of a type looks like in a filter, as a regular expression, and an example.
pub(super) fn value(kind: &ColumnType) -> Option<(String, String)> {
    let (pattern, example) = match kind {
        ColumnType::Bool => (format!(" *({}) *", TRUTHS.map(any_case).join("|")), "true"),
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
        // Only a column of days takes months and days of one digit.
        ColumnType::Date => (moment("(0?[0-9]|1[0-2])-([0-2]?[0-9]|3[01])"), "2026-01-02"),
        ColumnType::Time => (format!("([0-9]|-?[0-9]{{2,3}}):{MINUTES}"), "03:04:05"),
        ColumnType::Timestamp => (moment("(0[0-9]|1[0-2])-([0-2][0-9]|3[01])"), "2026-01-02T03:04:05"),
        ColumnType::Timestamptz => (moment("(0[0-9]|1[0-2])-([0-2][0-9]|3[01])"), "2026-01-02T03:04:05Z"),
        ColumnType::Bytea => ("\\\\x([0-9a-fA-F]{2})*".to_owned(), "\\x6869"),
        ColumnType::Enum(values) => (
            one_of(values.iter().map(String::as_str)),
            values.first().map_or("", String::as_str),
        ),
        ColumnType::Json => return None,
    };
    Some((pattern, example.to_owned()))
}

/// A day with these months and days, or a point in time.
fn moment(day: &str) -> String {
    let time = format!("([01]?[0-9]|2[0-3]):{MINUTES}");
    format!("([0-9]{{4,7}}-{day}([Tt ]{time}{ZONE})?( BC)?|-?infinity)")
}

/// One of these texts.
fn one_of<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let texts: Vec<String> = texts.map(escaped).collect();
    format!("({})", texts.join("|"))
}

/// An element of a list or of braces, which these characters end unless it is in double quotes.
fn element(kind: &ColumnType, value: &str, ends: &[char]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    match kind {
        ColumnType::Text => {
            let ends: String = ends.iter().collect();
            format!("(\"([^\"\\\\\\x00]|\\\\[^\\x00])*\"|[^{ends}\\x00]*)")
        }
        ColumnType::Enum(values) => {
            let plain = values
                .iter()
                .filter(|value| !value.contains(ends) && !value.starts_with('"'));
            let all: Vec<String> = plain.cloned().chain(values.iter().map(|value| quoted(value))).collect();
            one_of(all.iter().map(String::as_str))
        }
        // A backslash is written twice in quotes.
        ColumnType::Bytea => format!("( *{value} *|\"\\\\{value}\")"),
        _ => format!("( *{value} *|\"{value}\")"),
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

/// A text in a regular expression. JavaScript's, with the flag `u`, refuse a backslash before any
/// other character.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "\\^$.|?*+()[]{}/".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// An operator and its value, without `not.`, and an example.
pub(super) fn test(kind: &ColumnType) -> (String, String) {
    let words: &[&str] = match kind {
        ColumnType::Bool => &["null", "not_null", "true", "false", "unknown"],
        _ => &["null", "not_null"],
    };
    let words: Vec<String> = words.iter().map(|word| any_case(word)).collect();
    let is = format!("is\\.({})", words.join("|"));
    let Some((value, example)) = value(kind) else {
        return (is, "not.is.null".to_owned());
    };
    let listed = element(kind, &value, &[',', ')']);
    let braced = element(kind, &value, &[',', '{', '}', '"']);
    let like = match kind.is_text() {
        true => format!("|(like|ilike)(\\.{TEXT}|\\((any|all)\\)\\.\\{{{TEXT}\\}})"),
        false => String::new(),
    };
    let pattern = format!(
        "(eq|neq|gt|gte|lt|lte|isdistinct)\\.{value}{like}\
         |(eq|gt|gte|lt|lte)\\((any|all)\\)\\.\\{{( *{braced} *(, *{braced} *)*)?\\}}\
         |in\\. *\\( *{listed}(,{listed})*\\) *|in\\. *\\( *\\) *|{is}"
    );
    let example = match kind {
        ColumnType::Bool => "is.true".to_owned(),
        ColumnType::Uuid | ColumnType::Bytea => format!("eq.{example}"),
        kind if kind.is_text() => format!("eq.{example}"),
        _ => format!("gte.{example}"),
    };
    (pattern, example)
}

/// The pattern of a filter, and an example.
pub(super) fn filter(column: &Column) -> (String, String) {
    let (pattern, example) = test(&column.kind);
    (format!("^(not\\.)?({pattern})$"), example)
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        request::{
            filter::{Operator, Test, filter},
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
            (json!("date"), &["eq.2024-02-29", "gt.10000-01-01", "eq.2026-1-2"]),
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
            (
                json!("bool"),
                &[
                    "is.true",
                    "eq.TRUE",
                    "is.Unknown",
                    "eq.f",
                    "in.(1,Off)",
                    "eq(any).{y,\"no\"}",
                ],
            ),
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
            (
                json!("bytea"),
                &["eq.\\x00FF", "in.(\\x00,\"\\\\x00\")", "eq(any).{\\x00,\"\\\\x00\"}"],
            ),
            (
                json!({"enum": ["new", "a,b"]}),
                &[
                    "eq.a,b",
                    "in.(\"a,b\",new)",
                    "like.n*",
                    "gt(all).{new}",
                    "eq(any).{ new, \"a,b\" }",
                    "eq(any).{}",
                ],
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
                if let Test::In(values) | Test::Quantified(Operator::Equal, _, values) = &read.test {
                    values
                        .iter()
                        .for_each(|value| drop(Datum::parse(&kind, value).unwrap()));
                }
                assert!(pattern.is_match(text), "{text}: {pattern}");
            }
        }
    }

    #[test]
    fn javascript_can_read_every_pattern() {
        let kinds = ColumnType::WORDS.map(|(word, _)| json!(word)).into_iter();
        for kind in kinds.chain([json!({"enum": ["a-b", "c,d", "e\"f", "(g)"]})]) {
            let (_, pattern) = pattern(&kind);
            let mut escapes = pattern.as_str().chars();
            while let Some(c) = escapes.next() {
                let escaped = (c == '\\').then(|| escapes.next().unwrap());
                assert!(escaped.is_none_or(|c| "^$\\.*+?()[]{}|/x".contains(c)), "{pattern}");
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
            (json!({"enum": ["new"]}), "in.(new,old)"),
            (json!({"enum": ["new", "a,b"]}), "in.(a,b)"),
            (json!({"enum": ["new"]}), "eq(any).{old}"),
            (json!("bool"), "eq.maybe"),
            (json!("bool"), "in.(true,ann)"),
            (json!("timestamp"), "eq.2026-1-2"),
            (json!("timestamptz"), "eq.2026-13-02T03:04:05Z"),
            (json!("timestamptz"), "eq.2026-01-02T24:04:05Z"),
            (json!("time"), "eq.03:64"),
            (json!("int4"), "eq(any).{1,x}"),
            (json!("bytea"), "in.(\"\\x00\")"),
            (json!("json"), "eq.1"),
            (json!("int4"), "like.1*"),
        ] {
            assert!(!pattern(&kind).1.is_match(text), "{text}");
        }
    }
}
