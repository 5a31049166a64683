//! What `tenantry init` asks at a terminal.

use std::io::{BufRead, Write};

use tenantry_core::nearest;

use super::super::Stop;

/// How often one question is asked before it is given up.
const TRIES: usize = 5;

/// One question, and what may be answered.
pub(super) struct Question {
    /// The subject of the question, in a word or two.
    pub(super) what: &'static str,
    ask: &'static str,
    preferred: &'static str,
    /// Each answer with what it means.
    pub(super) options: Vec<(&'static str, String)>,
}

impl Question {
    pub(super) fn new(what: &'static str, ask: &'static str, preferred: &'static str) -> Self {
        Self {
            what,
            ask,
            preferred,
            options: Vec::new(),
        }
    }

    /// The option for an empty answer: the preferred one, else the first.
    pub(super) fn default(&self) -> Option<&'static str> {
        let preferred = self.options.iter().find(|(name, _)| *name == self.preferred);
        preferred.or(self.options.first()).map(|(name, _)| *name)
    }

    /// Asks for one option.
    pub(super) fn ask_one(&self, input: &mut impl BufRead, output: &mut impl Write) -> Result<&'static str, Stop> {
        self.ask(input, output, |answers| match answers {
            [one] => Some(*one),
            _ => None,
        })
    }

    /// Asks for one option or more, parted by spaces or commas.
    pub(super) fn ask_several(
        &self,
        input: &mut impl BufRead,
        output: &mut impl Write,
    ) -> Result<Vec<&'static str>, Stop> {
        self.ask(input, output, |answers| {
            let mut chosen = answers.to_vec();
            chosen.sort_unstable();
            chosen.dedup();
            (!chosen.is_empty()).then_some(chosen)
        })
    }

    fn ask<T>(
        &self,
        input: &mut impl BufRead,
        output: &mut impl Write,
        accept: impl Fn(&[&'static str]) -> Option<T>,
    ) -> Result<T, Stop> {
        let unusable = |error: std::io::Error| Stop::Failure(format!("the terminal cannot be used: {error}"));
        let Some(default) = self.default() else {
            return Err(Stop::Failure(format!("there is no {}", self.what)));
        };
        let mut menu = format!("\n{}\n", self.ask);
        for (index, (name, meaning)) in self.options.iter().enumerate() {
            menu.push_str(&format!("{:>4}  {name:<20} {meaning}\n", index + 1));
        }
        output.write_all(menu.as_bytes()).map_err(unusable)?;
        for _ in 0..TRIES {
            write!(output, "{} [{default}]: ", self.what).map_err(unusable)?;
            output.flush().map_err(unusable)?;
            let mut line = String::new();
            if input.read_line(&mut line).map_err(unusable)? == 0 {
                return Err(Stop::Failure("no answer was given, so nothing was written".to_owned()));
            }
            let words: Vec<&str> = line
                .split([' ', ',', '\t', '\r', '\n'])
                .filter(|word| !word.is_empty())
                .collect();
            let chosen = match words.as_slice() {
                [] => Some(vec![default]),
                words => words.iter().map(|word| self.option(word)).collect(),
            };
            if let Some(answer) = chosen.as_deref().and_then(&accept) {
                return Ok(answer);
            }
            writeln!(
                output,
                "{}answer with a number from 1 to {}, or a name",
                self.not_an_option(&words),
                self.options.len()
            )
            .map_err(unusable)?;
        }
        Err(Stop::Failure(format!(
            "no {} was chosen, so nothing was written",
            self.what
        )))
    }

    /// Finds an option by its name, its number, or an unambiguous beginning of its name.
    fn option(&self, word: &str) -> Option<&'static str> {
        let named = self.options.iter().find(|(name, _)| *name == word);
        let numbered = || self.options.get(word.parse::<usize>().ok()?.checked_sub(1)?);
        let begun = || {
            let mut begun = self.options.iter().filter(|(name, _)| name.starts_with(word));
            begun.next().filter(|_| begun.next().is_none())
        };
        named.or_else(numbered).or_else(begun).map(|(name, _)| *name)
    }

    /// Which of the words means nothing here, and what may have been meant by it.
    fn not_an_option(&self, words: &[&str]) -> String {
        let Some(word) = words.iter().find(|word| self.option(word).is_none()) else {
            return String::new();
        };
        match nearest(word, self.options.iter().map(|(name, _)| *name)) {
            Some(name) => format!("`{word}` is none of these; did you mean `{name}`? "),
            None => format!("`{word}` is none of these; "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let mut question = Question::new("fruit", "Which fruit?", "pear");
        question.options = [("apple", "Red."), ("pear", "Green."), ("plum", "Blue.")]
            .map(|(name, meaning)| (name, meaning.to_owned()))
            .to_vec();
        question
    }

    fn one(answers: &str) -> (Result<&'static str, Stop>, String) {
        let mut output = Vec::new();
        let chosen = question().ask_one(&mut answers.as_bytes(), &mut output);
        (chosen, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_name_a_number_and_nothing_are_answers() {
        for (answer, meant) in [
            ("plum\n", "plum"),
            (" 1 \r\n", "apple"),
            ("\n", "pear"),
            ("ap\n", "apple"),
        ] {
            let (chosen, shown) = one(answer);
            assert!(matches!(chosen, Ok(chosen) if chosen == meant), "{answer:?}");
            assert!(
                shown.contains("   2  pear") && shown.ends_with("fruit [pear]: "),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_is_no_option_is_asked_again_a_few_times() {
        let (chosen, shown) = one("0\n4\nfig\napple plum\n3\n");
        assert!(matches!(chosen, Ok("plum")));
        assert_eq!(shown.matches("a number from 1 to 3").count(), 4, "{shown}");
        assert!(one(&"fig\n".repeat(100)).0.is_err());
        assert!(one("fig\n").0.is_err(), "the end of the input is no answer");
    }

    #[test]
    fn a_misspelt_name_is_told_with_the_nearest_one() {
        let (chosen, shown) = one("plumb\np\n2\n");
        assert!(matches!(chosen, Ok("pear")));
        assert!(
            shown.contains("`plumb` is none of these; did you mean `plum`? answer"),
            "{shown}"
        );
        assert!(
            shown.contains("`p` is none of these"),
            "two names begin with it, so it is neither: {shown}"
        );
    }

    #[test]
    fn several_are_taken_once_each() {
        let several = |answers: &str| question().ask_several(&mut answers.as_bytes(), &mut Vec::new());
        assert!(matches!(several("3, apple 3\n"), Ok(chosen) if chosen == ["apple", "plum"]));
        assert!(matches!(several("\n"), Ok(chosen) if chosen == ["pear"]));
        assert!(several("3 fig\n").is_err());
    }
}
