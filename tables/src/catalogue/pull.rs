//! Writes a declaration from a catalogue. The existing contents of a file stay unchanged, comments
//! included.

mod merge;

use std::collections::{BTreeMap, BTreeSet};

use super::{Catalogue, ForeignKey, FoundColumn, FoundTable, compare::same};
use crate::{
    declaration::{ColumnDeclaration, ColumnType, TableDeclaration, Tables, is_name},
    sql::Dialect,
};

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its text.
    pub text: String,
    /// What is new in it, in words.
    pub added: Vec<String>,
    /// What its owner has to add or to remove, in words.
    pub left: Vec<String>,
}

/// Writes the tables of a catalogue. `existing` is the file's text and what it declares.
pub fn pull(found: &Catalogue, existing: Option<(&str, &Tables)>) -> Pulled {
    let none = Tables::default();
    let (pieces, elsewhere) = pieces(found, existing.map_or(&none, |(_, tables)| tables));
    // A file that was pulled from an empty database holds nothing to keep.
    let existing = existing.filter(|(text, tables)| !(tables.is_empty() && text.ends_with(EMPTY)));
    let mut pulled = match existing {
        Some((text, declared)) => merge::merge(text, declared, &pieces, found.dialect),
        None => {
            let mut text = HEADER.to_owned();
            let mut added = Vec::new();
            for piece in &pieces {
                text.push_str(&piece.text(2));
                added.push(format!("the table `{}`", piece.name));
            }
            if pieces.is_empty() {
                text = HEADER.replace("tables:\n", EMPTY);
            }
            Pulled {
                text,
                added,
                left: Vec::new(),
            }
        }
    };
    if !elsewhere.is_empty() {
        let schemas: Vec<String> = elsewhere.iter().map(|schema| format!("`{schema}`")).collect();
        pulled.left.push(format!(
            "the tables of other schemas are left out: {}; set the secret's `schema` to pull them, or declare them with \
             their `schema`",
            schemas.join(", ")
        ));
    }
    pulled
}

const HEADER: &str = "\
# Tables that are served as a REST API; docs/tables.md explains every key. `tenantry tables pull` adds what is new in the
# database and keeps what is written here. Nothing is allowed to anyone until `allow` says so.
tables:
";

/// A file without tables.
const EMPTY: &str = "tables: {}\n";

/// A table as lines of YAML.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) source: String,
    /// The schema, unless the table is found without it.
    schema: Option<String>,
    description: Option<String>,
    key: Vec<String>,
    /// For each column its name in the database, its name in URLs, and its mapping.
    pub(super) columns: Vec<(String, String, String)>,
    /// For each relation its name and its mapping.
    pub(super) relations: Vec<(String, String)>,
    /// Columns of types that declarations do not have, each by its name in the database, and what
    /// is said of it.
    unknown: Vec<(String, String)>,
    /// Other names under which the table is declared.
    pub(super) others: Vec<String>,
}

impl Piece {
    pub(super) fn text(&self, indent: usize) -> String {
        let at = |level: usize| " ".repeat(indent + 2 * level);
        let mut text = format!("{}{}:\n", at(0), quoted(&self.name));
        let mut line = |level: usize, line: &str| text.push_str(&format!("{}{line}\n", at(level)));
        if self.source != self.name {
            line(1, &format!("table: {}", quoted(&self.source)));
        }
        if let Some(schema) = &self.schema {
            line(1, &format!("schema: {}", quoted(schema)));
        }
        if let Some(description) = &self.description {
            line(1, &format!("description: {}", quoted(description)));
        }
        let key: Vec<String> = self.key.iter().map(|name| quoted(name)).collect();
        line(1, &format!("key: [{}]", key.join(", ")));
        line(1, "columns:");
        for (_, name, mapping) in &self.columns {
            line(2, &format!("{}: {mapping}", quoted(name)));
        }
        for (_, unknown) in &self.unknown {
            line(2, &format!("# {unknown}"));
        }
        if !self.relations.is_empty() {
            line(1, "relations:");
            for (name, mapping) in &self.relations {
                line(2, &format!("{}: {mapping}", quoted(name)));
            }
        }
        line(1, "allow: {}");
        text
    }
}

