//! The problem answer for a database error.

use std::time::Duration;

use sea_orm::DbErr;
use tenantry_core::{DatabaseError, DatabaseErrorKind, DriverErrorKind, engine::SchemaBehind};

use crate::{Problem, ProblemCode};

/// Of a secret of which no field can be named.
pub(crate) const SECRET_INVALID: &str =
    "The tenant's secret is not valid; an operator sees why in `/health/tenant/{id}`.";

/// The `Retry-After` of a failed database if nothing more exact is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The `Retry-After` of a database below the required version.
const SCHEMA_RETRY_AFTER: Duration = Duration::from_secs(5);

/// A unique violation is 409, a time-out 504, and an unavailable database 503. A transaction that
/// lost a conflict is 503 too: it had no effect and may be sent again. Everything else is a defect:
/// 500, with its kind and the database's code in the log, but never the database's message.
impl From<DbErr> for Problem {
    fn from(error: DbErr) -> Self {
        Self::from(&error)
    }
}

impl From<&DbErr> for Problem {
    fn from(error: &DbErr) -> Self {
        let kind = DatabaseErrorKind::of(error);
        let problem = Self::of_kind(kind, error);
        let code = DatabaseError::find(error).and_then(|error| error.code.as_deref());
        match problem.code() {
            // The engine has logged it, with the statement.
            ProblemCode::Internal | ProblemCode::OutcomeUnknown
                if code.is_some() && (kind.is_defect() || kind == DatabaseErrorKind::TableMissing) => {}
            ProblemCode::Internal | ProblemCode::OutcomeUnknown => {
                tracing::error!(kind = kind.as_str(), code, "a statement failed");
            }
            // The engine logs an unavailable database once; the access log has each request.
            other if other.status().is_server_error() => {
                tracing::debug!(kind = kind.as_str(), code, "a tenant's database could not be used");
            }
            _ => {}
        }
        problem
    }
}

impl Problem {
    fn of_kind(kind: DatabaseErrorKind, error: &DbErr) -> Self {
        match kind {
            DatabaseErrorKind::UniqueViolation => Self::conflict("A value that must be unique is taken."),
            DatabaseErrorKind::StatementTimeout => Self::new(
                ProblemCode::RequestTimeout,
                "The tenant's database took too long and the statement was cancelled.",
            ),
            DatabaseErrorKind::PoolTimeout => Self::new(
                ProblemCode::PoolTimeout,
                "No connection to the tenant's database became free in time.",
            ),
            DatabaseErrorKind::Serialization => Self::new(
                ProblemCode::DatabaseUnavailable,
                "The request collided with another one and had no effect; send it again.",
            )
            .with_retry_after(RETRY_AFTER),
            DatabaseErrorKind::Connect(DriverErrorKind::Invalid) => {
                Self::new(ProblemCode::SecretInvalid, SECRET_INVALID).with_retry_after(RETRY_AFTER)
            }
            DatabaseErrorKind::Connect(_)
            | DatabaseErrorKind::ConnectionLost
            | DatabaseErrorKind::ConnectionLostWithoutEffect
            | DatabaseErrorKind::NoAnswer
            | DatabaseErrorKind::Closed
            | DatabaseErrorKind::Migration
            | DatabaseErrorKind::ReadOnly => Self::new(
                ProblemCode::DatabaseUnavailable,
                "The tenant's database cannot be used at the moment.",
            )
            .with_retry_after(RETRY_AFTER),
            DatabaseErrorKind::Migrating => Self::new(
                ProblemCode::TenantMigrating,
                "The tenant's database is being migrated; try again later.",
            )
            .with_retry_after(RETRY_AFTER),
            DatabaseErrorKind::SchemaBehind => Self::schema_behind(error),
            // No `Retry-After`: a repeated request may make the change twice.
            DatabaseErrorKind::OutcomeUnknown => Self::new(
                ProblemCode::OutcomeUnknown,
                "The connection was lost during a write, which may have taken effect. Read before you repeat it.",
            ),
            DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::ConstraintViolation
            | DatabaseErrorKind::PermissionDenied
            | DatabaseErrorKind::Unsupported
            | DatabaseErrorKind::AnswerTooLarge
            | DatabaseErrorKind::TableMissing
            | DatabaseErrorKind::Other => Self::internal(),
        }
    }

