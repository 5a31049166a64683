//! The side effects that a statement may have.

use super::{Dialect, Token, tokens};

/// Whether a statement only reads, so that running it twice does no harm: a `SELECT`, also after a
/// `WITH`, that locks nothing, changes nothing and calls no function that is not known to be pure.
/// In doubt it is not a read.
pub(crate) fn is_read(sql: &str) -> bool {
    if is_ambiguous(sql) {
        return false;
    }
    let mut tokens = tokens(sql);
    let first = match tokens.next() {
        Some(Token::Word(first)) if is_one_of(first, "select with") => first,
        _ => return false,
    };
    // The `WITH` clause reaches to the first `SELECT` outside parentheses. A parenthesis that opens
    // in it is a list of columns or a query, and no call.
    let mut in_with = is_one_of(first, "with");
    let mut depth = 0;
    let (mut before, mut qualified) = (Token::Word(first), false);
    for token in tokens {
        match token {
            Token::Symbol(';') => return false,
            Token::Word(word) if is_one_of(word, CHANGE_OR_LOCK) => return false,
            Token::Word(word) if depth == 0 && is_one_of(word, "select") => in_with = false,
            Token::Symbol('(') => {
                let calls = match before {
                    Token::Word(word) if is_one_of(word, TAKE_PARENTHESES) => false,
                    Token::Word(word) => qualified || !is_one_of(word, PURE_FUNCTIONS),
                    Token::Other => true,
                    Token::Symbol(_) => false,
                };
                if calls && !(in_with && depth == 0) {
                    return false;
                }
                depth += 1;
            }
            Token::Symbol(')') => depth -= 1,
            _ => {}
        }
        qualified = matches!(before, Token::Symbol('.'));
        before = token;
    }
    !in_with
}

/// Whether the database may commit the open transaction when it runs these statements: MySQL and
/// Oracle do at a definition, and whatever else changes no rows may do so too.
pub(crate) fn may_commit(sql: &str, dialect: Dialect) -> bool {
    const OF_ROWS: &str = "select with insert update delete merge replace";
    let mut begins = true;
    matches!(dialect, Dialect::Mysql | Dialect::Oracle)
        && tokens(sql).any(|token| {
            let is_first = std::mem::replace(&mut begins, matches!(token, Token::Symbol(';')));
            is_first
                && !matches!(token, Token::Symbol(_))
                && !matches!(token, Token::Word(word) if is_one_of(word, OF_ROWS))
        })
}

/// Whether the kinds of database disagree about the ends of literals, names and comments in it.
pub(super) fn is_ambiguous(sql: &str) -> bool {
    let dashes = || sql.match_indices("--").map(|(at, _)| &sql[at + 2..]);
    // A backslash, `#` and `@` have no meaning in one dialect and one in another; `[` begins a name
    // or the index of an array, and `$` a literal or a part of a name.
    sql.contains(['\\', '#', '@', '['])
        || sql.contains(":=")
        || sql.match_indices('$').any(|(at, _)| !sql[at + 1..].starts_with(|c: char| c.is_ascii_digit()))
        // MySQL executes the text inside `/*! */`.
        || sql.contains("/*!")
        || sql.contains("/*M!")
        // In PostgreSQL a comment may hold another one.
        || sql.split("*/").any(|part| part.matches("/*").count() > 1)
        // In MySQL a comment is `-- ` and `--1` a number.
        || dashes().any(|rest| !rest.is_empty() && !rest.starts_with(char::is_whitespace))
}

/// Words of statements, and of clauses of a `SELECT`, that change or lock something.
const CHANGE_OR_LOCK: &str = "call delete for insert into merge procedure update";

/// Functions of the databases themselves that only compute.
const PURE_FUNCTIONS: &str = "abs avg btrim cast ceil ceiling char_length character_length coalesce concat concat_ws count \
    date date_trunc extract floor greatest ifnull json_extract least left length lower ltrim max min mod \
    now nullif nvl octet_length power replace right round row_number rtrim sign sqrt substr substring sum \
    to_char trim upper";

/// Words that are followed by a parenthesis and call nothing: keywords and types.
const TAKE_PARENTHESES: &str = "all and any array as between by case char decimal distinct else except exists from having in \
    intersect is join lateral like limit materialized not numeric offset on or over select some then \
    time timestamp union using values varchar when where";

/// Whether a word is one of these, which are separated by spaces.
pub(super) fn is_one_of(word: &str, words: &str) -> bool {
    words.split(' ').any(|known| known.eq_ignore_ascii_case(word))
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
            "/* the users */ SELECT 1",
            "-- the users\nSELECT 1 -- of all",
            "WITH a AS (SELECT 1), \"b\" (\"n\", m) AS MATERIALIZED (SELECT 1, 2) SELECT * FROM a, b WHERE n = $1",
            "SELECT a FROM (SELECT a, ROW_NUMBER() OVER ( PARTITION BY \"t\".\"b\" ORDER BY a ASC ) AS \"n\" FROM t) AS p WHERE n > $1",
            "WITH \"r1\" (\"c0\", \"c1\") AS (SELECT CAST(\"id\" AS bigint), CAST(\"at\" AS timestamptz) FROM \"t\" LIMIT $1) \
             SELECT 1, \"c0\" FROM \"r1\" UNION ALL (SELECT 2, \"n\" FROM \"u\" WHERE \"n\" = ANY(ARRAY((SELECT \"c0\" FROM \"r1\"))))",
            "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
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
            "WITH x AS (SELECT 1) DELETE FROM t",
            "WITH x AS (SELECT 1) INSERT INTO t SELECT 1",
            "WITH x AS (SELECT 1) UPDATE t SET a = 1",
            "WITH x AS (SELECT 1)",
            "WITH x AS (SELECT charge(1)) SELECT 1",
            "WITH charge(i) AS (SELECT 1) SELECT charge(1)",
            "WITH x AS (SELECT 1) SELECT (SELECT charge(1))",
            "SELECT ARRAY[charge(1)]",
            "SELECT 5--charge(1)",
            "SELECT a$b$, charge(1), c$b$ FROM t",
            "SELECT 1charge(1)",
            "SELECT /* /* */ ' */ charge(1) -- '",
            "/* a comment that does not end SELECT 1",
            "INSERT INTO t SELECT 1",
            "UPDATE t SET a = 1",
            "",
        ] {
            assert!(!is_read(sql), "{sql}");
        }
    }
}