/// Whether a declared table is this one of the database. One that is found without its schema may
/// be declared with it.
fn is_of(dialect: Dialect, found: &FoundTable, name: &str, declared: &TableDeclaration) -> bool {
    let is_there = match &declared.schema {
        Some(schema) => found.schema.as_ref().is_none_or(|there| same(dialect, schema, there)),
        None => found.visible,
    };
    is_there && same(dialect, declared.table.as_deref().unwrap_or(name), &found.name)
}

/// The tables that are found without their schema, or declared with it, and the schemas of others.
/// What is declared keeps its name.
fn pieces<'f>(found: &'f Catalogue, declared: &Tables) -> (Vec<Piece>, BTreeSet<&'f str>) {
    let declared_as = |table: &FoundTable| {
        declared
            .iter()
            .find(|(name, known)| is_of(found.dialect, table, name, known))
    };
    let (mut taken, left): (Vec<&FoundTable>, Vec<&FoundTable>) = found
        .tables
        .iter()
        .partition(|table| table.visible || declared_as(table).is_some());
    // A plain name is that of a table that is found by it.
    taken.sort_by_key(|table| !table.visible);
    let mut names: BTreeSet<String> = declared.keys().cloned().collect();
    let tables: Vec<(String, &FoundTable)> = taken
        .into_iter()
        .map(|table| match declared_as(table) {
            Some((name, _)) => (name.clone(), table),
            None => (unique(&url_name(&table.name), &mut names), table),
        })
        .collect();
    let columns: Columns<'_> = tables
        .iter()
        .map(|(_, table)| {
            let columns = declared_as(table)
                .map(|(_, known)| known.columns.as_slice())
                .unwrap_or_default();
            let mut names: BTreeSet<String> = columns.iter().map(|(name, _)| name.clone()).collect();
            let named = table.columns.iter().map(|column| {
                let is_it = |(name, known): &&(String, ColumnDeclaration)| {
                    same(found.dialect, known.column.as_ref().unwrap_or(name), &column.name)
                };
                match columns.iter().find(is_it) {
                    Some((name, _)) => (name.clone(), column),
                    None => (unique(&url_name(&column.name), &mut names), column),
                }
            });
            (place(table), named.collect())
        })
        .collect();
    let pieces = tables.iter().map(|(name, table)| {
        let names = declared
            .iter()
            .filter(|(other, known)| *other != name && is_of(found.dialect, table, other, known));
        Piece {
            others: names.map(|(other, _)| other.clone()).collect(),
            ..piece(name, table, &tables, &columns)
        }
    });
    let pieces = pieces.collect();
    (
        pieces,
        left.iter().filter_map(|table| table.schema.as_deref()).collect(),
    )
}

/// A table's schema and name.
type Place<'a> = (Option<&'a str>, &'a str);

type Columns<'a> = BTreeMap<Place<'a>, Vec<(String, &'a FoundColumn)>>;

fn place(table: &FoundTable) -> Place<'_> {
    (table.schema.as_deref(), &table.name)
}

/// The table that a foreign key refers to.
fn referred<'t, 'f>(key: &ForeignKey, tables: &'t [(String, &'f FoundTable)]) -> Option<&'t (String, &'f FoundTable)> {
    let exact = tables
        .iter()
        .find(|(_, table)| table.name == key.to && table.schema == key.to_schema);
    // SQLite keeps the name as the key wrote it.
    exact.or_else(|| {
        tables
            .iter()
            .find(|(_, table)| key.to_schema.is_none() && table.name.eq_ignore_ascii_case(&key.to))
    })
}

