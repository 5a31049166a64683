//! The text of a statement, cut into pieces by the rules of its dialect.

/// The rules by which a statement's text is read. They are those of the sessions that the drivers
/// set up: in PostgreSQL and MySQL settings could change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgresql,
    Mysql,
    Sqlite,
    /// Oracle's own, or PostgreSQL's before the driver translates it.
    Oracle,
    /// The dialect of a driver that is not built in.
    Unknown,
}

impl Dialect {
    #[cfg(test)]
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::Postgresql, Self::Mysql, Self::Sqlite, Self::Oracle, Self::Unknown];
    pub(super) const COUNT: usize = Self::Unknown as usize + 1;

    /// The dialect of a driver's `type`.
    pub(crate) fn of(driver: &str) -> Self {
        match driver {
            "postgresql" => Self::Postgresql,
            "mysql" => Self::Mysql,
            "sqlite" => Self::Sqlite,
            "oracle" => Self::Oracle,
            _ => Self::Unknown,
        }
    }
}

/// A piece of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A keyword or a plain name.
    Word(&'a str),
    /// A name with its quotes.
    Name(&'a str),
    /// A quoted text in any notation, with its prefix.
    Literal,
    Number,
    /// A parameter such as `$1`.
    Parameter(&'a str),
    Comment,
    Space,
    Symbol(char),
}

/// The pieces of a text.
#[derive(Clone)]
pub(super) struct Pieces<'a> {
    pub(super) rest: &'a str,
    pub(super) dialect: Dialect,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let c = self.rest.chars().next()?;
        let (length, piece) = self.piece(c);
        self.rest = &self.rest[length..];
        Some(piece)
    }
}

impl<'a> Pieces<'a> {
    /// The first piece, which begins with `c`, and its length.
    fn piece(&self, c: char) -> (usize, Piece<'a>) {
        let (rest, dialect) = (self.rest, self.dialect);
        let name = |length: usize| (length, Piece::Name(&rest[..length]));
        match c {
            '\'' => {
                let escapes = matches!(dialect, Dialect::Mysql | Dialect::Unknown);
                (quoted_length(rest, c, escapes), Piece::Literal)
            }
            '"' if dialect == Dialect::Mysql => (quoted_length(rest, c, true), Piece::Literal),
            '"' => name(quoted_length(rest, c, false)),
            '`' if !matches!(dialect, Dialect::Postgresql | Dialect::Oracle) => name(quoted_length(rest, c, false)),
            '[' if matches!(dialect, Dialect::Sqlite | Dialect::Unknown) => {
                name(rest.find(']').map_or(rest.len(), |end| end + 1))
            }
            '-' if begins_line_comment(rest, dialect) => (line_length(rest, dialect), Piece::Comment),
            '#' if dialect == Dialect::Mysql => (line_length(rest, dialect), Piece::Comment),
            '/' if rest.starts_with("/*") => (comment_length(rest, dialect), Piece::Comment),
            '$' => self.dollar(),
            c if c.is_ascii_digit() => {
                let length = rest.find(|c| !is_of_word(c) && c != '.').unwrap_or(rest.len());
                (length, Piece::Number)
            }
            c if is_of_word(c) => self.word(),
            c if c.is_whitespace() => (c.len_utf8(), Piece::Space),
            c => (c.len_utf8(), Piece::Symbol(c)),
        }
    }

    /// A parameter, a text in PostgreSQL's dollar quotes, or a dollar.
    fn dollar(&self) -> (usize, Piece<'a>) {
        let rest = self.rest;
        let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
        let tag = match self.dialect {
            Dialect::Mysql | Dialect::Sqlite => None,
            _ => dollar_tag(rest),
        };
        match tag {
            // Oracle knows no such texts, and the driver's translation does.
            Some(_) if self.dialect == Dialect::Oracle => (rest.len(), Piece::Literal),
            Some(tag) => {
                let end = rest[tag.len()..].find(tag);
                (end.map_or(rest.len(), |end| end + 2 * tag.len()), Piece::Literal)
            }
            None if digits > 0 => (1 + digits, Piece::Parameter(&rest[..=digits])),
            None => (1, Piece::Symbol('$')),
        }
    }

