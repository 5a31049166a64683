//! Which parts of a query are for which table.

use crate::request::{
    query::Path,
    select::{Embedded, Item},
};

/// The place of a table in a request: the embedded tables on the way to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    levels: Vec<Level>,
}

/// One step on the way to an embedded table.
#[derive(Debug, Clone)]
pub(super) struct Level {
    key: String,
    /// The relation's own name beside its alias. Parameters may use it too, as in PostgREST 16, if
    /// only one embedded table has it.
    other: Option<String>,
}

impl Level {
    /// That of a table which is embedded among these items.
    pub(super) fn of(embedded: &Embedded, items: &[Item]) -> Self {
        let is_called = |item: &&Item| match item {
            Item::Embedded(other) => other.name == embedded.name || other.alias.as_ref() == Some(&embedded.name),
            _ => false,
        };
        let is_only_one = items.iter().filter(is_called).count() == 1;
        Self {
            key: embedded.key().to_owned(),
            other: is_only_one.then(|| embedded.name.clone()),
        }
    }

    /// Whether a parameter means it by this name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.key == name || self.other.as_deref() == Some(name)
    }
}

impl Scope {
    /// Whether a parameter with this path is for the table.
    pub(super) fn is(&self, path: &Path) -> bool {
        self.levels.len() == path.len() && self.levels.iter().zip(path).all(|(level, name)| level.is(name))
    }

    /// The path of its parameters.
    pub(super) fn path(&self) -> Path {
        self.levels.iter().map(|level| level.key.clone()).collect()
    }

    /// That of a table which is embedded in this one.
    pub(super) fn within(&self, level: Level) -> Self {
        let mut levels = self.levels.clone();
        levels.push(level);
        Self { levels }
    }

    /// Whether it is that of the request's own table.
    pub(super) fn is_outermost(&self) -> bool {
        self.levels.is_empty()
    }
}