fn piece(name: &str, table: &FoundTable, tables: &[(String, &FoundTable)], columns: &Columns<'_>) -> Piece {
    let own = columns.get(&place(table)).map(Vec::as_slice).unwrap_or_default();
    let url = |table: &FoundTable, column: &str| {
        let columns = columns.get(&place(table))?;
        let exact = columns.iter().find(|(_, known)| known.name == column);
        let found = exact.or_else(|| {
            columns
                .iter()
                .find(|(_, known)| known.name.eq_ignore_ascii_case(column))
        })?;
        // A column of a type that is not declared cannot be named.
        found.1.kind.as_ref().map(|_| found.0.clone())
    };
    let key = table
        .key
        .iter()
        .map(|column| url(table, column))
        .collect::<Option<Vec<_>>>();
    let known = own.iter().filter_map(|(name, column)| {
        let mapping = column_mapping(name, column)?;
        Some((column.name.clone(), name.clone(), mapping))
    });
    let unknown = own.iter().filter(|(_, column)| column.kind.is_none());
    let unknown = unknown.map(|(name, column)| {
        let said = format!("{name}: the type `{}` has no counterpart", column.type_name);
        (column.name.clone(), said)
    });
    Piece {
        name: name.to_owned(),
        source: table.name.clone(),
        schema: table.schema.clone().filter(|_| !table.visible),
        description: table.comment.clone(),
        key: key.unwrap_or_default(),
        columns: known.collect(),
        relations: relations(table, own, tables, &url),
        unknown: unknown.collect(),
        others: Vec::new(),
    }
}

