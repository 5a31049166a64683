//! Errors of the databases as SQLSTATEs, which are PostgreSQL's on every one of them.

use std::error::Error as _;

use http::StatusCode;
use sea_orm::DbErr;
use tenantry_core::{DatabaseError, DatabaseErrorKind};

use crate::refusal::{Failure, Refusal};

/// What an error means for the client; it never repeats the database's words, which hold values.
pub(crate) fn failure(error: DbErr) -> Failure {
    if is_mixed(&error) {
        // Columns of different collations are compared otherwise once that is known of them.
        return Failure::Database(error);
    }
    let code = DatabaseError::find(&error).and_then(|error| error.code.clone());
    let code = code.as_deref().unwrap_or_default();
    // Oracle's driver writes `ORA-01400`.
    let code = code
        .strip_prefix("ORA-")
        .map_or(code, |number| number.trim_start_matches('0'));
    let constraint = DatabaseError::constraint_of(&error);
    let named = |text: &str| match &constraint {
        Some(name) => format!("{text} \"{name}\""),
        None => text.to_owned(),
    };
    let conflict = |code, message| Refusal::new(StatusCode::CONFLICT, code, message);
    let refusal = match DatabaseErrorKind::of(&error) {
        DatabaseErrorKind::ForeignKeyViolation if is_raised(&error) => raised(),
        DatabaseErrorKind::UniqueViolation => {
            conflict("23505", named("duplicate key value violates unique constraint"))
        }
        DatabaseErrorKind::ForeignKeyViolation => conflict(
            "23503",
            named("insert, update or delete violates foreign key constraint"),
        ),
        DatabaseErrorKind::Serialization => conflict(
            "40001",
            "the change collided with another one; send it again".to_owned(),
        ),
        DatabaseErrorKind::AnswerTooLarge => {
            Refusal::too_much("the answer is larger than the server reads from a database at once")
                .hint("Ask for fewer rows or columns; for a change, ask for 'Prefer: return=minimal'.")
        }
        DatabaseErrorKind::PermissionDenied => {
            Refusal::forbidden("permission denied by the tenant's database".to_owned(), true)
        }
        kind => match by_code(code).or_else(|| of_sqlite(&error)) {
            Some(refusal) => refusal,
            // PostgreSQL's RAISE may have any code of five characters.
            None if kind == DatabaseErrorKind::ConstraintViolation && code.len() == 5 && !code.starts_with("23") => {
                raised()
            }
            None if kind == DatabaseErrorKind::ConstraintViolation => {
                Refusal::bad("23514", named("new row violates check constraint"))
            }
            None => return Failure::Database(error),
        },
    };
    refusal.into()
}

/// The error after the tenant's catalogue was checked: a column's type in the database differs from
/// the declared one, and does not have the operator; or a column of MySQL is compared with a text
/// that it cannot hold.
pub(crate) fn drifted(failure: Failure) -> Failure {
    match &failure {
        Failure::Database(error) if is_mixed(error) => foreign_character().into(),
        Failure::Database(error) if has_other_type(error) => Refusal::new(
            StatusCode::NOT_FOUND,
            "42883",
            "operator does not exist for a column's type in the database",
        )
        .into(),
        _ => failure,
    }
}

/// Whether the error is that of a trigger of SQLite. It has one code for these and for rows that
/// others refer to.
fn is_raised(error: &DbErr) -> bool {
    let Some(error) = DatabaseError::find(error) else {
        return false;
    };
    let message = error.source().map(ToString::to_string).unwrap_or_default();
    error.code.as_deref() == Some("1811") && !message.contains("FOREIGN KEY constraint failed")
}

/// A trigger's message may contain the row's values, so it is not repeated.
fn raised() -> Refusal {
    Refusal::bad("P0001", "a rule of the database refuses the change")
}

