//! What a statement may leave on its session, beyond the end of its transaction.

use super::{Dialect, Piece, Pieces, effects::is_one_of};

/// Whether a statement or a script may leave a transaction, a setting, a lock, a variable or a
/// temporary table on its session, so that no other request must use its connection. It does unless
/// it is of a kind that leaves nothing. What the database's own functions and procedures do does
/// not show in the text.
pub(crate) fn leaves_session_state(sql: &str, dialect: Dialect) -> bool {
    let sql = sql.trim_start();
    !is_plain(sql, dialect)
        && (HIDING.iter().any(|sign| sql.contains(sign)) || any_statement_leaves_state(sql, dialect))
}

/// First words of statements that leave something only by a function that they call, or by an
/// `INTO` or a variable of the session in them.
const LEAVE_NOTHING: &str = "select insert update delete with merge replace values table describe notify show truncate";
/// Functions that leave something; `set_config` depends on its arguments. `is_plain` looks for how
/// they, and the names below, begin.
const FUNCTIONS: &str = "dblink_connect dblink_connect_u get_lock pg_advisory_lock pg_advisory_lock_shared \
    pg_try_advisory_lock pg_try_advisory_lock_shared service_get_read_locks service_get_write_locks set_limit setseed";
/// Oracle's packages that leave something, and the view by which an `UPDATE` changes settings of
/// PostgreSQL's session.
const NAMES: &str = "dbms_alert dbms_application_info dbms_flashback dbms_lock dbms_output dbms_random dbms_session \
    dbms_sql dbms_transaction pg_settings";
/// Words before the `INTO` of statements that change rows.
const CHANGES: &str = "insert merge replace";
/// What hides SQL from a look at its words: the text inside `/*! */` is executed by MySQL, and
/// `U&"set\005fconfig"` is a name in PostgreSQL.
const HIDING: [&str; 4] = ["/*!", "/*M!", "U&\"", "u&\""];

/// The bytes with which a sign of something that is left begins; a letter only at the start of a
/// word.
const SIGNS: [bool; 256] = {
    let (mut signs, mut at) = ([false; 256], 0);
    let bytes = b";@&!dDgGiIpPsS";
    while at < bytes.len() {
        signs[bytes[at] as usize] = true;
        at += 1;
    }
    signs
};

/// Whether it can be seen at once that a statement leaves nothing. Every statement of every request
/// passes here, so this looks at each byte once.
fn is_plain(sql: &str, dialect: Dialect) -> bool {
    let first = sql.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(sql.len());
    let bytes = sql.as_bytes();
    let is_sign = |(at, byte): (usize, &u8)| SIGNS[usize::from(*byte)] && begins_sign(bytes, at, dialect);
    is_one_of(&sql[..first], LEAVE_NOTHING) && !bytes.iter().enumerate().any(is_sign)
}

/// Whether a sign of something that is left may begin at this byte, which is one of [`SIGNS`].
fn begins_sign(bytes: &[u8], at: usize, dialect: Dialect) -> bool {
    let is_in_word = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let begins = |at: usize, word: &[u8]| {
        let rest = bytes.get(at..at + word.len());
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(word))
    };
    // At the start of the statement or of a part of it in parentheses.
    let is_of_insert = |at: usize| at >= 7 && begins(at - 7, b"insert ") && (at == 7 || bytes[at - 8] == b'(');
    match bytes[at] {
        b';' => true,
        b'@' => dialect == Dialect::Mysql,
        b'&' => begins(at, b"&\""),
        b'!' => bytes[..at].ends_with(b"/*") || bytes[..at].ends_with(b"/*M"),
        _ if bytes[..at].last().is_some_and(is_in_word) => false,
        b'd' | b'D' => begins(at, b"dblink_") || begins(at, b"dbms_"),
        b'g' | b'G' => begins(at, b"get_lock"),
        b'i' | b'I' => begins(at, b"into") && !is_of_insert(at),
        b'p' | b'P' => begins(at, b"pg_advisory_") || begins(at, b"pg_try_advisory_") || begins(at, b"pg_settings"),
        b's' | b'S' => begins(at, b"set_") || begins(at, b"setseed") || begins(at, b"service_get_"),
        _ => false,
    }
}

