//! Limits how long a definition waits for a table, so that its tenant's requests are not stopped.
//! This is no lock between runs: that is `lock`.
//!
//! A definition waits for the requests that use its table, and every later request waits behind it.
//! So it waits only for a moment; then the file is rolled back and retried after a pause.

use tenantry_core::{DatabaseDriver, StatementEffect};

use super::{
    error::{Aftermath, FailurePoint, MigrationError},
    lost::lost,
    script::{Script, verb},
};

/// How long all definitions of one transaction may wait for tables together, if there are at most
/// 15: each may wait for [`SHORTEST_MS`]. The transaction keeps the tables that it has already.
const LONGEST_MS: usize = 1500;
/// The least that one of them waits.
const SHORTEST_MS: usize = 100;

/// What limits the waiting in a file's transaction, if it has a definition.
pub(super) fn of_transaction(driver: &dyn DatabaseDriver, script: &Script<'_>) -> Option<String> {
    if driver.migration_dialect() != "postgresql" || sets_its_own(script) {
        return None;
    }
    let definitions = script
        .statements
        .iter()
        .filter(|statement| is_definition(statement.sql))
        .count();
    let each = LONGEST_MS.checked_div(definitions)?.max(SHORTEST_MS);
    Some(format!("SET LOCAL lock_timeout = '{each}ms'"))
}

/// What limits the waiting of one statement outside a transaction, or lifts that limit. `is_local`
/// is whether it runs in a transaction of its own.
pub(super) fn of_statement(
    driver: &dyn DatabaseDriver,
    script: &Script<'_>,
    sql: &str,
    is_local: bool,
) -> Option<&'static str> {
    if sets_its_own(script) {
        return None;
    }
    let is_limited = is_definition(sql);
    match (driver.migration_dialect(), is_limited) {
        ("postgresql", true) if is_local => Some("SET LOCAL lock_timeout = '1s'"),
        ("postgresql", true) => Some("SET lock_timeout = '1s'"),
        // Requests never wait for its lock, and it waits for every open transaction.
        ("postgresql", false) if !is_local && is_concurrent(sql) => Some("SET lock_timeout = 0"),
        // What comes after a definition waits as the session does otherwise.
        ("postgresql", false) if !is_local => Some("RESET lock_timeout"),
        ("mysql", true) => Some("SET SESSION lock_wait_timeout = 1"),
        // For a change of rows the limit of the definition before it stays; a statement that runs
        // into it is tried again.
        ("mysql", false) if !is_change_of_rows(sql) && verb(sql) != "SET" => {
            Some("SET SESSION lock_wait_timeout = DEFAULT")
        }
        ("oracle", true) => Some("ALTER SESSION SET DDL_LOCK_TIMEOUT = 1"),
        _ => None,
    }
}

/// Whether a file chooses for itself how long it waits.
fn sets_its_own(script: &Script<'_>) -> bool {
    let mut settings = script
        .statements
        .iter()
        .filter(|statement| statement.effect == StatementEffect::Session);
    settings.any(|setting| {
        let sql = setting.sql.to_ascii_lowercase();
        sql.contains("lock_timeout") || sql.contains("lock_wait_timeout")
    })
}

fn is_definition(sql: &str) -> bool {
    matches!(
        verb(sql).as_str(),
        "ALTER" | "CREATE" | "DROP" | "LOCK" | "RENAME" | "TRUNCATE" | "COMMENT" | "CLUSTER" | "REINDEX"
    ) && !is_concurrent(sql)
}

fn is_change_of_rows(sql: &str) -> bool {
    matches!(verb(sql).as_str(), "INSERT" | "UPDATE" | "DELETE" | "REPLACE")
}

/// Whether a file may go on in a new session with the failed statement at `index`. That statement
/// must have had no effect, which is not certain of a procedure or of several statements in one.
/// The statements from it on must need nothing of the old session.
fn may_repeat(script: &Script<'_>, index: usize) -> bool {
    let failed = script.statements.get(index);
    let failed = failed.filter(|failed| failed.effect != StatementEffect::Several);
    failed.is_some_and(|failed| is_definition(failed.sql) || is_change_of_rows(failed.sql))
        && lost(&script.statements, &script.driver, index).is_none()
}

fn is_concurrent(sql: &str) -> bool {
    sql.to_ascii_uppercase().contains("CONCURRENTLY")
}

/// Whether a file failed because its tables were in use, and may be tried again: PostgreSQL's
/// lock_not_available, MySQL's ER_LOCK_WAIT_TIMEOUT, Oracle's ORA-00054.
pub(super) fn is_busy(driver: &dyn DatabaseDriver, script: &Script<'_>, error: &MigrationError) -> bool {
    let MigrationError::Failed {
        source, at, aftermath, ..
    } = error
    else {
        return false;
    };
    if let (Aftermath::Kept { .. }, FailurePoint::Statement { number, .. }) = (&**aftermath, &**at)
        && !may_repeat(script, number.saturating_sub(1))
    {
        return false;
    }
    let code = source.code.as_deref();
    match driver.migration_dialect() {
        "postgresql" => code == Some("55P03"),
        "mysql" => code == Some("1205"),
        "oracle" => matches!(code, Some("54" | "00054" | "ORA-00054")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tenantry_core::ScriptStatement;

    use super::*;

    #[test]
    fn only_what_has_done_nothing_is_repeated() {
        let repeated_with = |effect: StatementEffect, statements: &[&'static str]| {
            let of = |sql: &&'static str| ScriptStatement { line: 1, sql, effect };
            let script = Script {
                driver: "mysql".to_owned(),
                statements: statements.iter().map(of).collect(),
                in_transaction: false,
            };
            may_repeat(&script, statements.len() - 1)
        };
        let repeated = |statements: &[&'static str]| repeated_with(StatementEffect::Undoable, statements);
        let piece = ["CREATE OR REPLACE PACKAGE p AS END; INSERT INTO t VALUES (1); ALTER TABLE u ADD x int"];
        assert!(!repeated_with(StatementEffect::Several, &piece));
        assert!(repeated(&["SET @own = 7", "ALTER TABLE t ADD i int"]));
        assert!(repeated(&["INSERT INTO t VALUES (1)"]));
        for statements in [
            &["CALL backfill()"][..],
            &["DO $$ BEGIN COMMIT; END $$"],
            &["SELECT max(id) INTO @id FROM t", "INSERT INTO u VALUES (@id)"],
            &["CREATE TEMP TABLE u (i int)", "DROP TABLE u"],
        ] {
            assert!(!repeated(statements), "{statements:?}");
        }
    }
}
