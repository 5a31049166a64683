//! The columns of a result, as Oracle describes them.

use postgres::types::Type;

use crate::{failure::Failure, oci, sql};

/// The most bytes of a VARCHAR2, however many characters it was made for.
const LONGEST: u16 = 4000;

/// One column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) oracle_type: u16,
    pub(crate) bytes: u16,
    pub(crate) characters: u16,
    pub(crate) precision: i16,
    pub(crate) scale: i8,
}

impl Column {
    pub(crate) fn of(column: &postgres::Column) -> Result<Self, Failure> {
        let mut described = Self {
            name: sql::oracle_name(column.name()),
            oracle_type: oci::SQLT_NUM,
            bytes: 0,
            characters: 0,
            precision: 0,
            scale: -127,
        };
        let modifier = column.type_modifier();
        match *column.type_() {
            // The numbers of a table are `numeric`; others are what PostgreSQL made of an expression, or a column with an identity.
            Type::NUMERIC if modifier >= 4 => {
                described.precision = ((modifier - 4) >> 16) as i16;
                described.scale = ((modifier - 4) & 0x7ff) as i8;
            }
            Type::INT2 if column.table_oid().is_some() => (described.precision, described.scale) = (5, 0),
            Type::INT4 if column.table_oid().is_some() => (described.precision, described.scale) = (10, 0),
            Type::INT8 if column.table_oid().is_some() => (described.precision, described.scale) = (19, 0),
            Type::NUMERIC | Type::INT2 | Type::INT4 | Type::INT8 => {}
            Type::FLOAT4 => described.oracle_type = oci::SQLT_IBFLOAT,
            Type::FLOAT8 => described.oracle_type = oci::SQLT_IBDOUBLE,
            Type::VARCHAR | Type::NAME | Type::UNKNOWN => {
                described.oracle_type = oci::SQLT_CHR;
                described.characters = u16::try_from(modifier - 4).unwrap_or(LONGEST).min(LONGEST);
                described.bytes = described.characters.saturating_mul(4).min(LONGEST);
            }
            // A column of `text` is a CLOB; an expression of it is a VARCHAR2.
            Type::TEXT if column.table_oid().is_none() => {
                described.oracle_type = oci::SQLT_CHR;
                (described.characters, described.bytes) = (LONGEST, LONGEST);
            }
            Type::TEXT => described.oracle_type = oci::SQLT_CLOB,
            Type::BYTEA => described.oracle_type = oci::SQLT_BLOB,
            Type::UUID => {
                described.oracle_type = oci::SQLT_BIN;
                described.bytes = 16;
            }
            Type::DATE => described.oracle_type = oci::SQLT_DAT,
            // TIMESTAMP(0) is what a DATE became.
            Type::TIMESTAMP if modifier == 0 => described.oracle_type = oci::SQLT_DAT,
            Type::TIMESTAMP => (described.oracle_type, described.scale) = (oci::SQLT_TIMESTAMP, 6),
            Type::TIMESTAMPTZ => (described.oracle_type, described.scale) = (oci::SQLT_TIMESTAMP_TZ, 6),
            ref other => return Err(Failure::beyond(format!("a column of PostgreSQL's type {other}"))),
        }
        Ok(described)
    }
}
