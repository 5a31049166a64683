//! The rules of a declaration that its JSON Schema cannot say.

use std::collections::HashMap;

use crate::{
    declaration::{AccessDeclaration, ColumnDeclaration, TableDeclaration, Tables, is_name, pascal, version},
    request::rule,
};

/// A fault of a declaration, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclarationFault {
    /// The keys from the map of tables to the value.
    pub path: Vec<String>,
    /// What is wrong there.
    pub message: String,
    /// The nearest name that would be right.
    pub suggestion: Option<String>,
}

/// The most tables, and the most columns of a table.
const MOST_TABLES: usize = 2000;
const MOST_COLUMNS: usize = 500;

/// Every rule that a declaration breaks.
fn check(tables: &Tables) -> Vec<DeclarationFault> {
    let mut found = Found(Vec::new());
    if tables.len() > MOST_TABLES {
        found.add(&[], format!("has more than {MOST_TABLES} tables"));
    }
    for (name, table) in tables {
        found.name(&[name], name);
        found.table(name, table, tables);
    }
    found.same_in_document(tables);
    found.0
}

struct Found(Vec<DeclarationFault>);

impl Found {
    fn add(&mut self, path: &[&str], message: impl Into<String>) {
        self.0.push(DeclarationFault {
            path: path.iter().map(|key| (*key).to_owned()).collect(),
            message: message.into(),
            suggestion: None,
        });
    }

    fn unknown<'n>(&mut self, path: &[&str], what: &str, name: &str, known: impl Iterator<Item = &'n str>) {
        self.add(path, format!("is not {what}"));
        if let Some(fault) = self.0.last_mut() {
            fault.suggestion = tenantry_core::nearest(name, known).map(str::to_owned);
        }
    }

    fn name(&mut self, path: &[&str], name: &str) {
        if !is_name(name) {
            self.add(path, "is no name for URLs: use at most 63 letters, digits, `_` and `-`");
        }
    }

    /// Two tables of one name in the document would share their schemas there. A table that no role
    /// may use is not in the document.
    fn same_in_document(&mut self, tables: &Tables) {
        let mut known = HashMap::new();
        for (name, _) in tables.iter().filter(|(_, table)| !table.allow.is_empty()) {
            if let Some(other) = known.insert(pascal(name), name) {
                self.add(
                    &[name],
                    format!("is `{other}` as well in the OpenAPI document: rename one of them, and say its `table`"),
                );
            }
        }
    }

    fn table(&mut self, name: &str, table: &TableDeclaration, tables: &Tables) {
        if table.columns.is_empty() {
            self.add(&[name, "columns"], "must have at least 1 key");
        }
        if table.columns.len() > MOST_COLUMNS {
            self.add(&[name, "columns"], format!("has more than {MOST_COLUMNS} columns"));
        }
        for (column, declared) in &table.columns {
            self.column(&[name, "columns", column], column, declared);
        }
        self.same_in_database(name, table);
        for (index, column) in table.key.iter().enumerate() {
            let path = [name, "key", &index.to_string()];
            self.is_column(&path, column, table);
            if table.key.iter().filter(|other| *other == column).count() > 1 {
                self.add(&path, "is there twice");
            }
            if table.column(column).is_some_and(|column| column.nullable) {
                self.add(&path, "is nullable, and a column of a key is not");
            }
        }
        for relation in table.relations.keys() {
            self.relation(name, relation, table, tables);
        }
        for role in table.allow.keys() {
            self.role(name, role, table);
        }
    }

    fn column(&mut self, path: &[&str], name: &str, declared: &ColumnDeclaration) {
        self.name(path, name);
        if declared.max.is_some() && declared.kind != super::ColumnType::Text {
            self.add(&[path, &["max"]].concat(), "is for columns of the type `text`");
        }
        if declared.since.as_deref().is_some_and(|since| version(since).is_none()) {
            self.add(&[path, &["since"]].concat(), "is not a version such as \"0004\"");
        }
    }

    /// No statement can set one column twice, so at most one of its names is written.
    fn same_in_database(&mut self, name: &str, table: &TableDeclaration) {
        let mut known = HashMap::new();
        for (column, declared) in table.columns.iter().filter(|(_, column)| !column.read_only) {
            let source = declared.column.as_ref().unwrap_or(column);
            if let Some(other) = known.insert(source, column) {
                self.add(
                    &[name, "columns", column],
                    format!("is the same column of the database as `{other}`: one of them must be `read_only`"),
                );
            }
        }
    }

    fn is_column(&mut self, path: &[&str], name: &str, table: &TableDeclaration) {
        if table.column(name).is_none() {
            let known = table.columns.iter().map(|(name, _)| name.as_str());
            self.unknown(path, "a column of the table", name, known);
        }
    }

    fn relation(&mut self, name: &str, relation: &str, table: &TableDeclaration, tables: &Tables) {
        let path = [name, "relations", relation];
        self.name(&path, relation);
        if table.column(relation).is_some() {
            self.add(&path, "is the name of a column as well");
        }
        let Some(declared) = table.relations.get(relation) else {
            return;
        };
        let Some(other) = tables.get(&declared.to) else {
            let known = tables.keys().map(String::as_str);
            self.unknown(&[&path[..], &["to"]].concat(), "a declared table", &declared.to, known);
            return;
        };
        if declared.on.is_empty() {
            self.add(&[&path[..], &["on"]].concat(), "must have at least 1 key");
        }
        for (here, there) in &declared.on {
            let path = [&path[..], &["on", here]].concat();
            self.is_column(&path, here, table);
            self.is_column(&path, there, other);
            if let (Some(here), Some(there)) = (table.column(here), other.column(there))
                && !joins(here, there)
            {
                self.add(&path, "joins columns of different types");
            }
        }
    }

    fn role(&mut self, name: &str, role: &str, table: &TableDeclaration) {
        let path = [name, "allow", role];
        if role.is_empty() || role.len() > 63 {
            self.add(&path, "is no name of a role: it has 1 to 63 characters");
        }
        let Some(declared) = table.allow.get(role) else {
            return;
        };
        let actions = [
            ("read", &declared.read),
            ("create", &declared.create),
            ("update", &declared.update),
            ("delete", &declared.delete),
        ];
        for (action, access) in actions {
            let Some(access) = access else { continue };
            let path = [&path[..], &[action]].concat();
            if action != "read" && table.key.is_empty() {
                self.add(&path, "needs the table's `key`");
            }
            self.access(&path, action, access, table);
        }
    }

    fn access(&mut self, path: &[&str], action: &str, access: &AccessDeclaration, table: &TableDeclaration) {
        for (index, column) in access.columns.iter().flatten().enumerate() {
            let index = index.to_string();
            let path = [path, &["columns", &index]].concat();
            if action == "delete" {
                self.add(&path, "has no meaning: rows are removed as a whole");
                continue;
            }
            self.is_column(&path, column, table);
            let written = matches!(action, "create" | "update");
            if written
                && table
                    .column(column)
                    .is_some_and(|column| column.generated || column.read_only)
            {
                self.add(&path, "is never written by clients");
            }
        }
        if let Some(rows) = &access.rows
            && let Err(message) = rule::check(rows, table)
        {
            self.add(&[path, &["rows"]].concat(), message);
        }
    }
}

