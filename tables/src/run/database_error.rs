//! Errors of the databases as SQLSTATEs, which are PostgreSQL's on every one of them.

use http::StatusCode;
use sea_orm::DbErr;
use tenantry_core::{DatabaseError, DatabaseErrorKind};

use crate::refusal::{Failure, Refusal};

/// What an error means for the client; it never repeats the database's words, which hold values.
pub(crate) fn failure(error: DbErr) -> Failure {
    let code = DatabaseError::find(&error).and_then(|error| error.code.clone());
    let code = code.as_deref().unwrap_or_default();
    let constraint = DatabaseError::constraint_of(&error);
    let named = |text: &str| match &constraint {
        Some(name) => format!("{text} \"{name}\""),
        None => text.to_owned(),
    };
    let conflict = |code, message| Refusal::new(StatusCode::CONFLICT, code, message);
    let refusal = match DatabaseErrorKind::of(&error) {
        DatabaseErrorKind::UniqueViolation => {
            conflict("23505", named("duplicate key value violates unique constraint"))
        }
        DatabaseErrorKind::ForeignKeyViolation => conflict(
            "23503",
            named("insert, update or delete violates foreign key constraint"),
        ),
        DatabaseErrorKind::ConstraintViolation => {
            constraint_violation(code, named("new row violates check constraint"))
        }
        _ => match by_code(code) {
            Some(refusal) => refusal,
            None => return Failure::Database(error),
        },
    };
    refusal.into()
}

fn constraint_violation(code: &str, check: String) -> Refusal {
    match code {
        // PostgreSQL; MySQL; SQLite; Oracle.
        "23502" | "1048" | "1364" | "1299" | "1400" | "1407" => {
            Refusal::bad("23502", "null value in a column violates not-null constraint")
        }
        "22001" | "1406" | "12899" => Refusal::bad("22001", "value too long for its column"),
        "22003" | "1264" | "1690" | "1438" => Refusal::bad("22003", "numeric value out of range"),
        _ => Refusal::bad("23514", check),
    }
}

/// What PostgreSQL and MySQL call otherwise.
fn by_code(code: &str) -> Option<Refusal> {
    Some(match code {
        "22001" | "1406" | "12899" => Refusal::bad("22001", "value too long for its column"),
        "22003" | "1264" | "1690" | "1438" => Refusal::bad("22003", "numeric value out of range"),
        "22P02" | "1366" => Refusal::bad("22P02", "invalid input syntax"),
        "42P10" => Refusal::bad(
            "42P10",
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        ),
        "21000" => Refusal::bad("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time"),
        "428C9" => Refusal::bad("428C9", "cannot write a generated column"),
        _ => return None,
    })
}
