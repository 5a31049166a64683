//! Days and times as texts.

use std::io::Write as _;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};

use crate::declaration::ColumnType;

/// Whether a text is a time that only some databases have: `infinity`, years before 1 or after
/// 9999, MySQL's days and months of 0, and times of day that are negative or 24 hours and longer.
pub(crate) fn is_rare(kind: &ColumnType, text: &str) -> bool {
    if *kind == ColumnType::Time {
        let (hours, rest) = text.trim_start_matches('-').split_once(':').unwrap_or_default();
        let is_hours = (2..=3).contains(&hours.len()) && hours.bytes().all(|b| b.is_ascii_digit());
        return is_hours && !text.starts_with("--") && time(&format!("00:{rest}")).is_some();
    }
    if matches!(text, "infinity" | "-infinity") {
        return true;
    }
    let (text, is_before) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let Some((year, rest)) = text.split_once('-') else {
        return false;
    };
    let is_year = (4..=7).contains(&year.len()) && year.bytes().all(|b| b.is_ascii_digit());
    let is_far = is_before || year.len() > 4;
    let has_zero = rest.starts_with("00-") || rest.get(2..5) == Some("-00");
    if !is_year || !(is_far || has_zero) {
        return false;
    }
    // The rest is that of a day which every calendar has, in a leap year.
    let rest = match has_zero {
        true => rest.replacen("00", "01", 2),
        false => rest.to_owned(),
    };
    let near = format!("2000-{rest}");
    match kind {
        ColumnType::Date => date(&near).is_some(),
        _ => timestamp(&near).is_some(),
    }
}

/// A day: `2026-01-02`.
pub(crate) fn date(text: &str) -> Option<NaiveDate> {
    let text = text.trim();
    // A day with a time of day counts as that day: a database without a type for days may keep it.
    match text.len() > 10 {
        true => local_and_offset(text).map(|(local, _)| local.date()),
        false => day(text),
    }
}

/// A day of a year of four digits, from 1 on. chrono also reads the year 0, which PostgreSQL stores
/// as the one before 1, and years with a sign.
fn day(text: &str) -> Option<NaiveDate> {
    let (year, _) = text.split_once('-')?;
    let is_year = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (is_year && day.year() >= 1).then_some(day)
}

/// A time of day: `03:04:05.123456`.
pub(crate) fn time(text: &str) -> Option<NaiveTime> {
    let text = text.trim();
    let parsed = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M"));
    parsed
        .ok()
        .filter(|time| time.nanosecond() < 1_000_000_000)
        .map(to_microseconds_of_day)
}

/// A day and a time; an offset counts for nothing, as in PostgreSQL.
pub(crate) fn timestamp(text: &str) -> Option<NaiveDateTime> {
    let (local, _) = local_and_offset(text)?;
    Some(local)
}

/// A point in time; without an offset it is in UTC.
pub(crate) fn timestamptz(text: &str) -> Option<DateTime<Utc>> {
    let (local, offset) = local_and_offset(text)?;
    match offset {
        None => Some(local.and_utc()),
        Some(offset) => local
            .and_local_timezone(offset)
            .single()
            .map(|time| time.with_timezone(&Utc)),
    }
}

fn local_and_offset(text: &str) -> Option<(NaiveDateTime, Option<FixedOffset>)> {
    let text = text.trim();
    let day = day(text.get(..10)?)?;
    let rest = text.get(10..)?;
    if rest.is_empty() {
        return Some((day.and_time(NaiveTime::MIN), None));
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.'))
        .unwrap_or(rest.len());
    let time = time(&rest[..end])?;
    let offset = match rest[end..].trim() {
        "" => None,
        "Z" | "z" | "UTC" => FixedOffset::east_opt(0),
        other => Some(offset(other)?),
    };
    Some((day.and_time(time), offset))
}

/// `+02`, `+0200` or `+02:00`.
fn offset(text: &str) -> Option<FixedOffset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let in_bounds = (0..=18).contains(&hours) && (0..60).contains(&minutes);
    in_bounds.then(|| FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60)))?
}

/// All of the databases keep microseconds.
fn to_microseconds_of_day(time: NaiveTime) -> NaiveTime {
    let nanoseconds = time.nanosecond();
    time.with_nanosecond(nanoseconds - nanoseconds % 1000).unwrap_or(time)
}

/// Writes two digits.
fn write_two(to: &mut Vec<u8>, number: u32) {
    let digit = |number: u32| b'0' + u8::try_from(number % 10).unwrap_or_default();
    to.extend_from_slice(&[digit(number / 10), digit(number)]);
}

