//! Refuses a statement for its values before it is sent.

use std::pin::pin;

use sea_orm::{Statement, Value};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Executor, IntoArguments, SqlSafeStr as _, Statement as _};
use tenantry_core::{DatabaseError, DatabaseErrorKind};

use super::{
    Dialect, GRACE, SqlxConnection, Watch as _,
    errors::{ended, mistake},
    within,
};

/// The most that a message has of a value besides the bytes of a text: its type, its length and, of
/// a number or a time, itself.
const BESIDES: usize = 48;
/// MySQL's ER_NET_PACKET_TOO_LARGE.
const TOO_LARGE: &str = "1153";
/// What a message has besides the statement or its values.
const HEADER: usize = 64;

impl<D: Dialect> SqlxConnection<D>
where
    for<'c> &'c mut <D::Database as Database>::Connection: Executor<'c, Database = D::Database>,
    SqlxValues: IntoArguments<D::Database>,
    usize: ColumnIndex<<D::Database as Database>::Row>,
{
    /// Refuses a statement that the server cannot take: one with too many or too few values, or
    /// with too large ones. sqlx or the server would notice that only when the connection is no
    /// longer usable.
    pub(super) async fn refuse_values(&mut self, statement: &Statement) -> Result<(), DatabaseError> {
        let values = statement.values.as_ref().map_or(&[][..], |values| &values.0[..]);
        let given = values.len();
        if given > D::MOST_VALUES {
            return Err(mistake(format!(
                "the statement has {given} values, and {} are the most",
                D::MOST_VALUES
            )));
        }
        let violates = |reason: &str| DatabaseError::new(DatabaseErrorKind::ConstraintViolation).with_source(reason);
        if !D::HAS_UNSIGNED && values.iter().any(is_beyond_signed) {
            return Err(violates("a number is larger than the largest of a BIGINT"));
        }
        if let Some(most) = self.watch.largest_message()
            && HEADER + statement.sql.len().max(length(values)) > most
        {
            let mut refused = violates("the statement is larger than the largest message that the server takes");
            // What the server would say.
            refused.code = Some(TOO_LARGE.into());
            return Err(refused);
        }
        // A `?` within a text or a comment is not a place for a value, so only the server can
        // decide.
        if !D::COUNTS_VALUES || given == statement.sql.bytes().filter(|byte| *byte == b'?').count() {
            return Ok(());
        }
        self.enter(self.statement_timeout)?;
        let limit = self.statement_timeout.map(|limit| limit + GRACE);
        let connection = self.connection.as_mut().ok_or_else(ended)?;
        let sql = AssertSqlSafe(statement.sql.clone()).into_sql_str();
        let Some(prepared) = within(&mut self.timer, limit, pin!(connection.prepare(sql))).await else {
            return Err(Self::timed_out());
        };
        self.leave();
        let places = match &prepared {
            Ok(prepared) => prepared
                .parameters()
                .map_or(0, |places| places.either(<[_]>::len, |count| count)),
            Err(_) => given,
        };
        match prepared {
            Err(error) => Err(self.fail(error, Some(0))),
            Ok(_) if places == given => Ok(()),
            Ok(_) => Err(mistake(format!(
                "the statement has {places} places for values, and {given} values"
            ))),
        }
    }
}

/// Whether a value is larger than any that a signed integer of the database can be.
fn is_beyond_signed(value: &Value) -> bool {
    match value {
        Value::BigUnsigned(Some(number)) => i64::try_from(*number).is_err(),
        #[cfg(feature = "postgresql")]
        Value::Array(_, Some(values)) => values.iter().any(is_beyond_signed),
        _ => false,
    }
}

/// How many bytes of a message values take up at most.
fn length(values: &[Value]) -> usize {
    let lengths = values.iter().map(|value| match value {
        Value::String(Some(text)) => text.len(),
        Value::Bytes(Some(bytes)) => bytes.len(),
        Value::Json(Some(json)) => json.to_string().len(),
        _ => 0,
    });
    lengths.map(|length| BESIDES + length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_values_is_never_too_short() {
        let json = serde_json::json!({"a": ["b", 1.5, null]});
        let values = [
            Value::from("four"),
            Value::from(vec![1_u8; 100]),
            Value::from(json.clone()),
            Value::from(i64::MIN),
            Value::String(None),
        ];
        assert_eq!(length(&values), 5 * BESIDES + 4 + 100 + json.to_string().len());
        assert_eq!(length(&[]), 0);
    }

    #[cfg(feature = "postgresql")]
    #[test]
    fn a_number_in_an_array_is_beyond_a_signed_one_too() {
        use sea_orm::sea_query::ArrayType;
        let array = |number: u64| Value::Array(ArrayType::BigUnsigned, Some(Box::new(vec![Value::from(number)])));
        assert!(is_beyond_signed(&array(u64::MAX)));
        assert!(!is_beyond_signed(&array(i64::MAX as u64)));
        assert!(!is_beyond_signed(&Value::Array(ArrayType::BigUnsigned, None)));
    }
}
