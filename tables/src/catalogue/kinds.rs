//! The databases' own types as those of declarations.

use crate::{declaration::ColumnType, sql::Dialect};

/// The type, and the most characters of a text.
pub(super) fn of(dialect: Dialect, type_name: &str, values: Option<Vec<String>>) -> (Option<ColumnType>, Option<u32>) {
    if let Some(values) = values {
        return (Some(ColumnType::Enum(values)), None);
    }
    match dialect {
        Dialect::Postgresql => postgresql(type_name),
        Dialect::Mysql => mysql(type_name),
        Dialect::Sqlite => sqlite(type_name),
        Dialect::Oracle => oracle(type_name),
    }
}

/// The number in parentheses.
fn size(type_name: &str) -> Option<u32> {
    let inside = type_name.split_once('(')?.1.split(')').next()?;
    inside.split(',').next()?.trim().parse().ok()
}

fn postgresql(type_name: &str) -> (Option<ColumnType>, Option<u32>) {
    use ColumnType as Type;
    let plain = type_name.split('(').next().unwrap_or_default().trim();
    // `character varying(3)[]`
    if type_name.ends_with(']') {
        return (None, None);
    }
    // `timestamp(3) with time zone`
    let with_zone = type_name.ends_with("with time zone");
    let kind = match plain {
        "boolean" => Type::Bool,
        "smallint" => Type::Int2,
        "integer" => Type::Int4,
        "bigint" => Type::Int8,
        "real" => Type::Float4,
        "double precision" => Type::Float8,
        "numeric" => Type::Numeric,
        "text" | "character varying" | "character" | "citext" | "name" => Type::Text,
        "uuid" => Type::Uuid,
        "date" => Type::Date,
        "time" | "time without time zone" if !with_zone => Type::Time,
        "timestamp with time zone" => Type::Timestamptz,
        "timestamp without time zone" => Type::Timestamp,
        "timestamp" if with_zone => Type::Timestamptz,
        "timestamp" => Type::Timestamp,
        "bytea" => Type::Bytea,
        "json" | "jsonb" => Type::Json,
        _ => return (None, None),
    };
    let max = size(type_name).filter(|_| kind == Type::Text);
    (Some(kind), max)
}

fn mysql(type_name: &str) -> (Option<ColumnType>, Option<u32>) {
    use ColumnType as Type;
    let lower = type_name.to_lowercase();
    let plain = lower.split(['(', ' ']).next().unwrap_or_default();
    let unsigned = lower.contains("unsigned");
    let kind = match plain {
        "tinyint" if size(&lower) == Some(1) => Type::Bool,
        "boolean" | "bool" => Type::Bool,
        "tinyint" | "year" => Type::Int2,
        "smallint" if !unsigned => Type::Int2,
        "smallint" | "mediumint" => Type::Int4,
        "int" | "integer" if !unsigned => Type::Int4,
        "int" | "integer" => Type::Int8,
        // Twice as many numbers as an int8 has.
        "bigint" if unsigned => Type::Numeric,
        "bigint" => Type::Int8,
        "float" => Type::Float4,
        "double" => Type::Float8,
        "decimal" | "numeric" => Type::Numeric,
        "char" if size(&lower) == Some(36) => Type::Uuid,
        "varchar" | "char" | "text" | "tinytext" | "mediumtext" | "longtext" => Type::Text,
        "uuid" => Type::Uuid,
        "date" => Type::Date,
        "time" => Type::Time,
        "datetime" => Type::Timestamp,
        "timestamp" => Type::Timestamptz,
        "binary" | "varbinary" | "blob" | "tinyblob" | "mediumblob" | "longblob" => Type::Bytea,
        "json" => Type::Json,
        "enum" => Type::Enum(enumerated(type_name)),
        _ => return (None, None),
    };
    let max = size(&lower).filter(|_| kind == Type::Text);
    (Some(kind), max)
}

