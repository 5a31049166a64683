//! The structure of a database, to compare it with others.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use sea_orm::{DbErr, Statement};
use tenantry_core::{Connection, DatabaseDriver};

use super::error::MigrationError;

/// The most differences that are shown of one database.
const MOST_SHOWN: usize = 50;
/// The longest definition that is shown.
const LONGEST_SHOWN: usize = 200;

/// The kind of a part that is all of a table. It is shown only if no other part of the table
/// differs.
const WHOLE_TABLE: &str = "table definition";

/// A kind and a name: `column` and `users.email`.
pub(crate) type PartName = (String, String);

/// How a part is defined.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Definition {
    /// It is short enough to be shown.
    Text(Box<str>),
    /// The fingerprint of a longer one, such as a view's. It is compared and not shown.
    Fingerprint(u64),
}

impl Definition {
    fn new(text: String) -> Self {
        if text.len() <= LONGEST_SHOWN && !text.contains('\n') {
            return Self::Text(text.into());
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self::Fingerprint(hasher.finish())
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text).map(|text| &**text).filter(|text| !text.is_empty()),
            Self::Fingerprint(_) => None,
        }
    }
}

/// The tables, columns, indexes and so on of a database, and how each is defined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Structure(pub(crate) BTreeMap<PartName, Definition>);

impl Structure {
    /// Reads it. Returns `None` if the driver does not say how. It changes nothing.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read(
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<Option<Self>, MigrationError> {
        let Some(query) = driver.migration_queries().structure else {
            return Ok(None);
        };
        let statement = Statement::from_string(driver.backend(), query);
        let rows = connection.query(&statement).await.map_err(MigrationError::Structure)?;
        let parts = rows.iter().map(|row| {
            let kind: String = row.try_get_by_index(0)?;
            let name: String = row.try_get_by_index(1)?;
            let definition: Option<String> = row.try_get_by_index(2)?;
            Ok(((kind, name), Definition::new(definition.unwrap_or_default())))
        });
        let parts = parts.collect::<Result<_, DbErr>>();
        Ok(Some(Self(parts.map_err(MigrationError::Unreadable)?)))
    }

    /// Equal for equal structures, within one run of the program.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// How it differs from `other`, which `name` says in words: `the others`.
    pub fn differences(&self, other: &Self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (part, definition) in &self.0 {
            let (kind, part_name) = part;
            if kind == WHOLE_TABLE && self.differs_in_parts_of(part_name, other) {
                continue;
            }
            match other.0.get(part) {
                Some(theirs) if theirs == definition => {}
                Some(theirs) => found.push(match (definition.text(), theirs.text()) {
                    (Some(own), Some(theirs)) => format!("{kind} {part_name} is `{own}`, and `{theirs}` in {name}"),
                    _ => format!("{kind} {part_name} is not defined as in {name}"),
                }),
                None if other.lacks_table_of(part) => {}
                None => found.push(format!("{kind} {part_name} is not in {name}")),
            }
        }
        let missing = other.0.keys().filter(|part| !self.0.contains_key(*part));
        let missing = missing.filter(|(kind, _)| kind != WHOLE_TABLE);
        for (kind, part_name) in missing.filter(|part| !self.lacks_table_of(part)) {
            found.push(format!("{kind} {part_name} is missing; it is in {name}"));
        }
        let more = found.len().saturating_sub(MOST_SHOWN);
        if more > 0 {
            found.truncate(MOST_SHOWN);
            found.push(format!("and {more} more"));
        }
        found
    }

    /// Whether a table, or one of its parts, is there in one of the two only, or defined otherwise.
    fn differs_in_parts_of(&self, table: &str, other: &Self) -> bool {
        let is_of_table = |(kind, name): &(String, String)| match name.split_once('.') {
            Some((of, _)) => of == table,
            None => kind == "table" && name == table,
        };
        let mut parts = self.0.keys().chain(other.0.keys());
        parts.any(|part| is_of_table(part) && self.0.get(part) != other.0.get(part))
    }

    /// Whether it is a part of a table that is not here: the table is named then, not its parts.
    fn lacks_table_of(&self, (kind, name): &(String, String)) -> bool {
        let table = name.split_once('.').map(|(table, _)| table);
        kind != "table" && table.is_some_and(|table| !self.0.contains_key(&("table".to_owned(), table.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(parts: &[(&str, &str, &str)]) -> Structure {
        let part = |(kind, name, definition): &(&str, &str, &str)| {
            (
                (kind.to_string(), name.to_string()),
                Definition::new(definition.to_string()),
            )
        };
        Structure(parts.iter().map(part).collect())
    }

    #[test]
    fn differences_name_what_is_more_less_and_otherwise() {
        let most = structure(&[
            ("table", "users", ""),
            ("column", "users.id", "bigint"),
            ("column", "users.name", "text"),
            ("view", "names", "SELECT\nname"),
            ("table", "orders", ""),
            ("column", "orders.id", "bigint"),
        ]);
        let one = structure(&[
            ("table", "users", ""),
            ("column", "users.id", "integer"),
            ("column", "users.nick", "text"),
            ("view", "names", "SELECT\nnick"),
            ("table", "notes", ""),
            ("column", "notes.id", "bigint"),
        ]);
        assert_eq!(
            one.differences(&most, "the others"),
            [
                "column users.id is `integer`, and `bigint` in the others",
                "column users.nick is not in the others",
                "table notes is not in the others",
                "view names is not defined as in the others",
                "column users.name is missing; it is in the others",
                "table orders is missing; it is in the others",
            ]
        );
        assert!(most.differences(&most, "the others").is_empty());
        assert_ne!(one.fingerprint(), most.fingerprint());
    }

    #[test]
    fn a_whole_table_is_shown_only_if_none_of_its_parts_is() {
        let most = structure(&[
            ("table", "users", ""),
            ("table definition", "users", "\na"),
            ("column", "users.id", "bigint"),
        ]);
        let checked = structure(&[
            ("table", "users", ""),
            ("table definition", "users", "\nb"),
            ("column", "users.id", "bigint"),
        ]);
        let altered = structure(&[
            ("table", "users", ""),
            ("table definition", "users", "\nb"),
            ("column", "users.id", "text"),
        ]);
        let differences = |one: &Structure| one.differences(&most, "the others");
        assert_eq!(
            differences(&checked),
            ["table definition users is not defined as in the others"]
        );
        assert_eq!(
            differences(&altered),
            ["column users.id is `text`, and `bigint` in the others"]
        );
        assert_eq!(
            most.differences(&Structure::default(), "the others"),
            ["table users is not in the others"]
        );
        assert_eq!(
            Structure::default().differences(&most, "the others"),
            ["table users is missing; it is in the others"]
        );
    }

    #[test]
    fn no_more_differences_are_shown_than_a_reader_can_use() {
        let names: Vec<String> = (0..200).map(|n| format!("t{n:03}")).collect();
        let parts: Vec<_> = names.iter().map(|name| ("table", name.as_str(), "")).collect();
        let differences = structure(&parts).differences(&Structure::default(), "`t1`");
        assert_eq!((differences.len(), differences[50].as_str()), (51, "and 150 more"));
    }
}
