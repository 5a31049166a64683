//! Values on their way out of Oracle, as exactly the variants that SeaORM decodes.

use std::io::Read;

use chrono::{DateTime, FixedOffset, Local, NaiveDate, NaiveDateTime, TimeZone, Utc};
use oracle::{
    SqlValue,
    sql_type::{Blob, Clob, FromSql, Lob, OracleType, Timestamp},
};
use sea_orm::{
    JsonValue, Value,
    prelude::{Decimal, Uuid},
};
use tenantry_core::{DatabaseError, DatabaseErrorKind, driver_settings::Room};

use crate::{
    dialect::{Kind, Output},
    errors::Failure,
    offsets::Zone,
};

/// How the values of one column are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// As values of this type.
    Kind(Kind),
    /// A number without a size: `BigInt` if all of the column's are whole, else `Decimal`.
    Number,
    /// A time with its offset or in local time.
    Zoned(Zone),
}

/// Chooses by what the statement says, and by Oracle's description of the result. `source`: what
/// Oracle says of the table's column that the values come from, if it was asked.
pub(crate) fn reader(
    output: &Output,
    described: &OracleType,
    source: Option<&OracleType>,
    json: bool,
) -> Result<Reader, Failure> {
    let kind = match described {
        OracleType::Number(..) | OracleType::Float(_) | OracleType::Int64 | OracleType::UInt64 => {
            return Ok(number(output, described, source));
        }
        OracleType::BinaryFloat => Kind::Float,
        OracleType::BinaryDouble => Kind::Double,
        OracleType::Boolean => Kind::Bool,
        OracleType::Varchar2(_)
        | OracleType::NVarchar2(_)
        | OracleType::Char(_)
        | OracleType::NChar(_)
        | OracleType::Rowid
        | OracleType::Long
        | OracleType::CLOB
        | OracleType::NCLOB => {
            if json || output.kind == Some(Kind::Json) {
                Kind::Json
            } else {
                Kind::Text
            }
        }
        OracleType::Raw(16) if output.kind != Some(Kind::Bytes) => Kind::Uuid,
        OracleType::Raw(_) | OracleType::LongRaw | OracleType::BLOB => {
            if json || output.kind == Some(Kind::Json) {
                Kind::Json
            } else {
                Kind::Bytes
            }
        }
        OracleType::Date => match output.kind {
            Some(kind @ (Kind::Timestamp | Kind::TimestampTz)) => kind,
            _ => Kind::Date,
        },
        OracleType::Timestamp(_) => Kind::Timestamp,
        OracleType::TimestampTZ(_) => Kind::TimestampTz,
        OracleType::TimestampLTZ(_) => return Ok(Reader::Zoned(Zone::Offset)),
        _ => {
            return Err(Failure::here(
                DatabaseErrorKind::Unsupported,
                "a column of this type cannot be read on Oracle",
            ));
        }
    };
    Ok(Reader::Kind(kind))
}

fn number(output: &Output, described: &OracleType, source: Option<&OracleType>) -> Reader {
    let told = output.kind.filter(|kind| {
        use Kind::{BigInt, Bool, Decimal, Double, Float, Int, SmallInt};
        matches!(kind, Bool | SmallInt | Int | BigInt | Decimal | Float | Double)
    });
    if let Some(kind) = told {
        return Reader::Kind(kind);
    }
    match sized(described).or_else(|| source.and_then(sized)) {
        // What PostgreSQL gives for the sum of each.
        Some(Kind::Bool | Kind::SmallInt | Kind::Int) if output.sum => Reader::Kind(Kind::BigInt),
        Some(_) if output.sum => Reader::Kind(Kind::Decimal),
        Some(kind) => Reader::Kind(kind),
        None => Reader::Number,
    }
}

/// The type of a calculation with whole numbers of these columns, as PostgreSQL has it; `None` if
/// one of them has others.
pub(crate) fn calculated<'a>(columns: impl IntoIterator<Item = Option<&'a OracleType>>) -> Option<Kind> {
    let mut widest = Kind::Int;
    for column in columns {
        match column.and_then(sized)? {
            Kind::SmallInt | Kind::Int => {}
            Kind::BigInt => widest = Kind::BigInt,
            _ => return None,
        }
    }
    Some(widest)
}

