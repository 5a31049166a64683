//! Reads one text from left to right and remembers how far it came.

use crate::refusal::{Refusal, shortened};

/// A text that is being read.
#[derive(Debug, Clone)]
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// The position at which a text violates the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unexpected {
    /// The place, counted in characters from 1.
    pub(crate) column: usize,
    found: Option<char>,
    expecting: &'static str,
}

impl Unexpected {
    /// PGRST100, in PostgREST's words. `what` is what was read, such as `filter`.
    pub(crate) fn refusal(&self, what: &str, text: &str, parameter: &str) -> Refusal {
        let found = match self.found {
            Some(found) => format!("unexpected {:?}", found.to_string()),
            None => "unexpected end of input".to_owned(),
        };
        let (text, column) = (shortened(text), self.column);
        let message = format!("\"failed to parse {what} ({text})\" (line 1, column {column})");
        Refusal::bad("PGRST100", message)
            .details(format!("{found} expecting {}", self.expecting))
            .at_parameter(parameter, format!("is not understood at character {column}"))
    }
}

impl<'a> Scan<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// What is wrong here.
    pub(crate) fn unexpected(&self, expecting: &'static str) -> Unexpected {
        Unexpected {
            column: self.text[..self.at].chars().count() + 1,
            found: self.peek(),
            expecting,
        }
    }

    /// Takes `expected`, if it comes next.
    pub(crate) fn take(&mut self, expected: &str) -> bool {
        let is_next = self.rest().starts_with(expected);
        if is_next {
            self.at += expected.len();
        }
        is_next
    }

    pub(crate) fn expect(&mut self, expected: &'static str) -> Result<(), Unexpected> {
        match self.take(expected) {
            true => Ok(()),
            false => Err(self.unexpected(expected)),
        }
    }

    pub(crate) fn expect_end(&self) -> Result<(), Unexpected> {
        match self.is_at_end() {
            true => Ok(()),
            false => Err(self.unexpected("end of input")),
        }
    }

    /// Takes the characters that `is_part` allows, which may be none.
    pub(crate) fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    pub(crate) fn skip_spaces(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t'));
    }

    /// Everything up to the end.
    pub(crate) fn take_rest(&mut self) -> &'a str {
        let rest = self.rest();
        self.at = self.text.len();
        rest
    }

    /// Takes `word`, if it comes next and no part of a name follows it.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let after = self.rest().strip_prefix(word);
        let is_next = after.is_some_and(|after| !after.starts_with(is_of_name));
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    /// A name, in quotes or not.
    pub(crate) fn name(&mut self) -> Result<String, Unexpected> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        // A dash belongs to a name, and `->` begins a path into JSON.
        let rest = self.rest();
        let mut end = 0;
        for (at, c) in rest.char_indices() {
            let is_part = is_of_name(c) || (c == '-' && !rest[at + 1..].starts_with('>'));
            if !is_part {
                break;
            }
            end = at + c.len_utf8();
        }
        let name = &rest[..end];
        if name.trim_matches(' ').is_empty() {
            return Err(self.unexpected("field name (* or [a..z0..9_$])"));
        }
        self.at += end;
        Ok(name.trim_matches(' ').to_owned())
    }

    /// A text in double quotes, in which a backslash takes the meaning from what follows it.
    pub(crate) fn quoted(&mut self) -> Result<String, Unexpected> {
        self.expect("\"")?;
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => match self.next() {
                    Some(c) => text.push(c),
                    None => return Err(self.unexpected("any character")),
                },
                Some(c) => text.push(c),
                None => return Err(self.unexpected("\"\\\"\"")),
            }
        }
    }

    pub(crate) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | ' ' | '$')
}