/// Both ways of the foreign keys: one row of the table that is referred to, and the rows that refer
/// to this table.
fn relations(
    table: &FoundTable,
    own: &[(String, &FoundColumn)],
    tables: &[(String, &FoundTable)],
    url: &dyn Fn(&FoundTable, &str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut taken: BTreeSet<String> = own.iter().map(|(name, _)| name.clone()).collect();
    let mut relations = Vec::new();
    for key in &table.foreign_keys {
        let Some((to, target)) = referred(key, tables) else {
            continue;
        };
        let Some(on) = joined(table, key, target, url) else {
            continue;
        };
        let name = match key.columns.as_slice() {
            [only] => only.strip_suffix("_id").unwrap_or(to).to_owned(),
            _ => to.clone(),
        };
        let on = on
            .iter()
            .map(|(here, there)| format!("{}: {}", quoted(here), quoted(there)));
        let on = on.collect::<Vec<_>>().join(", ");
        relations.push((
            unique(&url_name(&name), &mut taken),
            format!("{{ to: {}, on: {{ {on} }} }}", quoted(to)),
        ));
    }
    for (from, other) in tables {
        let to_here = other
            .foreign_keys
            .iter()
            .filter(|key| referred(key, tables).is_some_and(|(_, target)| place(target) == place(table)));
        for key in to_here {
            let Some(on) = joined(other, key, table, url) else {
                continue;
            };
            let on = on
                .iter()
                .map(|(there, here)| format!("{}: {}", quoted(here), quoted(there)));
            let on = on.collect::<Vec<_>>().join(", ");
            let is_one = other.key.len() == key.columns.len() && other.key.iter().all(|one| key.columns.contains(one));
            let many = if is_one { "" } else { ", many: true" };
            relations.push((
                unique(from, &mut taken),
                format!("{{ to: {}, on: {{ {on} }}{many} }}", quoted(from)),
            ));
        }
    }
    relations
}

/// The columns that a foreign key joins, by their names in URLs. Without named columns it is the
/// key that is referred to.
fn joined(
    table: &FoundTable,
    key: &ForeignKey,
    target: &FoundTable,
    url: &dyn Fn(&FoundTable, &str) -> Option<String>,
) -> Option<Vec<(String, String)>> {
    let there: Vec<&String> = match key.to_columns.iter().all(String::is_empty) {
        true => target.key.iter().collect(),
        false => key.to_columns.iter().collect(),
    };
    if there.len() != key.columns.len() {
        return None;
    }
    let each = key.columns.iter().zip(there);
    each.map(|(here, there)| Some((url(table, here)?, url(target, there)?)))
        .collect()
}

fn column_mapping(name: &str, column: &FoundColumn) -> Option<String> {
    let mut parts = vec![match column.kind.as_ref()? {
        ColumnType::Enum(values) => {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            format!("type: {{ enum: [{}] }}", values.join(", "))
        }
        kind => format!("type: {}", kind.word()),
    }];
    if column.nullable {
        parts.push("nullable: true".to_owned());
    }
    if column.default {
        parts.push("default: true".to_owned());
    }
    if column.generated {
        parts.push("generated: true".to_owned());
    }
    if let Some(max) = column.max {
        parts.push(format!("max: {max}"));
    }
    if column.name != name {
        parts.push(format!("column: {}", quoted(&column.name)));
    }
    if let Some(comment) = &column.comment {
        parts.push(format!("description: {}", quoted(comment)));
    }
    Some(format!("{{ {} }}", parts.join(", ")))
}

/// A text in YAML, quoted if YAML could read it as something else. JSON's quoting is valid in YAML.
fn quoted(text: &str) -> String {
    let mut bytes = text.bytes();
    let begins = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if begins && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') && !words.contains(&text) {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

/// A name that URLs can have.
fn url_name(name: &str) -> String {
    if is_name(name) {
        return name.to_owned();
    }
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let name: String = name.chars().take(63).map(plain).collect();
    match is_name(&name) {
        true => name,
        false => format!("t{}", &name[..name.len().min(62)]),
    }
}

/// The longest name that URLs can have.
const MOST_LETTERS: usize = 63;

fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut count = 2;
    while !taken.insert(candidate.clone()) {
        let number = format!("_{count}");
        let most = MOST_LETTERS - number.len();
        candidate = format!("{}{number}", name.get(..most).unwrap_or(name));
        count += 1;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn column(name: &str, kind: Option<ColumnType>) -> FoundColumn {
        FoundColumn {
            name: name.to_owned(),
            type_name: "point".to_owned(),
            kind,
            nullable: false,
            default: false,
            generated: false,
            max: None,
            comment: None,
            enum_type: None,
            collation: None,
        }
    }

    #[test]
    fn two_declared_names_of_one_table_are_both_in_the_database() {
        let orders = FoundTable {
            schema: None,
            name: "orders".to_owned(),
            visible: true,
            lacks_system_columns: false,
            comment: None,
            columns: vec![
                column("id", Some(ColumnType::Int8)),
                column("total", Some(ColumnType::Int8)),
                column("place", None),
            ],
            key: vec!["id".to_owned()],
            foreign_keys: Vec::new(),
        };
        let found = Catalogue {
            dialect: Dialect::Postgresql,
            tables: vec![orders],
        };
        let text =
            "tables:\n  orders:\n    key: [id]\n    columns:\n      id: { type: int8 }\n      total: { type: int8 }\n";
        let declared = |second: &str| {
            let table = |name: &str, columns: serde_json::Value| {
                let table = json!({"table": "orders", "key": ["id"], "columns": columns, "allow": {}});
                (name.to_owned(), serde_json::from_value(table).unwrap())
            };
            let sum = json!({"type": "int8", "column": second});
            Tables::from([
                table("orders", json!({"id": {"type": "int8"}, "total": {"type": "int8"}})),
                table("sums", json!({"id": {"type": "int8"}, "sum": sum})),
            ])
        };
        let pulled = |second: &str| pull(&found, Some((text, &declared(second))));
        assert_eq!(pulled("total").left, [""; 0]);
        assert_eq!(
            (pulled("total").text.as_str(), pulled("total").added),
            (text, Vec::new())
        );
        assert_eq!(
            pulled("gone").left,
            ["the column `sum` of `sums` is not in the database"]
        );
        let unknown = "a column of `sums`: place: the type `point` has no counterpart";
        assert_eq!(pulled("place").left, [unknown]);
    }
}
