//! How traces and logs describe a statement without its values.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;

use super::{Kind, Pieces, is_one_of, tokens};

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

/// How many descriptions are cached. A program has fewer statements, unless it writes values into
/// them.
const KEPT: usize = 256;
/// The longest text whose description is cached, in bytes.
const LONGEST_KEPT: usize = 4_096;

/// Describes a statement. The descriptions of the first texts are cached for good: a description
/// takes longer to make than the statement to send, and all tenants of a program send the same
/// texts.
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

/// What a statement does in one word; `OTHER` if it is none of these, so that the words are few.
pub(crate) fn operation(sql: &str) -> &'static str {
    const OPERATIONS: [&str; 12] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "MERGE", "CREATE", "ALTER", "DROP", "SET", "BEGIN", "CALL",
    ];
    let Some((Kind::Word, first)) = tokens(sql).next() else {
        return "OTHER";
    };
    let known = OPERATIONS.into_iter().find(|known| known.eq_ignore_ascii_case(first));
    known.unwrap_or("OTHER")
}

/// The first table that a statement names, if its name is plain: up to 64 letters, digits and
/// underscores. The search ends at the first text that may be a literal or a comment.
pub(crate) fn collection(sql: &str) -> Option<&str> {
    let is_plain = |(kind, piece): &(Kind, &str)| match kind {
        Kind::Literal | Kind::Comment | Kind::Parameter => false,
        _ => *piece != "#",
    };
    let mut pieces = Pieces(sql)
        .take_while(is_plain)
        .filter(|(kind, _)| *kind != Kind::Space);
    pieces.find(|(kind, word)| *kind == Kind::Word && is_one_of(word, "from into update"))?;
    let name = match pieces.next()? {
        (Kind::Word, word) => word,
        (Kind::Name, name) => name.trim_matches(['"', '`']),
        _ => return None,
    };
    let is_qualified = pieces.next() == Some((Kind::Symbol, "."));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (!is_qualified && (1..=64).contains(&name.len()) && name.bytes().all(plain)).then_some(name)
}

/// A statement's text for logs, without comments and with `?` for each literal: quoted texts,
/// numbers and dollar-quoted texts. Quoted identifiers stay. Bounded to 2,000 characters.
pub(crate) fn normalized(sql: &str) -> String {
    const LONGEST: usize = 2_000;
    let mut out = String::with_capacity(sql.len().min(LONGEST));
    for (kind, piece) in Pieces(sql) {
        match kind {
            Kind::Literal | Kind::Number => out.push('?'),
            Kind::Comment => {}
            Kind::Space => out.push(' '),
            Kind::Word | Kind::Name | Kind::Parameter | Kind::Symbol => out.push_str(piece),
        }
        if out.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| out.is_char_boundary(*at));
            out.truncate(end.unwrap_or(0));
            out.push('…');
            break;
        }
    }
    out
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
            ("/* of all */ delete from users", "DELETE", None),
            ("set", "SET", None),
            ("", "OTHER", None),
        ];
        for (sql, expected, table) in cases {
            assert_eq!((operation(sql), collection(sql)), (expected, table), "{sql}");
        }
    }
}
