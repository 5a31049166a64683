//! From Oracle's SQL to PostgreSQL's: what is spelt otherwise, word by word. It is no parser:
//! PostgreSQL is the one.

use crate::failure::Failure;

/// What kind of statement it is, as Oracle numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Select,
    Update,
    Delete,
    Insert,
    Create,
    Drop,
    Alter,
    Block,
    Merge,
    /// `SAVEPOINT`, `SET TRANSACTION` and others, which Oracle numbers 0.
    Other,
}

impl Kind {
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Select => 1,
            Self::Update => 2,
            Self::Delete => 3,
            Self::Insert => 4,
            Self::Create => 5,
            Self::Drop => 6,
            Self::Alter => 7,
            Self::Block => 8,
            Self::Merge => 16,
            Self::Other => 0,
        }
    }

    pub(crate) fn is_definition(self) -> bool {
        matches!(self, Self::Create | Self::Drop | Self::Alter)
    }

    pub(crate) fn is_change(self) -> bool {
        matches!(self, Self::Update | Self::Delete | Self::Insert | Self::Merge)
    }
}

/// A statement, read.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) kind: Kind,
    /// For PostgreSQL.
    pub(crate) text: String,
    /// How many places there are for values, those behind `INTO` included.
    pub(crate) binds: usize,
    /// The first out place, from 0; the number of `binds` if there is none.
    pub(crate) first_out: usize,
    /// Whether it locks rows.
    pub(crate) locks: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A word that is not quoted, as it stands.
    Word(String),
    /// A name, without its quotes.
    Quoted(String),
    /// A text, with its quotes.
    Text(String),
    Place,
    Space,
    Sign(char),
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let end = |quote: char| {
            let mut at = 1;
            loop {
                at = rest[at..].find(quote).map_or(rest.len(), |found| at + found + 1);
                if !rest[at..].starts_with(quote) {
                    return at;
                }
                at += 1;
            }
        };
        let word = |rest: &str| {
            rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$' | '#'))
                .unwrap_or(rest.len())
        };
        let length = match c {
            '\'' => {
                let length = end('\'');
                tokens.push(Token::Text(rest[..length].to_owned()));
                length
            }
            '"' => {
                let length = end('"');
                tokens.push(Token::Quoted(rest[1..length.max(2) - 1].replace("\"\"", "\"")));
                length
            }
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            ':' if rest[1..].starts_with(|c: char| c.is_alphanumeric()) => {
                tokens.push(Token::Place);
                1 + word(&rest[1..])
            }
            c if c.is_whitespace() => {
                if tokens.last() != Some(&Token::Space) {
                    tokens.push(Token::Space);
                }
                c.len_utf8()
            }
            c if c.is_alphabetic() || c == '_' => {
                let length = word(rest);
                tokens.push(Token::Word(rest[..length].to_owned()));
                length
            }
            c if c.is_ascii_digit() => {
                let length = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
                    .unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..length].to_owned()));
                length
            }
            c => {
                tokens.push(Token::Sign(c));
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    while tokens.first() == Some(&Token::Space) {
        tokens.remove(0);
    }
    tokens
}

/// The words from a place on, with what is between them left out.
struct Ahead<'a>(&'a [Token]);

impl Ahead<'_> {
    /// How many tokens these words take, in upper case, if they are next.
    fn words(&self, words: &[&str]) -> Option<usize> {
        let mut at = 0;
        for (index, wanted) in words.iter().enumerate() {
            if index > 0 {
                while self.0.get(at) == Some(&Token::Space) {
                    at += 1;
                }
            }
            let found = match self.0.get(at)? {
                Token::Word(word) => word.eq_ignore_ascii_case(wanted),
                Token::Sign(sign) => sign.to_string() == *wanted,
                _ => false,
            };
            if !found {
                return None;
            }
            at += 1;
        }
        Some(at)
    }

    /// A word and numbers in parentheses behind it, as in `NUMBER(19, 0)`: how many tokens, and the
    /// numbers.
    fn sized(&self, word: &str) -> Option<(usize, Vec<String>)> {
        let mut at = self.words(&[word])?;
        if self.0.get(at) != Some(&Token::Sign('(')) {
            return Some((at, Vec::new()));
        }
        let close = self.0[at..].iter().position(|token| *token == Token::Sign(')'))?;
        let inside = &self.0[at + 1..at + close];
        at += close + 1;
        let numbers = inside.iter().filter_map(|token| match token {
            Token::Word(word) if word.starts_with(|c: char| c.is_ascii_digit()) => Some(word.clone()),
            _ => None,
        });
        Some((at, numbers.collect()))
    }
}

