//! Types of columns, and their values as a simple memory keeps them.

use std::cmp::Ordering;

use fastrand::Rng;
use serde_json::{Value as Json, json};

/// The type of a column, and which of its values are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float8,
    /// Letters of one case, which every kind of database sorts alike.
    Word,
    /// ASCII of both cases, and the characters that patterns and quotes give a meaning.
    Mixed,
    /// Any text.
    Any,
    Enum,
    Date,
    Timestamp,
    Timestamptz,
    Uuid,
    Json,
}

/// A value, as its answer writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Hundredths.
    Decimal(i64),
    Text(String),
}

pub(super) const KINDS: [Kind; 15] = [
    Kind::Bool,
    Kind::Int2,
    Kind::Int4,
    Kind::Int8,
    Kind::Numeric,
    Kind::Float8,
    Kind::Word,
    Kind::Mixed,
    Kind::Any,
    Kind::Enum,
    Kind::Date,
    Kind::Timestamp,
    Kind::Timestamptz,
    Kind::Uuid,
    Kind::Json,
];

/// Not in the order of the alphabet.
const ENUM: [&str; 4] = ["new", "Late", "gone", "a b"];
const WORDS: [&str; 7] = ["a", "ab", "abc", "b", "ba", "zeta", "tenants"];
const MIXED: [&str; 11] = [
    "Ab",
    "aB",
    "a%b",
    "a_b",
    "a*b",
    "x,y",
    "(x)",
    "\"q\"",
    "it's",
    "back\\slash",
    "ab ",
];
const ANY: [&str; 11] = [
    "", " ", "Zoë", "ZOË", "zoe", "日本", "😀 x", "a&b=c", "a+b", "null", "{1,2}",
];
const INT8: [i64; 5] = [i64::MIN, -3_000_000_000, 0, 9_007_199_254_740_993, i64::MAX];
const DATES: [&str; 4] = ["1999-12-31", "2024-02-29", "2026-01-02", "2026-01-03"];
const TIMES: [&str; 5] = [
    "2024-02-29T23:59:59.999999",
    "2026-01-02T03:04:05",
    "2026-01-02T03:04:05.000001",
    "2026-01-02T03:04:05.5",
    "2026-01-02T03:04:06",
];
const UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-000000000001",
    "0f8fad5b-d9cb-469f-a165-70867728950e",
    "ffffffff-ffff-4fff-bfff-ffffffffffff",
];
const JSONS: [&str; 5] = ["{\"a\":[1,2.5]}", "[]", "\"x\"", "12", "{\"b\":null}"];

impl Kind {
    /// As a declaration writes it.
    pub(super) fn declared(self) -> Json {
        match self {
            Self::Bool => json!("bool"),
            Self::Int2 => json!("int2"),
            Self::Int4 => json!("int4"),
            Self::Int8 => json!("int8"),
            Self::Numeric => json!("numeric"),
            Self::Float8 => json!("float8"),
            Self::Word | Self::Mixed | Self::Any => json!("text"),
            Self::Enum => json!({ "enum": ENUM }),
            Self::Date => json!("date"),
            Self::Timestamp => json!("timestamp"),
            Self::Timestamptz => json!("timestamptz"),
            Self::Uuid => json!("uuid"),
            Self::Json => json!("json"),
        }
    }

