//! Splits scripts of PostgreSQL, MySQL and SQLite into statements, as `psql`, `mysql` and `sqlite3`
//! do.

mod effect;
mod program;
mod refused;
mod text;

use tenantry_core::{ScriptFault, ScriptStatement, StatementEffect};

use program::Blocks;
use text::{after_comments, is_closed, is_word, line_at, skipped, version_mark, word};

/// The kind of database that a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "mysql", feature = "postgresql", feature = "sqlite")),
    allow(dead_code, reason = "each driver has one")
)]
pub(crate) enum Syntax {
    Mysql,
    Postgresql,
    Sqlite,
}

/// Splits a script.
pub(crate) fn statements(script: &str, syntax: Syntax) -> Result<Vec<ScriptStatement<'_>>, ScriptFault> {
    let mut splitter = Splitter {
        script,
        syntax,
        at: 0,
        delimiter: ";",
        counted: (0, 1),
        current: Current::default(),
        statements: Vec::new(),
    };
    while splitter.at < script.len() {
        splitter.step()?;
    }
    splitter.finish(script.len())?;
    refused::other_encoding(&splitter.statements, syntax)?;
    refused::other_backslash(&splitter.statements, syntax)?;
    Ok(splitter.statements)
}

struct Splitter<'a> {
    script: &'a str,
    syntax: Syntax,
    at: usize,
    /// The delimiter after a statement; only MySQL's scripts change it.
    delimiter: &'a str,
    /// A position with its line number, so that each line is counted once.
    counted: (usize, usize),
    current: Current,
    statements: Vec<ScriptStatement<'a>>,
}

/// The statement that is being read.
#[derive(Default)]
struct Current {
    start: Option<usize>,
    /// Its first words, in upper case.
    words: Vec<String>,
    /// Open parentheses.
    parentheses: usize,
    /// Open blocks of a function's body in SQL.
    blocks: usize,
    /// In a comment that MySQL runs.
    in_version: bool,
    /// SQLite's trigger ends with `; END ;`. How much of that has been read.
    trigger_end: u8,
    /// A stored program of MySQL, with its blocks.
    is_program: bool,
    program: Blocks,
    /// Where `USE` stands after a semicolon. No program can have it, so that it comes after one.
    leads_elsewhere: Option<usize>,
    copies: bool,
}

/// How many of its first words decide what a statement does.
const WORDS: usize = 12;

impl<'a> Splitter<'a> {
    fn step(&mut self) -> Result<(), ScriptFault> {
        let rest = &self.script[self.at..];
        if self.is_at_line_start() && self.client_command(rest)? {
            return Ok(());
        }
        if rest.starts_with(self.delimiter) && self.ends_here() {
            let end = self.at;
            self.at += self.delimiter.len();
            return self.finish(end);
        }
        if let Some((length, is_comment)) = skipped(rest, self.syntax, self.follows_word()) {
            if is_comment {
                self.refuse_lone_return(&rest[..length])?;
                if !is_closed(&rest[..length], self.syntax) {
                    return Err(self.fault("a comment begins here and has no end"));
                }
            } else {
                self.begin();
                self.current.trigger_end = 0;
                self.current.program.symbol('\'');
            }
            self.at += length;
            return Ok(());
        }
        if is_word(rest) {
            self.begin();
            let word = word(rest);
            // `END$$`: a delimiter of one's own may be part of what looks like a word.
            let word = match word.find(self.delimiter) {
                Some(end) => &word[..end],
                None => word,
            };
            self.word(word, &rest[word.len()..]);
            self.at += word.len();
            return Ok(());
        }
        self.symbol(rest);
        Ok(())
    }

    fn symbol(&mut self, rest: &str) {
        if self.syntax == Syntax::Mysql && rest.starts_with("/*") {
            // `/*!40101` and `/*M!100100`: MySQL runs what follows.
            self.begin();
            self.current.in_version = true;
            self.at += version_mark(rest);
            return;
        }
        if self.current.in_version && rest.starts_with("*/") {
            self.current.in_version = false;
            self.at += 2;
            return;
        }
        let Some(symbol) = rest.chars().next() else { return };
        match symbol {
            '(' => self.current.parentheses += 1,
            ')' => self.current.parentheses = self.current.parentheses.saturating_sub(1),
            _ => {}
        }
        if !symbol.is_whitespace() {
            self.begin();
            self.current.trigger_end = u8::from(symbol == ';');
            self.current.program.symbol(symbol);
        }
        self.at += symbol.len_utf8();
    }

    fn begin(&mut self) {
        self.current.start.get_or_insert(self.at);
    }

    fn word(&mut self, word: &str, rest: &str) {
        let upper = word.to_ascii_uppercase();
        let current = &mut self.current;
        current.trigger_end = match (current.trigger_end, upper.as_str()) {
            (1, "END") => 2,
            _ => 0,
        };
        if effect::is_routine(&current.words) {
            match upper.as_str() {
                // A parameter may be named `begin`.
                "BEGIN" if begins_atomic(rest) => current.blocks += 1,
                "CASE" if current.blocks > 0 => current.blocks += 1,
                "END" => current.blocks = current.blocks.saturating_sub(1),
                _ => {}
            }
        }
        if self.syntax == Syntax::Mysql {
            if upper == "USE" && current.program.follows_semicolon() {
                current.leads_elsewhere.get_or_insert(self.at);
            }
            current.program.word(&upper, rest);
        }
        let is_copy = current.words.first().is_some_and(|first| first == "COPY");
        current.copies |= is_copy && matches!(upper.as_str(), "STDIN" | "STDOUT");
        if current.words.len() < WORDS {
            current.words.push(upper);
            current.is_program = self.syntax == Syntax::Mysql && effect::is_program(&current.words);
        }
    }

