//! The faults of a configuration, and their places. A fault never contains a value.

use std::{error::Error, fmt, sync::Arc};

/// The place at which a part of the configuration was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In a file.
    File {
        /// The file's name as given, or `config.yaml (built in)`.
        file: Arc<str>,
        /// From 1, and the column in characters from 1; `None` for the file as a whole.
        position: Option<(u64, u64)>,
    },
    /// In an environment variable.
    Variable(Arc<str>),
    /// Nowhere: it is a default.
    Default,
}

impl Place {
    /// The file as a whole.
    pub(crate) fn file(file: &Arc<str>) -> Self {
        Self::File {
            file: Arc::clone(file),
            position: None,
        }
    }

    pub(crate) fn variable(name: &str) -> Self {
        Self::Variable(name.into())
    }

    /// The file this is in, as a whole; anything else stays.
    pub(crate) fn whole_file(&self) -> Self {
        match self {
            Self::File { file, .. } => Self::file(file),
            other => other.clone(),
        }
    }

    pub(crate) fn is_variable(&self) -> bool {
        matches!(self, Self::Variable(_))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                file,
                position: Some((line, column)),
            } => write!(f, "{file}:{line}:{column}"),
            Self::File { file, position: None } => f.write_str(file),
            Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong. Displayed on one line, such as ``config.yaml:12:5:
/// tenancy.resolver.nmae: unknown key; did you mean `name`?``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The place at which it was written.
    pub place: Place,
    /// The key, its steps joined by dots (`server.trusted_proxies[0]`); empty for the configuration
    /// as a whole.
    pub path: String,
    /// What is wrong. It names keys, types and limits, never a value.
    pub message: String,
    /// The valid name that was most likely meant.
    pub suggestion: Option<String>,
}

impl Fault {
    pub(crate) fn new(place: Place, path: &[Step], message: impl Into<String>) -> Self {
        Self {
            place,
            path: path_text(path),
            message: message.into(),
            suggestion: None,
        }
    }

    #[must_use]
    pub(crate) fn with_suggestion(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place != Place::Default {
            write!(f, "{}: ", self.place)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

impl Error for Fault {}

/// Everything that is wrong with a configuration, in the order it was written: at least one fault.
/// Displayed one to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

/// The most faults that are printed. A file may have a hundred thousand.
const MOST_SHOWN: usize = 100;

impl Faults {
    /// `Ok` if `faults` is empty.
    ///
    /// # Errors
    /// All of `faults`, sorted by place, each once.
    pub fn check(mut faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort_by(|a, b| (&a.place, &a.path).cmp(&(&b.place, &b.path)));
        faults.dedup();
        Err(Self(faults))
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().take(MOST_SHOWN).enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{fault}")?;
        }
        match self.0.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl Error for Faults {}

/// One step from a node of the configuration to one inside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

/// The path with `last` at its end.
pub(crate) fn below(path: &[Step], last: impl Into<Step>) -> Vec<Step> {
    let mut path = path.to_vec();
    path.push(last.into());
    path
}

fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&key_text(key));
            }
        }
    }
    text
}

/// A key for a message. A key that is not a plain word is quoted, so that it cannot break the line
/// or look like several steps.
pub(crate) fn key_text(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$');
    if !key.is_empty() && key.chars().all(plain) {
        key.to_owned()
    } else {
        let shown: String = key.chars().take(64).collect();
        format!("{shown:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_its_place_path_and_suggestion() {
        let place = Place::File {
            file: "config.yaml".into(),
            position: Some((12, 5)),
        };
        let path = [Step::from("tenancy"), Step::from("a.b\n"), Step::Index(2)];
        let fault = Fault::new(place, &path, "unknown key").with_suggestion(Some("type"));
        assert_eq!(
            fault.to_string(),
            r#"config.yaml:12:5: tenancy."a.b\n"[2]: unknown key; did you mean `type`?"#
        );
    }

    #[test]
    fn no_more_than_a_hundred_faults_are_shown() {
        let faults = (0..150)
            .map(|n| Fault::new(Place::Default, &[Step::Index(n)], "x"))
            .collect();
        let shown = Faults::check(faults).unwrap_err().to_string();
        assert_eq!(shown.lines().count(), 101);
        assert!(shown.ends_with("and 50 more"), "{shown}");
    }
}