/// The type that a column's digits stand for, as the dialect makes columns.
fn sized(described: &OracleType) -> Option<Kind> {
    match described {
        OracleType::Number(0, _) | OracleType::Float(_) => None,
        OracleType::Number(1, 0) => Some(Kind::Bool),
        OracleType::Number(2..=5, 0) => Some(Kind::SmallInt),
        OracleType::Number(6..=10, 0) => Some(Kind::Int),
        // Oracle's INTEGER is a NUMBER(38).
        OracleType::Number(_, 0) => Some(Kind::BigInt),
        OracleType::Number(..) => Some(Kind::Decimal),
        OracleType::Int64 => Some(Kind::BigInt),
        _ => None,
    }
}

/// Reads one value, if there is room for it.
pub(crate) fn value(
    reader: Reader,
    from: &SqlValue<'_>,
    described: &OracleType,
    room: &mut Room,
) -> Result<Value, Failure> {
    let kind = match reader {
        Reader::Number => return Ok(Value::String(get::<String>(from)?)),
        Reader::Zoned(zone) => {
            let time = get::<Timestamp>(from)?.map(|stamp| offset(&stamp)).transpose()?;
            return Ok(match zone {
                Zone::Offset => Value::ChronoDateTimeWithTimeZone(time),
                Zone::Local => Value::ChronoDateTimeLocal(time.map(|time| time.with_timezone(&Local))),
            });
        }
        Reader::Kind(kind) => kind,
    };
    Ok(match kind {
        Kind::Bool if *described == OracleType::Boolean => Value::Bool(get::<bool>(from)?),
        Kind::Bool => Value::Bool(get::<i64>(from)?.map(|number| number != 0)),
        Kind::SmallInt => narrow(get(from)?, Value::SmallInt),
        Kind::Int => narrow(get(from)?, Value::Int),
        Kind::BigInt => Value::BigInt(get::<i64>(from)?),
        Kind::Decimal => Value::Decimal(get::<String>(from)?.map(|text| decimal(&text)).transpose()?),
        Kind::Float => Value::Float(get::<f32>(from)?),
        Kind::Double => Value::Double(get::<f64>(from)?),
        Kind::Text => Value::String(text(from, described, room)?),
        Kind::Bytes => Value::Bytes(bytes(from, described, room)?),
        Kind::Uuid => {
            let bytes = get::<Vec<u8>>(from)?;
            let uuid = bytes.map(|bytes| Uuid::from_slice(&bytes)).transpose();
            Value::Uuid(uuid.map_err(|_| unreadable("a RAW(16) does not hold 16 bytes"))?)
        }
        Kind::Json => {
            let text = match described {
                OracleType::BLOB | OracleType::Raw(_) | OracleType::LongRaw => bytes(from, described, room)?
                    .map(String::from_utf8)
                    .transpose()
                    .map_err(|_| unreadable("a column of JSON does not hold UTF-8"))?,
                _ => text(from, described, room)?,
            };
            let json = text.map(|text| text.parse::<JsonValue>()).transpose();
            Value::Json(
                json.map_err(|_| unreadable("a column of JSON does not hold JSON"))?
                    .map(Box::new),
            )
        }
        Kind::Date => Value::ChronoDate(get::<Timestamp>(from)?.map(|stamp| day(&stamp)).transpose()?),
        Kind::Timestamp => Value::ChronoDateTime(get::<Timestamp>(from)?.map(|stamp| local(&stamp)).transpose()?),
        Kind::TimestampTz => {
            let time = get::<Timestamp>(from)?.map(|stamp| offset(&stamp)).transpose()?;
            Value::ChronoDateTimeUtc(time.map(|time| time.with_timezone(&Utc)))
        }
    })
}

/// Makes the values of a column of [`Reader::Number`], which were read as texts, what they are: all
/// of one variant.
pub(crate) fn settle_numbers(rows: &mut [Vec<Value>], column: usize) -> Result<(), Failure> {
    let text = |row: &Vec<Value>| match row.get(column) {
        Some(Value::String(text)) => text.clone(),
        _ => None,
    };
    let whole = rows.iter().filter_map(text).all(|text| text.parse::<i64>().is_ok());
    for row in rows {
        let number = text(row);
        let value = match (whole, number) {
            (true, number) => Value::BigInt(number.and_then(|text| text.parse().ok())),
            (false, number) => Value::Decimal(number.map(|text| decimal(&text)).transpose()?),
        };
        if let Some(place) = row.get_mut(column) {
            *place = value;
        }
    }
    Ok(())
}

