//! Days and times as PostgreSQL sends them: as numbers, whatever the settings of a session are. It
//! has `infinity`, and years that other databases and chrono do not have.

use chrono::{NaiveDate, NaiveTime, TimeDelta};

use super::Datum;

const DAY: i64 = 24 * 60 * 60 * 1_000_000;
const INFINITY: &str = "infinity";
const MINUS_INFINITY: &str = "-infinity";

/// Days since 2000.
pub(crate) fn date(sent: &[u8]) -> Option<Datum> {
    let days = i32::from_be_bytes(sent.try_into().ok()?);
    Some(match days {
        i32::MAX => Datum::Text(INFINITY.to_owned()),
        i32::MIN => Datum::Text(MINUS_INFINITY.to_owned()),
        days => match near(days.into()) {
            Some(date) => Datum::Date(date),
            None => {
                let (date, era) = far(days.into());
                Datum::Text(format!("{date}{era}"))
            }
        },
    })
}

/// Microseconds since midnight; the last one is 24:00.
pub(crate) fn time(sent: &[u8]) -> Option<Datum> {
    let time = i64::from_be_bytes(sent.try_into().ok()?);
    Some(match time_of_day(time) {
        Some(time) => Datum::Time(time),
        None => Datum::Text("24:00:00".to_owned()),
    })
}

/// Microseconds since 2000, in UTC if they are `zoned`.
pub(crate) fn timestamp(sent: &[u8], zoned: bool) -> Option<Datum> {
    let sent = i64::from_be_bytes(sent.try_into().ok()?);
    if sent == i64::MAX || sent == i64::MIN {
        let text = if sent > 0 { INFINITY } else { MINUS_INFINITY };
        return Some(Datum::Text(text.to_owned()));
    }
    let days = sent.div_euclid(DAY);
    let time = time_of_day(sent.rem_euclid(DAY))?;
    Some(match near(days) {
        Some(date) if zoned => Datum::Timestamptz(date.and_time(time).and_utc()),
        Some(date) => Datum::Timestamp(date.and_time(time)),
        None => {
            let (date, era) = far(days);
            let zone = if zoned { "+00:00" } else { "" };
            Datum::Text(format!("{date}T{}{zone}{era}", Datum::Time(time).to_text()))
        }
    })
}

fn time_of_day(microseconds: i64) -> Option<NaiveTime> {
    let seconds = u32::try_from(microseconds / 1_000_000).ok()?;
    let nanoseconds = u32::try_from(microseconds % 1_000_000 * 1000).ok()?;
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanoseconds)
}

/// A day of the years that have four digits.
fn near(days: i64) -> Option<NaiveDate> {
    let date = NaiveDate::from_ymd_opt(2000, 1, 1)?.checked_add_signed(TimeDelta::try_days(days)?)?;
    (1..=9999).contains(&chrono::Datelike::year(&date)).then_some(date)
}

/// Any day of the Gregorian calendar, and ` BC` after it: in 400 years there are 146,097 days, and
/// a year that begins in March ends with its leap day.
fn far(days: i64) -> (String, &'static str) {
    let days = days + 730_425;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = cycle * 400 + year + i64::from(month <= 2);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date_text(days: i32) -> String {
        date(&days.to_be_bytes()).unwrap().to_text()
    }

    fn timestamp_text(sent: i64) -> String {
        timestamp(&sent.to_be_bytes(), true).unwrap().to_text()
    }

    #[test]
    fn every_day_that_postgresql_has_is_written_as_it_writes_it() {
        for (days, expected) in [
            (0, "2000-01-01"),
            (-1, "1999-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
            (2_921_939, "9999-12-31"),
            (2_921_940, "10000-01-01"),
            (2_145_031_948, "5874897-12-31"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (-730_485, "0001-01-01 BC"),
            (-2_451_507, "4713-01-01 BC"),
        ] {
            assert_eq!(date_text(days), expected, "{days}");
        }
        for days in [-700_000, -1, 0, 59, 60, 366, 2_921_939] {
            assert_eq!(date_text(days), far(days.into()).0);
        }
    }

    #[test]
    fn every_time_that_postgresql_has_is_written_as_it_writes_it() {
        for (sent, expected) in [
            (0, "2000-01-01T00:00:00+00:00"),
            (-1, "1999-12-31T23:59:59.999999+00:00"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
            (9_223_371_331_199_999_999, "294276-12-31T23:59:59.999999+00:00"),
            (-211_810_204_800_000_000, "4713-01-01T00:00:00+00:00 BC"),
        ] {
            assert_eq!(timestamp_text(sent), expected, "{sent}");
        }
        let midnight = time(&DAY.to_be_bytes()).unwrap();
        assert_eq!(midnight.to_text(), "24:00:00");
        assert_eq!(time(&(DAY - 1).to_be_bytes()).unwrap().to_text(), "23:59:59.999999");
        assert_eq!(date(&[0; 8]), None);
    }
}