/// Writes a day. chrono reads its own notation anew for each value, which costs more than the rest
/// of a row.
pub(crate) fn write_date(to: &mut Vec<u8>, date: NaiveDate) {
    match u32::try_from(date.year()) {
        Ok(year @ 0..=9999) => {
            write_two(to, year / 100);
            write_two(to, year % 100);
        }
        // Writing into memory cannot fail.
        _ => drop(write!(to, "{}", date.format("%Y"))),
    }
    to.push(b'-');
    write_two(to, date.month());
    to.push(b'-');
    write_two(to, date.day());
}

/// Writes a time of day in its shortest notation.
pub(crate) fn write_time(to: &mut Vec<u8>, time: NaiveTime) {
    write_two(to, time.hour());
    to.push(b':');
    write_two(to, time.minute());
    to.push(b':');
    write_two(to, time.second());
    let microseconds = time.nanosecond() % 1_000_000_000 / 1000;
    if microseconds > 0 {
        to.push(b'.');
        for pair in [microseconds / 10_000, microseconds / 100 % 100, microseconds % 100] {
            write_two(to, pair);
        }
        while to.ends_with(b"0") {
            to.pop();
        }
    }
}

/// Writes a day and a time in its shortest notation.
pub(crate) fn write_timestamp(to: &mut Vec<u8>, time: NaiveDateTime) {
    write_date(to, time.date());
    to.push(b'T');
    write_time(to, time.time());
}

/// Writes a point in time in UTC, with its offset.
pub(crate) fn write_timestamptz(to: &mut Vec<u8>, time: DateTime<Utc>) {
    write_timestamp(to, time.naive_utc());
    to.extend_from_slice(b"+00:00");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Datum;

    #[test]
    fn times_are_written_as_chrono_writes_them() {
        let first = NaiveDate::from_ymd_opt(0, 1, 1).unwrap().and_time(NaiveTime::MIN);
        // Steps that meet every month, day, hour, minute and second.
        for step in 0..100_000_i64 {
            let time = first + chrono::TimeDelta::microseconds(step * 3_155_694_926_127);
            let plain = time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
            let expected = plain.trim_end_matches('0').trim_end_matches('.');
            assert_eq!(Datum::Timestamp(time).to_text(), expected.to_owned());
            assert_eq!(Datum::Date(time.date()).to_text(), &plain[..10]);
        }
        for (year, expected) in [(-1, "-0001-01-01"), (9999, "9999-01-01"), (10_000, "+10000-01-01")] {
            let date = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
            assert_eq!(Datum::Date(date).to_text(), expected);
        }
    }

    #[test]
    fn a_day_has_a_year_of_four_digits_and_a_time_at_most() {
        let text = |text: &str| date(text).map(|day| Datum::Date(day).to_text());
        for (day, expected) in [
            ("2026-01-02", "2026-01-02"),
            (" 2026-1-2 ", "2026-01-02"),
            ("0001-01-01", "0001-01-01"),
            ("2026-01-02 00:00:00", "2026-01-02"),
            ("2026-01-02T03:04Z", "2026-01-02"),
        ] {
            assert_eq!(text(day).as_deref(), Some(expected), "{day}");
        }
        for day in [
            "0000-01-01",
            "+202-01-02",
            "-026-01-02",
            "202-01-02",
            "2026-01-02Tfoo",
            "2026-01-02 and more",
        ] {
            assert_eq!(date(day), None, "{day}");
        }
        for time in ["0000-01-01T00:00:00", "+202-01-02T00:00:00"] {
            assert_eq!(timestamp(time), None, "{time}");
        }
    }

    #[test]
    fn points_in_time_are_read_in_every_common_notation() {
        let shortest = |text: &str| timestamptz(text).map(|time| Datum::Timestamptz(time).to_text());
        for (text, expected) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
            ("2026-01-02 03:04:05", "2026-01-02T03:04:05+00:00"),
            ("2026-01-02T03:04:05.123456+00:00", "2026-01-02T03:04:05.123456+00:00"),
            ("2026-01-02T05:04:05.12+02", "2026-01-02T03:04:05.12+00:00"),
            ("2026-01-02T03:04:05.1234567890Z", "2026-01-02T03:04:05.123456+00:00"),
            ("2026-01-02", "2026-01-02T00:00:00+00:00"),
            ("2026-01-02T03:04", "2026-01-02T03:04:00+00:00"),
            ("2026-01-01T22:34:05-0430", "2026-01-02T03:04:05+00:00"),
        ] {
            assert_eq!(shortest(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-01-02T25:00:00",
            "now",
            "2026-01-02T03:04:05+99",
            "2026-01-02x",
        ] {
            assert_eq!(shortest(text), None, "{text}");
        }
    }
}
