//! What the kinds of database differ in: how a column is returned, read, compared and bound.

use chrono::{NaiveDate, NaiveDateTime};
use sea_orm::{
    DbBackend, DbErr, QueryResult, Statement, TryGetable,
    sea_query::{
        Alias, BinOper, DeleteStatement, Expr, ExprTrait as _, Func, InsertStatement, MysqlQueryBuilder,
        PostgresQueryBuilder, SelectStatement, SqliteQueryBuilder, UpdateStatement, Value,
    },
};
use uuid::Uuid;

use crate::{declaration::ColumnType, value::Datum};

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    Postgresql,
    Mysql,
    Sqlite,
    /// Its driver translates PostgreSQL's statements.
    Oracle,
}

/// What a value is bound for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// To be compared with a column.
    Compare,
    /// To be stored in a column.
    Store,
}

macro_rules! build {
    ($($name:ident: $statement:ty),*) => {
        $(pub(crate) fn $name(self, statement: &$statement) -> Statement {
            let (backend, (sql, values)) = match self {
                Self::Postgresql | Self::Oracle => (DbBackend::Postgres, statement.build(PostgresQueryBuilder)),
                Self::Mysql => (DbBackend::MySql, statement.build(MysqlQueryBuilder)),
                Self::Sqlite => (DbBackend::Sqlite, statement.build(SqliteQueryBuilder)),
            };
            Statement::from_sql_and_values(backend, sql, values)
        })*
    };
}

impl Dialect {
    /// That of a driver's `type`; a driver of a user's own says what SQL it speaks.
    pub(crate) fn of(driver: &str, backend: DbBackend) -> Self {
        match (driver, backend) {
            ("oracle", _) => Self::Oracle,
            (_, DbBackend::MySql) => Self::Mysql,
            (_, DbBackend::Sqlite) => Self::Sqlite,
            _ => Self::Postgresql,
        }
    }

    build!(select: SelectStatement, insert: InsertStatement, update: UpdateStatement, delete: DeleteStatement);

    /// Whether `RETURNING` works with every statement that changes rows.
    pub(crate) fn returns_rows(self) -> bool {
        self != Self::Mysql
    }

    /// Whether a row of several may leave a column to its default.
    pub(crate) fn has_default_value(self) -> bool {
        self != Self::Sqlite
    }

    /// The most parameters of a statement.
    pub(crate) fn most_parameters(self) -> usize {
        match self {
            Self::Postgresql | Self::Mysql => 65_000,
            Self::Sqlite | Self::Oracle => 32_000,
        }
    }

    /// A column as a statement returns it, so that [`read`](Self::read) can read it whatever
    /// exactly the database's type is.
    pub(crate) fn output(self, column: Expr, kind: &ColumnType) -> Expr {
        use ColumnType as Type;
        let target = match (self, kind) {
            (Self::Postgresql, _) => Self::output_type(kind),
            (Self::Mysql, Type::Bool | Type::Int2 | Type::Int4 | Type::Int8) => "SIGNED",
            (Self::Mysql, Type::Numeric | Type::Enum(_) | Type::Uuid | Type::Json) => "CHAR",
            // It has times of day below 0 and beyond 24 hours, and days and months of 0.
            (Self::Mysql, Type::Date | Type::Time | Type::Timestamp | Type::Timestamptz) => "CHAR",
            (Self::Mysql, _) => return column,
            // A cast would make 0 of a text.
            (Self::Sqlite, Type::Bool | Type::Int2 | Type::Int4 | Type::Int8) => return column,
            (Self::Sqlite, Type::Float4 | Type::Float8) => return column,
            // A column of the type JSON keeps a document that is one number as a number, and a cast
            // would leave 15 digits of it.
            (Self::Sqlite, Type::Json) => return column,
            (Self::Sqlite, Type::Bytea) => "BLOB",
            (Self::Sqlite, _) => "TEXT",
            (Self::Oracle, Type::Int2 | Type::Int4 | Type::Int8) => "bigint",
            (Self::Oracle, Type::Bool) => "boolean",
            (Self::Oracle, Type::Float4) => "real",
            (Self::Oracle, Type::Float8) => "double precision",
            // With all digits: the driver's own numbers have 28 of them, or 64 bits. Oracle writes
            // a number in some 40 characters at most.
            (Self::Oracle, Type::Numeric) => "varchar(64)",
            // A column of Oracle's type DATE has a time of day.
            (Self::Oracle, Type::Timestamp | Type::Timestamptz) => Self::output_type(kind),
            // The driver would take 16 bytes for a UUID.
            (Self::Oracle, Type::Bytea) => Self::output_type(kind),
            // The driver would read the numbers of a document as floats. It takes what an
            // expression returns for a text.
            (Self::Oracle, Type::Json) => {
                let document = Expr::case(column.clone().is_not_null(), column);
                return document.into();
            }
            (Self::Oracle, Type::Text | Type::Enum(_) | Type::Uuid | Type::Date | Type::Time) => return column,
        };
        column.cast_as(target)
    }

