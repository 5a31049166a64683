//! The end of a stored program of MySQL or MariaDB that stands without `DELIMITER` lines.

use super::{Syntax, text};

/// What a statement within a block follows.
const BEFORE_A_STATEMENT: [&str; 8] = [";", ":", "BEGIN", "DO", "ELSE", "LOOP", "REPEAT", "THEN"];

/// What a column, a name or an expression follows, but no statement.
const BEFORE_A_NAME: &[&str] = &[
    "=",
    "<",
    ">",
    "!",
    "+",
    "-",
    "*",
    "/",
    "%",
    "|",
    "&",
    "^",
    "~",
    "(",
    ",",
    "ALL",
    "AND",
    "AS",
    "BETWEEN",
    "BY",
    "CASE",
    "CALL",
    "DECLARE",
    "DEFAULT",
    "DISTINCT",
    "DISTINCTROW",
    "DIV",
    "ELSE",
    "ELSEIF",
    "EVENT",
    "EXISTS",
    "FOLLOWS",
    "FROM",
    "FUNCTION",
    "HAVING",
    "IF",
    "IN",
    "INTERVAL",
    "INTO",
    "JOIN",
    "LIKE",
    "MOD",
    "NOT",
    "ON",
    "OR",
    "PRECEDES",
    "PROCEDURE",
    "REGEXP",
    "RETURN",
    "RLIKE",
    "SELECT",
    "SET",
    "SQL_CALC_FOUND_ROWS",
    "THEN",
    "TRIGGER",
    "UPDATE",
    "WHEN",
    "WHERE",
    "WHILE",
    "XOR",
];

/// What follows a name, but not the word that begins a block.
const AFTER_A_NAME: [char; 13] = [',', '.', '=', '<', '>', '!', ')', '+', '-', '*', '/', ';', '@'];

/// What is created, of which the statement may have only one.
const KINDS: [&str; 5] = ["EVENT", "FUNCTION", "PACKAGE", "PROCEDURE", "TRIGGER"];

/// Which of `BEFORE_A_NAME` may be names themselves.
const NAMES: [&str; 4] = ["EVENT", "FOLLOWS", "FUNCTION", "PRECEDES"];

/// A block that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Begin,
    Case,
    /// `CASE` of an expression. It may stand in parentheses.
    Expression {
        parentheses: usize,
    },
    For,
    If,
    Loop,
    Package,
    Repeat,
    While,
}

/// The open blocks of a stored program. A semicolon ends the program if no block is open.
///
/// A block that is taken to end too early leaves half a program, which the server refuses. One that
/// is taken to stay open has the rest of the file sent with the program, and the server splits it.
#[derive(Default)]
pub(super) struct Blocks {
    open: Vec<Block>,
    parentheses: usize,
    /// The last word, or the last symbol.
    previous: String,
    /// What the next `THEN` or `DO` belongs to: `IF`, `ELSEIF`, `WHEN` or `FOR`.
    condition: String,
    /// Whether a handler is declared, which ends with a statement.
    is_handler: bool,
    has_kind: bool,
}

impl Blocks {
    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether the next word begins a statement after another one.
    pub(super) fn follows_semicolon(&self) -> bool {
        self.previous == ";"
    }

    pub(super) fn symbol(&mut self, symbol: char) {
        match symbol {
            '(' => self.parentheses += 1,
            ')' => self.parentheses = self.parentheses.saturating_sub(1),
            // No expression goes on behind it.
            ';' => {
                self.parentheses = 0;
                self.open.retain(|block| !matches!(block, Block::Expression { .. }));
                self.condition.clear();
                self.is_handler = false;
            }
            _ => {}
        }
        self.previous.clear();
        self.previous.push(symbol);
    }

