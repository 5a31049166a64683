//! How traces and logs describe a statement without its values.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;

use super::{Dialect, Piece, Pieces, Token, effects::is_ambiguous, tokens};

/// How a trace describes a statement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// Operation and table: the name of its span.
    pub(crate) summary: String,
    /// The table it is about, if that is easily seen.
    pub(crate) collection: Option<String>,
    /// Its text without literals.
    pub(crate) normalized: String,
}

impl Description {
    fn of(sql: &str, dialect: Dialect) -> Self {
        let (operation, collection) = (operation(sql), collection(sql, dialect));
        Self {
            summary: collection.map_or_else(
                || operation.to_owned(),
                |collection| format!("{operation} {collection}"),
            ),
            collection: collection.map(str::to_owned),
            normalized: normalized(sql, dialect),
        }
    }
}

/// How many descriptions are cached for each dialect. A program has fewer statements, unless it
/// writes values into them.
const KEPT: usize = 256;
/// The longest statement with a cached description, in bytes.
const LONGEST_KEPT: usize = 4_096;

/// Describes a statement. The descriptions of the first texts are cached for good: a description
/// takes longer to make than the statement to send, and all tenants of a program send the same
/// texts.
pub(crate) fn described(sql: &str, dialect: Dialect) -> Arc<Description> {
    type Known = HashMap<String, Arc<Description>, RandomState>;
    static KNOWN: [LazyLock<ArcSwap<Known>>; Dialect::COUNT] =
        [const { LazyLock::new(ArcSwap::default) }; Dialect::COUNT];
    let cache = &KNOWN[dialect as usize];
    let known = cache.load();
    if let Some(description) = known.get(sql) {
        return description.clone();
    }
    let description = Arc::new(Description::of(sql, dialect));
    if known.len() < KEPT && sql.len() <= LONGEST_KEPT {
        cache.rcu(|known| {
            let mut known = Known::clone(known);
            known.insert(sql.to_owned(), description.clone());
            known
        });
    }
    description
}

/// The kind of a statement in one word. All unusual ones are `OTHER`, to keep the number of words
/// small.
pub(crate) fn operation(sql: &str) -> &'static str {
    const OPERATIONS: [&str; 12] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "MERGE", "CREATE", "ALTER", "DROP", "SET", "BEGIN", "CALL",
    ];
    let known = |word: &str| OPERATIONS.into_iter().find(|known| known.eq_ignore_ascii_case(word));
    // Most statements begin with it, and not with a comment.
    let first = sql.split_once(' ').and_then(|(word, _)| known(word));
    first
        .or_else(|| match tokens(sql).next() {
            Some(Token::Word(word)) => known(word),
            _ => None,
        })
        .unwrap_or("OTHER")
}

/// The first table that a statement names, if its name is plain: up to 64 letters, digits and
/// underscores.
fn collection(sql: &str, dialect: Dialect) -> Option<&str> {
    if is_unclear(sql, dialect) {
        return None;
    }
    let mut pieces = Pieces { rest: sql, dialect }.filter(|piece| !matches!(piece, Piece::Space | Piece::Comment));
    let before = |piece: Piece<'_>| match piece {
        Piece::Word(word) => ["from", "into", "update"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(word)),
        _ => false,
    };
    pieces.find(|piece| before(*piece))?;
    let name = match pieces.next()? {
        Piece::Word(name) => name,
        Piece::Name(name) => name.get(1..name.len() - 1)?,
        _ => return None,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    ((1..=64).contains(&name.len()) && name.bytes().all(plain)).then_some(name)
}

/// Whether the dialect is unknown and the dialects disagree about the ends of literals in the text.
fn is_unclear(sql: &str, dialect: Dialect) -> bool {
    dialect == Dialect::Unknown && is_ambiguous(sql)
}

/// The longest text that is shown, in bytes.
const LONGEST_SHOWN: usize = 2_000;