const SAME: &[(&[&str], &str)] = &[
    (&["FROM", "DUAL"], ""),
    (&["MINUS"], "EXCEPT"),
    (&["SYSTIMESTAMP"], "now()"),
    (&["DEFAULT", "ON", "NULL", "AS", "IDENTITY"], "DEFAULT AS IDENTITY"),
    (&["CASCADE", "CONSTRAINTS"], "CASCADE"),
    (&["WITH", "LOCAL", "TIME", "ZONE"], "WITH TIME ZONE"),
    (&["CLOB"], "text"),
    (&["BLOB"], "bytea"),
    (&["BINARY_FLOAT"], "real"),
    (&["BINARY_DOUBLE"], "double precision"),
    (
        &["DBMS_SESSION", ".", "UNIQUE_SESSION_ID"],
        "dbms_session.unique_session_id()",
    ),
];

/// Reads a statement.
pub(crate) fn read(sql: &str) -> Result<Sql, Failure> {
    let mut tokens = tokens(sql);
    let first = |word: &str| matches!(tokens.first(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word));
    let kind = match () {
        () if first("SELECT") || first("WITH") || matches!(tokens.first(), Some(Token::Sign('('))) => Kind::Select,
        () if first("UPDATE") => Kind::Update,
        () if first("DELETE") => Kind::Delete,
        () if first("INSERT") => Kind::Insert,
        () if first("CREATE") || first("TRUNCATE") => Kind::Create,
        () if first("DROP") => Kind::Drop,
        () if first("ALTER") => Kind::Alter,
        () if first("BEGIN") => Kind::Block,
        () if first("MERGE") => Kind::Merge,
        () => Kind::Other,
    };
    let ahead = Ahead(&tokens);
    if ahead.words(&["ALTER", "SESSION"]).is_some() {
        return Ok(Sql {
            kind,
            text: "SET TIME ZONE 'UTC'".to_owned(),
            binds: 0,
            first_out: 0,
            locks: false,
        });
    }
    let binds = tokens.iter().filter(|token| **token == Token::Place).count();
    let mut first_out = binds;
    let mut first_place = 1;
    if kind == Kind::Block {
        // `BEGIN :1 := value; END;`: the only block there is here.
        let assigned = [Token::Place, Token::Space, Token::Sign(':'), Token::Sign('=')];
        let end = [
            Token::Sign(';'),
            Token::Space,
            Token::Word("END".to_owned()),
            Token::Sign(';'),
        ];
        let Some(value) = tokens
            .get(2..)
            .and_then(|rest| rest.strip_prefix(&assigned))
            .and_then(|rest| rest.strip_suffix(&end))
        else {
            return Err(Failure::beyond("PL/SQL other than one assignment"));
        };
        let mut query = vec![Token::Word("SELECT".to_owned())];
        query.extend_from_slice(value);
        tokens = query;
        first_place = 2;
        first_out = 0;
    }
    if kind.is_change() {
        let returning = tokens
            .iter()
            .position(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("returning")));
        if let Some(returning) = returning {
            let into = tokens[returning..]
                .iter()
                .position(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("into")));
            let Some(into) = into else {
                return Err(Failure::new(925, "missing INTO keyword"));
            };
            tokens.truncate(returning + into);
            first_out = tokens.iter().filter(|token| **token == Token::Place).count();
        }
    }
    let in_types = kind.is_definition();
    let mut text = String::new();
    let mut places = first_place;
    let mut at = 0;
    let mut locks = false;
    // The end of a computed column's expression.
    let mut computed = None;
    while let Some(token) = tokens.get(at) {
        let ahead = Ahead(&tokens[at..]);
        if let Some((taken, replacement)) = SAME.iter().find_map(|(words, with)| Some((ahead.words(words)?, *with))) {
            text.push_str(replacement);
            at += taken;
            continue;
        }
        let after_as = text.trim_end().to_ascii_uppercase().ends_with(" AS") && kind != Kind::Create;
        if let Some((taken, written)) = sized_type(&ahead, in_types, after_as)? {
            text.push_str(&written);
            at += taken;
            continue;
        }
        if let Some(taken) = ahead.words(&["ALWAYS", "AS", "("]) {
            computed = closing(&tokens, at + taken - 1);
        }
        if kind == Kind::Select && ahead.words(&["FOR", "UPDATE"]).is_some() {
            locks = true;
        }
        match token {
            Token::Word(word) if word.eq_ignore_ascii_case("is") && ahead.words(&["IS", "JSON"]).is_some() => {
                // The name before it becomes the argument.
                let name = text.trim_end().rfind([' ', '(']).map_or(0, |found| found + 1);
                let column = text.trim_end()[name..].to_owned();
                text.truncate(name);
                text.push_str(&format!("oracle_stand_in.is_json({column})"));
                at += ahead.words(&["IS", "JSON"]).unwrap_or(1);
                continue;
            }
            Token::Word(word) => text.push_str(word),
            Token::Quoted(name) => text.push_str(&quoted(name)),
            // An empty text is NULL.
            Token::Text(literal) if literal == "''" => text.push_str("NULL"),
            Token::Text(literal) => text.push_str(literal),
            Token::Place => {
                text.push_str(&format!("${}", places - first_place + 1));
                places += 1;
            }
            Token::Space => text.push(' '),
            // Oracle has no division of whole numbers.
            Token::Sign('/') => text.push_str("* 1.0 /"),
            Token::Sign(sign) => text.push(*sign),
        }
        if computed == Some(at) {
            text.push_str(" STORED");
        }
        at += 1;
    }
    Ok(Sql {
        kind,
        text: text.trim_end_matches([' ', ';']).to_owned(),
        binds,
        first_out,
        locks,
    })
}

