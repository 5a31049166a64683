//! Facts that the text of a statement shows: how traces and logs describe it, whether it may be
//! repeated, and whether it leaves state on its session. Nothing here parses SQL; in doubt the
//! answer is the careful one.

mod describe;
mod effects;
mod pieces;
mod session_state;

pub(crate) use describe::{described, normalized, operation};
pub(crate) use effects::{is_read, may_commit};
pub(crate) use pieces::Dialect;
use pieces::{Piece, Pieces};
pub(crate) use session_state::leaves_session_state;

/// The words, names and symbols of a statement in lower case. A comment is a space, a literal text
/// is `''`, and a comment that MySQL runs is what it holds. MySQL's variables have no quotes:
/// `@'k'` and ``@`k` `` are `@k`.
pub(crate) fn code(sql: &str, dialect: Dialect) -> String {
    let mut code = String::new();
    let mut pieces = Pieces { rest: sql, dialect };
    let mut is_in_comment = false;
    loop {
        let before = pieces.rest;
        let Some(piece) = pieces.next() else {
            return code;
        };
        let text = &before[..before.len() - pieces.rest.len()];
        match piece {
            Piece::Comment if dialect == Dialect::Mysql && is_run(text) && !is_in_comment => {
                let mark = if text.starts_with("/*M") { 4 } else { 3 };
                pieces.rest = before[mark..].trim_start_matches(|c: char| c.is_ascii_digit());
                is_in_comment = true;
                code.push(' ');
            }
            Piece::Symbol('*') if is_in_comment && pieces.rest.starts_with('/') => {
                pieces.rest = &pieces.rest[1..];
                is_in_comment = false;
                code.push(' ');
            }
            Piece::Literal | Piece::Name(_) if dialect == Dialect::Mysql && begins_variable(&code) => {
                let name = text.trim_matches(['\'', '"', '`']).to_lowercase();
                code.push_str(&name.replace(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$')), "_"));
            }
            Piece::Literal => code.push_str("''"),
            Piece::Comment => code.push(' '),
            _ => code.push_str(&text.to_lowercase()),
        }
    }
}

/// Whether this code ends with the `@` of a variable. After a name it is the `@` of an account:
/// `'app'@'localhost'`.
fn begins_variable(code: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '@' | '\'' | '`');
    code.strip_suffix('@').is_some_and(|before| !before.ends_with(of_name))
}

/// Whether a comment is one that MySQL or MariaDB runs. No server has the version 999999.
fn is_run(comment: &str) -> bool {
    (comment.starts_with("/*!") || comment.starts_with("/*M!")) && !comment.starts_with("/*M!999999")
}

/// A piece of a statement. Literal texts and comments are left out.
#[derive(Clone, Copy)]
enum Token<'a> {
    Word(&'a str),
    /// A quoted name, a number or a parameter.
    Other,
    Symbol(char),
}

/// The tokens of a statement of any dialect.
fn tokens(sql: &str) -> impl Iterator<Item = Token<'_>> {
    let pieces = Pieces {
        rest: sql,
        dialect: Dialect::Unknown,
    };
    pieces.filter_map(|piece| match piece {
        Piece::Word(word) => Some(Token::Word(word)),
        Piece::Name(_) | Piece::Number | Piece::Parameter(_) => Some(Token::Other),
        Piece::Symbol(symbol) => Some(Token::Symbol(symbol)),
        Piece::Literal | Piece::Comment | Piece::Space => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_neither_literals_nor_comments() {
        for (dialect, sql, expected) in [
            (
                Dialect::Mysql,
                "SELECT 'it\\'s', \"b\" -- c\n, D",
                "select '', ''  \n, d",
            ),
            (Dialect::Postgresql, "SELECT '\\', \"B\" /* ' */", "select '', \"b\"  "),
            (Dialect::Mysql, "/*!40101 SET @Old = 'x' */", "  set @old = ''  "),
            (Dialect::Mysql, "/*M!100616 SET @a=1*/;", "  set @a=1 ;"),
            (Dialect::Mysql, "/*! a /*! b */ c", "  a   c"),
            (Dialect::Mysql, "SET @`I`=@'k', @\"a b\"=1", "set @i=@k, @a_b=1"),
            (Dialect::Mysql, "'a'@'b', `a`@`b`, a@'b'", "''@'', `a`@`b`, a@''"),
            (Dialect::Postgresql, "SELECT @'-1'", "select @''"),
            (
                Dialect::Mysql,
                "/*M!999999\\- enable the sandbox mode */ SET @a=1",
                "  set @a=1",
            ),
        ] {
            assert_eq!(code(sql, dialect), expected, "{sql}");
        }
    }
}
