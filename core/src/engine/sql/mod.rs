//! What the text of a statement shows: how traces and logs describe it, whether it may be repeated,
//! and whether it leaves state on its session. Nothing here parses SQL; in doubt the answer is the
//! careful one.

mod describe;
mod effects;

pub(crate) use describe::{described, normalized, operation};
pub(crate) use effects::{is_read, leaves_session_state};

/// A piece of a statement. Literal texts and comments are left out.
#[derive(Clone, Copy)]
enum Token<'a> {
    Word(&'a str),
    /// A quoted name or a number.
    Other,
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
                    (length, Some(Token::Other))
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
                c if c.is_ascii_digit() => {
                    let length = rest.find(|c| !is_of_word(c) && c != '.').unwrap_or(rest.len());
                    (length, Some(Token::Other))
                }
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