    /// The type of PostgreSQL that [`output`](Self::output) returns.
    pub(crate) fn output_type(kind: &ColumnType) -> &'static str {
        use ColumnType as Type;
        match kind {
            Type::Bool => "boolean",
            Type::Int2 | Type::Int4 | Type::Int8 => "bigint",
            Type::Float4 => "real",
            Type::Float8 => "double precision",
            Type::Numeric | Type::Text | Type::Enum(_) | Type::Uuid | Type::Json => "text",
            Type::Bytea => "bytea",
            Type::Date => "date",
            Type::Time => "time",
            Type::Timestamp => "timestamp",
            Type::Timestamptz => "timestamptz",
        }
    }

    /// Reads a column that [`output`](Self::output) returned, by its type in the row.
    pub(super) fn decode(self, row: &QueryResult, index: usize, kind: &ColumnType) -> Result<Datum, DbErr> {
        use ColumnType as Type;
        match (self, kind) {
            (Self::Oracle, Type::Text | Type::Enum(_) | Type::Uuid | Type::Date | Type::Bytea | Type::Json) => {
                return read_oracle(row, index, kind);
            }
            (Self::Sqlite, _) => return read_sqlite(row, index, kind),
            _ => {}
        }
        match kind {
            Type::Bool if self == Self::Mysql => get(row, index, truth),
            Type::Bool => get(row, index, Datum::Bool),
            Type::Int2 | Type::Int4 | Type::Int8 => get(row, index, Datum::Int),
            Type::Float4 => get(row, index, Datum::Float4),
            Type::Float8 => get(row, index, Datum::Float8),
            Type::Text | Type::Enum(_) => get(row, index, Datum::Text),
            Type::Bytea => get(row, index, Datum::Bytes),
            Type::Date if self == Self::Postgresql => get(row, index, Datum::Date),
            Type::Time if self == Self::Postgresql => get(row, index, Datum::Time),
            Type::Timestamp if self != Self::Mysql => get(row, index, Datum::Timestamp),
            Type::Timestamptz if self != Self::Mysql => get(row, index, Datum::Timestamptz),
            kind => match row.try_get_by_index::<Option<String>>(index)? {
                None => Ok(Datum::Null),
                Some(text) => Ok(read_text(kind, text)),
            },
        }
    }

    /// Whether its columns hold a value that only some databases have.
    pub(crate) fn holds(self, kind: &ColumnType, value: &Datum) -> bool {
        use ColumnType as Type;
        let is_float = |float: f64| match self {
            Self::Postgresql | Self::Oracle => true,
            Self::Sqlite => !float.is_nan(),
            Self::Mysql => float.is_finite(),
        };
        match (value, kind) {
            (Datum::Text(_), Type::Time) => matches!(self, Self::Postgresql | Self::Mysql),
            (Datum::Text(_), Type::Numeric | Type::Date | Type::Timestamp | Type::Timestamptz) => {
                self == Self::Postgresql
            }
            (Datum::Float4(float), _) => is_float((*float).into()),
            (Datum::Float8(float), _) => is_float(*float),
            _ => true,
        }
    }

    /// A column as the operand of a comparison.
    pub(crate) fn operand(self, column: Expr, kind: &ColumnType) -> Expr {
        match (self, kind) {
            (Self::Postgresql, ColumnType::Enum(_)) => column.cast_as("text"),
            // A calculated number is answered with 15 digits, and has more. Besides, a computed
            // column, or one without a type, does not convert what it is compared with.
            (Self::Sqlite, ColumnType::Numeric) => column.cast_as("TEXT").cast_as("NUMERIC"),
            // Both may keep a time of day with a day, which is answered without it.
            (Self::Sqlite, ColumnType::Date) => day(column),
            (Self::Oracle, ColumnType::Date) => column.cast_as("date"),
            (Self::Sqlite, ColumnType::Time) => with_all_digits(column, "00:00:00.000000"),
            (Self::Sqlite, ColumnType::Timestamp | ColumnType::Timestamptz) => {
                with_all_digits(in_utc(column), "0000-00-00T00:00:00.000000")
            }
            _ => column,
        }
    }

    /// A value as a parameter.
    pub(crate) fn bind(self, value: &Datum, kind: &ColumnType, bound_for: Use) -> Expr {
        use ColumnType as Type;
        let cast = |text: String, target: &'static str| Expr::val(text).cast_as(target);
        match value {
            Datum::Null => self.null(kind, bound_for),
            Datum::Bool(value) if self == Self::Sqlite => Expr::val(i64::from(*value)),
            Datum::Bool(value) => Expr::val(*value),
            Datum::Int(number) => Expr::val(*number),
            // It has no such floats, and 0.1 of 32 bits is not 0.1 of 64.
            Datum::Float4(float) if self == Self::Sqlite => {
                Expr::val(value.to_text().parse().unwrap_or(f64::from(*float)))
            }
            Datum::Float4(float) => Expr::val(*float),
            Datum::Float8(float) => Expr::val(*float),
            Datum::Numeric(text) => match (self, bound_for) {
                (Self::Postgresql | Self::Oracle, _) => cast(text.clone(), "numeric"),
                (Self::Mysql, Use::Compare) => Expr::val(text.clone()).cast_as(Alias::new(decimal(text))),
                (Self::Sqlite, Use::Compare) => cast(text.clone(), "NUMERIC"),
                _ => Expr::val(text.clone()),
            },
            Datum::Text(text) => match (self, kind) {
                // What is stored may be no value of its type. It is compared as the column is.
                (Self::Sqlite, _) if bound_for == Use::Compare => self.operand(Expr::val(text.clone()), kind),
                (Self::Postgresql, Type::Numeric) => cast(text.clone(), "numeric"),
                (Self::Postgresql, Type::Date) => cast(text.clone(), "date"),
                (Self::Postgresql, Type::Time) => cast(text.clone(), "time"),
                (Self::Postgresql, Type::Timestamp) => cast(text.clone(), "timestamp"),
                (Self::Postgresql, Type::Timestamptz) => cast(text.clone(), "timestamptz"),
                _ => Expr::val(text.clone()),
            },
            Datum::Uuid(uuid) if matches!(self, Self::Postgresql | Self::Oracle) => Expr::val(*uuid),
            Datum::Bytes(bytes) => Expr::val(bytes.clone()),
            Datum::Json(json) if self == Self::Postgresql => cast(json.clone(), "json"),
            Datum::Date(date) if self != Self::Sqlite => Expr::val(*date),
            Datum::Time(time) if self != Self::Sqlite => Expr::val(*time),
            Datum::Timestamp(time) if self != Self::Sqlite => Expr::val(*time),
            Datum::Timestamptz(time) if self != Self::Sqlite => Expr::val(*time),
            other => match (bound_for, kind) {
                (Use::Compare, Type::Time | Type::Timestamp | Type::Timestamptz) => Expr::val(all_digits(other)),
                _ => Expr::val(other.to_text()),
            },
        }
    }

    fn null(self, kind: &ColumnType, bound_for: Use) -> Expr {
        use ColumnType as Type;
        let value = match kind {
            Type::Bool if self == Self::Sqlite => Value::BigInt(None),
            Type::Bool => Value::Bool(None),
            Type::Int2 | Type::Int4 | Type::Int8 => Value::BigInt(None),
            Type::Float4 => Value::Float(None),
            Type::Float8 => Value::Double(None),
            Type::Bytea => Value::Bytes(None),
            Type::Uuid if matches!(self, Self::Postgresql | Self::Oracle) => Value::Uuid(None),
            Type::Date if self != Self::Sqlite => Value::ChronoDate(None),
            Type::Time if self != Self::Sqlite => Value::ChronoTime(None),
            Type::Timestamp if self != Self::Sqlite => Value::ChronoDateTime(None),
            Type::Timestamptz if self != Self::Sqlite => Value::ChronoDateTimeUtc(None),
            _ => Value::String(None),
        };
        let null = Expr::val(value);
        match (self, kind, bound_for) {
            (Self::Postgresql, Type::Numeric, _) => null.cast_as("numeric"),
            (Self::Postgresql, Type::Json, Use::Store) => null.cast_as("json"),
            _ => null,
        }
    }
}

