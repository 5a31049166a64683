//! What a statement may leave on its session, beyond the end of its transaction.

use super::{Dialect, Piece, Pieces, effects::is_one_of};

/// Whether a statement or a script may leave a transaction, a setting, a lock or a temporary table
/// on its session, so that no other request must use its connection. In doubt it does. What the
/// database's own functions and procedures do does not show in the text.
pub(crate) fn leaves_session_state(sql: &str, dialect: Dialect) -> bool {
    // MySQL executes the text inside `/*! */`.
    let hides = || dialect == Dialect::Mysql && (sql.contains("/*!") || sql.contains("/*M!"));
    !is_plain(sql) && (hides() || any_statement_leaves_state(sql, dialect))
}

/// First words of statements that leave something on the session only by a function that they call,
/// or by one of the words that `is_plain` looks for.
const PLAIN: &str = "select insert update delete with merge replace";

/// What such functions, and other signs of session state, contain after a `_` or a space, by the
/// first letter.
fn signs(first: u8) -> &'static [&'static [u8]] {
    match first.to_ascii_lowercase() {
        b'c' => &[b"config", b"connect"],
        b'l' => &[b"lock"],
        b's' => &[b"session"],
        b't' => &[b"temp"],
        _ => &[],
    }
}

/// Whether it can be seen at once that a statement leaves nothing. Every statement of every request
/// passes here, so this looks at each byte once.
fn is_plain(sql: &str) -> bool {
    let first = sql.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(sql.len());
    let bytes = sql.as_bytes();
    let begins_sign = |at: usize| {
        let rest = &bytes[at..];
        let is_sign = |sign: &&[u8]| {
            rest.get(..sign.len())
                .is_some_and(|word| word.eq_ignore_ascii_case(sign))
        };
        rest.first().is_some_and(|first| signs(*first).iter().any(is_sign))
    };
    let is_sign = |(at, byte): (usize, &u8)| match byte {
        b';' | b'@' | b'!' => true,
        b'_' | b'/' | b' ' | b'\t'..=b'\r' => begins_sign(at + 1),
        _ => false,
    };
    is_one_of(&sql[..first], PLAIN) && !bytes.iter().enumerate().any(is_sign)
}

/// First words of statements that may leave something.
const LEAVE_STATE: &str = "abort attach begin commit declare detach discard do end flush handler listen load lock pragma \
    prepare release reset rollback savepoint set start use xa";
/// Those of them whose effect ends with the transaction.
const END_WITH_TRANSACTION: &str = "declare lock release savepoint";
/// Functions and packages that leave something.
const FUNCTIONS: &str = "dblink_connect dblink_connect_u dbms_lock dbms_session get_lock service_get_read_locks \
    service_get_write_locks";
/// Words between `CREATE` and `TEMPORARY`, or the schema of temporary tables.
const BEFORE_TEMPORARY: &str = "or replace global local private table view trigger index unique if not exists sequence";

fn any_statement_leaves_state(sql: &str, dialect: Dialect) -> bool {
    let mut pieces = Pieces { rest: sql, dialect };
    let (mut first, mut before, mut creates) = ("", "", false);
    while let Some(piece) = pieces.next() {
        let word = match piece {
            Piece::Space | Piece::Comment => continue,
            Piece::Symbol(';') => {
                (first, before, creates) = ("", "", false);
                continue;
            }
            Piece::Symbol('@') if dialect == Dialect::Mysql && is_one_of(before, "into") => return true,
            Piece::Symbol('=') if dialect == Dialect::Mysql && before == ":" => return true,
            Piece::Symbol(':') => ":",
            Piece::Word(word) | Piece::Name(word) => word.trim_matches(['"', '`']),
            _ => "?",
        };
        let leaves = if is_one_of(word, "set_config") {
            !is_local_setting(pieces.clone())
        } else {
            is_one_of(word, FUNCTIONS) || is_advisory_lock(word)
        };
        let temporary = is_one_of(word, "temp temporary pg_temp");
        let into_temporary = temporary && is_one_of(before, "into") && !is_one_of(first, "insert");
        if leaves || into_temporary || (creates && temporary) {
            return true;
        }
        if first.is_empty() {
            first = word;
            creates = is_one_of(word, "create");
            if is_one_of(word, LEAVE_STATE) && !ends_with_transaction(word, pieces.clone(), dialect) {
                return true;
            }
        } else {
            creates &= is_one_of(word, BEFORE_TEMPORARY);
            if is_one_of(word, "session") && is_one_of(before, "alter") {
                return true;
            }
        }
        before = word;
    }
    false
}

/// Whether the effect of a statement that begins with `first`, and goes on with `rest`, ends with
/// its transaction.
fn ends_with_transaction(first: &str, rest: Pieces<'_>, dialect: Dialect) -> bool {
    let statement = rest.take_while(|piece| *piece != Piece::Symbol(';'));
    let mut words = statement.filter_map(|piece| match piece {
        Piece::Word(word) => Some(word),
        _ => None,
    });
    match dialect {
        Dialect::Postgresql if is_one_of(first, "set") => words
            .next()
            .is_some_and(|word| is_one_of(word, "local transaction constraints")),
        Dialect::Postgresql => is_one_of(first, END_WITH_TRANSACTION) && !words.any(|word| is_one_of(word, "hold")),
        // `DECLARE` begins a block of PL/SQL, which may do anything.
        Dialect::Oracle => is_one_of(first, "lock savepoint"),
        Dialect::Mysql => is_one_of(first, "release savepoint"),
        // Outside a transaction a save point begins one.
        Dialect::Sqlite | Dialect::Unknown => false,
    }
}

