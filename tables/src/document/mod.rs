//! The OpenAPI document of the declared tables. It depends on the declaration alone.

mod filters;
mod operations;
mod pattern;
mod schemas;

use serde_json::{Map, Value, json};

use crate::{
    api::Rest,
    declaration::pascal,
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
            let described = Described::new(&self.model, table, path, self.settings.max_rows);
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
    /// The path above the tables.
    path: &'m str,
    max_rows: u64,
}

/// What a role may do with a table.
type Action = fn(&Grant) -> &Option<Access>;

impl<'m> Described<'m> {
    fn new(model: &'m Model, table: &'m Table, path: &'m str, max_rows: u64) -> Self {
        Self {
            model,
            table,
            path,
            max_rows,
        }
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

    fn schema_name(&self, what: &str) -> String {
        format!("Table{}{what}", pascal(&self.table.name))
    }

    fn reference(&self, what: &str) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", self.schema_name(what))})
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::{api::Settings, declaration::ColumnType};

    /// The operations of a table with a column of each type.
    fn operations() -> Map<String, Value> {
        let words = ColumnType::WORDS.map(|(word, _)| (word.to_owned(), json!({"type": word})));
        let mut columns: Map<String, Value> = words.into_iter().collect();
        columns.insert("state".to_owned(), json!({"type": {"enum": ["new", "paid"]}}));
        operations_of(
            &json!({"key": ["int8", "state"], "columns": columns, "allow": {"anon": {
                "read": {}, "create": {}, "update": {}, "delete": {}
            }}}),
        )
    }

    fn operations_of(table: &Value) -> Map<String, Value> {
        let tables = json!({"all": table});
        let settings = Settings {
            max_rows: 100,
            role_claim: "role".to_owned(),
            other_parameters: Vec::new(),
        };
        let rest = Rest::new(&serde_json::from_value(tables).unwrap(), settings);
        let document = rest.document("/api/rest");
        assert!(!document.contains("/rest/v1"), "{document}");
        let document: Value = serde_json::from_str(&document).unwrap();
        document["paths"]["/api/rest/all"].as_object().unwrap().clone()
    }

    #[test]
    fn put_is_shown_if_a_role_may_give_the_key() {
        for (id, created, is_shown) in [
            (json!({"type": "int8"}), json!({}), true),
            (json!({"type": "int8"}), json!({"columns": ["name"]}), false),
            (json!({"type": "int8", "read_only": true}), json!({}), false),
            (json!({"type": "int8", "generated": true}), json!({}), true),
            (
                json!({"type": "int8", "generated": true}),
                json!({"columns": ["name"]}),
                true,
            ),
        ] {
            let operations = operations_of(&json!({
                "key": ["id"],
                "columns": {"id": id, "name": {"type": "text"}},
                "allow": {"anon": {"read": {}, "create": created, "update": {}}},
            }));
            assert_eq!(operations.contains_key("put"), is_shown, "{operations:?}");
        }
    }

    #[test]
    fn every_example_fits_its_pattern() {
        let mut checked = 0;
        for operation in operations().values() {
            for parameter in operation["parameters"].as_array().unwrap() {
                let schema = &parameter["schema"];
                if let (Some(pattern), Some(example)) = (schema["pattern"].as_str(), schema["example"].as_str()) {
                    assert!(Regex::new(pattern).unwrap().is_match(example), "{parameter}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 40, "{checked}");
    }

    #[test]
    fn an_operation_has_every_parameter_that_works() {
        let operations = operations();
        for (method, expected) in [
            (
                "get",
                &["select", "and", "or", "order", "limit", "offset", "after", "Prefer"][..],
            ),
            ("post", &["select", "columns", "on_conflict", "Prefer"]),
            ("patch", &["select", "and", "or", "order", "columns", "Prefer"]),
            ("put", &["select", "columns", "Prefer"]),
            ("delete", &["select", "and", "or", "order", "Prefer"]),
        ] {
            let parameters = operations[method]["parameters"].as_array().unwrap();
            let names = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap());
            let is_column = |name: &&str| *name == "state" || ColumnType::WORDS.iter().any(|(word, _)| word == name);
            let names: Vec<&str> = names.filter(|name| !is_column(name)).collect();
            assert_eq!(names, expected, "{method}");
        }
    }

    #[test]
    fn rows_and_refusals_of_the_dialect_have_examples() {
        for (method, operation) in operations() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                for (kind, media) in response["content"].as_object().into_iter().flatten() {
                    // The others get theirs where the whole document is made.
                    if ["200", "201", "206", "401", "405", "406", "416"].contains(&status.as_str()) {
                        assert!(!media["example"].is_null(), "{method} {status} {kind}");
                    }
                }
            }
        }
    }
}
