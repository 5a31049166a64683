//! What is told of a statement without its values.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;

/// What a trace says of a statement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// Operation and table, to call a span by.
    pub(crate) summary: String,
    /// The table it is about, where that is easily seen.
    pub(crate) collection: Option<String>,
    /// Its text without literals.
    pub(crate) normalized: String,
}

impl Description {
    fn of(sql: &str) -> Self {
        let (operation, collection) = (operation(sql), collection(sql));
        Self {
            summary: collection.map_or_else(
                || operation.to_owned(),
                |collection| format!("{operation} {collection}"),
            ),
            collection: collection.map(str::to_owned),
            normalized: normalized(sql),
        }
    }
}

/// How many descriptions are kept. A program has so many statements, unless it writes values into their texts.
const KEPT: usize = 256;
/// The longest text whose description is kept, in bytes.
const LONGEST_KEPT: usize = 4_096;

/// What a trace says of a statement. A text is looked at once: that takes longer than to send the statement, and the texts of a program are
/// always the same, whoever the tenant. The first ones are kept for good.
pub(crate) fn described(sql: &str) -> Arc<Description> {
    type Known = HashMap<String, Arc<Description>, RandomState>;
    static KNOWN: LazyLock<ArcSwap<Known>> = LazyLock::new(ArcSwap::default);
    let known = KNOWN.load();
    if let Some(description) = known.get(sql) {
        return description.clone();
    }
    let description = Arc::new(Description::of(sql));
    if known.len() < KEPT && sql.len() <= LONGEST_KEPT {
        KNOWN.rcu(|known| {
            let mut known = Known::clone(known);
            known.insert(sql.to_owned(), description.clone());
            known
        });
    }
    description
}

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

/// A piece of a statement; literals, numbers and comments are left out.
#[derive(Clone, Copy)]
enum Token<'a> {
    Word(&'a str),
    Quoted,
    Symbol(char),
}

struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.0;
            let c = rest.chars().next()?;
            let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
            let (length, token) = match c {
                '\'' => (quoted_length(rest, c), None),
                '"' | '`' | '[' => {
                    let length = match c {
                        '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
                        quote => quoted_length(rest, quote),
                    };
                    (length, Some(Token::Quoted))
                }
                '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), None),
                '/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |end| end + 2), None),
                '$' => match dollar_tag(rest) {
                    Some(tag) => {
                        let end = rest[tag.len()..].find(tag);
                        (end.map_or(rest.len(), |end| end + 2 * tag.len()), None)
                    }
                    None => (1, None),
                },
                c if c.is_ascii_digit() => (rest.find(|c| !is_of_word(c) && c != '.').unwrap_or(rest.len()), None),
                c if is_of_word(c) => {
                    let length = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                    (length, Some(Token::Word(&rest[..length])))
                }
                c if c.is_whitespace() => (c.len_utf8(), None),
                c => (c.len_utf8(), Some(Token::Symbol(c))),
            };
            self.0 = &rest[length..];
            if token.is_some() {
                return token;
            }
        }
    }
}

/// What a statement does in one word; `OTHER` where it is none of these, so that the words are few.
pub(crate) fn operation(sql: &str) -> &'static str {
    const OPERATIONS: [&str; 12] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "MERGE", "CREATE", "ALTER", "DROP", "SET", "BEGIN", "CALL",
    ];
    let sql = sql.trim_start().as_bytes();
    let begins_with = |word: &str| {
        let (word, after) = (word.as_bytes(), sql.get(word.len()));
        sql.get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word))
            && !after.is_some_and(u8::is_ascii_alphabetic)
    };
    let known = OPERATIONS.into_iter().find(|known| begins_with(known));
    known.unwrap_or("OTHER")
}

/// The first table a statement names, where its name is plain: up to 64 letters, digits and underscores. What may be a literal or a
/// comment is not looked at.
pub(crate) fn collection(sql: &str) -> Option<&str> {
    let end = sql.find(['\'', '$', '#']).unwrap_or(sql.len());
    let end = [sql.find("--"), sql.find("/*")]
        .into_iter()
        .flatten()
        .fold(end, usize::min);
    let mut words = sql[..end].split_ascii_whitespace();
    let before = |word: &str| {
        ["from", "into", "update"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(word))
    };
    let mut quoted = false;
    words.find(|word| {
        let found = !quoted && before(word);
        // Where texts are in double quotes, one may hold any word.
        quoted ^= word.bytes().filter(|b| *b == b'"').count() % 2 == 1;
        found
    })?;
    let name = words
        .next()?
        .trim_matches(|c: char| matches!(c, '"' | '`' | ')' | ',' | ';'));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    ((1..=64).contains(&name.len()) && name.bytes().all(plain)).then_some(name)
}