    /// As the databases call it: SQLite, PostgreSQL, MariaDB.
    pub(super) fn sql(self, kind: &str) -> &'static str {
        let of_three = match self {
            Self::Bool => ["boolean", "boolean", "boolean"],
            Self::Int2 => ["smallint", "smallint", "smallint"],
            Self::Int4 => ["integer", "integer", "integer"],
            Self::Int8 => ["bigint", "bigint", "bigint"],
            Self::Numeric => ["numeric", "numeric(12,2)", "decimal(12,2)"],
            Self::Float8 => ["real", "double precision", "double"],
            Self::Word | Self::Mixed | Self::Any => ["text", "text", "varchar(100)"],
            Self::Enum => ["text", "text", "varchar(20)"],
            Self::Date => ["text", "date", "date"],
            Self::Timestamp => ["text", "timestamp", "datetime(6)"],
            Self::Timestamptz => ["text", "timestamptz", "datetime(6)"],
            Self::Uuid => ["text", "uuid", "char(36)"],
            Self::Json => ["text", "json", "json"],
        };
        match kind {
            "sqlite" => of_three[0],
            "postgresql" => of_three[1],
            _ => of_three[2],
        }
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Word | Self::Mixed | Self::Any | Self::Enum)
    }

    /// Whether its values have the same order on every kind of database.
    pub(super) fn is_sorted(self) -> bool {
        !matches!(self, Self::Mixed | Self::Any | Self::Json)
    }

    /// A value; few of each type, so that rows share them.
    pub(super) fn value(self, random: &mut Rng) -> Value {
        match self {
            Self::Bool => Value::Bool(random.bool()),
            Self::Int8 if random.u8(..3) == 0 => Value::Int(INT8[random.usize(..INT8.len())]),
            Self::Int2 | Self::Int4 | Self::Int8 => Value::Int(random.i64(-3..6)),
            Self::Numeric => Value::Decimal(random.i64(-150..150)),
            Self::Float8 => Value::Decimal(random.i64(-6..6) * 25),
            _ => {
                let texts = self.texts();
                let zone = if self == Self::Timestamptz { "+00:00" } else { "" };
                Value::Text(format!("{}{zone}", texts[random.usize(..texts.len())]))
            }
        }
    }

    fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Word => &WORDS,
            Self::Mixed => &MIXED,
            Self::Any => &ANY,
            Self::Enum => &ENUM,
            Self::Date => &DATES,
            Self::Timestamp | Self::Timestamptz => &TIMES,
            Self::Uuid => &UUIDS,
            Self::Json => &JSONS,
            _ => &[],
        }
    }

    /// A text that is none of its values; `None` if every text is one.
    pub(super) fn malformed(self) -> Option<&'static str> {
        Some(match self {
            Self::Word | Self::Mixed | Self::Any | Self::Json => return None,
            Self::Bool => "maybe",
            Self::Enum => "old",
            Self::Date | Self::Timestamp | Self::Timestamptz => "yesterday, or so",
            _ => "twelve",
        })
    }

    /// How two values compare; `None` if one is null.
    pub(super) fn compare(self, one: &Value, other: &Value) -> Option<Ordering> {
        Some(match (one, other) {
            (Value::Null, _) | (_, Value::Null) => return None,
            (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
            (Value::Int(one), Value::Int(other)) | (Value::Decimal(one), Value::Decimal(other)) => one.cmp(other),
            (Value::Text(one), Value::Text(other)) if self == Self::Enum => {
                let place = |text: &String| ENUM.iter().position(|known| known == text);
                place(one).cmp(&place(other))
            }
            (Value::Text(one), Value::Text(other)) => one.cmp(other),
            _ => panic!("{one:?} beside {other:?}"),
        })
    }
}

impl Value {
    /// As a URL writes it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Decimal(hundredths) => decimal(*hundredths),
            Self::Text(text) => text.clone(),
        }
    }

    /// As JSON.
    pub(super) fn json(&self, kind: Kind) -> String {
        match self {
            Self::Text(text) if kind != Kind::Json => json!(text).to_string(),
            other => other.text(),
        }
    }
}

/// A number in its shortest notation.
fn decimal(hundredths: i64) -> String {
    let (whole, rest) = (hundredths.abs() / 100, hundredths.abs() % 100);
    let sign = if hundredths < 0 { "-" } else { "" };
    match rest {
        0 => format!("{sign}{whole}"),
        rest if rest % 10 == 0 => format!("{sign}{whole}.{}", rest / 10),
        rest => format!("{sign}{whole}.{rest:02}"),
    }
}

/// Whether a text fits a pattern of `LIKE` in which `*` is `%` too, and a backslash takes the
/// meaning from what follows it.
pub(super) fn is_like(text: &str, pattern: &str, any_case: bool) -> bool {
    let folded = |text: &str| {
        if any_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let text: Vec<char> = folded(text).chars().collect();
    let pattern: Vec<char> = folded(pattern).chars().collect();
    fits(&text, &pattern)
}

fn fits(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%' | '*', rest @ ..] => (0..=text.len()).any(|skipped| fits(&text[skipped..], rest)),
        ['_', rest @ ..] => !text.is_empty() && fits(&text[1..], rest),
        // A star is a percent sign before anything else is looked at.
        ['\\', escaped, rest @ ..] => {
            let escaped = if *escaped == '*' { '%' } else { *escaped };
            text.first() == Some(&escaped) && fits(&text[1..], rest)
        }
        [c, rest @ ..] => text.first() == Some(c) && fits(&text[1..], rest),
    }
}
