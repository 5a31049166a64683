//! The rows of a body, as JSON or as CSV.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    refusal::{At, Refusal},
    request::query::decoded,
};

/// The most rows of one body.
pub(crate) const MOST_ROWS: usize = 10_000;
/// The most members of one row.
const MOST_MEMBERS: usize = 1_000;

const TOO_MANY_ROWS: &str = "the body has more than 10,000 rows";
const TOO_MANY_MEMBERS: &str = "a row of the body has more than 1,000 members";

/// The members of a row in their order, each with its JSON.
pub(crate) type Row<'a> = Vec<(Cow<'a, str>, Cow<'a, RawValue>)>;

/// The rows of a body.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    pub(crate) rows: Vec<Row<'a>>,
    /// Whether it was one object, and no list.
    pub(crate) is_object: bool,
}

/// The members of an object.
struct Members<'a>(Row<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Row<'de> = Vec::new();
                while let Some(key) = map.next_key::<Name<'de>>()? {
                    let value: &RawValue = map.next_value()?;
                    // Of two members of one name the last one counts, as in PostgreSQL.
                    match members.iter().position(|(known, _)| *known == key.0) {
                        Some(at) => members[at].1 = Cow::Borrowed(value),
                        None if members.len() < MOST_MEMBERS => members.push((key.0, Cow::Borrowed(value))),
                        None => return Err(serde::de::Error::custom(TOO_MANY_MEMBERS)),
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A member's name, borrowed if it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A list of objects; it stops at the bound.
struct Rows<'a>(Vec<Row<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Rows<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Rows<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut rows = Vec::new();
                while let Some(Members(row)) = list.next_element()? {
                    if rows.len() >= MOST_ROWS {
                        return Err(serde::de::Error::custom(TOO_MANY_ROWS));
                    }
                    rows.push(row);
                }
                Ok(Rows(rows))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Reads a body of JSON.
pub(crate) fn json(bytes: &[u8]) -> Result<Body<'_>, Refusal> {
    let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
    let read = match first {
        None => return Err(empty()),
        Some(b'[') => serde_json::from_slice(bytes).map(|Rows(rows)| Body { rows, is_object: false }),
        Some(_) => serde_json::from_slice(bytes).map(|Members(row)| Body {
            rows: vec![row],
            is_object: true,
        }),
    };
    read.map_err(|error| invalid(&error))
}

fn invalid(error: &serde_json::Error) -> Refusal {
    let words = error.to_string();
    let bound = [TOO_MANY_ROWS, TOO_MANY_MEMBERS];
    if let Some(bound) = bound.into_iter().find(|bound| words.starts_with(bound)) {
        return Refusal::too_much(bound);
    }
    let detail = match error.classify() {
        // Of serde_json's own words only the place holds no value.
        serde_json::error::Category::Data => "must be an object or a list of objects".to_owned(),
        _ => format!("is not JSON: see line {}, column {}", error.line(), error.column()),
    };
    Refusal::bad("PGRST102", "Empty or invalid json").at(At::Body(String::new()), detail)
}

fn empty() -> Refusal {
    Refusal::bad("PGRST102", "Empty or invalid json").at(At::Body(String::new()), "is empty")
}

/// Reads a body of CSV: the names in its first line; `NULL` without quotes is null.
pub(crate) fn csv(bytes: &[u8]) -> Result<Body<'static>, Refusal> {
    let wrong =
        |detail: &str| Refusal::bad("PGRST102", "Empty or invalid csv").at(At::Body(String::new()), detail.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
    // Spreadsheets begin with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut records = records(text)
        .ok_or_else(|| wrong("has a quote without its end"))?
        .into_iter();
    let names: Vec<String> = records
        .next()
        .ok_or_else(|| wrong("is empty"))?
        .into_iter()
        .map(|cell| cell.0)
        .collect();
    let mut known = HashSet::new();
    if !names.iter().all(|name| known.insert(name)) {
        return Err(wrong("names a column twice"));
    }
    let mut rows = Vec::new();
    for record in records {
        if record.len() != names.len() {
            return Err(Refusal::bad("PGRST102", "All lines must have same number of fields")
                .at(At::Body(String::new()), "has a line with another number of fields"));
        }
        if rows.len() >= MOST_ROWS {
            return Err(Refusal::too_much(TOO_MANY_ROWS));
        }
        let row = names.iter().zip(record).map(|(name, (text, quoted))| {
            let json = match quoted || text != "NULL" {
                true => serde_json::Value::String(text).to_string(),
                false => "null".to_owned(),
            };
            let value = RawValue::from_string(json).map_err(|_| wrong("holds what is no text"))?;
            Ok((Cow::Owned(name.clone()), raw(value)))
        });
        rows.push(row.collect::<Result<_, Refusal>>()?);
    }
    Ok(Body { rows, is_object: false })
}

