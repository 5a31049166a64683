//! Values on their way into Oracle.

use std::io::Write;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike};
use oracle::{
    Connection, Statement,
    sql_type::{Blob, Clob, OracleType, Timestamp, ToSql},
};
use sea_orm::Value;
use tenantry_core::DatabaseErrorKind;

use crate::errors::Failure;

/// The longest text, in bytes, that is not a LOB unless the database is set up for longer ones.
const LONGEST_TEXT: usize = 4000;
/// The same for bytes.
const LONGEST_RAW: usize = 2000;

/// Whether a text, or bytes, are bound as a LOB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsLob {
    /// A LOB cannot be compared, so only a value that goes into a column unchanged may be one.
    Never,
    /// Long texts need one, and so do empty ones: a LOB column stores an empty text, and any other
    /// column makes it NULL.
    IfNeeded,
    /// Another row of the same query has a LOB in this column, and Oracle demands one type.
    Always,
}

impl AsLob {
    fn is_for(self, length: usize, longest: usize) -> bool {
        match self {
            Self::Never => false,
            Self::IfNeeded => is_lob(length, longest),
            Self::Always => true,
        }
    }
}

/// Whether a value that goes into a column unchanged has to be bound as a LOB.
pub(crate) fn needs_lob(value: &Value) -> bool {
    match value {
        Value::String(Some(text)) => is_lob(text.len(), LONGEST_TEXT),
        Value::Json(Some(json)) => is_lob(json.to_string().len(), LONGEST_TEXT),
        Value::Bytes(Some(bytes)) => is_lob(bytes.len(), LONGEST_RAW),
        _ => false,
    }
}

fn is_lob(length: usize, longest: usize) -> bool {
    length == 0 || length > longest
}

/// Binds a value to a place, which counts from 1.
pub(crate) fn bind(
    statement: &mut Statement,
    connection: &Connection,
    place: usize,
    value: &Value,
    lob: AsLob,
    alone: bool,
) -> Result<(), Failure> {
    let mut to = |value: &dyn ToSql| statement.bind(place, value).map_err(|error| Failure::of(error, alone));
    let failed = |error| Failure::of(error, alone);
    match integer(value) {
        Some(Some(value)) => return to(&(&value, &OracleType::Int64)),
        Some(None) => return to(&OracleType::Int64),
        None => {}
    }
    match value {
        Value::BigUnsigned(Some(value)) => to(&(&value.to_string(), &OracleType::Number(0, 0))),
        Value::Float(Some(value)) => to(&(value, &OracleType::BinaryFloat)),
        Value::Float(None) => to(&OracleType::BinaryFloat),
        Value::Double(Some(value)) => to(&(value, &OracleType::BinaryDouble)),
        Value::Double(None) => to(&OracleType::BinaryDouble),
        Value::Decimal(Some(value)) => to(&(&value.to_string(), &OracleType::Number(0, 0))),
        Value::Decimal(None) => to(&OracleType::Number(0, 0)),
        Value::Char(value) => text(
            &mut to,
            connection,
            value.map(|c| c.to_string()).as_deref(),
            lob,
            &failed,
        ),
        Value::String(value) => text(&mut to, connection, value.as_deref(), lob, &failed),
        Value::Json(value) => {
            let json = value.as_ref().map(ToString::to_string);
            text(&mut to, connection, json.as_deref(), lob, &failed)
        }
        Value::Bytes(value) => bytes(&mut to, connection, value.as_deref(), lob, &failed),
        Value::Uuid(Some(value)) => to(&(&value.as_bytes().as_slice(), &OracleType::Raw(16))),
        Value::Uuid(None) => to(&OracleType::Raw(16)),
        Value::ChronoDate(Some(value)) => to(&(&day(*value).map_err(failed)?, &OracleType::Date)),
        Value::ChronoDate(None) => to(&OracleType::Date),
        Value::ChronoDateTime(Some(value)) => to(&(&local(*value).map_err(failed)?, &OracleType::Timestamp(9))),
        Value::ChronoDateTime(None) => to(&OracleType::Timestamp(9)),
        Value::ChronoDateTimeUtc(Some(value)) => to(&(&zoned(value).map_err(failed)?, &OracleType::TimestampTZ(9))),
        Value::ChronoDateTimeLocal(Some(value)) => to(&(&zoned(value).map_err(failed)?, &OracleType::TimestampTZ(9))),
        Value::ChronoDateTimeWithTimeZone(Some(value)) => {
            to(&(&zoned(value).map_err(failed)?, &OracleType::TimestampTZ(9)))
        }
        Value::ChronoDateTimeUtc(None) | Value::ChronoDateTimeLocal(None) | Value::ChronoDateTimeWithTimeZone(None) => {
            to(&OracleType::TimestampTZ(9))
        }
        _ => Err(Failure::here(
            DatabaseErrorKind::Unsupported,
            "a value of this type cannot be bound on Oracle",
        )),
    }
}

