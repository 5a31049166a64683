//! Values between the buffers of C and PostgreSQL.

use std::{error::Error, ffi::c_void, ptr, slice};

use postgres::types::{Format, FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

use crate::{
    date_time::Stamp,
    failure::Failure,
    handle::{Handle, handle, misused},
    lob::Lob,
    number, oci,
};

/// A value, in the forms that both sides know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    /// Plain digits.
    Number(String),
    Float(f32),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Stamp(Stamp),
}

/// PostgreSQL's type for a value that is bound as this type of Oracle; `None` if PostgreSQL must
/// infer it.
pub(crate) fn bound_type(oracle_type: u16) -> Option<Type> {
    Some(match oracle_type {
        oci::SQLT_INT => Type::INT8,
        oci::SQLT_VNU => Type::NUMERIC,
        oci::SQLT_BFLOAT => Type::FLOAT4,
        oci::SQLT_BDOUBLE => Type::FLOAT8,
        oci::SQLT_ODT | oci::SQLT_TIMESTAMP => Type::TIMESTAMP,
        oci::SQLT_TIMESTAMP_TZ | oci::SQLT_TIMESTAMP_LTZ => Type::TIMESTAMPTZ,
        oci::SQLT_CLOB => Type::TEXT,
        oci::SQLT_BLOB => Type::BYTEA,
        _ => return None,
    })
}

/// A date as Oracle's client has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct OciDate {
    year: i16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

/// Reads what was bound.
///
/// # Safety
/// `place` holds a value of this type and length; a descriptor is given itself, not by its place.
pub(crate) unsafe fn from_c(oracle_type: u16, place: *const c_void, length: usize) -> Result<Value, Failure> {
    unsafe {
        Ok(match oracle_type {
            oci::SQLT_INT => Value::Integer(place.cast::<i64>().read_unaligned()),
            oci::SQLT_VNU => match number::decode(&*place.cast::<[u8; number::SIZE]>()) {
                Some(text) => Value::Number(text),
                None => return Err(Failure::new(1426, "numeric overflow")),
            },
            oci::SQLT_BFLOAT => Value::Float(place.cast::<f32>().read_unaligned()),
            oci::SQLT_BDOUBLE => Value::Double(place.cast::<f64>().read_unaligned()),
            // An empty text is NULL, and so are no bytes.
            oci::SQLT_CHR | oci::SQLT_AFC | oci::SQLT_BIN if length == 0 => Value::Null,
            oci::SQLT_CHR | oci::SQLT_AFC => {
                let bytes = slice::from_raw_parts(place.cast::<u8>(), length);
                Value::Text(String::from_utf8_lossy(bytes).into_owned())
            }
            oci::SQLT_BIN => Value::Bytes(slice::from_raw_parts(place.cast::<u8>(), length).to_vec()),
            oci::SQLT_ODT => {
                let date = place.cast::<OciDate>().read_unaligned();
                Value::Stamp(Stamp {
                    year: date.year,
                    month: date.month,
                    day: date.day,
                    hour: date.hour,
                    minute: date.minute,
                    second: date.second,
                    ..Stamp::default()
                })
            }
            oci::SQLT_TIMESTAMP | oci::SQLT_TIMESTAMP_TZ | oci::SQLT_TIMESTAMP_LTZ => match handle(place.cast_mut()) {
                Some(Handle::Stamp(stamp)) => Value::Stamp(*stamp),
                _ => return Err(misused()),
            },
            oci::SQLT_CLOB | oci::SQLT_BLOB => match handle(place.cast_mut()).and_then(Handle::lob) {
                Some(lob) if !lob.is_set => return Err(Failure::new(22275, "invalid LOB locator specified")),
                Some(lob) if oracle_type == oci::SQLT_CLOB => Value::Text(
                    String::from_utf8(lob.bytes.clone()).map_err(|_| Failure::beyond("a CLOB that is not UTF-8"))?,
                ),
                Some(lob) => Value::Bytes(lob.bytes.clone()),
                None => return Err(misused()),
            },
            other => return Err(Failure::beyond(format!("a value bound as type {other}"))),
        })
    }
}

