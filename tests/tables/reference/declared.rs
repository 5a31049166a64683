//! A world as a declaration, and as SQL.

use serde_json::{Map, Value as Json, json};

use super::{
    value::{Kind, Value},
    world::{Access, Column, Table, World},
};

impl Access {
    fn declared(&self, table: &Table, has_columns: bool) -> Json {
        let mut declared = json!({});
        if has_columns && self.columns.contains(&false) {
            let names = table.columns.iter().zip(&self.columns).filter(|(_, has)| **has);
            declared["columns"] = names.map(|(column, _)| column.name.as_str()).collect();
        }
        if !self.rule.is_empty() {
            let each = self.rule.iter().map(|tree| tree.parameter(table));
            let each: Vec<String> = each
                .map(|(name, value)| format!("{name}={}", super::request::encoded(&value)))
                .collect();
            declared["rows"] = each.join("&").into();
        }
        declared
    }
}

impl Table {
    fn declared(&self, tables: &[Self]) -> Json {
        let columns: Map<String, Json> = self
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.declared()))
            .collect();
        let relations = self.relations.iter().map(|relation| {
            let (to, there) = (
                &tables[relation.to].name,
                &tables[relation.to].columns[relation.there].name,
            );
            let on = json!({self.columns[relation.here].name.clone(): there});
            (
                relation.name.clone(),
                json!({"to": to, "on": on, "many": relation.many}),
            )
        });
        let allow = self.roles.iter().map(|(role, grant)| {
            let actions = [
                ("read", &grant.read),
                ("create", &grant.create),
                ("update", &grant.update),
                ("delete", &grant.delete),
            ];
            let actions = actions.into_iter().filter_map(|(action, access)| {
                Some((action.to_owned(), access.as_ref()?.declared(self, action != "delete")))
            });
            ((*role).to_owned(), Json::Object(actions.collect()))
        });
        let key: Vec<&str> = self
            .key
            .iter()
            .map(|place| self.columns[*place].name.as_str())
            .collect();
        json!({
            "table": self.source, "key": key, "columns": columns,
            "relations": relations.collect::<Map<_, _>>(), "allow": allow.collect::<Map<_, _>>(),
        })
    }

    fn sql(&self, kind: &str) -> String {
        let quote = if kind == "mysql" { '`' } else { '"' };
        let quoted = |name: &str| format!("{quote}{name}{quote}");
        let columns = self.columns.iter().map(|column| {
            let not = if column.nullable { "" } else { " NOT NULL" };
            let default = column.default.as_ref().map_or(String::new(), |value| {
                format!(" DEFAULT {}", literal(value, column.kind, kind))
            });
            format!(
                "    {} {}{default}{not},\n",
                quoted(&column.source),
                column.kind.sql(kind)
            )
        });
        let key: Vec<String> = self
            .key
            .iter()
            .map(|place| quoted(&self.columns[*place].source))
            .collect();
        format!(
            "CREATE TABLE {} (\n{}    UNIQUE ({}),\n    PRIMARY KEY ({})\n){};\n",
            quoted(&self.source),
            columns.collect::<String>(),
            quoted(&self.columns[self.unique].source),
            key.join(", "),
            if kind == "mysql" { " CHARACTER SET utf8mb4" } else { "" },
        )
    }
}

/// A value in SQL.
fn literal(value: &Value, of: Kind, kind: &str) -> String {
    match value {
        Value::Text(text) => {
            let text = match kind {
                "mysql" => text.replace('\\', "\\\\").replace("+00:00", ""),
                _ => text.clone(),
            };
            let text = if of == Kind::Timestamp && kind == "mysql" {
                text.replace('T', " ")
            } else {
                text
            };
            format!("'{}'", text.replace('\'', "''"))
        }
        Value::Bool(value) if kind == "sqlite" => i64::from(*value).to_string(),
        other => other.text(),
    }
}

impl Column {
    fn declared(&self) -> Json {
        let mut declared = json!({"type": self.kind.declared(), "column": self.source});
        declared["nullable"] = self.nullable.into();
        declared["default"] = self.default.is_some().into();
        declared
    }
}

impl World {
    pub(super) fn declared(&self) -> String {
        let tables: Map<String, Json> = self
            .tables
            .iter()
            .map(|table| (table.name.clone(), table.declared(&self.tables)))
            .collect();
        json!({ "tables": tables }).to_string()
    }

    pub(super) fn sql(&self, kind: &str) -> String {
        self.tables.iter().map(|table| table.sql(kind)).collect()
    }
}
