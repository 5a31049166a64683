//! Compares a tenant's catalogue with the declaration.

use std::collections::{HashMap, HashSet};

use sea_orm::{DbErr, QueryResult};

use super::{Catalogue, FoundColumn, FoundTable, kinds, unique::is_unique};
use crate::{
    model::{Model, Table},
    sql::Dialect,
};

/// How a tenant's database differs from the declaration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The declared tables that are missing, by their places.
    tables: HashSet<usize>,
    /// The declared columns that are missing from tables that are there.
    columns: HashSet<(usize, usize)>,
    /// PostgreSQL's own type of a column that is an enumeration there.
    enum_types: HashMap<(usize, usize), String>,
    /// Columns of another type, in words.
    pub(crate) drift: Vec<String>,
    /// What is missing, in words.
    pub(crate) missing: Vec<String>,
}

impl Facts {
    /// Whether requests need to know none of it.
    pub(crate) fn is_plain(&self) -> bool {
        self.tables.is_empty() && self.columns.is_empty() && self.enum_types.is_empty()
    }

    pub(crate) fn lacks_table(&self, table: usize) -> bool {
        self.tables.contains(&table)
    }

    pub(crate) fn lacks_column(&self, table: usize, column: usize) -> bool {
        self.columns.contains(&(table, column))
    }

    pub(crate) fn enum_type(&self, table: usize, column: usize) -> Option<&str> {
        self.enum_types.get(&(table, column)).map(String::as_str)
    }
}

/// Compares all declared tables.
pub(crate) fn compare(model: &Model, dialect: Dialect, found: &Catalogue) -> Facts {
    let mut facts = Facts::default();
    for (place, table) in model.tables.iter().enumerate() {
        match found.tables.iter().find(|found| is_it(dialect, table, found)) {
            None => {
                facts.tables.insert(place);
                facts.missing.push(format!("table `{}`", table.source));
            }
            Some(found) => compare_columns(&mut facts, dialect, place, table, found),
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
        (Some(schema), Dialect::Postgresql) => found.schema.as_ref() == Some(schema),
        _ => found.visible,
    };
    in_schema && same(dialect, &table.source, &found.name)
}

fn same(dialect: Dialect, one: &str, other: &str) -> bool {
    match dialect {
        Dialect::Postgresql => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

fn compare_columns(facts: &mut Facts, dialect: Dialect, place: usize, table: &Table, found: &FoundTable) {
    for (index, column) in table.columns.iter().enumerate() {
        let is_it = |found: &&FoundColumn| same(dialect, &column.source, &found.name);
        let Some(found) = found.columns.iter().find(is_it) else {
            facts.columns.insert((place, index));
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