fn get<T: TryGetable>(row: &QueryResult, index: usize, into: impl FnOnce(T) -> Datum) -> Result<Datum, DbErr> {
    let value: Option<T> = row.try_get_by_index(index)?;
    Ok(value.map_or(Datum::Null, into))
}

/// MySQL's type for a number with at most 65 digits: with as many after the point as it has, so
/// that there is room for all before it.
fn decimal(number: &str) -> String {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.trim_start_matches('-').len();
    let scale = fraction.len().min(30).min(65_usize.saturating_sub(whole));
    format!("DECIMAL(65, {scale})")
}

/// A number as a truth value. Another one than 0 and 1 is none, and is returned as a text.
fn truth(number: i64) -> Datum {
    match number {
        0 | 1 => Datum::Bool(number == 1),
        other => Datum::Text(other.to_string()),
    }
}

/// A value that came as a text. If it is not a value of its type, it is returned as that text.
pub(super) fn read_text(kind: &ColumnType, text: String) -> Datum {
    match Datum::parse(kind, &text) {
        Ok(Datum::Uuid(uuid)) if !is_canonical(uuid, &text) => Datum::Text(text),
        Ok(value) => value,
        Err(_) => Datum::Text(text),
    }
}

/// Whether a UUID is spelled as all others are. Another spelling is another text to a database that
/// has no type for it.
pub(crate) fn is_canonical(uuid: Uuid, text: &str) -> bool {
    uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text
}