fn by_code(code: &str) -> Option<Refusal> {
    Some(match code {
        // PostgreSQL; MySQL; SQLite; Oracle.
        "23502" | "1048" | "1364" | "1299" | "1400" | "1407" => {
            Refusal::bad("23502", "null value in a column violates not-null constraint")
        }
        "22001" | "1406" | "12899" => Refusal::bad("22001", "value too long for its column"),
        "22003" | "1264" | "1690" | "1426" | "1438" => Refusal::bad("22003", "numeric value out of range"),
        // PostgreSQL; MySQL; Oracle.
        "22007" | "22008" | "1292" | "1411" | "1830" | "1839" | "1840" | "1841" | "1843" | "1847" | "1861" => {
            Refusal::bad("22008", "a value is out of range or none of its column's type")
        }
        // PostgreSQL's RAISE; MySQL's SIGNAL.
        "P0001" | "1643" | "1644" => raised(),
        // PostgreSQL; MySQL; Oracle.
        "44000" | "1369" | "1402" => Refusal::bad("44000", "new row violates check option for a view"),
        // A policy of PostgreSQL; its missing GRANT is another kind of error.
        "42501" => Refusal::forbidden(
            "new row violates row-level security policy of the tenant's database".to_owned(),
            true,
        ),
        code if is_application_error(code) => raised(),
        "22012" | "1365" | "1476" => Refusal::bad("22012", "division by zero"),
        "22021" => Refusal::bad("22021", "invalid byte sequence for encoding \"UTF8\""),
        "22P05" | "3988" => foreign_character(),
        "0A000" => Refusal::bad("0A000", "the database does not support this for the type of a column"),
        "22P02" | "1366" | "1265" | "3140" | "1722" | "1858" => Refusal::bad("22P02", "invalid input syntax"),
        "42P10" => Refusal::bad(
            "42P10",
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        ),
        "21000" => Refusal::bad("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time"),
        // PostgreSQL: a value too large for an index, nested too deep; MySQL: JSON nested too deep;
        // SQLite: a value too large.
        "54000" | "54001" | "1153" | "3157" | "18" => {
            Refusal::too_much("a value is larger, or nested deeper, than the database takes")
        }
        // PostgreSQL; MySQL; MariaDB; Oracle.
        "428C9" | "3105" | "1906" | "32795" | "54013" | "54017" => generated(),
        // PostgreSQL; MySQL; Oracle.
        "55000" | "1288" | "1471" | "1732" | "1733" | "1779" => not_writable(),
        _ => return None,
    })
}

fn generated() -> Refusal {
    Refusal::bad("428C9", "cannot write a generated column")
}

fn not_writable() -> Refusal {
    Refusal::bad("55000", "the database cannot write through this view")
}

/// What SQLite refuses before it runs a statement. It has one code for all of these.
fn of_sqlite(error: &DbErr) -> Option<Refusal> {
    let error = DatabaseError::find(error).filter(|error| error.code.as_deref() == Some("1"))?;
    let words = error.source()?.to_string();
    if words.contains("because it is a view") {
        return Some(not_writable());
    }
    let writes = ["cannot INSERT into generated column", "cannot UPDATE generated column"];
    writes.iter().any(|text| words.contains(text)).then(generated)
}

/// Oracle's `raise_application_error`.
fn is_application_error(code: &str) -> bool {
    code.parse().is_ok_and(|number: u32| (20_000..21_000).contains(&number))
}

/// Whether a column's type is another one than the statement expects.
pub(crate) fn has_other_type(error: &DbErr) -> bool {
    let code = DatabaseError::find(error).and_then(|error| error.code.as_deref());
    // The last one: columns of different collations are compared.
    matches!(code, Some("42883" | "42804" | "42846" | "42P22")) || is_mixed(error)
}

/// Whether MySQL finds no common encoding and collation for what is compared.
fn is_mixed(error: &DbErr) -> bool {
    let code = DatabaseError::find(error).and_then(|error| error.code.as_deref());
    matches!(code, Some("1267" | "1270" | "1271"))
}

fn foreign_character() -> Refusal {
    Refusal::bad(
        "22P05",
        "a character has no equivalent in the encoding of the database or of a column",
    )
}