/// A statement's text with every literal replaced by `?`, for logs: quoted texts, numbers, dollar-quoted texts; comments go.
/// Quoted identifiers stay. Bounded to 2,000 characters.
pub(crate) fn normalized(sql: &str) -> String {
    const LONGEST: usize = 2_000;
    let mut out = String::with_capacity(sql.len().min(LONGEST));
    let mut rest = sql;
    let mut word = false;
    while let Some(c) = rest.chars().next() {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        let taken = match c {
            '\'' => {
                out.push('?');
                quoted_length(rest, '\'')
            }
            '"' | '`' => {
                let length = quoted_length(rest, c);
                out.push_str(&rest[..length]);
                length
            }
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '$' if dollar_tag(rest).is_some() => {
                out.push('?');
                let tag = dollar_tag(rest).unwrap_or_default();
                rest[tag.len()..]
                    .find(tag)
                    .map_or(rest.len(), |end| end + 2 * tag.len())
            }
            '$' if !word => {
                // A parameter such as `$1` is no literal.
                let length = 1 + rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
                out.push_str(&rest[..length]);
                length
            }
            c if c.is_ascii_digit() && !word => {
                out.push('?');
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
                    .unwrap_or(rest.len())
            }
            c => {
                out.push(if c.is_whitespace() { ' ' } else { c });
                c.len_utf8()
            }
        };
        word = c.is_alphanumeric() || c == '_';
        rest = &rest[taken..];
    }
    out
}

/// The length of a quoted text with its quotes, doubled quotes inside being part of it.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        // MySQL's backslash escapes: at worst more is hidden than need be.
        if c == '\\' && quote == '\'' {
            inside.next();
        } else if c == quote {
            if inside.peek().is_some_and(|(_, next)| *next == quote) {
                inside.next();
            } else {
                return at + c.len_utf8();
            }
        }
    }
    text.len()
}

/// PostgreSQL's `$tag$`, where the text starts with one.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 2;
    let name = &text[1..end - 1];
    let valid =
        name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    valid.then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_replaced_and_names_stay() {
        let cases = [
            (
                "SELECT * FROM users WHERE id = $1 LIMIT 50",
                "SELECT * FROM users WHERE id = $1 LIMIT ?",
            ),
            (
                "select 'it''s canary', col1 from t2 -- canary\n",
                "select ?, col1 from t2  ",
            ),
            (
                r#"SELECT "a'b" FROM `x'y` WHERE e='canary'"#,
                r#"SELECT "a'b" FROM `x'y` WHERE e=?"#,
            ),
            ("select $tag$canary 'x' $tag$, 1.5e3", "select ?, ?"),
            ("select /* canary */ 0xCAFE", "select  ?"),
            (r"select 'canary\' canary' , 2", "select ? , ?"),
            ("select 'canary unterminated", "select ?"),
        ];
        for (sql, expected) in cases {
            assert_eq!(normalized(sql), expected);
        }
        assert!(normalized(&"é".repeat(5_000)).len() < 2_010);
    }

    #[test]
    fn a_description_that_is_kept_is_the_same_as_one_that_is_not() {
        for n in 0..2 * KEPT {
            let sql = format!("SELECT \"a\" FROM \"t{n}\" WHERE x = 'canary'");
            for _ in 0..2 {
                assert_eq!(*described(&sql), Description::of(&sql));
            }
        }
        let description = described("UPDATE \"users\" SET \"name\" = 'canary'");
        assert_eq!(description.summary, "UPDATE users");
        assert_eq!(description.normalized, "UPDATE \"users\" SET \"name\" = ?");
    }

    #[test]
    fn a_statement_is_called_by_what_it_does_to_which_table() {
        let cases = [
            (r#"SELECT "id" FROM "users" WHERE 1 = 1"#, "SELECT", Some("users")),
            ("insert into `users` (`id`) values (?)", "INSERT", Some("users")),
            ("UPDATE users SET a = 'from b'", "UPDATE", Some("users")),
            ("DELETE FROM users;", "DELETE", Some("users")),
            ("SELECT COUNT(*) FROM (SELECT 1 FROM \"users\") AS s", "SELECT", None),
            ("select 'x' || 'a from canary b'", "SELECT", None),
            ("select \"a from canary b\"", "SELECT", None),
            ("select 1 -- from canary", "SELECT", None),
            ("PRAGMA x", "OTHER", None),
            ("SELECTED x", "OTHER", None),
            ("SE", "OTHER", None),
            ("set", "SET", None),
            ("", "OTHER", None),
        ];
        for (sql, expected, table) in cases {
            assert_eq!((operation(sql), collection(sql)), (expected, table), "{sql}");
        }
    }

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
