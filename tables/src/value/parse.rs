//! Values from the texts of a URL and from JSON.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Datum, numeric, time};
use crate::declaration::ColumnType;

/// A text, or a piece of JSON, that is not a value of its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is not one (22P02).
    Syntax,
    /// The type has no number so large (22003).
    OutOfRange,
    /// It is longer than the column (22001).
    TooLong,
    /// Texts hold no NUL (22021).
    Nul,
}

impl Datum {
    /// Reads a value as a URL writes it.
    pub(crate) fn parse(kind: &ColumnType, text: &str) -> Result<Self, Malformed> {
        let syntax = Malformed::Syntax;
        if text.contains('\0') {
            return Err(Malformed::Nul);
        }
        Ok(match kind {
            ColumnType::Bool => Self::Bool(boolean(text).ok_or(syntax)?),
            ColumnType::Int2 => Self::Int(whole(text, i16::MIN.into(), i16::MAX.into())?),
            ColumnType::Int4 => Self::Int(whole(text, i32::MIN.into(), i32::MAX.into())?),
            ColumnType::Int8 => Self::Int(whole(text, i64::MIN, i64::MAX)?),
            ColumnType::Float4 => match float(text)? {
                float if !float.is_finite() || float.abs() <= f64::from(f32::MAX) => Self::Float4(float as f32),
                _ => return Err(Malformed::OutOfRange),
            },
            ColumnType::Float8 => Self::Float8(float(text)?),
            ColumnType::Numeric => match numeric::plain(text) {
                Some(number) => Self::Numeric(number),
                None if NOT_FINITE.contains(&text) => Self::Text(text.to_owned()),
                None => return Err(syntax),
            },
            ColumnType::Text => Self::Text(text.to_owned()),
            ColumnType::Enum(values) => match values.iter().any(|value| value == text) {
                true => Self::Text(text.to_owned()),
                false => return Err(syntax),
            },
            ColumnType::Uuid => Self::Uuid(Uuid::parse_str(text.trim()).map_err(|_| syntax)?),
            ColumnType::Date | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => {
                time_of(kind, text)
                    .filter(|_| !text.ends_with(" BC"))
                    .or_else(|| time::is_rare(kind, text).then(|| Self::Text(text.to_owned())))
                    .ok_or(syntax)?
            }
            ColumnType::Bytea => Self::Bytes(bytes(text).ok_or(syntax)?),
            ColumnType::Json => Self::Json(compact(text).ok_or(syntax)?),
        })
    }

    /// Reads a member of a JSON body.
    pub(crate) fn of_json(kind: &ColumnType, json: &RawValue) -> Result<Self, Malformed> {
        let json = json.get();
        if json == "null" {
            return Ok(Self::Null);
        }
        if *kind == ColumnType::Json {
            let compacted = compact(json).ok_or(Malformed::Syntax)?;
            return match has_nul(&compacted) {
                true => Err(Malformed::Nul),
                false => Ok(Self::Json(compacted)),
            };
        }
        match json.as_bytes().first() {
            Some(b'"') => {
                let text: String = serde_json::from_str(json).map_err(|_| Malformed::Syntax)?;
                Self::parse(kind, &text)
            }
            Some(b't' | b'f') if *kind == ColumnType::Bool => Self::parse(kind, json),
            // A number is neither a text nor a truth value.
            Some(b'-' | b'0'..=b'9') if is_number(kind) => Self::parse(kind, json),
            _ => Err(Malformed::Syntax),
        }
    }
}

/// What floats and numerics may be besides numbers.
const NOT_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

fn time_of(kind: &ColumnType, text: &str) -> Option<Datum> {
    match kind {
        ColumnType::Date => time::date(text).map(Datum::Date),
        ColumnType::Time => time::time(text).map(Datum::Time),
        ColumnType::Timestamp => time::timestamp(text).map(Datum::Timestamp),
        ColumnType::Timestamptz => time::timestamptz(text).map(Datum::Timestamptz),
        _ => None,
    }
}

fn is_number(kind: &ColumnType) -> bool {
    use ColumnType::{Float4, Float8, Int2, Int4, Int8, Numeric};
    matches!(kind, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric)
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn whole(text: &str, least: i64, most: i64) -> Result<i64, Malformed> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Malformed::Syntax);
    }
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Malformed::OutOfRange),
    }
}

fn float(text: &str) -> Result<f64, Malformed> {
    let text = text.trim();
    if NOT_FINITE.contains(&text) {
        return text.parse().map_err(|_| Malformed::Syntax);
    }
    let is_number = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    match text.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => Ok(number),
        Ok(_) if is_number => Err(Malformed::OutOfRange),
        _ => Err(Malformed::Syntax),
    }
}