    /// Reads a word in upper case, and the text that follows it.
    pub(super) fn word(&mut self, word: &str, rest: &str) {
        let before = std::mem::replace(&mut self.previous, word.to_owned());
        // `NEW.begin` is a column, and `@begin` a variable.
        if matches!(before.as_str(), "." | "@") {
            self.previous.clear();
            return;
        }
        let is_expression = matches!(self.open.last(), Some(Block::Expression { .. }));
        if self.parentheses > 0 || is_expression {
            self.word_of_expression(word, &before);
            return;
        }
        let rest = text::after_comments(rest, Syntax::Mysql);
        let begins = self.begins_statement(&before);
        match word {
            "IF" | "CASE" | "LOOP" | "WHILE" | "REPEAT" | "FOR" if before == "END" => {}
            "CASE" if begins => self.open.push(Block::Case),
            "CASE" => self.open.push(Block::Expression { parentheses: 0 }),
            "BEGIN" if self.begins_body(&before, rest) || self.begins_handler(&before) => {
                self.open.push(Block::Begin);
                self.is_handler = false;
            }
            "LOOP" => self.open.push(Block::Loop),
            "WHILE" => self.open.push(Block::While),
            // Elsewhere these two are functions.
            "REPEAT" if !rest.starts_with('(') => self.open.push(Block::Repeat),
            "IF" if begins => word.clone_into(&mut self.condition),
            "FOR" if begins && !text::word(rest).eq_ignore_ascii_case("EACH") => word.clone_into(&mut self.condition),
            "ELSEIF" | "WHEN" => word.clone_into(&mut self.condition),
            "THEN" if self.condition == "IF" => self.open.push(Block::If),
            "DO" if self.condition == "FOR" => {
                self.open.push(Block::For);
                self.condition.clear();
            }
            "HANDLER" => self.is_handler = true,
            "PACKAGE" if !self.has_kind => self.open.push(Block::Package),
            "END" => self.end(&before, rest),
            _ => {}
        }
        self.has_kind |= KINDS.contains(&word);
    }

    /// Within an expression only `CASE` opens something.
    fn word_of_expression(&mut self, word: &str, before: &str) {
        let block = Block::Expression {
            parentheses: self.parentheses,
        };
        match word {
            "CASE" => self.open.push(block),
            // A column may be named `event`, and what is created stands in no expression.
            "END" if !BEFORE_A_NAME.contains(&before) || NAMES.contains(&before) => {
                self.open.pop_if(|open| *open == block);
            }
            _ => {}
        }
    }

    fn begins_statement(&self, before: &str) -> bool {
        BEFORE_A_STATEMENT.contains(&before) || (self.open.is_empty() && !BEFORE_A_NAME.contains(&before))
    }

    /// Whether `BEGIN` opens a block. `AS` comes before a body of Oracle's kind, or before a name.
    fn begins_body(&self, before: &str, rest: &str) -> bool {
        let is_outermost = matches!(self.open.last(), None | Some(Block::Package));
        let begins = self.begins_statement(before) || (is_outermost && before == "AS");
        begins && !(self.open.is_empty() && is_name(rest))
    }

    fn begins_handler(&self, before: &str) -> bool {
        self.is_handler && !BEFORE_A_NAME.contains(&before)
    }

    fn end(&mut self, before: &str, rest: &str) {
        let ends = match text::word(rest).to_ascii_uppercase().as_str() {
            "CASE" => Block::Case,
            "FOR" => Block::For,
            "IF" => Block::If,
            "LOOP" => Block::Loop,
            "REPEAT" => Block::Repeat,
            "WHILE" => Block::While,
            // A column may be named `end`.
            _ if matches!(before, ";" | "BEGIN") => Block::Begin,
            _ => return,
        };
        if ends != Block::Begin {
            self.open.pop_if(|open| *open == ends);
        } else if let Some(at) = self.open.iter().rposition(|open| *open == ends) {
            self.open.truncate(at);
        }
    }
}

/// Whether a name stands before this text, and not the word that begins a block.
fn is_name(rest: &str) -> bool {
    let is_run = rest.starts_with("/*");
    (rest.starts_with(AFTER_A_NAME) && !is_run) || text::word(rest).eq_ignore_ascii_case("FROM")
}