/// A column of SQLite may contain values of any type. A value that is not of the declared type is
/// returned unchanged.
fn read_sqlite(row: &QueryResult, index: usize, kind: &ColumnType) -> Result<Datum, DbErr> {
    use ColumnType as Type;
    let bytes = || get(row, index, Datum::Bytes);
    let text = || get(row, index, |text| read_text(kind, text)).or_else(|_| bytes());
    match kind {
        Type::Bytea => bytes(),
        Type::Bool => get(row, index, truth).or_else(|_| text()),
        Type::Int2 | Type::Int4 | Type::Int8 => get(row, index, Datum::Int)
            .or_else(|_| get(row, index, |float| read_text(kind, Datum::Float8(float).to_text())))
            .or_else(|_| text()),
        // It has no floats of 32 bits. One that was rounded would not be found again.
        Type::Float4 | Type::Float8 => get(row, index, Datum::Float8)
            .or_else(|_| get(row, index, |number: i64| Datum::Float8(number as f64)))
            .or_else(|_| text()),
        Type::Json => text()
            .or_else(|_| get(row, index, |number: i64| read_text(kind, number.to_string())))
            .or_else(|_| get(row, index, |float| read_text(kind, Datum::Float8(float).to_text()))),
        _ => text(),
    }
}

/// The driver gives values of several variants for these types, since a column of Oracle may be any
/// of several that hold them. It gives NULL for another variant than the one that is asked for.
fn read_oracle(row: &QueryResult, index: usize, kind: &ColumnType) -> Result<Datum, DbErr> {
    use ColumnType as Type;
    macro_rules! first {
        ($($type:ty => $into:expr),+ $(,)?) => {{
            $(if let Ok(Some(value)) = row.try_get_by_index::<Option<$type>>(index) {
                return Ok($into(value));
            })+
            Ok(Datum::Null)
        }};
    }
    match kind {
        Type::Uuid => first!(Uuid => Datum::Uuid, String => |text| read_text(kind, text)),
        Type::Date => first!(
            NaiveDate => Datum::Date,
            NaiveDateTime => |time: NaiveDateTime| Datum::Date(time.date()),
        ),
        Type::Bytea => first!(
            Vec<u8> => Datum::Bytes,
            // A subquery hides that bytes are wanted.
            Uuid => |uuid: Uuid| Datum::Bytes(uuid.into_bytes().to_vec()),
        ),
        Type::Json => first!(
            String => |text| read_text(kind, text),
            // A BLOB may hold a document too.
            Vec<u8> => |bytes| match String::from_utf8(bytes) {
                Ok(text) => read_text(kind, text),
                Err(error) => Datum::Bytes(error.into_bytes()),
            },
        ),
        _ => first!(
            String => Datum::Text,
            Uuid => |uuid: Uuid| Datum::Text(uuid.to_string()),
            // A column that only holds documents is read as one, whatever its declaration says.
            serde_json::Value => |json: serde_json::Value| Datum::Text(json.to_string()),
        ),
    }
}

