//! The OpenAPI document of the declared tables. It depends on the declaration alone.

mod filters;
mod operations;
mod schemas;

use serde_json::{Map, Value, json};

use crate::{
    api::Rest,
    model::{Access, Grant, Model, Table},
};

/// How a tenant-scoped operation is marked; the configured resolver's own scheme takes its place.
const TENANT: &str = "Tenant";

impl Rest {
    /// The OpenAPI document of the tables below this path.
    pub fn document(&self, path: &str) -> String {
        let mut paths = Map::new();
        let mut components = Map::new();
        let mut tags = Vec::new();
        for table in &self.model.tables {
            let described = Described::new(&self.model, table, self.settings.max_rows);
            let operations = described.operations();
            if operations.is_empty() {
                continue;
            }
            described.add_schemas(&mut components);
            let description = table
                .description
                .clone()
                .unwrap_or_else(|| format!("The table {}.", table.name));
            tags.push(json!({"name": described.tag(), "description": description}));
            paths.insert(format!("{path}/{}", table.name), Value::Object(operations));
        }
        let document = json!({
            "paths": paths,
            "tags": tags,
            "components": {"schemas": components},
        });
        document.to_string()
    }
}

/// One table, with what any role may do.
struct Described<'m> {
    model: &'m Model,
    table: &'m Table,
    max_rows: u64,
}

/// What a role may do with a table.
type Action = fn(&Grant) -> &Option<Access>;

impl<'m> Described<'m> {
    fn new(model: &'m Model, table: &'m Table, max_rows: u64) -> Self {
        Self { model, table, max_rows }
    }

    /// The columns that any role may use for an action; `None` if no role may do it.
    fn columns(&self, action: Action) -> Option<Vec<usize>> {
        let granted: Vec<&Access> = self
            .table
            .roles
            .values()
            .filter_map(|grant| action(grant).as_ref())
            .collect();
        let any = |place: &usize| granted.iter().any(|access| access.has(*place));
        (!granted.is_empty()).then(|| (0..self.table.columns.len()).filter(any).collect())
    }

    /// The columns that are read.
    fn readable(&self) -> Option<Vec<usize>> {
        self.columns(|grant| &grant.read)
    }

    /// Which roles may do something, and with which columns, if not with all.
    fn roles(&self, action: Action) -> String {
        let mut roles: Vec<(&String, &Access)> = self
            .table
            .roles
            .iter()
            .filter_map(|(role, grant)| Some((role, action(grant).as_ref()?)))
            .collect();
        roles.sort_by_key(|(role, _)| *role);
        let told = roles.iter().map(|(role, access)| {
            let columns = self.table.columns.iter().enumerate();
            let all = columns.clone().all(|(place, _)| access.has(place));
            let mut text = format!("`{role}`");
            if !all {
                let names: Vec<&str> = columns
                    .filter(|(place, _)| access.has(*place))
                    .map(|(_, column)| column.name.as_str())
                    .collect();
                text.push_str(&format!(" (only {})", names.join(", ")));
            }
            if access.rows.is_some() {
                text.push_str(" (only its own rows)");
            }
            text
        });
        format!("For the roles {}.", told.collect::<Vec<_>>().join(", "))
    }

    /// Its group of operations. Generated clients make a class of it, which must not be that of an
    /// API in code: there is one of users, too.
    fn tag(&self) -> String {
        format!("Table {}", self.table.name)
    }

    /// A name in PascalCase, for schemas.
    fn schema_name(&self, what: &str) -> String {
        let words = self.table.name.split(['_', '-']);
        let words = words.map(|word| match word.split_at_checked(1) {
            Some((first, rest)) => format!("{}{rest}", first.to_uppercase()),
            None => String::new(),
        });
        format!("Table{}{what}", words.collect::<String>())
    }

    fn reference(&self, what: &str) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", self.schema_name(what))})
    }
}