/// The parenthesis that closes the one here.
fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

fn sized_type(ahead: &Ahead<'_>, in_types: bool, after_as: bool) -> Result<Option<(usize, String)>, Failure> {
    if let Some((taken, sizes)) = ahead.sized("NUMBER") {
        // A column with an identity cannot be a `numeric`, and what refers to it must be of its
        // type.
        let identity = Ahead(ahead.0.get(taken + 1..).unwrap_or_default())
            .words(&["GENERATED"])
            .is_some();
        let written = match (integer(&sizes), sizes.as_slice()) {
            (Some(integer), _) if in_types => integer.to_owned(),
            _ if identity => "bigint".to_owned(),
            (_, []) => "numeric".to_owned(),
            (_, sizes) => format!("numeric({})", sizes.join(", ")),
        };
        return Ok(Some((taken, written)));
    }
    if let Some((taken, sizes)) = ahead.sized("VARCHAR2") {
        return match sizes.as_slice() {
            [size] => Ok(Some((taken, format!("varchar({size})")))),
            _ => Err(Failure::new(906, "missing left parenthesis")),
        };
    }
    if let Some((taken, sizes)) = ahead.sized("RAW") {
        return match sizes.as_slice() {
            [size] if size == "16" => Ok(Some((taken, "uuid".to_owned()))),
            _ => Err(Failure::beyond("a RAW of another size than 16")),
        };
    }
    if (in_types || after_as)
        && let Some(taken) = ahead.words(&["DATE"])
    {
        return Ok(Some((taken, "timestamp(0)".to_owned())));
    }
    Ok(None)
}

/// PostgreSQL's type for whole numbers of so many digits, as the driver's dialect makes columns.
fn integer(sizes: &[String]) -> Option<&'static str> {
    let [digits] = sizes else { return None };
    match digits.as_str() {
        "5" => Some("smallint"),
        "10" => Some("integer"),
        "19" => Some("bigint"),
        _ => None,
    }
}

/// Stands before a name that is in lower case on Oracle: without it, it is one in upper case there.
const LOWER: char = '\u{2193}';