/// Whether values of two columns can be equal in every kind of database.
fn joins(one: &ColumnDeclaration, other: &ColumnDeclaration) -> bool {
    use super::ColumnType::{Int2, Int4, Int8};
    let whole = |column: &ColumnDeclaration| matches!(column.kind, Int2 | Int4 | Int8);
    one.kind == other.kind || (whole(one) && whole(other)) || (one.kind.is_text() && other.kind.is_text())
}

impl TableDeclaration {
    /// Checks every table; see [`DeclarationFault`].
    pub fn check_all(tables: &Tables) -> Vec<DeclarationFault> {
        check(tables)
    }

    pub(crate) fn column(&self, name: &str) -> Option<&ColumnDeclaration> {
        let mut columns = self.columns.iter();
        columns.find(|(known, _)| known == name).map(|(_, column)| column)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The faults of these tables, each with its place.
    fn faults(tables: Value) -> Vec<String> {
        let found = check(&serde_json::from_value(tables).unwrap());
        let line = |fault: &DeclarationFault| format!("{}: {}", fault.path.join("."), fault.message);
        found.iter().map(line).collect()
    }

    #[test]
    fn two_tables_have_no_common_name_in_the_document() {
        let table = |allow: Value| json!({"columns": {"id": {"type": "int8"}}, "allow": allow});
        let read = || table(json!({"anon": {"read": {}}}));
        let fault = |name: &str, other: &str| {
            format!("{name}: is `{other}` as well in the OpenAPI document: rename one of them, and say its `table`")
        };
        for (one, other) in [
            ("order_items", "orderItems"),
            ("a_b", "a-b"),
            ("x", "X"),
            ("a_b", "a_B"),
        ] {
            let found = faults(json!({one: read(), other: read(), "others": read()}));
            assert_eq!(found, [fault(one, other)]);
            // Nothing of it is in the document.
            assert_eq!(faults(json!({one: read(), other: table(json!({}))})), [""; 0]);
        }
        assert_eq!(faults(json!({"order_items": read(), "orderitems": read()})), [""; 0]);
    }

    #[test]
    fn one_column_of_the_database_is_written_under_one_name() {
        let columns = |second: Value| json!({"books": {"columns": {"title": {"type": "text"}, "name": second}}});
        let said = "books.columns.name: is the same column of the database as `title`: one of them must be `read_only`";
        assert_eq!(faults(columns(json!({"type": "text", "column": "title"}))), [said]);
        for second in [
            json!({"type": "text", "column": "title", "read_only": true}),
            json!({"type": "text", "column": "Title"}),
            json!({"type": "text"}),
        ] {
            assert_eq!(faults(columns(second)), [""; 0]);
        }
    }
}
