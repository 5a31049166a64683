//! Keyset pages: the end of a page, encoded in a text that only the server reads.
//!
//! The text is not signed, and it grants nothing: a changed one begins the page after another place
//! in the order, and the role's columns and row rules hold for that page as for every other.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Read, Term, TermColumn};
use crate::{
    declaration::ColumnType,
    refusal::Refusal,
    sql::{Dialect, is_canonical},
    value::{Datum, Malformed},
};

/// The longest cursor.
const LONGEST: usize = 8 * 1024;

/// The columns of an order, if rows can be found again by it: each is a column of the table itself,
/// and the key is among them, which the role may read.
pub(crate) fn places(read: &Read<'_>) -> Option<Vec<usize>> {
    let own = read.order.iter().map(|term| match term.column {
        TermColumn::Own(place) => Some(place),
        TermColumn::Related(..) => None,
    });
    let places: Vec<usize> = own.collect::<Option<_>>()?;
    read.knows_key.then_some(places)
}

/// The cursor of a row with these values of the order's columns; `None` if it is too long.
pub(crate) fn text(read: &Read<'_>, values: &[Datum]) -> Option<String> {
    let mut parts = vec![Value::String(order_text(read))];
    parts.extend(values.iter().map(|value| match value {
        Datum::Null => Value::Null,
        value => Value::String(value.to_text()),
    }));
    let text = URL_SAFE_NO_PAD.encode(Value::Array(parts).to_string());
    (text.len() <= LONGEST).then_some(text)
}

/// The values in a cursor.
pub(crate) fn values(read: &Read<'_>, text: &str, dialect: Dialect) -> Result<Vec<Datum>, Refusal> {
    let wrong = |detail: &str| Refusal::bad("PGRST100", format!("`after` {detail}")).at_parameter("after", detail);
    let places = places(read).ok_or_else(|| wrong("needs a table with a key, and an order by its own columns"))?;
    let parse = || -> Option<Vec<Value>> {
        let json = URL_SAFE_NO_PAD.decode(text).ok()?;
        serde_json::from_slice(&json).ok()
    };
    let parts = if text.len() > LONGEST { None } else { parse() };
    let parts = parts.ok_or_else(|| wrong("is not what an earlier page gave"))?;
    let (order, values) = parts
        .split_first()
        .ok_or_else(|| wrong("is not what an earlier page gave"))?;
    if order.as_str() != Some(&order_text(read)) || values.len() != places.len() {
        return Err(wrong("was given for another order"));
    }
    let each = places.iter().zip(values).map(|(place, value)| match value {
        Value::Null => Ok(Datum::Null),
        Value::String(text) => of_row(&read.table.columns[*place].kind, text, dialect).ok_or(()),
        _ => Err(()),
    });
    each.collect::<Result<_, ()>>()
        .map_err(|()| wrong("is not what an earlier page gave"))
}

/// A value as a row had it. Some databases keep values that are none of the declared type: they are
/// compared as the texts that they were answered as.
fn of_row(kind: &ColumnType, text: &str, dialect: Dialect) -> Option<Datum> {
    let is_lax = matches!(kind, ColumnType::Enum(_)) || matches!(dialect, Dialect::Sqlite | Dialect::Mysql);
    let kind = match (dialect, kind) {
        // It stores the floats of 32 bits with 64, and answers them so.
        (Dialect::Sqlite, ColumnType::Float4) => &ColumnType::Float8,
        _ => kind,
    };
    match Datum::parse(kind, text) {
        Ok(Datum::Uuid(uuid)) if is_lax && !is_canonical(uuid, text) => Some(Datum::Text(text.to_owned())),
        Ok(value) if !is_lax && !dialect.holds(kind, &value) => None,
        Ok(value) => Some(value),
        Err(Malformed::Nul) => None,
        Err(_) => is_lax.then(|| Datum::Text(text.to_owned())),
    }
}

/// The order as a text, so that a cursor is used with no other.
fn order_text(read: &Read<'_>) -> String {
    let term = |term: &Term| {
        let name = match term.column {
            TermColumn::Own(place) | TermColumn::Related(_, place) => place,
        };
        let direction = if term.descending { "d" } else { "a" };
        let nulls = if term.nulls_first { "f" } else { "l" };
        format!(
            "{}{direction}{nulls}",
            read.table.columns.get(name).map_or("", |column| &column.name)
        )
    };
    let terms: Vec<String> = read.order.iter().map(term).collect();
    terms.join(",")
}
