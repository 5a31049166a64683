//! Time stamps: what a descriptor holds, and PostgreSQL's way of writing it.

use std::ffi::{c_char, c_void};

use crate::{
    handle::{Handle, handle},
    oci,
};

/// A date or a time, with the offset of its zone in minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) year: i16,
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
    pub(crate) nanosecond: u32,
    pub(crate) offset: i32,
}

/// The days from 0000-03-01 to 2000-01-01, at which PostgreSQL's times begin.
const EPOCH: i64 = 730_425;
const MICROSECONDS_A_DAY: i64 = 86_400_000_000;

impl Stamp {
    /// As text that PostgreSQL reads.
    pub(crate) fn text(&self, zoned: bool) -> String {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let zone = if zoned {
            format!("{sign}{:02}:{:02}", self.offset.abs() / 60, self.offset.abs() % 60)
        } else {
            String::new()
        };
        format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:09}{zone}",
            self.year, self.month, self.day, self.hour, self.minute, self.second, self.nanosecond
        )
    }

    /// From PostgreSQL's count of microseconds since 2000-01-01.
    pub(crate) fn of_microseconds(microseconds: i64) -> Self {
        let mut stamp = Self::of_days(microseconds.div_euclid(MICROSECONDS_A_DAY));
        let rest = microseconds.rem_euclid(MICROSECONDS_A_DAY);
        let seconds = rest / 1_000_000;
        stamp.hour = (seconds / 3600) as u8;
        stamp.minute = (seconds / 60 % 60) as u8;
        stamp.second = (seconds % 60) as u8;
        stamp.nanosecond = (rest % 1_000_000) as u32 * 1000;
        stamp
    }

    /// From PostgreSQL's count of days since 2000-01-01. Years begin in March here, so that the day of a leap year is the last.
    pub(crate) fn of_days(days: i64) -> Self {
        let days = days + EPOCH;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self {
            year: year as i16,
            month: month as u8,
            day: (day_of_year - (153 * shifted + 2) / 5 + 1) as u8,
            ..Self::default()
        }
    }
}

unsafe fn stamp<'a>(pointer: *const c_void) -> Option<&'a mut Stamp> {
    match unsafe { handle(pointer.cast_mut()) } {
        Some(Handle::Stamp(stamp)) => Some(stamp),
        _ => None,
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIDateTimeConstruct(
    _: *mut c_void,
    _: *mut c_void,
    pointer: *mut c_void,
    year: i16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    nanosecond: u32,
    zone: *const c_char,
    zone_length: usize,
) -> i32 {
    let Some(place) = (unsafe { stamp(pointer) }) else {
        return oci::INVALID_HANDLE;
    };
    let zone = unsafe { crate::handle::text(zone.cast(), zone_length) };
    let offset = match zone.get(1..).and_then(|zone| zone.split_once(':')) {
        Some((hours, minutes)) => {
            let minutes = hours.parse::<i32>().unwrap_or_default() * 60 + minutes.parse::<i32>().unwrap_or_default();
            if zone.starts_with('-') { -minutes } else { minutes }
        }
        None => 0,
    };
    *place = Stamp {
        year,
        month,
        day,
        hour,
        minute,
        second,
        nanosecond,
        offset,
    };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIDateTimeGetDate(
    _: *mut c_void,
    _: *mut c_void,
    pointer: *const c_void,
    year: *mut i16,
    month: *mut u8,
    day: *mut u8,
) -> i32 {
    let Some(stamp) = (unsafe { stamp(pointer) }) else {
        return oci::INVALID_HANDLE;
    };
    unsafe { (*year, *month, *day) = (stamp.year, stamp.month, stamp.day) };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIDateTimeGetTime(
    _: *mut c_void,
    _: *mut c_void,
    pointer: *mut c_void,
    hour: *mut u8,
    minute: *mut u8,
    second: *mut u8,
    nanosecond: *mut u32,
) -> i32 {
    let Some(stamp) = (unsafe { stamp(pointer) }) else {
        return oci::INVALID_HANDLE;
    };
    unsafe { (*hour, *minute, *second, *nanosecond) = (stamp.hour, stamp.minute, stamp.second, stamp.nanosecond) };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIDateTimeGetTimeZoneOffset(
    _: *mut c_void,
    _: *mut c_void,
    pointer: *const c_void,
    hours: *mut i8,
    minutes: *mut i8,
) -> i32 {
    let Some(stamp) = (unsafe { stamp(pointer) }) else {
        return oci::INVALID_HANDLE;
    };
    unsafe { (*hours, *minutes) = ((stamp.offset / 60) as i8, (stamp.offset % 60) as i8) };
    oci::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_from_the_year_2000() {
        let day = |days| {
            let stamp = Stamp::of_days(days);
            (stamp.year, stamp.month, stamp.day)
        };
        assert_eq!(day(0), (2000, 1, 1));
        assert_eq!(day(59), (2000, 2, 29));
        assert_eq!(day(-1), (1999, 12, 31));
        assert_eq!(day(-365_242), (1000, 1, 1));
        assert_eq!(day(2_921_939), (9999, 12, 31));
    }

    #[test]
    fn microseconds_before_the_beginning_are_of_the_day_before() {
        let stamp = Stamp::of_microseconds(-1);
        assert_eq!(stamp.text(false), "1999-12-31 23:59:59.999999000");
    }
}