fn get<T: FromSql>(from: &SqlValue<'_>) -> Result<Option<T>, Failure> {
    from.get::<Option<T>>().map_err(|error| Failure::of(error, false))
}

/// A whole number in its column's type. One that is greater, as 40000 in a NUMBER(5), is a
/// `BigInt`.
fn narrow<T: TryFrom<i64>>(number: Option<i64>, make: fn(Option<T>) -> Value) -> Value {
    match number.map(T::try_from).transpose() {
        Ok(fitting) => make(fitting),
        Err(_) => Value::BigInt(number),
    }
}

fn unreadable(reason: &'static str) -> Failure {
    Failure::here(DatabaseErrorKind::Other, reason)
}

fn text(from: &SqlValue<'_>, described: &OracleType, room: &mut Room) -> Result<Option<String>, Failure> {
    if !matches!(described, OracleType::CLOB | OracleType::NCLOB) {
        let text = get::<String>(from)?;
        room_for(room.take(text.as_ref().map_or(0, String::len)))?;
        return Ok(text);
    }
    let Some(mut clob) = get::<Clob>(from)? else {
        return Ok(None);
    };
    take_lob(&clob, room)?;
    // In one piece: the client library counts in halves of UTF-16, and a character may have two.
    let mut bytes = Vec::new();
    clob.read_to_end(&mut bytes).map_err(Failure::of_lob)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(unreadable("a CLOB did not come as UTF-8")),
    }
}

fn bytes(from: &SqlValue<'_>, described: &OracleType, room: &mut Room) -> Result<Option<Vec<u8>>, Failure> {
    if *described != OracleType::BLOB {
        let bytes = get::<Vec<u8>>(from)?;
        room_for(room.take(bytes.as_ref().map_or(0, Vec::len)))?;
        return Ok(bytes);
    }
    let Some(mut blob) = get::<Blob>(from)? else {
        return Ok(None);
    };
    take_lob(&blob, room)?;
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).map_err(Failure::of_lob)?;
    Ok(Some(bytes))
}

/// Takes room for a LOB before it is read. A character of a CLOB counts as one byte.
fn take_lob(lob: &impl Lob, room: &mut Room) -> Result<(), Failure> {
    let size = lob.size().map_err(|error| Failure::of(error, false))?;
    room_for(room.take(usize::try_from(size).unwrap_or(usize::MAX)))
}

pub(crate) fn room_for(taken: Result<(), DatabaseError>) -> Result<(), Failure> {
    taken.map_err(|error| Failure {
        error,
        ends_transaction: false,
        ora: 0,
    })
}

fn decimal(text: &str) -> Result<Decimal, Failure> {
    Decimal::from_str_exact(text)
        .or_else(|_| Decimal::from_scientific(text))
        .map_err(|_| unreadable("a number has more digits than a decimal holds"))
}

fn day(stamp: &Timestamp) -> Result<NaiveDate, Failure> {
    NaiveDate::from_ymd_opt(stamp.year(), stamp.month(), stamp.day()).ok_or_else(|| unreadable("a date is none"))
}

fn local(stamp: &Timestamp) -> Result<NaiveDateTime, Failure> {
    let time = day(stamp)?.and_hms_nano_opt(stamp.hour(), stamp.minute(), stamp.second(), stamp.nanosecond());
    time.ok_or_else(|| unreadable("a time is none"))
}

