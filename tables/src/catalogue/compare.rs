//! Compares a tenant's catalogue with the declaration.

use std::collections::{HashMap, HashSet};

use sea_orm::{DbErr, QueryResult};

use super::{Catalogue, FoundColumn, FoundTable, kinds, unique::is_unique};
use crate::{
    declaration::ColumnType,
    model::{Model, Table},
    sql::Dialect,
};

/// The places of a table and of one of its columns.
type Place = (usize, usize);

/// How a tenant's database differs from the declaration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The version of its schema, if it was known.
    version: Option<i64>,
    /// The declared tables that are missing, by their places.
    tables: HashSet<usize>,
    /// The declared columns that are missing from tables that are there.
    columns: HashSet<Place>,
    /// Those of them that a later version of the tenant's schema adds.
    later: HashSet<Place>,
    /// PostgreSQL's own type of a column that is an enumeration there.
    enum_types: HashMap<Place, String>,
    /// The columns of relations that the database cannot compare as they are: the column here, and
    /// the one there.
    mixed: HashSet<(Place, Place)>,
    /// The declared tables of PostgreSQL whose changed rows come without system columns.
    without_system_columns: HashSet<usize>,
    /// Columns of another type, in words.
    pub(crate) drift: Vec<String>,
    /// What is missing, in words.
    pub(crate) missing: Vec<String>,
}

impl Facts {
    /// Whether requests need to know none of it.
    pub(crate) fn is_plain(&self) -> bool {
        let has_all = self.tables.is_empty() && self.columns.is_empty();
        let has_system_columns = self.without_system_columns.is_empty();
        has_all && self.enum_types.is_empty() && self.mixed.is_empty() && has_system_columns
    }

    pub(crate) fn lacks_table(&self, table: usize) -> bool {
        self.tables.contains(&table)
    }

    pub(crate) fn lacks_column(&self, table: usize, column: usize) -> bool {
        self.columns.contains(&(table, column))
    }

    /// Whether a schema of this version may have columns that were missing from an older one.
    pub(crate) fn is_outdated(&self, version: Option<i64>) -> bool {
        version > self.version && !self.later.is_empty()
    }

    /// Whether a column is missing because the tenant's schema is older than it.
    pub(crate) fn is_later(&self, table: usize, column: usize) -> bool {
        self.later.contains(&(table, column))
    }

    pub(crate) fn enum_type(&self, table: usize, column: usize) -> Option<&str> {
        self.enum_types.get(&(table, column)).map(String::as_str)
    }

    /// Whether PostgreSQL does not return the system columns of a table's changed rows: it is a
    /// view, or is partitioned, or is another server's.
    pub(crate) fn lacks_system_columns(&self, table: usize) -> bool {
        self.without_system_columns.contains(&table)
    }

    /// Whether a relation's columns have collations that the database does not compare.
    pub(crate) fn is_mixed(&self, here: Place, there: Place) -> bool {
        self.mixed.contains(&(here, there))
    }
}

/// Compares all declared tables. `version` is that of the tenant's schema; if it is not known,
/// every column with `since` may be missing.
pub(crate) fn compare(model: &Model, dialect: Dialect, version: Option<i64>, found: &Catalogue) -> Facts {
    let mut facts = Facts {
        version,
        ..Facts::default()
    };
    let found_of = |table: &Table| found.tables.iter().find(|found| is_it(dialect, table, found));
    let found: Vec<Option<&FoundTable>> = model.tables.iter().map(found_of).collect();
    for (place, (table, found)) in model.tables.iter().zip(&found).enumerate() {
        match found {
            None => {
                facts.tables.insert(place);
                facts.missing.push(format!("table `{}`", table.source));
            }
            Some(found) => {
                if found.lacks_system_columns {
                    facts.without_system_columns.insert(place);
                }
                compare_columns(&mut facts, dialect, version, (place, table), found);
            }
        }
    }
    let text = |(table, column): Place| {
        let column = &model.tables[table].columns[column];
        let mut columns = found[table]?.columns.iter();
        let found = columns.find(|found| same(dialect, &column.source, &found.name));
        found.filter(|_| column.kind == ColumnType::Text)
    };
    for (place, table) in model.tables.iter().enumerate() {
        let relations = table.relations.iter();
        let pairs =
            relations.flat_map(|relation| relation.on.iter().map(|(here, there)| (*here, (relation.to, *there))));
        for (here, there) in pairs.map(|(here, there)| ((place, here), there)) {
            if let (Some(one), Some(other)) = (text(here), text(there))
                && one.is_mixed_with(other)
            {
                facts.mixed.insert((here, there));
            }
        }
    }
    facts
}

/// What is wrong with a table's declared key, in words. `unique` are its unique columns; a view has
/// none, and its key is what the declaration says.
pub(crate) fn key_difference(
    dialect: Dialect,
    table: &Table,
    found: &Catalogue,
    unique: &[QueryResult],
) -> Result<Option<String>, DbErr> {
    let found = found.tables.iter().find(|found| is_it(dialect, table, found));
    let Some(found) = found.filter(|_| !unique.is_empty() && !table.key.is_empty()) else {
        return Ok(None);
    };
    let columns: Vec<&str> = table
        .key
        .iter()
        .map(|place| table.columns[*place].source.as_str())
        .collect();
    let (key, name) = (columns.join("`, `"), &table.source);
    let may_be_null = |column: &&&str| {
        let found = found.columns.iter().find(|found| same(dialect, column, &found.name));
        found.is_some_and(|found| found.nullable)
    };
    if let Some(column) = columns.iter().find(may_be_null) {
        return Ok(Some(format!(
            "the column `{column}` of the key of the table `{name}` may be NULL in the database"
        )));
    }
    Ok(match is_unique(unique, &columns)? {
        true => None,
        false => Some(format!(
            "the key `{key}` of the table `{name}` is not unique in the database"
        )),
    })
}

fn is_it(dialect: Dialect, table: &Table, found: &FoundTable) -> bool {
    let in_schema = match (&table.schema, dialect) {
        (Some(schema), Dialect::Postgresql | Dialect::Oracle) => {
            found.schema.as_ref().is_some_and(|found| same(dialect, schema, found))
        }
        _ => found.visible,
    };
    in_schema && same(dialect, &table.source, &found.name)
}

/// Whether a name in a declaration is this one of the database.
pub(super) fn same(dialect: Dialect, one: &str, other: &str) -> bool {
    match dialect {
        Dialect::Postgresql => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

fn compare_columns(
    facts: &mut Facts,
    dialect: Dialect,
    version: Option<i64>,
    (place, table): (usize, &Table),
    found: &FoundTable,
) {
    for (index, column) in table.columns.iter().enumerate() {
        let is_it = |found: &&FoundColumn| same(dialect, &column.source, &found.name);
        let Some(found) = found.columns.iter().find(is_it) else {
            facts.columns.insert((place, index));
            let is_later = |since| version.is_none_or(|version| version < since);
            if column.since.is_some_and(is_later) {
                facts.later.insert((place, index));
                continue;
            }
            facts
                .missing
                .push(format!("column `{}` of the table `{}`", column.source, table.source));
            continue;
        };
        if let Some(name) = &found.enum_type {
            facts.enum_types.insert((place, index), name.clone());
        }
        if !kinds::fits(dialect, &column.kind, found.kind.as_ref()) {
            facts.drift.push(format!(
                "the column `{}` of the table `{}` is declared as `{}` and is `{}` in the database",
                column.source,
                table.source,
                column.kind.word(),
                found.type_name
            ));
        }
    }
}