    /// A word, or a literal that has the word as its prefix.
    fn word(&self) -> (usize, Piece<'a>) {
        let rest = self.rest;
        let length = rest.find(|c| !is_of_word(c) && c != '$').unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let is = |prefix: &str| word.eq_ignore_ascii_case(prefix) && after.starts_with('\'');
        match self.dialect {
            Dialect::Postgresql | Dialect::Oracle if is("e") => (length + escape_string_length(after), Piece::Literal),
            Dialect::Oracle if is("q") || is("nq") => (length + own_quotes_length(after), Piece::Literal),
            _ => (length, Piece::Word(word)),
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a text that begins with a dash begins with a comment. In MySQL `--1` is a number.
fn begins_line_comment(text: &str, dialect: Dialect) -> bool {
    let Some(rest) = text.strip_prefix("--") else {
        return false;
    };
    dialect != Dialect::Mysql || rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c.is_control())
}

/// The length of the line, without its end.
fn line_length(text: &str, dialect: Dialect) -> usize {
    let ends = |c| c == '\n' || (c == '\r' && dialect == Dialect::Postgresql);
    text.find(ends).unwrap_or(text.len())
}

/// The length of a comment that begins with `/*`. In PostgreSQL it may hold other comments; Oracle
/// does not know such comments, and the driver's translation does.
fn comment_length(text: &str, dialect: Dialect) -> usize {
    let end = text[2..].find("*/").map_or(text.len(), |end| end + 4);
    match dialect {
        Dialect::Oracle if text[2..end].contains("/*") => text.len(),
        Dialect::Postgresql => nested_comment_length(text),
        _ => end,
    }
}

fn nested_comment_length(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(next) = text[at..].find(['/', '*']) {
        at += next;
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a quoted text with its quotes, doubled quotes inside being part of it. `escapes`
/// is whether a backslash takes the meaning from the character after it.
fn quoted_length(text: &str, quote: char, escapes: bool) -> usize {
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        if c == '\\' && escapes {
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

/// The length of what follows the `E` of PostgreSQL's `E'...'`. The text goes on in the quotes of a
/// later line, with the same escapes.
fn escape_string_length(text: &str) -> usize {
    let mut length = quoted_length(text, '\'', true);
    loop {
        let mut after = &text[length..];
        let mut is_next_line = false;
        loop {
            let blank = after.find(|c: char| !c.is_whitespace()).unwrap_or(after.len());
            is_next_line |= after[..blank].contains(['\n', '\r']);
            after = &after[blank..];
            if !after.starts_with("--") {
                break;
            }
            after = &after[line_length(after, Dialect::Postgresql)..];
        }
        if !is_next_line || !after.starts_with('\'') {
            return length;
        }
        length = text.len() - after.len() + quoted_length(after, '\'', true);
    }
}

/// The length of what follows the `q` of Oracle's `q'[...]'`.
fn own_quotes_length(text: &str) -> usize {
    let Some(opening) = text.chars().nth(1) else {
        return text.len();
    };
    let closing = match opening {
        '[' => ']',
        '{' => '}',
        '(' => ')',
        '<' => '>',
        same => same,
    };
    let start = 1 + opening.len_utf8();
    let end = text[start..].find(&format!("{closing}'"));
    end.map_or(text.len(), |end| start + end + closing.len_utf8() + 1)
}

/// PostgreSQL's `$tag$`, if the text starts with one.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 2;
    let name = &text[1..end - 1];
    let valid = name.chars().all(is_of_word) && !name.starts_with(|c: char| c.is_ascii_digit());
    valid.then(|| &text[..end])
}