/// A statement's text for logs, without comments and with `?` for each literal: quoted texts and
/// numbers, in each notation of the dialect. Quoted names stay. Bounded to 2,000 bytes.
pub(crate) fn normalized(sql: &str, dialect: Dialect) -> String {
    if is_unclear(sql, dialect) {
        return format!("{} …", operation(sql));
    }
    let mut out = String::with_capacity(sql.len().min(LONGEST_SHOWN));
    let mut pieces = Pieces { rest: sql, dialect };
    let mut values = DoubleQuotedValues::default();
    while let Some(piece) = pieces.next() {
        let is_value = match dialect {
            Dialect::Sqlite => values.is_value(piece, pieces.rest),
            // Another database may take them for texts, as MySQL does.
            Dialect::Unknown => true,
            _ => false,
        };
        match piece {
            Piece::Name(name) if is_value && name.starts_with('"') => out.push('?'),
            Piece::Word(text) | Piece::Name(text) | Piece::Parameter(text) => out.push_str(text),
            Piece::Literal | Piece::Number => out.push('?'),
            Piece::Comment => {}
            Piece::Space => out.push(' '),
            Piece::Symbol(symbol) => out.push(symbol),
        }
        if out.len() >= LONGEST_SHOWN {
            let end = (0..=LONGEST_SHOWN).rev().find(|at| out.is_char_boundary(*at));
            out.truncate(end.unwrap_or_default());
            out.push('…');
            break;
        }
    }
    out
}

/// Distinguishes texts in double quotes from names: SQLite takes `"x"` for a text if no column has
/// that name (<https://www.sqlite.org/quirks.html#dblquote>). In doubt it is a text.
#[derive(Default)]
struct DoubleQuotedValues {
    /// Whether a value may come next.
    expected: bool,
    after_dot: bool,
}

impl DoubleQuotedValues {
    /// Whether a piece, after which comes `rest`, may be a value.
    fn is_value(&mut self, piece: Piece<'_>, rest: &str) -> bool {
        let after_dot = std::mem::replace(&mut self.after_dot, piece == Piece::Symbol('.'));
        match piece {
            Piece::Symbol('=' | '<' | '>' | '|' | '+' | '-' | '*' | '/' | '%') => self.expected = true,
            Piece::Word(word) => {
                let names = [
                    "and", "by", "do", "from", "into", "join", "on", "or", "select", "set", "table", "update", "where",
                ];
                self.expected = !names.iter().any(|known| known.eq_ignore_ascii_case(word))
                    && (self.expected || VALUES_FOLLOW.iter().any(|known| known.eq_ignore_ascii_case(word)));
            }
            _ => {}
        }
        let next = rest.trim_start();
        self.expected && !after_dot && !next.starts_with(['.', '='])
    }
}

