//! Query parameters.

use serde_json::{Value, json};

use super::{
    Described,
    pattern::{filter, test, value},
};

fn parameter(name: &str, description: &str, schema: Value, example: Option<&str>) -> Value {
    let mut parameter = json!({
        "name": name,
        "in": "query",
        "description": description,
        "required": false,
        "schema": schema,
    });
    if let Some(example) = example {
        parameter["example"] = example.into();
    }
    parameter
}

impl Described<'_> {
    /// A filter for each of these columns.
    pub(super) fn filters(&self, columns: &[usize]) -> Vec<Value> {
        let each = columns.iter().map(|place| {
            let column = &self.table.columns[*place];
            let (pattern, example) = filter(column);
            let words = column.description.as_deref().unwrap_or("A filter of the column");
            let description = format!("{words}: an operator and a value, such as `{example}`.");
            let schema = json!({"type": "string", "pattern": pattern, "example": example});
            parameter(&column.parameter(), &description, schema, None)
        });
        each.collect()
    }

    /// The key: each of its columns is required, with `eq`.
    pub(super) fn key_filters(&self) -> Vec<Value> {
        let each = self.table.key.iter().filter_map(|place| {
            let column = &self.table.columns[*place];
            let (value, example) = value(&column.kind)?;
            let schema =
                json!({"type": "string", "pattern": format!("^eq\\.{value}$"), "example": format!("eq.{example}")});
            let mut parameter = parameter(&column.parameter(), "The row's key, with `eq`.", schema, None);
            parameter["required"] = true.into();
            Some(parameter)
        });
        each.collect()
    }

    /// `and` and `or`. Their pattern is wider than the grammar: groups hold groups.
    pub(super) fn groups(&self, columns: &[usize]) -> Vec<Value> {
        let examples = columns.iter().take(2).map(|place| {
            let column = &self.table.columns[*place];
            format!("{}.{}", column.name, test(&column.kind).1)
        });
        let example = format!("({})", examples.collect::<Vec<_>>().join(","));
        [
            ("and", "Filters that must all hold"),
            ("or", "Filters of which one must hold"),
        ]
        .into_iter()
        .map(|(name, words)| {
            let description =
                format!("{words}, such as `{example}`. Groups may hold groups: `(a.eq.1,not.or(b.gt.2,c.is.null))`.");
            let schema = json!({"type": "string", "pattern": "^ *\\([^\\x00]+\\) *$", "example": example});
            parameter(name, &description, schema, None)
        })
        .collect()
    }

    /// `select`, with the relations that there are. No pattern describes tables within tables.
    pub(super) fn select(&self, columns: &[usize]) -> Value {
        let first = columns.first().map_or("", |place| &self.table.columns[*place].name);
        let mut description = "The members of a row: columns, `alias:column`, and the rows of relations.".to_owned();
        let relations: Vec<&str> = self
            .table
            .relations
            .iter()
            .map(|relation| relation.name.as_str())
            .collect();
        if !relations.is_empty() {
            description.push_str(&format!(
                " Relations: {}, such as `{first},{}(*)`.",
                relations.join(", "),
                relations[0]
            ));
        }
        let schema = json!({"type": "string", "example": first});
        parameter("select", &description, schema, None)
    }

    pub(super) fn order(&self, columns: &[usize]) -> Value {
        let first = columns.first().map_or("", |place| &self.table.columns[*place].name);
        let name = "(\"[^\"]*\"|[^\".,()]+)";
        let one = format!(" *{name}(\\({name}\\))?(\\.(asc|desc))?(\\.(nullsfirst|nullslast))? *");
        let pattern = format!("^{one}(,{one})*$");
        let example = format!("{first}.desc");
        let schema = json!({"type": "string", "pattern": pattern, "example": example});
        let description = "The columns by which rows are sorted. Ties are broken by the key.";
        parameter("order", description, schema, None)
    }

    /// Columns by their names: `columns` and `on_conflict` of new rows.
    pub(super) fn names(&self, name: &str, description: &str, example: &str) -> Value {
        let schema = json!({"type": "string", "example": example});
        parameter(name, description, schema, None)
    }

    pub(super) fn page(&self) -> Vec<Value> {
        let limit = json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": i32::MAX, "example": 25});
        let offset = json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX, "example": 0});
        vec![
            parameter(
                "limit",
                &format!("The most rows of the answer, and never more than {}.", self.max_rows),
                limit,
                None,
            ),
            parameter(
                "offset",
                "How many rows are left out before the first. The header `Link` has the URL of the next page, which begins `after` this one.",
                offset,
                None,
            ),
            parameter(
                "after",
                "Where the page before this one ended: it stands in the URL of that page's `Link`, and goes with the same order.",
                json!({"type": "string"}),
                None,
            ),
        ]
    }
}