fn any_statement_leaves_state(sql: &str, dialect: Dialect) -> bool {
    let mut pieces = Pieces { rest: sql, dialect };
    // The first word of the statement, and the last two pieces.
    let (mut first, mut before) = ("", ["", ""]);
    while let Some(piece) = pieces.next() {
        let word = match piece {
            Piece::Space | Piece::Comment => continue,
            Piece::Symbol('(') if first.is_empty() => continue,
            Piece::Symbol(';') => {
                (first, before) = ("", ["", ""]);
                continue;
            }
            Piece::Symbol('(') => "(",
            Piece::Symbol(')') => ")",
            // `@@` is a setting, which only `SET` changes.
            Piece::Symbol('@') if dialect == Dialect::Mysql => match pieces.rest.strip_prefix('@') {
                Some(rest) => {
                    pieces.rest = rest;
                    "?"
                }
                None => return true,
            },
            Piece::Word(word) | Piece::Name(word) => word.trim_matches(['"', '`']),
            _ => "?",
        };
        let leaves = if first.is_empty() {
            first = word;
            !leaves_nothing(word, pieces.clone(), dialect)
        } else if is_one_of(word, "into") {
            // A `SELECT` makes a table by it, or sets a variable.
            matches!(piece, Piece::Word(_)) && !is_into_of_change(first, before)
        } else if is_one_of(word, "set_config") {
            is_called(pieces.clone()) && !is_local_setting(pieces.clone())
        } else {
            is_one_of(word, NAMES) || (is_one_of(word, FUNCTIONS) && is_called(pieces.clone()))
        };
        if leaves {
            return true;
        }
        before = [before[1], word];
    }
    false
}

/// Whether the `INTO` after these words belongs to a statement that changes rows, be it in
/// parentheses or after those of a `WITH`.
fn is_into_of_change(first: &str, [earlier, before]: [&str; 2]) -> bool {
    let begins = earlier == "(" || (earlier == ")" && is_one_of(first, "with"));
    is_one_of(first, CHANGES) || (begins && is_one_of(before, CHANGES))
}

/// Whether a name that `rest` follows is that of a function which is called.
fn is_called(mut rest: Pieces<'_>) -> bool {
    rest.find(|piece| !matches!(piece, Piece::Space | Piece::Comment)) == Some(Piece::Symbol('('))
}