/// A quoted name. What is in upper case throughout is what a name without quotes is on Oracle, and
/// in lower case here.
fn quoted(name: &str) -> String {
    let has = |test: fn(char) -> bool| name.chars().any(test);
    let name = match (has(char::is_lowercase), has(char::is_uppercase)) {
        (true, false) => format!("{LOWER}{name}"),
        (true, true) => name.to_owned(),
        (false, _) => name.to_lowercase(),
    };
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name of one of PostgreSQL's columns on Oracle.
pub(crate) fn oracle_name(name: &str) -> String {
    match name.strip_prefix(LOWER) {
        Some(name) => name.to_owned(),
        None if name.chars().any(char::is_uppercase) => name.to_owned(),
        None => name.to_uppercase(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_oracle_spells_otherwise_is_turned() {
        let cases = [
            (
                r#"SELECT "ID", "A_name" FROM "USERS" WHERE "ID" = :1 FETCH NEXT :2 ROWS ONLY"#,
                r#"SELECT "id", "A_name" FROM "users" WHERE "id" = $1 FETCH NEXT $2 ROWS ONLY"#,
            ),
            ("SELECT 1 FROM DUAL", "SELECT 1"),
            (
                r#"INSERT INTO "T" ("A") VALUES (:1) RETURNING "ID" INTO :2"#,
                r#"INSERT INTO "t" ("a") VALUES ($1) RETURNING "id""#,
            ),
            (
                "CREATE TABLE t (a NUMBER(19) GENERATED BY DEFAULT ON NULL AS IDENTITY, b VARCHAR2(20 CHAR), c DATE, d RAW(16), e CLOB CHECK (e IS JSON))",
                "CREATE TABLE t (a bigint GENERATED BY DEFAULT AS IDENTITY, b varchar(20), c timestamp(0), d uuid, e text CHECK (oracle_stand_in.is_json(e)))",
            ),
            ("SELECT 'it''s :1 \"X\"', '' FROM DUAL", "SELECT 'it''s :1 \"X\"', NULL"),
            (
                "SELECT CAST(a AS NUMBER(5)), CAST(b AS DATE), DATE '2026-01-01' FROM t",
                "SELECT CAST(a AS numeric(5)), CAST(b AS timestamp(0)), DATE '2026-01-01' FROM t",
            ),
            (
                "BEGIN :1 := CASE WHEN DBMS_SESSION.IS_SESSION_ALIVE(:2) THEN 1 ELSE 0 END; END;",
                "SELECT CASE WHEN DBMS_SESSION.IS_SESSION_ALIVE($1) THEN 1 ELSE 0 END",
            ),
        ];
        for (oracle, postgres) in cases {
            assert_eq!(read(oracle).unwrap().text.trim(), postgres);
        }
    }

    #[test]
    fn places_are_counted_and_those_that_give_back_known() {
        let returning = read(r#"UPDATE "T" SET "A" = :1 WHERE "B" = :2 RETURNING "A", "B" INTO :3, :4"#).unwrap();
        assert_eq!((returning.binds, returning.first_out), (4, 2));
        let block = read("BEGIN :1 := f(:2); END;").unwrap();
        assert_eq!((block.binds, block.first_out), (2, 0));
        assert!(read("SELECT a FROM t FOR UPDATE").unwrap().locks);
    }

    #[test]
    fn a_name_in_lower_case_is_not_the_one_in_upper_case() {
        let read = read(r#"SELECT "id" FROM "USERS""#).unwrap().text;
        assert_eq!(read, "SELECT \"\u{2193}id\" FROM \"users\"");
        for (postgres, oracle) in [("\u{2193}id", "id"), ("id", "ID"), ("Id", "Id")] {
            assert_eq!(oracle_name(postgres), oracle);
        }
    }

    #[test]
    fn a_generated_number_has_its_size() {
        let create = r#"CREATE TABLE "T" ("A" NUMBER(5) GENERATED BY DEFAULT ON NULL AS IDENTITY, "B" NUMBER(10) GENERATED BY DEFAULT ON NULL AS IDENTITY, "C" NUMBER(19) GENERATED BY DEFAULT ON NULL AS IDENTITY)"#;
        let text = read(create).unwrap().text;
        for column in [r#""a" smallint "#, r#""b" integer "#, r#""c" bigint "#] {
            assert!(text.contains(column), "{text}");
        }
    }
}