/// The texts of `enum('a','b')`.
fn enumerated(type_name: &str) -> Vec<String> {
    let inside = type_name
        .split_once('(')
        .map_or("", |(_, rest)| rest)
        .trim_end_matches(')');
    let mut values = Vec::new();
    let mut characters = inside.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '\'' {
            continue;
        }
        let mut value = String::new();
        while let Some(c) = characters.next() {
            match c {
                '\'' if characters.peek() == Some(&'\'') => {
                    characters.next();
                    value.push('\'');
                }
                '\'' => break,
                // As the server escapes what it shows.
                '\\' => match characters.next() {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('0') => value.push('\0'),
                    Some(other) => value.push(other),
                    None => {}
                },
                other => value.push(other),
            }
        }
        values.push(value);
    }
    values
}

fn sqlite(type_name: &str) -> (Option<ColumnType>, Option<u32>) {
    use ColumnType as Type;
    let upper = type_name.to_uppercase();
    let plain = upper.split('(').next().unwrap_or_default().trim();
    let kind = match plain {
        "BOOLEAN" | "BOOL" => Type::Bool,
        "SMALLINT" | "INT2" | "TINYINT" => Type::Int2,
        "INTEGER" | "INT" | "BIGINT" | "INT8" | "MEDIUMINT" => Type::Int8,
        "INT4" => Type::Int4,
        "REAL" | "DOUBLE" | "DOUBLE PRECISION" | "FLOAT" | "FLOAT8" => Type::Float8,
        "FLOAT4" => Type::Float4,
        "NUMERIC" | "DECIMAL" => Type::Numeric,
        "UUID" | "UUID_TEXT" => Type::Uuid,
        "DATE" | "DATE_TEXT" => Type::Date,
        "TIME" | "TIME_TEXT" => Type::Time,
        "DATETIME" | "TIMESTAMP" | "TIMESTAMP_TEXT" | "DATETIME_TEXT" => Type::Timestamp,
        "TIMESTAMPTZ" | "TIMESTAMP_WITH_TIMEZONE_TEXT" => Type::Timestamptz,
        "BLOB" => Type::Bytea,
        "JSON" | "JSONB" | "JSON_TEXT" | "JSONB_TEXT" => Type::Json,
        // What is declared without a type, and what SQLite takes for a text.
        "" | "TEXT" | "CLOB" | "VARCHAR" | "CHAR" | "CHARACTER" | "NVARCHAR" | "VARYING CHARACTER" => Type::Text,
        _ => return (None, None),
    };
    let max = size(&upper).filter(|_| kind == Type::Text);
    (Some(kind), max)
}

/// A type as `all_tab_columns` has it: its name, digits, digits after the point, and characters, or
/// the bytes of a RAW.
fn oracle(type_name: &str) -> (Option<ColumnType>, Option<u32>) {
    use ColumnType as Type;
    let mut parts = type_name.split(',');
    let name = parts.next().unwrap_or_default();
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let (precision, scale, length) = (number(), number(), number());
    let kind = match (name, precision, scale) {
        ("NUMBER", Some(1), Some(0)) => Type::Bool,
        ("NUMBER", Some(2..=5), Some(0)) => Type::Int2,
        ("NUMBER", Some(6..=10), Some(0)) => Type::Int4,
        ("NUMBER", Some(11..=19), Some(0)) => Type::Int8,
        ("NUMBER" | "FLOAT", ..) => Type::Numeric,
        ("BINARY_FLOAT", ..) => Type::Float4,
        ("BINARY_DOUBLE", ..) => Type::Float8,
        ("VARCHAR2" | "NVARCHAR2" | "CHAR" | "NCHAR" | "CLOB" | "NCLOB", ..) => Type::Text,
        ("DATE", ..) => Type::Timestamp,
        ("RAW", ..) if length == Some(16) => Type::Uuid,
        ("RAW", ..) => Type::Bytea,
        ("BLOB", ..) => Type::Bytea,
        (name, ..) if name.starts_with("TIMESTAMP") => match name.contains("TIME ZONE") {
            true => Type::Timestamptz,
            false => Type::Timestamp,
        },
        _ => return (None, None),
    };
    let max = length.filter(|length| kind == Type::Text && *length > 0);
    (Some(kind), max)
}