/// Whether the last argument of a call of PostgreSQL's `set_config`, which `rest` begins with, is
/// plainly `true`: the setting ends with the transaction then.
fn is_local_setting(rest: Pieces<'_>) -> bool {
    let (mut depth, mut last, mut before) = (0, Piece::Space, Piece::Space);
    for piece in rest {
        match piece {
            Piece::Space | Piece::Comment => continue,
            Piece::Symbol('(') => depth += 1,
            Piece::Symbol(')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let is_true = matches!(last, Piece::Word(word) if is_one_of(word, "true"));
            return is_true && before == Piece::Symbol(',');
        }
        (before, last) = (last, piece);
    }
    false
}

/// Whether a word is one of PostgreSQL's functions that lock until the session ends.
fn is_advisory_lock(word: &str) -> bool {
    let name = b"advisory_lock";
    word.as_bytes()
        .windows(name.len())
        .any(|part| part.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_leave_session_state_is_seen() {
        for sql in [
            "BEGIN; INSERT INTO t VALUES (1); COMMIT",
            "insert into t values (1); -- x\n /* y */ set lock_timeout = 1",
            "START TRANSACTION",
            "begin",
            "COMMIT",
            "SET search_path = x",
            "SELECT pg_advisory_lock(1)",
            "SELECT 1 FROM t WHERE pg_try_advisory_lock_shared($1)",
            "select GET_LOCK('a', 1)",
            "CREATE TEMPORARY TABLE t (a int)",
            "create temp table t (a int)",
            "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
            "CREATE TABLE IF NOT EXISTS temp.t (a int)",
            "CREATE TABLE pg_temp.t (a int)",
            "SELECT 1 AS a\nINTO\nTEMP t",
            "PRAGMA foreign_keys = off",
            "ALTER SESSION SET CURRENT_SCHEMA = x",
            "SELECT set_config('search_path', 'x', false)",
            "SELECT pg_catalog.set_config($1, $2, $3)",
            "SELECT set_config('a', coalesce($1, 'true'), (true))",
            "WITH a AS (SELECT set_config('a', $1, false)) SELECT 1",
            "UPDATE t SET a = set_config('a', 'b', not true)",
            "DO $$ BEGIN PERFORM set_config('a', 'b', false); END $$",
        ] {
            for dialect in Dialect::ALL {
                assert!(leaves_session_state(sql, dialect), "{dialect:?}: {sql}");
            }
        }
        for (sql, dialect) in [
            ("SET LOCAL sql_mode = ''", Dialect::Mysql),
            ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", Dialect::Mysql),
            ("SELECT @n := @n + 1 FROM t", Dialect::Mysql),
            ("SELECT 1 INTO @n", Dialect::Mysql),
            ("SELECT 1 /*! INTO @n */", Dialect::Mysql),
            ("LOCK TABLES t READ", Dialect::Mysql),
            ("SELECT `get_lock`('a', 1)", Dialect::Mysql),
            ("SELECT \"pg_advisory_lock\"(1)", Dialect::Postgresql),
            ("SAVEPOINT a", Dialect::Sqlite),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Dialect::Postgresql),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                Dialect::Postgresql,
            ),
            ("SELECT '\\', set_config('a', 'b', false), '\\'", Dialect::Postgresql),
        ] {
            assert!(leaves_session_state(sql, dialect), "{dialect:?}: {sql}");
        }
    }

    #[test]
    fn what_ends_with_its_transaction_leaves_nothing() {
        for sql in [
            "CREATE TABLE t (n INTEGER, temp INTEGER); INSERT INTO t VALUES (1, 2)",
            "UPDATE t SET a = 'begin'",
            "SELECT ';set x = 1'",
            "SELECT \"sessions\".\"id\", row_locks FROM \"sessions\" WHERE \"email\" = 'a@b.c; SET x = 1'",
            "INSERT INTO temp VALUES (1)",
            "SELECT a FROM t FOR UPDATE",
            "SELECT set_config('request.claims', $1, true)",
            "SELECT pg_catalog.set_config('a', coalesce($1, ''), true), 1",
            "SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock($1)",
            "",
        ] {
            for dialect in Dialect::ALL {
                assert!(!leaves_session_state(sql, dialect), "{dialect:?}: {sql}");
            }
        }
        for (sql, dialect) in [
            ("SET LOCAL role = x; SET CONSTRAINTS ALL DEFERRED", Dialect::Postgresql),
            ("SET TRANSACTION READ ONLY", Dialect::Postgresql),
            ("LOCK TABLE t IN EXCLUSIVE MODE", Dialect::Postgresql),
            ("DECLARE c CURSOR FOR SELECT 1", Dialect::Postgresql),
            ("SAVEPOINT a; RELEASE SAVEPOINT a", Dialect::Postgresql),
            ("SELECT a @> b FROM t", Dialect::Postgresql),
            ("SAVEPOINT a", Dialect::Mysql),
            ("SELECT @@version", Dialect::Mysql),
            ("LOCK TABLE t IN EXCLUSIVE MODE", Dialect::Oracle),
        ] {
            assert!(!leaves_session_state(sql, dialect), "{dialect:?}: {sql}");
        }
    }

    #[test]
    fn most_statements_are_judged_at_a_glance() {
        assert!(is_plain(
            "SELECT \"users\".\"id\", \"users\".\"created_at\" FROM \"users\" WHERE \"id\" = $1 LIMIT $2"
        ));
        for sql in [
            "SELECT 1;",
            "SELECT get_lock(1)",
            "select\n temp",
            "CREATE TABLE t (a int)",
            "SELECT 1 /*! */",
        ] {
            assert!(!is_plain(sql), "{sql}");
        }
    }
}
