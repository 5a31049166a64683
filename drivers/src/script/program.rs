//! The end of a stored program of MySQL or MariaDB that stands without `DELIMITER` lines.

/// The blocks that end with `END` and their own word.
const ENDS_WITH_ITS_WORD: [&str; 5] = ["IF", "LOOP", "WHILE", "REPEAT", "FOR"];

/// What a statement within a block follows.
const BEFORE_A_STATEMENT: [&str; 8] = [";", ":", "BEGIN", "DO", "ELSE", "LOOP", "REPEAT", "THEN"];

/// The open blocks of a stored program. A semicolon ends the program if no block is open.
///
/// A block that is taken to end too early leaves half a program, which the server refuses. One that
/// is taken to stay open is reported at the end of the file.
#[derive(Default)]
pub(super) struct Blocks {
    open: Vec<String>,
    /// The last word, or the last symbol.
    previous: String,
    /// What the next `THEN` belongs to: `IF`, `ELSEIF` or `WHEN`.
    condition: String,
}

impl Blocks {
    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Reads a word in upper case, and the text that follows it.
    pub(super) fn word(&mut self, word: &str, rest: &str) {
        let before = std::mem::replace(&mut self.previous, word.to_owned());
        match word {
            "IF" | "CASE" | "LOOP" | "WHILE" | "REPEAT" | "FOR" if before == "END" => {}
            "BEGIN" | "CASE" | "LOOP" | "WHILE" | "PACKAGE" => self.open.push(word.to_owned()),
            "REPEAT" if !rest.trim_start().starts_with('(') => self.open.push(word.to_owned()),
            // Elsewhere it is the function.
            "IF" if self.open.is_empty() || BEFORE_A_STATEMENT.contains(&before.as_str()) => {
                self.condition = "IF".to_owned();
            }
            "ELSEIF" | "WHEN" => word.clone_into(&mut self.condition),
            "THEN" if self.condition == "IF" => self.open.push("IF".to_owned()),
            "END" => self.end(&before, rest),
            _ => {}
        }
    }

    pub(super) fn symbol(&mut self, symbol: char) {
        self.previous.clear();
        self.previous.push(symbol);
    }

    fn end(&mut self, before: &str, rest: &str) {
        let next = super::text::word(rest.trim_start()).to_ascii_uppercase();
        if ENDS_WITH_ITS_WORD.contains(&next.as_str()) {
            self.open.pop_if(|open| *open == next);
            return;
        }
        let is_whole = |open: &String| open == "BEGIN" || open == "CASE";
        if let Some(at) = self.open.iter().rposition(is_whole)
            // A column may be named `end`.
            && (self.open[at] == "CASE" || matches!(before, ";" | "BEGIN"))
        {
            self.open.truncate(at);
        }
    }
}