    /// Whether the delimiter that was found ends the statement.
    fn ends_here(&self) -> bool {
        let current = &self.current;
        match self.syntax {
            Syntax::Postgresql => current.parentheses == 0 && current.blocks == 0,
            Syntax::Mysql => {
                let is_open = current.in_version || (current.is_program && current.program.are_open());
                !(self.delimiter == ";" && is_open)
            }
            Syntax::Sqlite => !effect::is_trigger(&current.words) || current.trigger_end == 2,
        }
    }

    /// Ends the statement that has been read so far, if there is one. A stored program with an end
    /// that was not found has the rest of the script in it, which the server splits.
    fn finish(&mut self, end: usize) -> Result<(), ScriptFault> {
        let current = std::mem::take(&mut self.current);
        let Some(start) = current.start else { return Ok(()) };
        if let Some(at) = current.leads_elsewhere.filter(|_| current.is_program) {
            return Err(ScriptFault {
                line: self.line(at),
                reason: refused::USE.to_owned(),
            });
        }
        let line = self.line(start);
        if let Some(reason) = refused::of_words(&current.words, current.copies, self.syntax) {
            return Err(ScriptFault {
                line,
                reason: reason.to_owned(),
            });
        }
        let is_open = current.is_program && current.program.are_open();
        let effect = match is_open && self.delimiter == ";" {
            true => StatementEffect::Several,
            false => effect::of(&current.words, self.syntax, &self.script[start..end]),
        };
        self.statements.push(ScriptStatement {
            line,
            sql: self.script[start..end].trim_end(),
            effect,
        });
        Ok(())
    }

    /// Reads a line that is for the database's own client. Returns whether it did.
    fn client_command(&mut self, rest: &str) -> Result<bool, ScriptFault> {
        let line_end = rest.find('\n').unwrap_or(rest.len());
        let line = rest[..line_end].trim_end();
        let between = self.current.start.is_none();
        let command = line.split_whitespace().next().unwrap_or_default();
        match self.syntax {
            // What pg_dump writes around a dump so that nothing in it can be a command of psql.
            Syntax::Postgresql if between && matches!(command, "\\restrict" | "\\unrestrict") => {
                self.at += line_end;
                Ok(true)
            }
            Syntax::Postgresql if line.starts_with('\\') => Err(self.client_only("psql")),
            Syntax::Sqlite if between && line.starts_with('.') => Err(self.client_only("sqlite3")),
            Syntax::Mysql if command.eq_ignore_ascii_case("delimiter") => {
                let mut words = line.split_whitespace().skip(1);
                let (named, is_last) = (words.next(), words.next().is_none());
                match named {
                    Some(named) if between || (is_last && self.may_be_delimiter(named)) => {
                        self.finish(self.at)?;
                        let start = named.as_ptr() as usize - self.script.as_ptr() as usize;
                        self.delimiter = &self.script[start..start + named.len()];
                        self.at += line_end;
                        Ok(true)
                    }
                    None if between => Err(self.fault("`DELIMITER` names no delimiter")),
                    // A column may be named so.
                    _ => Ok(false),
                }
            }
            _ => Ok(false),
        }
    }

    /// Whether a line within a statement can be the command `DELIMITER`, and no part of the
    /// statement.
    fn may_be_delimiter(&self, named: &str) -> bool {
        self.current.parentheses == 0 && named.chars().all(|c| ";$/|\\&@#~^".contains(c))
    }

    fn client_only(&mut self, client: &str) -> ScriptFault {
        self.fault(&format!("this is a command of {client} and no SQL; take it out"))
    }

    /// Only a line feed ends a comment in MySQL and SQLite. If a file ended its lines with carriage
    /// returns alone, everything after the first comment would be part of the comment.
    fn refuse_lone_return(&mut self, comment: &str) -> Result<(), ScriptFault> {
        let inner = comment.trim_end_matches(['\r', '\n']);
        if inner.starts_with("/*") || !inner.contains('\r') {
            return Ok(());
        }
        Err(self.fault("a line ends with a carriage return alone; save the file with LF or CRLF at the line ends"))
    }

    fn fault(&mut self, reason: &str) -> ScriptFault {
        ScriptFault {
            line: self.line(self.at),
            reason: reason.to_owned(),
        }
    }

    fn line(&mut self, at: usize) -> usize {
        self.counted = line_at(self.script, self.counted, at);
        self.counted.1
    }

    fn is_at_line_start(&self) -> bool {
        let before = self.script[..self.at].trim_end_matches([' ', '\t']);
        before.is_empty() || before.ends_with('\n')
    }

    fn follows_word(&self) -> bool {
        self.script[..self.at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$'))
    }
}

/// Whether a `BEGIN` before this text begins a body of PostgreSQL.
fn begins_atomic(rest: &str) -> bool {
    word(after_comments(rest, Syntax::Postgresql)).eq_ignore_ascii_case("ATOMIC")
}

#[cfg(test)]
mod tests;