/// A whole number of any width, if the value is one that `i64` holds.
fn integer(value: &Value) -> Option<Option<i64>> {
    Some(match value {
        Value::Bool(value) => value.map(i64::from),
        Value::TinyInt(value) => value.map(i64::from),
        Value::SmallInt(value) => value.map(i64::from),
        Value::Int(value) => value.map(i64::from),
        Value::BigInt(value) => *value,
        Value::TinyUnsigned(value) => value.map(i64::from),
        Value::SmallUnsigned(value) => value.map(i64::from),
        Value::Unsigned(value) => value.map(i64::from),
        Value::BigUnsigned(value) => value.map(i64::try_from).transpose().ok()?,
        _ => return None,
    })
}

type To<'a> = dyn FnMut(&dyn ToSql) -> Result<(), Failure> + 'a;

fn text(
    to: &mut To<'_>,
    connection: &Connection,
    text: Option<&str>,
    lob: AsLob,
    failed: &dyn Fn(oracle::Error) -> Failure,
) -> Result<(), Failure> {
    match text {
        None if lob == AsLob::Always => to(&OracleType::CLOB),
        None => to(&OracleType::Varchar2(1)),
        Some(text) if lob.is_for(text.len(), LONGEST_TEXT) => {
            let mut clob = Clob::new(connection).map_err(failed)?;
            fill(&mut clob, text.as_bytes())?;
            to(&clob)
        }
        Some(text) => to(&(&text, &OracleType::Varchar2(room(text.chars().count())))),
    }
}

/// How many characters to make room for: a few sizes only, so that a place keeps its buffer from
/// one use to the next.
fn room(characters: usize) -> u32 {
    let sizes = [32, 256, 1000, 4000];
    let size = sizes.into_iter().find(|size| characters <= *size as usize);
    size.unwrap_or_else(|| u32::try_from(characters).unwrap_or(u32::MAX))
}

fn bytes(
    to: &mut To<'_>,
    connection: &Connection,
    bytes: Option<&[u8]>,
    lob: AsLob,
    failed: &dyn Fn(oracle::Error) -> Failure,
) -> Result<(), Failure> {
    match bytes {
        None if lob == AsLob::Always => to(&OracleType::BLOB),
        None => to(&OracleType::Raw(1)),
        Some(bytes) if lob.is_for(bytes.len(), LONGEST_RAW) => {
            let mut blob = Blob::new(connection).map_err(failed)?;
            fill(&mut blob, bytes)?;
            to(&blob)
        }
        Some(bytes) => to(&(
            &bytes,
            &OracleType::Raw(u32::try_from(bytes.len().max(1)).unwrap_or(u32::MAX)),
        )),
    }
}

/// Writes into a new LOB, in one piece. Writing nothing would be an error, and a new one is empty.
fn fill(lob: &mut dyn Write, bytes: &[u8]) -> Result<(), Failure> {
    if bytes.is_empty() {
        Ok(())
    } else {
        lob.write_all(bytes).map_err(Failure::of_lob)
    }
}

fn day(day: NaiveDate) -> oracle::Result<Timestamp> {
    Timestamp::new(day.year(), day.month(), day.day(), 0, 0, 0, 0)
}

fn local(time: NaiveDateTime) -> oracle::Result<Timestamp> {
    Timestamp::new(
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        // A leap second counts on to two thousand million; Oracle has none.
        time.nanosecond().min(999_999_999),
    )
}

fn zoned<Tz: TimeZone>(time: &DateTime<Tz>) -> oracle::Result<Timestamp> {
    local(time.naive_local())?.and_tz_offset(time.offset().fix().local_minus_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_goes_with_its_offset() {
        let time: DateTime<chrono::FixedOffset> = "2026-01-02T03:04:05.000006-03:30".parse().unwrap();
        let stamp = zoned(&time).unwrap();
        assert_eq!((stamp.hour(), stamp.nanosecond()), (3, 6000));
        assert_eq!((stamp.tz_hour_offset(), stamp.tz_minute_offset()), (-3, -30));
    }

    #[test]
    fn a_leap_second_stays_in_its_minute() {
        let time = NaiveDate::from_ymd_opt(2016, 12, 31)
            .unwrap()
            .and_hms_nano_opt(23, 59, 59, 1_500_000_000)
            .unwrap();
        assert_eq!(local(time).unwrap().nanosecond(), 999_999_999);
    }

    #[test]
    fn a_few_sizes_do_for_every_text() {
        assert_eq!([0, 32, 33, 1000, 1001, 4001].map(room), [32, 32, 256, 1000, 4000, 4001]);
    }
}
