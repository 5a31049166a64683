//! What the text of a statement shows: how traces and logs describe it, whether it may be repeated,
//! and whether it leaves state on its session. Nothing here parses SQL; in doubt the answer is the
//! careful one.

mod describe;
mod effects;

pub(crate) use describe::{described, normalized, operation};
pub(crate) use effects::{is_read, leaves_session_state};

/// What a piece of a statement is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    /// A name in quotes.
    Name,
    Number,
    /// A parameter, such as `$1`.
    Parameter,
    /// A literal text.
    Literal,
    Comment,
    Space,
    /// Any other character.
    Symbol,
}

/// The pieces of a statement, each with its text: together they are the whole of it.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = (Kind, &'a str);

    fn next(&mut self) -> Option<(Kind, &'a str)> {
        let rest = self.0;
        let c = rest.chars().next()?;
        let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
        let until = |end: Option<usize>| end.unwrap_or(rest.len());
        let (kind, length) = match c {
            '\'' => (Kind::Literal, quoted_length(rest, c)),
            '"' | '`' => (Kind::Name, quoted_length(rest, c)),
            '-' if rest.starts_with("--") => (Kind::Comment, until(rest.find('\n'))),
            '/' if rest.starts_with("/*") => (Kind::Comment, until(rest.find("*/").map(|end| end + 2))),
            '$' => match dollar_tag(rest) {
                Some(tag) => {
                    let end = rest[tag.len()..].find(tag);
                    (Kind::Literal, until(end.map(|end| end + 2 * tag.len())))
                }
                None => {
                    let end = rest[1..].find(|c: char| !c.is_ascii_digit());
                    (Kind::Parameter, until(end.map(|end| end + 1)))
                }
            },
            c if c.is_ascii_digit() => (Kind::Number, until(rest.find(|c| !is_of_word(c) && c != '.'))),
            c if is_of_word(c) => (Kind::Word, until(rest.find(|c| !is_of_word(c)))),
            c if c.is_whitespace() => (Kind::Space, c.len_utf8()),
            c => (Kind::Symbol, c.len_utf8()),
        };
        let (piece, rest) = rest.split_at(length);
        self.0 = rest;
        Some((kind, piece))
    }
}

/// The pieces without literals, comments and spaces.
fn tokens(sql: &str) -> impl Iterator<Item = (Kind, &str)> {
    Pieces(sql).filter(|(kind, _)| !matches!(kind, Kind::Literal | Kind::Comment | Kind::Space))
}

/// Whether a word is one of these, which are separated by spaces.
fn is_one_of(word: &str, words: &str) -> bool {
    words.split(' ').any(|known| known.eq_ignore_ascii_case(word))
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