/// Whether the database says that a table or a column is not there.
pub(crate) fn lacks_something(error: &DbErr) -> bool {
    if DatabaseErrorKind::of(error) == DatabaseErrorKind::TableMissing {
        return true;
    }
    let Some(error) = DatabaseError::find(error) else {
        return false;
    };
    match error.code.as_deref() {
        Some("42703" | "1054" | "ORA-00904") => true,
        // SQLite has one code for all that a statement may have wrong.
        Some("1") => error.source().is_some_and(|source| {
            let words = source.to_string();
            ["no such table: ", "no such column: ", " has no column named "]
                .iter()
                .any(|lacks| words.contains(lacks))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_each_database_has_postgresql_s_code() {
        let refused = |kind, code: &str| {
            let mut error = DatabaseError::new(kind);
            error.code = Some(code.to_owned());
            match failure(error.into_db_err()) {
                Failure::Refused(refusal) => Some(refusal.code),
                _ => None,
            }
        };
        use DatabaseErrorKind::{ConstraintViolation, Other};
        for null in ["23502", "1048", "1299", "ORA-01400", "ORA-01407"] {
            assert_eq!(refused(ConstraintViolation, null), Some("23502"), "{null}");
        }
        for long in ["22001", "1406", "ORA-12899"] {
            assert_eq!(refused(ConstraintViolation, long), Some("22001"), "{long}");
        }
        for raised in ["P0001", "1644", "ORA-20001"] {
            assert_eq!(refused(Other, raised), Some("P0001"), "{raised}");
        }
        for foreign in ["22P05", "3988"] {
            assert_eq!(refused(Other, foreign), Some("22P05"), "{foreign}");
        }
        for large in ["54000", "54001", "1153", "3157", "18"] {
            assert_eq!(refused(ConstraintViolation, large), Some("54000"), "{large}");
        }
        for check in ["23514", "23P01", "4025", "275", "ORA-02290"] {
            assert_eq!(refused(ConstraintViolation, check), Some("23514"), "{check}");
        }
        for large in ["22003", "1264", "ORA-01426", "ORA-01438"] {
            assert_eq!(refused(ConstraintViolation, large), Some("22003"), "{large}");
        }
        for malformed in ["22P02", "3140", "ORA-01722", "ORA-01858"] {
            assert_eq!(refused(Other, malformed), Some("22P02"), "{malformed}");
        }
        for time in ["22007", "1292", "ORA-01843", "ORA-01847"] {
            assert_eq!(refused(ConstraintViolation, time), Some("22008"), "{time}");
        }
        assert_eq!(refused(ConstraintViolation, "ORA-01476"), Some("22012"));
        for generated in ["428C9", "ORA-32795", "ORA-54013", "ORA-54017"] {
            assert_eq!(refused(Other, generated), Some("428C9"), "{generated}");
        }
        for view in ["55000", "ORA-01732", "ORA-01733", "ORA-01779"] {
            assert_eq!(refused(Other, view), Some("55000"), "{view}");
        }
        for raised in ["45000", "P0002", "PT402"] {
            assert_eq!(refused(ConstraintViolation, raised), Some("P0001"), "{raised}");
        }
        for option in ["44000", "1369", "ORA-01402"] {
            assert_eq!(refused(ConstraintViolation, option), Some("44000"), "{option}");
        }
        assert_eq!(refused(ConstraintViolation, "42501"), Some("42501"));
        assert_eq!(refused(DatabaseErrorKind::PermissionDenied, "1142"), Some("42501"));
        assert_eq!(refused(DatabaseErrorKind::AnswerTooLarge, ""), Some("54000"));
        assert_eq!(refused(Other, "ORA-00942"), None);
    }

    #[test]
    fn another_type_is_refused_only_once_the_catalogue_was_read_again() {
        use DatabaseErrorKind::{ConstraintViolation, Other};
        for (kind, code, refused) in [
            (Other, "42883", "42883"),
            (Other, "42P22", "42883"),
            (ConstraintViolation, "1267", "22P05"),
            (ConstraintViolation, "1270", "22P05"),
            (ConstraintViolation, "1271", "22P05"),
        ] {
            let error = DatabaseError::new(kind).with_code(code);
            let unknown = failure(error.into_db_err());
            assert!(
                matches!(&unknown, Failure::Database(error) if has_other_type(error)),
                "{code}: {unknown:?}"
            );
            let Failure::Refused(refusal) = drifted(unknown) else {
                panic!("{code} is not refused");
            };
            assert_eq!(refusal.code, refused, "{code}");
        }
    }

    #[test]
    fn only_what_is_missing_counts_as_missing() {
        let lacks = |kind, code: &str, words: &'static str| {
            let error = DatabaseError::new(kind).with_code(code).with_source(words);
            lacks_something(&error.into_db_err())
        };
        use DatabaseErrorKind::{Other, TableMissing};
        for code in ["42P01", "1146", "ORA-00942", "1"] {
            assert!(lacks(TableMissing, code, "no such table: x"), "{code}");
        }
        for code in ["42703", "1054", "ORA-00904"] {
            assert!(lacks(Other, code, "an unknown column"), "{code}");
        }
        for words in ["no such column: t0.x", "table orders has no column named x"] {
            assert!(lacks(Other, "1", words), "{words}");
        }
        for words in ["malformed JSON", "integer overflow", "too many SQL variables"] {
            assert!(!lacks(Other, "1", words), "{words}");
        }
    }
}
