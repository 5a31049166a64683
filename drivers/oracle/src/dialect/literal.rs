//! Literals and parameters.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use sqlparser::ast::{DataType, Expr, TimezoneInfo, TypedString, Value};

use super::{
    Writer,
    refusal::{Result, refuse},
};

/// The number of a parameter, from 0, if the expression is only a parameter.
pub(super) fn placeholder(expr: &Expr) -> Result<Option<usize>> {
    match expr {
        Expr::Nested(expr) => placeholder(expr),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => match name.strip_prefix('$').map(str::parse::<usize>) {
                Some(Ok(number)) if number > 0 => Ok(Some(number - 1)),
                _ => refuse("a parameter that is not like `$1`"),
            },
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// A text as a literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Writer {
    pub(super) fn literal(&mut self, expr: &Expr, value: &Value) -> Result<()> {
        match value {
            Value::Number(digits, false) => self.push(digits),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => self.push(&quoted(text)),
            Value::NationalStringLiteral(text) => self.push(&format!("N{}", quoted(text))),
            Value::DollarQuotedString(dollar) => self.push(&quoted(&dollar.value)),
            Value::Boolean(truth) => self.push(if *truth { "1" } else { "0" }),
            Value::Null => self.push("NULL"),
            Value::Placeholder(_) => {
                if let Some(parameter) = placeholder(expr)? {
                    self.bind(parameter, false);
                }
            }
            _ => return refuse("this kind of literal"),
        }
        Ok(())
    }

    /// `DATE '2026-01-02'` and `TIMESTAMP '2026-01-02 03:04:05'`. Oracle takes them in one form
    /// only. Some of PostgreSQL's other forms are brought into it; the rest are refused.
    pub(super) fn typed_string(&mut self, typed: &TypedString) -> Result<()> {
        let Value::SingleQuotedString(text) = &typed.value.value else {
            return refuse("this kind of literal");
        };
        match &typed.data_type {
            DataType::Date => match text.parse::<NaiveDate>() {
                Ok(date) => self.push(&format!("DATE '{date}'")),
                Err(_) => return refuse("a date that is not like `DATE '2026-01-02'`"),
            },
            DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN);
                let time = NaiveDateTime::parse_from_str(&text.replacen('T', " ", 1), "%Y-%m-%d %H:%M:%S%.f");
                match time.or_else(|_| text.parse().map(midnight)) {
                    Ok(time) => self.push(&format!("TIMESTAMP '{time}'")),
                    Err(_) => return refuse("a time that is not like `TIMESTAMP '2026-01-02 03:04:05'`"),
                }
            }
            other => return refuse(format!("a literal of the type `{}`", other.to_string().to_lowercase())),
        }
        Ok(())
    }
}