fn offset(stamp: &Timestamp) -> Result<DateTime<FixedOffset>, Failure> {
    let time = FixedOffset::east_opt(stamp.tz_offset()).and_then(|zone| Some((zone, local(stamp).ok()?)));
    time.and_then(|(zone, local)| zone.from_local_datetime(&local).single())
        .ok_or_else(|| unreadable("a time with a zone is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Option<Kind>, described: OracleType) -> Reader {
        let output = Output {
            kind,
            ..Output::default()
        };
        let Ok(reader) = reader(&output, &described, None, false) else {
            panic!("{described} cannot be read")
        };
        reader
    }

    #[test]
    fn a_number_s_digits_tell_its_type() {
        let cases = [
            (OracleType::Number(1, 0), Reader::Kind(Kind::Bool)),
            (OracleType::Number(5, 0), Reader::Kind(Kind::SmallInt)),
            (OracleType::Number(10, 0), Reader::Kind(Kind::Int)),
            (OracleType::Number(19, 0), Reader::Kind(Kind::BigInt)),
            (OracleType::Number(38, 0), Reader::Kind(Kind::BigInt)),
            (OracleType::Number(28, 10), Reader::Kind(Kind::Decimal)),
            (OracleType::Number(0, -127), Reader::Number),
            (OracleType::Float(126), Reader::Number),
        ];
        for (described, expected) in cases {
            assert_eq!(of(None, described.clone()), expected, "{described}");
        }
    }

    #[test]
    fn a_statement_s_own_word_goes_before_oracle_s() {
        assert_eq!(of(Some(Kind::Int), OracleType::Number(19, 0)), Reader::Kind(Kind::Int));
        assert_eq!(of(Some(Kind::Json), OracleType::CLOB), Reader::Kind(Kind::Json));
        assert_eq!(of(Some(Kind::Bytes), OracleType::Raw(16)), Reader::Kind(Kind::Bytes));
        assert_eq!(
            of(Some(Kind::Timestamp), OracleType::Date),
            Reader::Kind(Kind::Timestamp)
        );
        // The average of floating numbers is one too.
        assert_eq!(
            of(Some(Kind::Decimal), OracleType::BinaryDouble),
            Reader::Kind(Kind::Double)
        );
    }

    #[test]
    fn the_greatest_of_a_column_and_its_sum_have_the_column_s_type() {
        let expression = OracleType::Number(0, -127);
        let cases = [
            (OracleType::Number(10, 0), false, Kind::Int),
            (OracleType::Number(10, 0), true, Kind::BigInt),
            (OracleType::Number(19, 0), true, Kind::Decimal),
        ];
        for (column, sum, kind) in cases {
            let output = Output {
                sum,
                ..Output::default()
            };
            let reader = reader(&output, &expression, Some(&column), false).ok();
            assert_eq!(reader, Some(Reader::Kind(kind)));
        }
    }

    #[test]
    fn a_calculation_is_as_wide_as_its_widest_column() {
        let of = |digits: &[u8]| {
            let columns: Vec<OracleType> = digits.iter().map(|digits| OracleType::Number(*digits, 0)).collect();
            calculated(columns.iter().map(Some))
        };
        assert_eq!(of(&[5, 5]), Some(Kind::Int));
        assert_eq!(of(&[10, 5]), Some(Kind::Int));
        assert_eq!(of(&[10, 19]), Some(Kind::BigInt));
        assert_eq!(of(&[10, 0]), None);
        assert_eq!(calculated([None]), None);
    }

    #[test]
    fn numbers_without_a_size_are_all_whole_or_all_decimal() {
        let column = |texts: &[Option<&str>]| {
            let mut rows: Vec<Vec<Value>> = texts
                .iter()
                .map(|text| vec![Value::String(text.map(str::to_owned))])
                .collect();
            assert!(settle_numbers(&mut rows, 0).is_ok());
            rows.into_iter().flatten().collect::<Vec<_>>()
        };
        assert_eq!(
            column(&[Some("1"), None]),
            [Value::BigInt(Some(1)), Value::BigInt(None)]
        );
        let decimal = |text: &str| Value::Decimal(Some(text.parse().unwrap()));
        assert_eq!(
            column(&[Some("1"), Some("2.5"), None]),
            [decimal("1"), decimal("2.5"), Value::Decimal(None)]
        );
        assert_eq!(column(&[Some("9223372036854775808")]), [decimal("9223372036854775808")]);
    }

    #[test]
    fn a_decimal_is_exact_or_an_error() {
        assert_eq!(decimal("-.5").ok(), Some("-0.5".parse().unwrap()));
        assert_eq!(decimal("1E-5").ok(), Some("0.00001".parse().unwrap()));
        assert!(decimal("0.12345678901234567890123456789012345678").is_err());
    }
}