    /// The problem for an error of a statement on `table`, which the tenant's database may not have
    /// yet: 503 `tenant_schema_behind`, as for declared tables.
    pub(crate) fn of_table(table: &str, error: DbErr) -> Self {
        if DatabaseErrorKind::of(&error) != DatabaseErrorKind::TableMissing {
            return error.into();
        }
        let detail = format!("The tenant's database does not have the table `{table}` yet.");
        Self::new(ProblemCode::TenantSchemaBehind, detail).with_retry_after(SCHEMA_RETRY_AFTER)
    }

    /// 503 `tenant_schema_behind`, with both versions.
    fn schema_behind(error: &DbErr) -> Self {
        let source = DatabaseError::find(error).and_then(std::error::Error::source);
        let detail = match source.and_then(|source| source.downcast_ref::<SchemaBehind>()) {
            Some(behind) => {
                let found = behind.found.version.as_deref();
                let found = found.map_or_else(|| "no version".to_owned(), |found| format!("version \"{found}\""));
                let required = &behind.required;
                format!(
                    "The tenant's database is at {found}, and version \"{required}\" is needed; try again once it is migrated."
                )
            }
            None => {
                "The tenant's database is below the version that is needed; try again once it is migrated.".to_owned()
            }
        };
        Self::new(ProblemCode::TenantSchemaBehind, detail).with_retry_after(SCHEMA_RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use tenantry_core::engine::SchemaVersion;

    use super::*;

    fn status_of(kind: DatabaseErrorKind) -> (u16, &'static str) {
        let problem = Problem::from(DatabaseError::new(kind).with_source("canary").into_db_err());
        assert!(!format!("{problem:?}").contains("canary"));
        (problem.code().status().as_u16(), problem.code().as_str())
    }

    #[test]
    fn a_database_that_is_behind_is_named_with_both_versions() {
        let found = SchemaVersion {
            version: Some("0003".to_owned()),
            pending: 1,
        };
        let required = "0004".to_owned();
        let error = DatabaseError::new(DatabaseErrorKind::SchemaBehind);
        let problem = Problem::from(error.with_source(SchemaBehind { found, required }).into_db_err());
        let told = format!("{problem:?}");
        assert!(told.contains("0003") && told.contains("0004"), "{told}");
    }

    #[test]
    fn each_kind_has_the_answer_of_the_contract() {
        assert_eq!(status_of(DatabaseErrorKind::UniqueViolation), (409, "conflict"));
        assert_eq!(status_of(DatabaseErrorKind::PoolTimeout), (504, "pool_timeout"));
        assert_eq!(status_of(DatabaseErrorKind::StatementTimeout), (504, "request_timeout"));
        let unavailable = (503, "database_unavailable");
        assert_eq!(
            status_of(DatabaseErrorKind::Connect(DriverErrorKind::Unreachable)),
            unavailable
        );
        let invalid = DatabaseErrorKind::Connect(DriverErrorKind::Invalid);
        assert_eq!(status_of(invalid), (503, "secret_invalid"));
        assert_eq!(status_of(DatabaseErrorKind::ConnectionLost), unavailable);
        assert_eq!(status_of(DatabaseErrorKind::Migration), unavailable);
        assert_eq!(status_of(DatabaseErrorKind::Serialization), unavailable);
        assert_eq!(status_of(DatabaseErrorKind::Migrating), (503, "tenant_migrating"));
        assert_eq!(
            status_of(DatabaseErrorKind::SchemaBehind),
            (503, "tenant_schema_behind")
        );
        assert_eq!(status_of(DatabaseErrorKind::OutcomeUnknown), (503, "outcome_unknown"));
        let unknown = Problem::from(DatabaseError::new(DatabaseErrorKind::OutcomeUnknown).into_db_err());
        assert!(
            poem::error::ResponseError::as_response(&unknown)
                .headers()
                .get("retry-after")
                .is_none()
        );
        assert_eq!(status_of(DatabaseErrorKind::Other), (500, "internal"));
    }
}