/// SQLite keeps times as texts, with a space or a `T`, and with or without UTC's offset.
fn in_utc(column: Expr) -> Expr {
    let replace = |column: Expr, from: &'static str, to: &'static str| {
        Expr::from(Func::cust("replace").args([column, Expr::cust(from), Expr::cust(to)]))
    };
    let column = replace(column, "' '", "'T'");
    replace(replace(column, "'Z'", "''"), "'+00:00'", "''")
}

/// The day of a text that may have a time of day behind it.
fn day(column: Expr) -> Expr {
    let text = column.cast_as("TEXT");
    Func::cust("substr")
        .args([text, Expr::cust("1"), Expr::cust("10")])
        .into()
}

/// A time's text with six digits after its seconds. What it lacks is taken from `zeros`, which is
/// as long as it gets.
fn with_all_digits(column: Expr, zeros: &'static str) -> Expr {
    let function = |name: &'static str, arguments: Vec<Expr>| Expr::from(Func::cust(name).args(arguments));
    let number = |number: usize| Expr::cust(number.to_string());
    let length = function("length", vec![column.clone()]);
    let rest = function("substr", vec![Expr::cust(format!("'{zeros}'")), length.add(number(1))]);
    let long = column.binary(BinOper::Custom("||"), rest);
    function("substr", vec![long, number(1), number(zeros.len())])
}

/// A time in the notation of [`with_all_digits`].
fn all_digits(time: &Datum) -> String {
    match time {
        Datum::Time(time) => time.format("%H:%M:%S%.6f").to_string(),
        Datum::Timestamp(time) => time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        Datum::Timestamptz(time) => time.naive_utc().format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        other => other.to_text(),
    }
}