/// `\x6869`, as PostgreSQL writes bytes.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?;
    if digits.len() % 2 != 0 || !digits.is_ascii() {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let high = char::from(*pair.first()?).to_digit(16)?;
        let low = char::from(*pair.get(1)?).to_digit(16)?;
        u8::try_from(high * 16 + low).ok()
    };
    pairs.map(byte).collect()
}

/// JSON without the spaces between its tokens; `None` if it is not valid.
pub(super) fn compact(json: &str) -> Option<String> {
    serde_json::from_str::<serde::de::IgnoredAny>(json).ok()?;
    let mut compact = String::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for c in json.chars() {
        if in_text {
            in_text = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
        } else if matches!(c, ' ' | '\n' | '\r' | '\t') {
            continue;
        } else {
            in_text = c == '"';
        }
        compact.push(c);
    }
    Some(compact)
}

/// Whether a text of JSON has the escape of a NUL. Behind an escaped backslash it is none.
fn has_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = json[..at].bytes().rev().take_while(|byte| *byte == b'\\');
        before.count() % 2 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_loses_its_spaces_and_nothing_else() {
        let json = "{ \"a b\" : [ 1 , 2.50 ] ,\n \"c\\\" d\": \" x \" }";
        let expected = "{\"a b\":[1,2.50],\"c\\\" d\":\" x \"}";
        assert_eq!(compact(json).as_deref(), Some(expected));
        assert_eq!(compact("{"), None);
        assert_eq!(compact("\"\\\\\" "), Some("\"\\\\\"".to_owned()));
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_no_nul() {
        let read = |json: &str| {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            Datum::of_json(&ColumnType::Json, &raw)
        };
        for nul in ["\"\\u0000\"", "[\"a\\\\\\u0000\"]", "\"\\\\u0000\\u0000\""] {
            assert_eq!(read(nul), Err(Malformed::Nul), "{nul}");
        }
        for json in ["\"\\\\u0000\"", "{\"C:\\\\u0000\":1}", "\"u0000\""] {
            assert_eq!(read(json), Ok(Datum::Json(json.to_owned())), "{json}");
        }
    }

    #[test]
    fn a_number_that_its_type_does_not_have_is_out_of_range() {
        assert_eq!(Datum::parse(&ColumnType::Int2, "32768"), Err(Malformed::OutOfRange));
        assert_eq!(Datum::parse(&ColumnType::Int4, "abc"), Err(Malformed::Syntax));
        assert_eq!(
            Datum::parse(&ColumnType::Int8, "9223372036854775807"),
            Ok(Datum::Int(i64::MAX))
        );
        assert_eq!(Datum::parse(&ColumnType::Float8, "inf"), Err(Malformed::Syntax));
        assert_eq!(Datum::parse(&ColumnType::Float8, "1e400"), Err(Malformed::OutOfRange));
        assert_eq!(
            Datum::parse(&ColumnType::Float4, "-Infinity"),
            Ok(Datum::Float4(f32::NEG_INFINITY))
        );
        assert_eq!(
            Datum::parse(&ColumnType::Bytea, "\\x6869"),
            Ok(Datum::Bytes(b"hi".to_vec()))
        );
    }

    #[test]
    fn times_that_only_some_databases_have_stay_as_they_are() {
        use ColumnType::{Date, Time, Timestamp, Timestamptz};
        for (kind, text) in [
            (Date, "infinity"),
            (Timestamp, "-infinity"),
            (Date, "10000-01-01"),
            (Date, "0044-03-15 BC"),
            (Timestamptz, "294276-12-31T23:59:59.999999+00:00"),
            (Timestamptz, "4713-01-01T00:00:00+00:00 BC"),
            (Time, "24:00:00"),
            (Time, "-838:59:59.5"),
            (Date, "2026-00-00"),
        ] {
            assert_eq!(Datum::parse(&kind, text), Ok(Datum::Text(text.to_owned())), "{text}");
        }
        for (kind, text) in [
            (Date, "Infinity"),
            (Time, "infinity"),
            (Date, "2026-13-01"),
            (Date, "10000"),
            (Timestamptz, "10000-01-01x"),
            (Time, "-1:2:3"),
            (Time, "1000:00:00"),
        ] {
            assert_eq!(Datum::parse(&kind, text), Err(Malformed::Syntax), "{text}");
        }
    }
}
