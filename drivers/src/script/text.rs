//! The parts of a script that are never split: literals, quoted names and comments.

use super::Syntax;

/// Whether a word begins here.
pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The word that begins here.
pub(super) fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$')));
    &text[..end.unwrap_or(text.len())]
}

/// The text without the space and the comments that it begins with.
pub(super) fn after_comments(text: &str, syntax: Syntax) -> &str {
    let mut text = text.trim_start();
    while let Some(length) = comment(text, syntax) {
        text = text[length..].trim_start();
    }
    text
}

/// Counts the lines up to `at` from a position with a known line number.
pub(super) fn line_at(script: &str, (place, line): (usize, usize), at: usize) -> (usize, usize) {
    let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
    if at >= place {
        (at, line + lines(&script[place..at]))
    } else {
        (at, 1 + lines(&script[..at]))
    }
}

/// Returns how long the literal, quoted name or comment is that begins here, and whether it is a
/// comment. One that does not end goes to the end of the script.
pub(super) fn skipped(text: &str, syntax: Syntax, follows_word: bool) -> Option<(usize, bool)> {
    if let Some(length) = comment(text, syntax) {
        return Some((length, true));
    }
    literal(text, syntax, follows_word).map(|length| (length, false))
}

/// A part of a statement's text.
pub(super) enum Part<'a> {
    /// A comment, or the marks around what MySQL runs in one.
    Comment,
    /// A literal or a quoted name.
    Literal(&'a str),
    Character(char),
}

/// The parts of a statement's text.
pub(super) fn parts(text: &str, syntax: Syntax) -> Vec<Part<'_>> {
    let (mut parts, mut at, mut in_version) = (Vec::new(), 0, false);
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let follows_word = text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$'));
        let (length, part) = match skipped(rest, syntax, follows_word) {
            Some((length, true)) => (length, Part::Comment),
            Some((length, false)) => (length, Part::Literal(&rest[..length])),
            None if syntax == Syntax::Mysql && rest.starts_with("/*") => {
                in_version = true;
                (version_mark(rest), Part::Comment)
            }
            None if in_version && rest.starts_with("*/") => {
                in_version = false;
                (2, Part::Comment)
            }
            None => (c.len_utf8(), Part::Character(c)),
        };
        parts.push(part);
        at += length;
    }
    parts
}

/// The length of `/*!40101` or `/*M!100100`: MySQL runs what follows.
pub(super) fn version_mark(text: &str) -> usize {
    let open = if text.starts_with("/*M") { 4 } else { 3 };
    let open = open.min(text.len());
    open + text[open..].bytes().take_while(u8::is_ascii_digit).count()
}

fn comment(text: &str, syntax: Syntax) -> Option<usize> {
    let line = || Some(text.find('\n').unwrap_or(text.len()));
    match syntax {
        // In MySQL `a--1` is a number.
        Syntax::Mysql if text.starts_with("--") => match text[2..].chars().next() {
            Some(c) if !c.is_whitespace() && !c.is_control() => None,
            _ => line(),
        },
        Syntax::Mysql if text.starts_with('#') => line(),
        // MySQL executes the text inside such a comment. No server has the version 999999, with
        // which the dumps of MariaDB begin.
        Syntax::Mysql if text.starts_with("/*!") => None,
        Syntax::Mysql if text.starts_with("/*M!") && !text.starts_with("/*M!999999") => None,
        _ if text.starts_with("--") => line(),
        Syntax::Postgresql if text.starts_with("/*") => Some(nested_comment(text).unwrap_or(text.len())),
        _ if text.starts_with("/*") => Some(text[2..].find("*/").map_or(text.len(), |at| at + 4)),
        _ => None,
    }
}

/// Whether a comment has its end, and does not go on to the end of the script. The server gets no
/// comment by itself, and so cannot report it.
pub(super) fn is_closed(comment: &str, syntax: Syntax) -> bool {
    match syntax {
        _ if !comment.starts_with("/*") => true,
        Syntax::Postgresql => nested_comment(comment).is_some(),
        _ => comment.len() >= 4 && comment.ends_with("*/"),
    }
}

/// The length of a comment that may hold others, if it has an end.
fn nested_comment(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

fn literal(text: &str, syntax: Syntax, follows_word: bool) -> Option<usize> {
    let first = text.chars().next()?;
    let mysql = syntax == Syntax::Mysql;
    match first {
        '\'' => Some(quoted(text, '\'', mysql)),
        '"' => Some(quoted(text, '"', mysql)),
        '`' if syntax != Syntax::Postgresql => Some(quoted(text, '`', false)),
        '[' if syntax == Syntax::Sqlite => Some(text.find(']').map_or(text.len(), |at| at + 1)),
        'e' | 'E' if syntax == Syntax::Postgresql && !follows_word && text[1..].starts_with('\'') => {
            Some(1 + quoted(&text[1..], '\'', true))
        }
        '$' if syntax == Syntax::Postgresql && !follows_word => dollar_quoted(text),
        _ => None,
    }
}

/// A quote that is doubled stays within the literal.
fn quoted(text: &str, quote: char, backslash: bool) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if backslash && c == '\\' {
            characters.next();
        } else if c == quote {
            if characters.peek().is_some_and(|(_, next)| *next == quote) {
                characters.next();
            } else {
                return at + c.len_utf8();
            }
        }
    }
    text.len()
}

/// `$$ ... $$` or `$tag$ ... $tag$`; `None` if it is something else, such as `$1`.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag_end = 1 + text[1..].find('$')?;
    let tag = &text[..=tag_end];
    let name = &tag[1..tag_end];
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let body = &text[tag.len()..];
    Some(body.find(tag).map_or(text.len(), |at| at + 2 * tag.len()))
}
