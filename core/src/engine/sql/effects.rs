//! What a statement may do besides returning rows.

use super::{Token, Tokens};

/// Whether a statement only reads, so that running it twice does no harm: a `SELECT` that locks nothing, writes into nothing and calls
/// no function that is not known to be pure. In doubt it is not one.
pub(crate) fn is_read(sql: &str) -> bool {
    // A backslash ends a text in one dialect and not in another; `/*!` is a comment in one and a statement in another.
    if sql.contains(['\\', '#', '@']) || sql.contains("/*!") || sql.contains("/*M!") || sql.contains(":=") {
        return false;
    }
    let mut tokens = Tokens(sql);
    let mut before = match tokens.next() {
        Some(Token::Word(first)) if first.eq_ignore_ascii_case("select") => Token::Word(first),
        _ => return false,
    };
    let mut qualified = false;
    for token in tokens {
        match (before, token) {
            (_, Token::Word(word)) if is_one_of(word, &["for", "into", "procedure"]) => return false,
            (Token::Word(word), Token::Symbol('('))
                if !is_one_of(word, TAKE_PARENTHESES) && (qualified || !is_one_of(word, PURE_FUNCTIONS)) =>
            {
                return false;
            }
            (Token::Quoted, Token::Symbol('(')) | (_, Token::Symbol(';')) => return false,
            _ => {}
        }
        qualified = matches!(before, Token::Symbol('.'));
        before = token;
    }
    true
}

/// Functions of the databases themselves that only compute.
const PURE_FUNCTIONS: &[&str] = &[
    "abs",
    "avg",
    "btrim",
    "cast",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "date",
    "date_trunc",
    "extract",
    "floor",
    "greatest",
    "ifnull",
    "json_extract",
    "least",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "min",
    "mod",
    "now",
    "nullif",
    "nvl",
    "octet_length",
    "power",
    "replace",
    "right",
    "round",
    "rtrim",
    "sign",
    "sqrt",
    "substr",
    "substring",
    "sum",
    "to_char",
    "trim",
    "upper",
];

/// Words that are followed by a parenthesis and call nothing: keywords and types.
const TAKE_PARENTHESES: &[&str] = &[
    "all",
    "and",
    "any",
    "as",
    "between",
    "by",
    "case",
    "char",
    "decimal",
    "distinct",
    "else",
    "except",
    "exists",
    "from",
    "having",
    "in",
    "intersect",
    "is",
    "join",
    "lateral",
    "like",
    "limit",
    "not",
    "numeric",
    "offset",
    "on",
    "or",
    "select",
    "some",
    "then",
    "time",
    "timestamp",
    "union",
    "using",
    "values",
    "varchar",
    "when",
    "where",
];

/// Words with which a statement begins that leaves something on its session: a transaction, a setting, a lock.
const LEAVE_STATE: &[&str] = &[
    "attach",
    "begin",
    "commit",
    "declare",
    "discard",
    "do",
    "end",
    "flush",
    "handler",
    "listen",
    "load",
    "lock",
    "pragma",
    "prepare",
    "release",
    "reset",
    "rollback",
    "savepoint",
    "set",
    "start",
    "use",
    "xa",
];

/// Whether a script may leave something on its session, so that its connection is not for others afterwards.
pub(crate) fn leaves_session_state(script: &str) -> bool {
    let mut first = true;
    let mut after_create = false;
    for token in Tokens(script) {
        match token {
            Token::Word(word) => {
                let temporary = after_create && is_one_of(word, &["temp", "temporary"]);
                let takes_lock = is_one_of(word, &["get_lock"]) || is_advisory_lock(word);
                if temporary || takes_lock || (first && is_one_of(word, LEAVE_STATE)) {
                    return true;
                }
                let between = &["or", "replace", "global", "local"];
                after_create = (first && is_one_of(word, &["create"])) || (after_create && is_one_of(word, between));
                first = false;
            }
            Token::Symbol(';') => {
                first = true;
                after_create = false;
            }
            Token::Quoted | Token::Symbol(_) => first = false,
        }
    }
    false
}

/// Whether a word is one of PostgreSQL's functions for advisory locks.
fn is_advisory_lock(word: &str) -> bool {
    word.to_ascii_lowercase().contains("advisory_lock")
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_select_without_effects_is_a_read() {
        for sql in [
            "SELECT \"id\" FROM \"users\" WHERE \"id\" = $1",
            "select count(*), lower(name) from users where id in (1, 2) and (a or b)",
            "SELECT `id` FROM `users` WHERE `id` IN (?, ?) LIMIT 5",
            "SELECT MAX(\"t\".\"n\") FROM (SELECT 1 AS n) AS \"t\" -- charge(1)",
            "SELECT CAST(x AS varchar(10)), 'charge(1)' FROM t",
        ] {
            assert!(is_read(sql), "{sql}");
        }
        for sql in [
            "SELECT charge(42)",
            "SELECT \"charge\"(42)",
            "SELECT billing.count(42)",
            "SELECT pg_advisory_lock(1)",
            "SELECT nextval('s')",
            "SELECT a FROM t WHERE b = (SELECT charge (1))",
            "SELECT '\\' , charge(1) , '",
            "SELECT /*! charge(1) */ 1",
            "SELECT @a := @a + 1",
            "SELECT 1; DELETE FROM t",
            "SELECT 1 FOR UPDATE",
            "SELECT * INTO t2 FROM t",
            "SELECT 1 /* x */ for share",
            "WITH x AS (DELETE FROM t RETURNING 1) SELECT 1",
            "INSERT INTO t SELECT 1",
            "UPDATE t SET a = 1",
            "",
        ] {
            assert!(!is_read(sql), "{sql}");
        }
    }

    #[test]
    fn a_script_that_may_leave_session_state_is_seen() {
        for script in [
            "BEGIN; INSERT INTO t VALUES (1); COMMIT",
            "insert into t values (1); -- x\n /* y */ set lock_timeout = 1",
            "START TRANSACTION",
            "SELECT pg_advisory_lock(1)",
            "select GET_LOCK('a', 1)",
            "CREATE TEMPORARY TABLE t (a int)",
            "create temp table t (a int)",
            "PRAGMA foreign_keys = off",
        ] {
            assert!(leaves_session_state(script), "{script}");
        }
        for script in [
            "CREATE TABLE t (n INTEGER, temp INTEGER); INSERT INTO t VALUES (1, 2)",
            "UPDATE t SET a = 'begin'",
            "SELECT ';set x = 1'",
            "",
        ] {
            assert!(!leaves_session_state(script), "{script}");
        }
    }
}
