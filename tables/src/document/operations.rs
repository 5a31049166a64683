//! The operations of a table.

use serde_json::{Map, Value, json};

use super::{Action, Described, TENANT};

const OBJECT: &str = "application/vnd.pgrst.object+json";

impl Described<'_> {
    /// The operations that any role may use.
    pub(super) fn operations(&self) -> Map<String, Value> {
        let mut operations = Map::new();
        let readable = self.readable();
        if let Some(columns) = &readable {
            operations.insert("get".to_owned(), self.read(columns));
        }
        let creates = self.columns(|grant| &grant.create).is_some();
        let updates = self.columns(|grant| &grant.update).is_some();
        if creates {
            operations.insert("post".to_owned(), self.create());
        }
        // Changes need filters, and filters what is read.
        let Some(columns) = readable else { return operations };
        if updates {
            operations.insert("patch".to_owned(), self.update(&columns));
        }
        if self.is_replaced() {
            operations.insert("put".to_owned(), self.replace());
        }
        if self.columns(|grant| &grant.delete).is_some() {
            operations.insert("delete".to_owned(), self.delete(&columns));
        }
        operations
    }

    fn operation(&self, verb: &str, summary: &str, description: String, parameters: Vec<Value>) -> Value {
        let name = self.table.name.replace('-', "_");
        json!({
            "operationId": format!("{verb}_{name}"),
            "tags": [self.tag()],
            "summary": summary,
            "description": description,
            "security": [{TENANT: []}],
            "parameters": parameters,
            "responses": {
                "400": problem("The request is not understood, or a value does not fit: `code` is PGRST100 or a SQLSTATE."),
                "401": problem_like(
                    "The role `anon` may not do this (42501), or the token is not valid.",
                    401,
                    "Not authenticated",
                    &format!("permission denied for table {}", self.table.name),
                    "42501",
                ),
                "403": problem("The role may not do this, or not with these rows (42501)."),
                "406": problem_like(
                    "The media type is not available, or the answer is not one row (PGRST116).",
                    406,
                    "Not Acceptable",
                    "Cannot coerce the result to a single JSON object",
                    "PGRST116",
                ),
            },
        })
    }

    /// `select`, if any role reads the table.
    fn selected(&self) -> Vec<Value> {
        self.readable().iter().map(|columns| self.select(columns)).collect()
    }

    /// The parameters that choose rows and order them.
    fn chosen(&self, columns: &[usize]) -> Vec<Value> {
        let mut parameters = vec![self.select(columns)];
        parameters.extend(self.filters(columns));
        parameters.extend(self.groups(columns));
        parameters.push(self.order(columns));
        parameters
    }

    fn prefer(&self, words: &str) -> Value {
        json!({
            "name": "Prefer",
            "in": "header",
            "description": words,
            "required": false,
            "schema": {"type": "string"},
        })
    }

    fn rows(&self) -> Value {
        let row = self.reference("Row");
        let columns = self.readable().unwrap_or_default();
        let example = self.example(&columns);
        // Of one column, whose example needs no quotes.
        let csv = columns.first().map(|place| {
            let name = &self.table.columns[*place].name;
            let value = &example[name];
            format!(
                "{name}\n{}\n",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            )
        });
        json!({
            "application/json": {"schema": {"type": "array", "items": row}, "example": [example]},
            OBJECT: {"schema": row, "example": example},
            "text/csv": {"schema": {"type": "string"}, "example": csv},
        })
    }

    /// The columns that a body sets, for `columns`.
    fn set_columns(&self, action: Action) -> Value {
        let columns = self.columns(action).unwrap_or_default();
        let mut written = columns
            .iter()
            .map(|place| &self.table.columns[*place])
            .filter(|column| column.is_written());
        self.names(
            "columns",
            "The columns that the rows set; other members are ignored.",
            written.next().map_or("", |column| &column.name),
        )
    }

    fn read(&self, columns: &[usize]) -> Value {
        let mut parameters = self.chosen(columns);
        parameters.extend(self.page());
        parameters.push(self.prefer("`count=exact` counts the rows of all pages."));
        let roles = self.roles(|grant| &grant.read);
        let mut operation = self.operation("read", &format!("Read {}", self.table.name), roles, parameters);
        let next = format!(
            "<{}/{}?limit=25&after=WyJpZGFsIiwiMjUiXQ>; rel=\"next\"",
            self.path, self.table.name
        );
        let headers = json!({
            "Content-Range": {
                "description": "The first and the last row, and how many there are if that was asked.",
                "schema": {"type": "string", "example": "0-24/3573"},
            },
            "Link": {
                "description": "The URL of the next page, with `rel=\"next\"`, if there is one.",
                "schema": {"type": "string", "example": next},
            },
        });
        operation["responses"]["200"] = json!({"description": "The rows.", "headers": headers, "content": self.rows()});
        operation["responses"]["206"] =
            json!({"description": "The rows of one page of several.", "headers": headers, "content": self.rows()});
        operation["responses"]["404"] = problem("An operator does not exist for the column's type (42883).");
        operation["responses"]["416"] = problem_like(
            "There is no such page (PGRST103).",
            416,
            "Range Not Satisfiable",
            "Requested range not satisfiable",
            "PGRST103",
        );
        operation
    }

    fn create(&self) -> Value {
        let mut parameters = self.selected();
        let names: Vec<&str> = self.table.columns.iter().map(|column| column.name.as_str()).collect();
        let key = self
            .table
            .key
            .iter()
            .map(|place| names[*place])
            .collect::<Vec<_>>()
            .join(",");
        parameters.push(self.set_columns(|grant| &grant.create));
        parameters.push(self.names(
            "on_conflict",
            "The columns of a unique constraint by which `resolution` finds rows that are there; by default the key.",
            &key,
        ));
        parameters.push(self.prefer(
            "`return=representation` answers the new rows, `return=headers-only` where the row is; `resolution=merge-duplicates` \
             or `ignore-duplicates` for rows that are there.",
        ));
        let roles = self.roles(|grant| &grant.create);
        let mut operation = self.operation("create", &format!("Create {}", self.table.name), roles, parameters);
        let row = self.reference("Create");
        operation["requestBody"] = json!({
            "required": true,
            "description": "One row; a list of rows is inserted as a whole or not at all.",
            "content": {"application/json": {"schema": row}},
        });
        operation["responses"]["200"] =
            json!({"description": "Every row was there and is changed.", "content": self.rows()});
        let headers = json!({"Location": {
            "description": "The URL of the new row, if it is the only one and `Prefer: return=headers-only` is sent.",
            "schema": {"type": "string", "example": format!("{}/{}?id=eq.1", self.path, self.table.name)},
        }});
        operation["responses"]["201"] =
            json!({"description": "The rows are inserted.", "headers": headers, "content": self.rows()});
        operation["responses"]["409"] =
            problem("A unique value is taken (23505), or a row is referred to that is missing (23503).");
        operation
    }

    fn update(&self, columns: &[usize]) -> Value {
        let mut parameters = self.chosen(columns);
        parameters.push(self.set_columns(|grant| &grant.update));
        parameters.push(
            self.prefer("`return=representation` answers the changed rows; `max-affected=1` changes no more than one."),
        );
        let roles = format!(
            "Changes the rows that fit the filters; without a filter 400. {}",
            self.roles(|grant| &grant.update)
        );
        let mut operation = self.operation("update", &format!("Change {}", self.table.name), roles, parameters);
        operation["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": self.reference("Update")}},
        });
        operation["responses"]["200"] = json!({"description": "The changed rows.", "content": self.rows()});
        operation["responses"]["204"] = json!({"description": "The rows are changed."});
        operation["responses"]["409"] =
            problem("A unique value is taken (23505), or a row is referred to that is missing (23503).");
        operation
    }

    fn replace(&self) -> Value {
        let schema = self.reference("Replace");
        let mut parameters = self.selected();
        parameters.extend(self.key_filters());
        parameters.push(self.set_columns(|grant| &grant.create));
        parameters.push(self.prefer("`return=representation` answers the row."));
        let roles = self.roles(|grant| &grant.create);
        let roles = format!("The body is the whole row; the filters name its key. {roles}");
        let mut operation = self.operation(
            "replace",
            &format!("Replace one row of {}", self.table.name),
            roles,
            parameters,
        );
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
        operation["responses"]["200"] =
            json!({"description": "The row was there and is changed.", "content": self.rows()});
        operation["responses"]["201"] = json!({"description": "The row is inserted.", "content": self.rows()});
        operation["responses"]["204"] = json!({"description": "The row is as the body says."});
        operation["responses"]["405"] = problem_like(
            "The filters are not the whole key (PGRST105).",
            405,
            "Method not allowed",
            "Filters must include all and only primary key columns with 'eq' operators",
            "PGRST105",
        );
        operation["responses"]["409"] =
            problem("A unique value is taken (23505), or a row is referred to that is missing (23503).");
        operation
    }

    fn delete(&self, columns: &[usize]) -> Value {
        let mut parameters = self.chosen(columns);
        parameters.push(
            self.prefer("`return=representation` answers the removed rows; `max-affected=1` removes no more than one."),
        );
        let roles = format!(
            "Removes the rows that fit the filters; without a filter 400. {}",
            self.roles(|grant| &grant.delete)
        );
        let mut operation = self.operation("delete", &format!("Remove {}", self.table.name), roles, parameters);
        operation["responses"]["200"] = json!({"description": "The removed rows.", "content": self.rows()});
        operation["responses"]["204"] = json!({"description": "The rows are removed."});
        operation["responses"]["409"] = problem("A row is still referred to (23503).");
        operation
    }
}

/// A refusal, as every error is answered.
fn problem(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    json!({"description": description, "content": {"application/problem+json": {"schema": schema}}})
}

/// A refusal with a code of the dialect, and an example of it. Those of other codes get their
/// examples where the whole document is made.
fn problem_like(description: &str, status: u16, title: &str, message: &str, code: &str) -> Value {
    let mut response = problem(description);
    response["content"]["application/problem+json"]["example"] = json!({
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": message,
        "request_id": "019b5f0c-2a51-7c3e-9d4b-0a1f6c8e2b47",
        "message": message,
        "details": null,
        "hint": null,
    });
    response
}