/// Words after which SQLite's values come.
const VALUES_FOLLOW: [&str; 11] = [
    "between", "default", "else", "glob", "in", "like", "match", "then", "values", "when", "is",
];

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
                r#"SELECT "a'b" FROM "x y" WHERE e='canary'"#,
                r#"SELECT "a'b" FROM "x y" WHERE e=?"#,
            ),
            ("select $tag$canary 'x' $tag$, 1.5e3", "select ?, ?"),
            ("select /* canary */ 0xCAFE", "select  ?"),
            ("select 'canary unterminated", "select ?"),
            ("select v$a, a1b2 from t3", "select v$a, a1b2 from t3"),
        ];
        for (sql, expected) in cases {
            assert_eq!(normalized(sql, Dialect::Postgresql), expected);
        }
        for dialect in Dialect::ALL {
            assert!(normalized(&"é".repeat(5_000), dialect).len() < 2_010);
            let name = format!("select \"{}\"", "é".repeat(5_000));
            assert!(normalized(&name, dialect).len() < 2_010);
        }
    }

    #[test]
    fn every_notation_of_a_text_is_hidden() {
        use Dialect::{Mysql, Oracle, Postgresql, Sqlite};
        let cases = [
            (
                r"select 'a\', 'canary'",
                &[Postgresql, Sqlite, Oracle][..],
                "select ?, ?",
            ),
            (r"select 'a\', canary'", &[Mysql], "select ?"),
            (r"select E'a\', canary', 'canary'", &[Postgresql, Oracle], "select ?, ?"),
            (
                "select e'a' -- it's\n 'b\\' canary', 2",
                &[Postgresql, Oracle],
                "select ?, ?",
            ),
            (
                r"select b'10', X'CAFE', N'canary', U&'canary' uescape '!'",
                &[Postgresql, Mysql, Sqlite, Oracle],
                "select b?, X?, N?, U&? uescape ?",
            ),
            (r#"select "canary\" canary", `a"b`"#, &[Mysql], r#"select ?, `a"b`"#),
            (
                "select $$canary$$, $a$can'ary $$ $a$ from t",
                &[Postgresql],
                "select ?, ? from t",
            ),
            ("select $$canary$$, 'canary'", &[Oracle], "select ?"),
            (
                "select a$$, 'canary' from b$$",
                &[Postgresql, Mysql, Sqlite, Oracle],
                "select a$$, ? from b$$",
            ),
            ("select /* /* ' */ canary */ 'canary', 1", &[Postgresql], "select  ?, ?"),
            ("select /* /* ' */ 'canary'", &[Mysql, Sqlite], "select  ?"),
            ("select /* /* ' */ 'canary'", &[Oracle], "select "),
            (
                "select /*/ canary */ 1",
                &[Postgresql, Mysql, Sqlite, Oracle],
                "select  ?",
            ),
            ("select 1 # it's canary\n, 'canary'", &[Mysql], "select ?  , ?"),
            ("select j #> 'canary', 1", &[Postgresql], "select j #> ?, ?"),
            ("select 5--'canary'", &[Mysql], "select ?--?"),
            ("select 5 -- it's canary\r, 'canary'", &[Postgresql], "select ?  , ?"),
            (
                "select q'[it's canary]', nQ'!it's canary!', q'aacanarya' from t",
                &[Oracle],
                "select ?, ?, ? from t",
            ),
            ("select [it's] , 'canary'", &[Sqlite], "select [it's] , ?"),
            ("select a[1], ARRAY['canary']", &[Postgresql], "select a[?], ARRAY[?]"),
            ("select a`, 'canary`canary'", &[Postgresql, Oracle], "select a`, ?"),
            (
                "select 12canary, 1_000, :1, ?2",
                &[Postgresql, Mysql, Sqlite, Oracle],
                "select ?, ?, :?, ??",
            ),
        ];
        for (sql, dialects, expected) in cases {
            for dialect in dialects {
                assert_eq!(normalized(sql, *dialect), expected, "{sql} {dialect:?}");
            }
        }
    }

    #[test]
    fn in_sqlite_double_quotes_may_hold_a_text() {
        let cases = [
            (
                r#"SELECT "u"."id", "name" FROM "users" AS "u" WHERE "id" = "u"."id" AND "name" = ?"#,
                r#"SELECT "u"."id", "name" FROM "users" AS "u" WHERE "id" = "u"."id" AND "name" = ?"#,
            ),
            (
                r#"UPDATE "users" SET "name" = "canary", "email" = ? WHERE "id" IN ("canary", "canary")"#,
                r#"UPDATE "users" SET "name" = ?, "email" = ? WHERE "id" IN (?, ?)"#,
            ),
            (
                r#"INSERT INTO "users" ("name") VALUES ("canary", 1)"#,
                r#"INSERT INTO "users" ("name") VALUES (?, ?)"#,
            ),
            (
                r#"SELECT 1 FROM t WHERE n LIKE "canary""#,
                "SELECT ? FROM t WHERE n LIKE ?",
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(normalized(sql, Dialect::Sqlite), expected);
        }
    }

    #[test]
    fn an_unknown_dialect_shows_only_what_is_clear() {
        let shown = |sql| normalized(sql, Dialect::Unknown);
        assert_eq!(
            shown("select a from t where b = 'canary'"),
            "select a from t where b = ?"
        );
        assert_eq!(shown(r#"select "canary""#), "select ?");
        assert_eq!(shown(r"select 'a\', canary"), "SELECT …");
        assert_eq!(shown("select /* /* */ canary */ 1"), "SELECT …");
        assert_eq!(collection(r"select 'a\', ' from canary", Dialect::Unknown), None);
    }

    #[test]
    fn a_description_that_is_kept_is_the_same_as_one_that_is_not() {
        for n in 0..2 * KEPT {
            let sql = format!("SELECT \"a\" FROM \"t{n}\" WHERE x = 'canary'");
            for dialect in Dialect::ALL {
                for _ in 0..2 {
                    assert_eq!(*described(&sql, dialect), Description::of(&sql, dialect));
                }
            }
        }
        let description = described("UPDATE \"users\" SET \"name\" = 'canary'", Dialect::Postgresql);
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
            ("/* of all */ delete from users", "DELETE", Some("users")),
            ("set", "SET", None),
            ("", "OTHER", None),
        ];
        for (sql, expected, table) in cases {
            assert_eq!(operation(sql), expected, "{sql}");
            assert_eq!(collection(sql, Dialect::Sqlite), table, "{sql}");
        }
        assert_eq!(collection("update \"canary\" set a = 1", Dialect::Mysql), None);
        assert_eq!(collection(r#"select "a\" from canary b""#, Dialect::Mysql), None);
    }
}