/// Writes a value that is not NULL, and returns its length; `None` if there is not enough room.
///
/// # Safety
/// `place` has room for a value of this type and this size; a descriptor is given itself, not by
/// its place.
pub(crate) unsafe fn to_c(
    value: &Value,
    oracle_type: u16,
    place: *mut c_void,
    size: usize,
) -> Result<Option<usize>, Failure> {
    let wrong = || Failure::new(932, "inconsistent datatypes");
    let digits = || match value {
        Value::Integer(number) => Ok(number.to_string()),
        Value::Number(text) => Ok(text.clone()),
        _ => Err(wrong()),
    };
    unsafe {
        match oracle_type {
            oci::SQLT_INT => {
                let number: i64 = digits()?
                    .parse()
                    .map_err(|_| Failure::new(1455, "converting column overflows integer datatype"))?;
                place.cast::<i64>().write_unaligned(number);
                Ok(Some(8))
            }
            oci::SQLT_VNU => {
                let bytes = number::encode(&digits()?).ok_or_else(|| Failure::new(1426, "numeric overflow"))?;
                place.cast::<[u8; number::SIZE]>().write_unaligned(bytes);
                Ok(Some(number::SIZE))
            }
            oci::SQLT_BFLOAT => {
                let Value::Float(number) = value else {
                    return Err(wrong());
                };
                place.cast::<f32>().write_unaligned(*number);
                Ok(Some(4))
            }
            oci::SQLT_BDOUBLE => {
                let Value::Double(number) = value else {
                    return Err(wrong());
                };
                place.cast::<f64>().write_unaligned(*number);
                Ok(Some(8))
            }
            oci::SQLT_CHR | oci::SQLT_AFC | oci::SQLT_BIN => {
                let bytes = match value {
                    Value::Text(text) if oracle_type != oci::SQLT_BIN => text.as_bytes(),
                    Value::Bytes(bytes) if oracle_type == oci::SQLT_BIN => bytes,
                    _ => return Err(wrong()),
                };
                if bytes.len() > size {
                    return Ok(None);
                }
                ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast::<u8>(), bytes.len());
                Ok(Some(bytes.len()))
            }
            oci::SQLT_ODT => {
                let Value::Stamp(stamp) = value else {
                    return Err(wrong());
                };
                place.cast::<OciDate>().write_unaligned(OciDate {
                    year: stamp.year,
                    month: stamp.month,
                    day: stamp.day,
                    hour: stamp.hour,
                    minute: stamp.minute,
                    second: stamp.second,
                });
                Ok(Some(size_of::<OciDate>()))
            }
            oci::SQLT_TIMESTAMP | oci::SQLT_TIMESTAMP_TZ | oci::SQLT_TIMESTAMP_LTZ => {
                let (Value::Stamp(stamp), Some(Handle::Stamp(target))) = (value, handle(place)) else {
                    return Err(wrong());
                };
                *target = *stamp;
                Ok(Some(size_of::<usize>()))
            }
            oci::SQLT_CLOB | oci::SQLT_BLOB => {
                let lob = handle(place).and_then(Handle::lob).ok_or_else(misused)?;
                *lob = match value {
                    Value::Text(text) if oracle_type == oci::SQLT_CLOB => Lob::of(text.clone().into_bytes(), true),
                    Value::Bytes(bytes) if oracle_type == oci::SQLT_BLOB => Lob::of(bytes.clone(), false),
                    _ => return Err(wrong()),
                };
                Ok(Some(size_of::<usize>()))
            }
            other => Err(Failure::beyond(format!("a value fetched as type {other}"))),
        }
    }
}

/// Whether buffers of this type hold descriptors, by their places.
pub(crate) fn is_descriptor(oracle_type: u16) -> bool {
    matches!(
        oracle_type,
        oci::SQLT_TIMESTAMP | oci::SQLT_TIMESTAMP_TZ | oci::SQLT_TIMESTAMP_LTZ | oci::SQLT_CLOB | oci::SQLT_BLOB
    )
}

impl ToSql for Value {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let text = match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Integer(number) => number.to_string(),
            Self::Number(text) | Self::Text(text) => text.clone(),
            Self::Float(number) => format!("{number:e}"),
            Self::Double(number) => format!("{number:e}"),
            Self::Bytes(bytes) if *of == Type::UUID => hex(bytes),
            Self::Bytes(bytes) => format!("\\x{}", hex(bytes)),
            Self::Stamp(stamp) => stamp.text(*of == Type::TIMESTAMPTZ),
        };
        // PostgreSQL's texts hold no NUL.
        if text.contains('\0') {
            return Err("a text with a NUL character".into());
        }
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *of {
            Type::INT2 => Self::Integer(i64::from(i16::from_sql(of, raw)?)),
            Type::INT4 => Self::Integer(i64::from(i32::from_sql(of, raw)?)),
            Type::INT8 => Self::Integer(i64::from_sql(of, raw)?),
            Type::NUMERIC => Self::Number(numeric(raw).ok_or("a numeric that is no number")?),
            Type::FLOAT4 => Self::Float(f32::from_sql(of, raw)?),
            Type::FLOAT8 => Self::Double(f64::from_sql(of, raw)?),
            Type::BYTEA | Type::UUID => Self::Bytes(raw.to_vec()),
            Type::DATE => Self::Stamp(Stamp::of_days(i64::from(i32::from_be_bytes(raw.try_into()?)))),
            Type::TIMESTAMP | Type::TIMESTAMPTZ => {
                Self::Stamp(Stamp::of_microseconds(i64::from_be_bytes(raw.try_into()?)))
            }
            _ => Self::Text(std::str::from_utf8(raw)?.to_owned()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// PostgreSQL's `numeric` in its binary form: digits to the base of 10,000.
fn numeric(raw: &[u8]) -> Option<String> {
    let number = |index: usize| Some(i16::from_be_bytes(raw.get(2 * index..2 * index + 2)?.try_into().ok()?));
    let (count, weight, sign, scale) = (number(0)?, number(1)?, number(2)?, number(3)?);
    let mut text = match sign {
        0 => String::new(),
        0x4000 => "-".to_owned(),
        _ => return None,
    };
    let digit = |power: i16| {
        let index = weight - power;
        if (0..count).contains(&index) {
            number(4 + index as usize)
        } else {
            Some(0)
        }
    };
    let mut whole = String::new();
    for power in (0..=weight.max(0)).rev() {
        whole.push_str(&format!("{:04}", digit(power)?));
    }
    let whole = whole.trim_start_matches('0');
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        let mut fraction = String::new();
        for power in 1..=(scale + 3) / 4 {
            fraction.push_str(&format!("{:04}", digit(-power)?));
        }
        text.push('.');
        text.push_str(&fraction[..scale as usize]);
    }
    Some(text)
}
