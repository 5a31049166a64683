//! Errors of handlers and of a program's own parts, in log lines.

use std::{error::Error, fmt, io};

use sea_orm::DbErr;

use super::{DatabaseError, DatabaseErrorKind, database_words};

/// An error and what caused it, in one line. Of a statement's error it shows the kind and the code:
/// the database's words may repeat a value.
pub struct Cause<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut said = String::new();
        while let Some(error) = next {
            // An `io::Error` displays its inner error as its own.
            let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(held) = held {
                next = Some(held);
                continue;
            }
            let separator = if said.is_empty() { "" } else { ": " };
            if let Some(error) = error.downcast_ref::<DbErr>() {
                return match DatabaseError::find(error) {
                    Some(error) => write!(f, "{separator}{error}"),
                    None => write!(
                        f,
                        "{separator}database error: {}",
                        DatabaseErrorKind::of(error).as_str()
                    ),
                };
            }
            if let Some(words) = database_words(error) {
                return write!(f, "{separator}{words}");
            }
            let text = error.to_string();
            // Some errors end with the text of their cause.
            if !said.ends_with(&text) {
                write!(f, "{separator}{text}")?;
                said = text;
            }
            let database = error.downcast_ref::<DatabaseError>();
            if database.is_some_and(|error| !matches!(error.kind, DatabaseErrorKind::Connect(_))) {
                return Ok(());
            }
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BoxError;

    #[test]
    fn a_database_s_words_are_not_repeated() {
        let error = || {
            DatabaseError::new(DatabaseErrorKind::Other)
                .with_code("42P01")
                .with_source("canary")
        };
        let errors: [BoxError; 3] = [
            error().into_db_err().into(),
            error().into(),
            std::io::Error::other(error().into_db_err()).into(),
        ];
        for error in errors {
            let text = Cause(&*error).to_string();
            assert!(text.contains("42P01") && !text.contains("canary"), "{text}");
        }
        let other: BoxError = "the warehouse is closed".into();
        assert_eq!(Cause(&*other).to_string(), "the warehouse is closed");
    }

    #[test]
    fn a_cause_that_an_error_repeats_is_written_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot reach it: {0}")]
        struct Outer(#[source] io::Error);

        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let text = Cause(&Outer(refused)).to_string();
        assert_eq!(text, "cannot reach it: connection refused");
    }
}
