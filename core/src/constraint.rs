//! The name of the constraint that a statement violated, in the errors of sqlx.

use sea_orm::SqlxError;

/// The name as the database has it. Only PostgreSQL sends it apart; MySQL and SQLite have it in
/// their message alone.
pub(crate) fn of_sqlx(error: &SqlxError) -> Option<String> {
    let SqlxError::Database(error) = error else { return None };
    if let Some(name) = error.constraint() {
        return Some(name.to_owned());
    }
    if !error.is_unique_violation() {
        return None;
    }
    // An SQLSTATE has five characters, a code of SQLite's four.
    match error.code()?.len() {
        5 => of_mysql(error.message()),
        _ => of_sqlite(error.message()),
    }
}

/// `Duplicate entry 'john@example.com' for key 'users.users_email_key'`; MariaDB leaves the table
/// out.
fn of_mysql(message: &str) -> Option<String> {
    let (before, _) = message.rsplit_once('\'')?;
    let (_, key) = before.rsplit_once('\'')?;
    let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
    Some(name.to_owned())
}

/// `UNIQUE constraint failed: users.id`, several columns with commas between them, or
/// `UNIQUE constraint failed: index 'users_email_key'`.
fn of_sqlite(message: &str) -> Option<String> {
    let (_, columns) = message.split_once(": ")?;
    let index = columns.strip_prefix("index '").and_then(|name| name.strip_suffix('\''));
    Some(index.unwrap_or(columns).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_behind_any_value() {
        let mysql = |message| of_mysql(message).unwrap();
        assert_eq!(mysql("Duplicate entry '7' for key 'PRIMARY'"), "PRIMARY");
        assert_eq!(mysql("Duplicate entry 'o'key 'x'' for key 'users.mail'"), "mail");
        assert_eq!(of_mysql("Duplicate entry"), None);
        let sqlite = |message| of_sqlite(message).unwrap();
        assert_eq!(sqlite("UNIQUE constraint failed: users.id"), "users.id");
        assert_eq!(sqlite("UNIQUE constraint failed: index 'mail'"), "mail");
    }
}