/// Reads the one row of a form (the URL Standard's `application/x-www-form-urlencoded`).
pub(crate) fn form(bytes: &[u8]) -> Result<Body<'static>, Refusal> {
    let wrong =
        |detail: &str| Refusal::bad("PGRST102", "Empty or invalid form").at(At::Body(String::new()), detail.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
    // What curl sends unless it is told the type.
    if text.trim_start().starts_with(['{', '[']) {
        let looks = Refusal::bad("PGRST102", "The body looks like JSON, and was sent as a form");
        return Err(looks.at(
            At::Header("Content-Type"),
            "is application/x-www-form-urlencoded; send application/json (curl: --json)",
        ));
    }
    let mut row: Row<'static> = Vec::new();
    for field in text.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
            return Err(wrong("is not UTF-8, or holds a NUL"));
        };
        if row.len() >= MOST_MEMBERS {
            return Err(Refusal::too_much(TOO_MANY_MEMBERS));
        }
        if row.iter().any(|(known, _)| *known == name) {
            return Err(wrong("names a column twice"));
        }
        let json = serde_json::Value::String(value.into_owned()).to_string();
        let value = RawValue::from_string(json).map_err(|_| wrong("holds what is no text"))?;
        row.push((Cow::Owned(name.into_owned()), raw(value)));
    }
    match row.is_empty() {
        true => Err(wrong("is empty")),
        false => Ok(Body {
            rows: vec![row],
            is_object: true,
        }),
    }
}

fn raw(value: Box<RawValue>) -> Cow<'static, RawValue> {
    Cow::Owned(value)
}

/// The fields of each line, and whether they were in quotes.
fn records(text: &str) -> Option<Vec<Vec<(String, bool)>>> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let (mut field, mut quoted) = (String::new(), false);
    let mut characters = text.chars().peekable();
    let mut any = false;
    while let Some(c) = characters.next() {
        any = true;
        match c {
            '"' if field.is_empty() && !quoted => {
                quoted = true;
                loop {
                    match characters.next()? {
                        '"' if characters.peek() == Some(&'"') => {
                            characters.next();
                            field.push('"');
                        }
                        '"' => break,
                        other => field.push(other),
                    }
                }
            }
            ',' => record.push((std::mem::take(&mut field), std::mem::take(&mut quoted))),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' => {
                record.push((std::mem::take(&mut field), std::mem::take(&mut quoted)));
                records.push(std::mem::take(&mut record));
                any = false;
            }
            other => field.push(other),
        }
    }
    if any || !record.is_empty() {
        record.push((field, quoted));
        records.push(record);
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rows_or_members_than_the_bound_are_too_much() {
        let list = format!("[{}{{}}]", "{},".repeat(MOST_ROWS));
        let lines = format!("id\n{}", "1\n".repeat(MOST_ROWS + 1));
        let names: Vec<String> = (0..=MOST_MEMBERS).map(|number| format!("\"a{number}\":1")).collect();
        let object = format!("{{{}}}", names.join(","));
        let fields: Vec<String> = (0..=MOST_MEMBERS).map(|number| format!("a{number}=1")).collect();
        for refused in [
            json(list.as_bytes()),
            csv(lines.as_bytes()),
            json(object.as_bytes()),
            form(fields.join("&").as_bytes()),
        ] {
            let refusal = refused.unwrap_err();
            assert_eq!(refusal.code, "54000", "{}", refusal.message);
        }
        assert_eq!(json(b"[{}, 1]").unwrap_err().code, "PGRST102");
    }

    #[test]
    fn a_column_is_named_once() {
        for twice in [csv(b"id,name,name\n1,a,b\n"), form(b"id=1&name=a&name=b")] {
            let refusal = twice.unwrap_err();
            assert_eq!(
                (refusal.code, refusal.places[0].detail.as_str()),
                ("PGRST102", "names a column twice")
            );
        }
        for json in [&b"{\"id\":1}"[..], b" [{}]"] {
            let refusal = form(json).unwrap_err();
            assert!(
                refusal.message.starts_with("The body looks like JSON"),
                "{}",
                refusal.message
            );
        }
        let marked = csv("\u{feff}id,name\n1,a\n".as_bytes()).unwrap();
        assert_eq!(marked.rows[0][0].0, "id");
    }
}