/// Whether a statement that begins with `first`, and goes on with `rest`, leaves nothing that its
/// first words show.
fn leaves_nothing(first: &str, rest: Pieces<'_>, dialect: Dialect) -> bool {
    let mut words = rest.skip_while(|piece| matches!(piece, Piece::Space | Piece::Comment));
    match dialect {
        _ if is_one_of(first, LEAVE_NOTHING) => true,
        // These end with the transaction.
        Dialect::Postgresql if is_one_of(first, "set") => {
            matches!(words.next(), Some(Piece::Word(word)) if is_one_of(word, "local transaction constraints"))
        }
        Dialect::Postgresql | Dialect::Oracle => is_one_of(first, "lock call"),
        // A procedure of MySQL may leave a transaction open.
        _ => false,
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
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TYPE pg_temp.t AS ENUM ('a')",
            "CREATE VIEW pg_temp.v AS SELECT 1",
            "SELECT 1 AS a\nINTO\nTEMP t",
            "SELECT 'a'into temp t",
            "SELECT 1 AS a INTO TABLE pg_temp.t",
            "WITH a AS (SELECT 1) SELECT 1 INTO TEMP t",
            "SELECT id AS last_insert INTO TEMP t FROM x",
            "SELECT 1 AS insert INTO TEMP t",
            "UPDATE pg_settings SET setting = 'x' WHERE name = 'search_path'",
            "SELECT setseed (0.5)",
            "SELECT set_limit(0.9)",
            "SELECT 1 FROM dbms_session.x()",
            "EXECUTE IMMEDIATE 'SET x = 1'",
            "PREPARE p AS SELECT 1",
            "DEALLOCATE ALL",
            "LISTEN a",
            "LOAD 'a'",
            "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
            "? SELECT 1",
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
            ("CALL pay(1)", Dialect::Mysql),
            ("CALL pay(1)", Dialect::Unknown),
            ("INSERT INTO t VALUES (@n := 1)", Dialect::Mysql),
            ("SELECT @@version, @n", Dialect::Mysql),
            ("GET DIAGNOSTICS @n = NUMBER", Dialect::Mysql),
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
            ("SELECT U&\"set\\005fconfig\"('a', 'b', false)", Dialect::Postgresql),
            ("select u&\"!0073etseed\" uescape '!' (0.5)", Dialect::Postgresql),
            ("SELECT '\\', set_config('a', 'b', false), '\\'", Dialect::Postgresql),
        ] {
            assert!(leaves_session_state(sql, dialect), "{dialect:?}: {sql}");
        }
    }

    #[test]
    fn what_ends_with_its_transaction_leaves_nothing() {
        for sql in [
            "\n  SELECT temp FROM t -- as it is\n",
            "(SELECT 1) UNION (SELECT 2)",
            "WITH a AS (INSERT INTO t VALUES (1) RETURNING n) SELECT n FROM a",
            "INSERT OR IGNORE INTO t VALUES (1)",
            "MERGE INTO t USING u ON t.n = u.n WHEN MATCHED THEN DELETE",
            "REPLACE INTO t VALUES (1)",
            "DELETE FROM t; TRUNCATE t",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
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
            ("CALL pay(1)", Dialect::Postgresql),
            ("CALL pay(1)", Dialect::Oracle),
            (
                "SELECT \"t\".\"into\", \"t\".\"set_config\", \"get_lock\" FROM \"t\"",
                Dialect::Postgresql,
            ),
            ("SELECT `into` FROM t", Dialect::Mysql),
            ("SELECT a @> b FROM t", Dialect::Postgresql),
            ("SELECT @@version", Dialect::Mysql),
            ("LOCK TABLE t IN EXCLUSIVE MODE", Dialect::Oracle),
        ] {
            assert!(!leaves_session_state(sql, dialect), "{dialect:?}: {sql}");
        }
    }

    #[test]
    fn no_name_that_leaves_something_passes_at_a_glance() {
        for name in FUNCTIONS.split(' ').chain(NAMES.split(' ')) {
            for dialect in Dialect::ALL {
                assert!(!is_plain(&format!("SELECT {name}(1)"), dialect), "{name}");
            }
        }
    }

    #[test]
    fn most_statements_are_judged_at_a_glance() {
        for sql in [
            "SELECT \"users\".\"id\", \"users\".\"created_at\" FROM \"users\" WHERE \"id\" = $1 LIMIT $2",
            "INSERT INTO \"users\" (\"name\") VALUES ($1) RETURNING \"id\"",
            "WITH a AS (insert into t VALUES (1) RETURNING n) SELECT n FROM a WHERE n != 2",
            "UPDATE settings SET interval_set = 1, pg_id = 2, data = data || '{}' WHERE data @> $1",
        ] {
            assert!(is_plain(sql, Dialect::Postgresql), "{sql}");
        }
        for sql in [
            "SELECT 1;",
            "SELECT get_lock(1)",
            "SELECT pg_try_advisory_lock(1)",
            "SELECT\"setseed\"(1)",
            "SELECT 1into temp t",
            "CREATE TABLE t (a int)",
            "SELECT 1 /*! */",
            "SELECT u&\"a\"()",
            "SELECT @n",
        ] {
            assert!(!is_plain(sql, Dialect::Mysql), "{sql}");
        }
    }
}
