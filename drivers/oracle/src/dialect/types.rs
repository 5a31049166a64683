//! PostgreSQL's types as Oracle's.

use sqlparser::{
    ast::{CharacterLength, DataType, ExactNumberInfo, Expr, TimezoneInfo},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::{
    Kind, Writer, names,
    refusal::{Result, refuse},
};

/// The longest text in a `VARCHAR2`, in bytes, unless the database is set up for longer ones.
const LONGEST_VARCHAR2: u64 = 4000;

/// A type on Oracle.
pub(super) struct OracleType {
    /// Its name in a column's definition.
    pub(super) column: String,
    /// Its type in SeaORM.
    pub(super) kind: Kind,
    /// Whether the database numbers its values: `serial`, `bigserial` and so on.
    pub(super) identity: bool,
}

fn of(column: impl Into<String>, kind: Kind) -> Result<OracleType> {
    Ok(OracleType {
        column: column.into(),
        kind,
        identity: false,
    })
}

fn serial(digits: u8, kind: Kind) -> Result<OracleType> {
    Ok(OracleType {
        identity: true,
        ..of(format!("NUMBER({digits})"), kind)?
    })
}

pub(super) fn oracle_type(data_type: &DataType) -> Result<OracleType> {
    match data_type {
        DataType::SmallInt(None) | DataType::Int2(None) => of("NUMBER(5)", Kind::SmallInt),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => of("NUMBER(10)", Kind::Int),
        DataType::BigInt(None) | DataType::Int8(None) => of("NUMBER(19)", Kind::BigInt),
        DataType::Bool | DataType::Boolean => of("NUMBER(1)", Kind::Bool),
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => match info {
            ExactNumberInfo::None => of("NUMBER", Kind::Decimal),
            ExactNumberInfo::Precision(digits) => of(format!("NUMBER({digits})"), Kind::Decimal),
            ExactNumberInfo::PrecisionAndScale(digits, scale) => {
                of(format!("NUMBER({digits}, {scale})"), Kind::Decimal)
            }
        },
        DataType::Real | DataType::Float4 => of("BINARY_FLOAT", Kind::Float),
        DataType::DoublePrecision | DataType::Float8 | DataType::Double(ExactNumberInfo::None) => {
            of("BINARY_DOUBLE", Kind::Double)
        }
        DataType::Varchar(length) | DataType::CharacterVarying(length) | DataType::CharVarying(length) => {
            match length {
                None => of(format!("VARCHAR2({LONGEST_VARCHAR2})"), Kind::Text),
                Some(length) => of(format!("VARCHAR2({} CHAR)", characters(length)?), Kind::Text),
            }
        }
        DataType::Char(length) | DataType::Character(length) => match length {
            None => of("CHAR(1 CHAR)", Kind::Text),
            Some(length) => of(format!("CHAR({} CHAR)", characters(length)?), Kind::Text),
        },
        DataType::Text => of("CLOB", Kind::Text),
        DataType::Bytea => of("BLOB", Kind::Bytes),
        DataType::Uuid => of("RAW(16)", Kind::Uuid),
        DataType::JSON | DataType::JSONB => of("CLOB", Kind::Json),
        DataType::Date => of("DATE", Kind::Date),
        DataType::Timestamp(digits, zone) => {
            let digits = digits.unwrap_or(6);
            match zone {
                TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => {
                    of(format!("TIMESTAMP({digits}) WITH TIME ZONE"), Kind::TimestampTz)
                }
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => {
                    of(format!("TIMESTAMP({digits})"), Kind::Timestamp)
                }
            }
        }
        DataType::Custom(name, arguments) if arguments.is_empty() => {
            let ident = names::last(name)?;
            let name = names::postgres(ident);
            // SeaORM may quote what it casts to, such as `"text"`.
            if ident.quote_style.is_some()
                && let Some(plain) = unquoted(&name)
            {
                return oracle_type(&plain);
            }
            match name.as_str() {
                "smallserial" | "serial2" => serial(5, Kind::SmallInt),
                "serial" | "serial4" => serial(10, Kind::Int),
                "bigserial" | "serial8" => serial(19, Kind::BigInt),
                _ => refuse(format!("the type `{name}`")),
            }
        }
        other => refuse(format!("the type `{}`", other.to_string().to_lowercase())),
    }
}

/// A type that PostgreSQL has, by its name alone.
fn unquoted(name: &str) -> Option<DataType> {
    let dialect = PostgreSqlDialect {};
    let parsed = Parser::new(&dialect)
        .try_with_sql(name)
        .and_then(|mut parser| parser.parse_data_type());
    parsed
        .ok()
        .filter(|data_type| !matches!(data_type, DataType::Custom(..)))
}

fn characters(length: &CharacterLength) -> Result<u64> {
    match length {
        CharacterLength::IntegerLength { length, .. } if *length <= LONGEST_VARCHAR2 => Ok(*length),
        _ => refuse("a `varchar` of more than 4000 characters"),
    }
}

impl Writer {
    /// `CAST`, as PostgreSQL has it.
    pub(super) fn cast(&mut self, expr: &Expr, data_type: &DataType) -> Result<()> {
        let oracle = oracle_type(data_type)?;
        let (before, after) = match oracle.kind {
            // Of these there is one form only, which a cast on Oracle could not make of anything
            // else.
            Kind::Json | Kind::Bytes | Kind::Uuid => return self.value(expr),
            Kind::Text if oracle.column == "CLOB" => ("CAST(", format!(" AS VARCHAR2({LONGEST_VARCHAR2}))")),
            // Oracle's DATE has a time of day.
            Kind::Date => ("TRUNC(CAST(", " AS DATE))".to_owned()),
            _ => ("CAST(", format!(" AS {})", oracle.column)),
        };
        self.push(before);
        self.value(expr)?;
        self.push(&after);
        Ok(())
    }
}