/// Whether values of a column of the database's type can be read and written as the declared type.
pub(super) fn fits(dialect: Dialect, declared: &ColumnType, found: Option<&ColumnType>) -> bool {
    use ColumnType as Type;
    let Some(found) = found else { return false };
    let whole = |kind: &Type| matches!(kind, Type::Int2 | Type::Int4 | Type::Int8);
    let is_text = |kind: &Type| matches!(kind, Type::Text | Type::Enum(_));
    match (declared, found) {
        (Type::Enum(declared), Type::Enum(found)) => declared.iter().all(|value| found.contains(value)),
        // PostgreSQL compares no text with what has a type of its own.
        (Type::Text, Type::Enum(_)) => dialect != Dialect::Postgresql,
        (Type::Text, Type::Uuid) => !matches!(dialect, Dialect::Postgresql | Dialect::Oracle),
        (one, other) if one == other || (is_text(one) && is_text(other)) => true,
        (one, other) if whole(one) && whole(other) => true,
        (Type::Float8, Type::Float4) => true,
        // A float that is answered with 32 of its 64 bits is not found again.
        (Type::Float4, Type::Float8) => dialect == Dialect::Sqlite,
        (Type::Numeric, other) if whole(other) => true,
        (Type::Bool, other) => dialect != Dialect::Postgresql && whole(other),
        (one, Type::Bool) => dialect != Dialect::Postgresql && whole(one),
        // Texts hold what these databases have no type for.
        (Type::Uuid | Type::Json, Type::Text) => dialect != Dialect::Postgresql,
        (Type::Timestamp | Type::Timestamptz, Type::Timestamp | Type::Timestamptz) => dialect != Dialect::Postgresql,
        (Type::Bytea, Type::Uuid) => dialect == Dialect::Oracle,
        (Type::Date, Type::Timestamp) => dialect == Dialect::Oracle,
        (_, Type::Text) => dialect == Dialect::Sqlite,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_raw_of_16_bytes_is_a_uuid() {
        for (type_name, expected) in [
            ("RAW,,,16", ColumnType::Uuid),
            ("RAW,,,32", ColumnType::Bytea),
            ("VARCHAR2,,,16", ColumnType::Text),
        ] {
            let (kind, max) = of(Dialect::Oracle, type_name, None);
            assert_eq!(kind, Some(expected), "{type_name}");
            assert_eq!(max.is_some(), type_name.starts_with("VARCHAR2"), "{type_name}");
        }
    }

    #[test]
    fn a_type_that_cannot_be_compared_with_the_declared_one_does_not_fit() {
        use ColumnType::{Float4, Float8, Text, Uuid};
        let state = ColumnType::Enum(vec!["new".to_owned()]);
        for (dialect, declared, found, expected) in [
            (Dialect::Postgresql, &Text, &Uuid, false),
            (Dialect::Oracle, &Text, &Uuid, false),
            (Dialect::Mysql, &Text, &Uuid, true),
            (Dialect::Postgresql, &Text, &state, false),
            (Dialect::Postgresql, &state, &Text, true),
            (Dialect::Mysql, &Text, &state, true),
            (Dialect::Postgresql, &Float4, &Float8, false),
            (Dialect::Mysql, &Float4, &Float8, false),
            (Dialect::Sqlite, &Float4, &Float8, true),
            (Dialect::Mysql, &Float8, &Float4, true),
        ] {
            let fits = fits(dialect, declared, Some(found));
            assert_eq!(fits, expected, "{dialect:?}: {declared:?} over {found:?}");
        }
    }
}
