//! Rows and inputs as JSON Schema.

use serde_json::{Map, Value, json};

use super::{Described, pattern::value};
use crate::{declaration::ColumnType, model::Column};

fn of_type(column: &Column) -> Value {
    let mut schema = match &column.kind {
        ColumnType::Bool => json!({"type": "boolean", "example": true}),
        ColumnType::Int2 => {
            json!({"type": "integer", "format": "int32", "minimum": -32768, "maximum": 32767, "example": 1})
        }
        ColumnType::Int4 => json!({"type": "integer", "format": "int32", "example": 1}),
        ColumnType::Int8 => json!({"type": "integer", "format": "int64", "example": 1}),
        ColumnType::Float4 => json!({"type": "number", "format": "float", "example": 1.5}),
        ColumnType::Float8 => json!({"type": "number", "format": "double", "example": 1.5}),
        ColumnType::Numeric => json!({"type": "number", "example": 9.5}),
        ColumnType::Text => json!({"type": "string", "example": "Ann"}),
        ColumnType::Uuid => {
            json!({"type": "string", "format": "uuid", "example": "0f8fad5b-d9cb-469f-a165-70867728950e"})
        }
        ColumnType::Date => json!({"type": "string", "format": "date", "example": "2026-01-02"}),
        ColumnType::Time => json!({"type": "string", "example": "03:04:05"}),
        ColumnType::Timestamp => json!({"type": "string", "example": "2026-01-02T03:04:05"}),
        ColumnType::Timestamptz => {
            json!({"type": "string", "format": "date-time", "example": "2026-01-02T03:04:05.123456+00:00"})
        }
        ColumnType::Bytea => json!({"type": "string", "pattern": "^\\\\x([0-9a-f]{2})*$", "example": "\\x6869"}),
        ColumnType::Json => json!({"description": "JSON of any form.", "example": {"a": 1}}),
        ColumnType::Enum(values) => json!({"type": "string", "enum": values, "example": values.first()}),
    };
    if let Some(description) = &column.description {
        schema["description"] = description.as_str().into();
    }
    if column.nullable && column.kind != ColumnType::Json {
        schema["nullable"] = true.into();
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.push(Value::Null);
        }
    }
    schema
}

/// What a client may write: within the bounds of every database.
fn input(column: &Column) -> Value {
    let mut schema = of_type(column);
    match &column.kind {
        ColumnType::Int4 => {
            schema["minimum"] = i32::MIN.into();
            schema["maximum"] = i32::MAX.into();
        }
        ColumnType::Int8 => {
            schema["minimum"] = i64::MIN.into();
            schema["maximum"] = i64::MAX.into();
        }
        ColumnType::Float4 => {
            schema["minimum"] = f64::from(f32::MIN).into();
            schema["maximum"] = f64::from(f32::MAX).into();
        }
        ColumnType::Text => {
            if let Some(max) = column.max {
                schema["maxLength"] = max.into();
            }
            // Texts hold no NUL.
            schema["pattern"] = "^[^\\u0000]*$".into();
        }
        ColumnType::Time | ColumnType::Timestamp => {
            if let Some((pattern, _)) = value(&column.kind) {
                schema["pattern"] = format!("^{pattern}$").into();
            }
        }
        _ => {}
    }
    schema
}

impl Described<'_> {
    pub(super) fn add_schemas(&self, components: &mut Map<String, Value>) {
        if let Some(readable) = self.readable() {
            let properties = readable.iter().map(|place| {
                let column = &self.table.columns[*place];
                (column.name.clone(), of_type(column))
            });
            let mut properties: Map<String, Value> = properties.collect();
            for relation in &self.table.relations {
                let target = Described::new(self.model, self.model.target(relation), self.path, self.max_rows);
                if target.readable().is_some() {
                    properties.insert(relation.name.clone(), self.related(relation.many, &target));
                }
            }
            let description = match &self.table.description {
                Some(description) => format!("{description}. It has the members that `select` names."),
                None => "A row. It has the members that `select` names.".to_owned(),
            };
            // An alias of `select` is a member of any name.
            let row = json!({"type": "object", "description": description, "properties": properties, "additionalProperties": true});
            components.insert(self.schema_name("Row"), row);
        }
        if let Some(columns) = self.columns(|grant| &grant.create) {
            let schema = self.input_schema(&columns, true);
            components.insert(self.schema_name("Create"), schema);
            if self.is_replaced() {
                let others: Vec<usize> = columns
                    .into_iter()
                    .filter(|place| !self.table.key.contains(place))
                    .collect();
                components.insert(self.schema_name("Replace"), self.input_schema(&others, true));
            }
        }
        if let Some(columns) = self.columns(|grant| &grant.update) {
            let schema = self.input_schema(&columns, false);
            components.insert(self.schema_name("Update"), schema);
        }
    }

    /// A row with these columns.
    pub(super) fn example(&self, columns: &[usize]) -> Value {
        let members = columns.iter().map(|place| {
            let column = &self.table.columns[*place];
            (column.name.clone(), of_type(column)["example"].clone())
        });
        Value::Object(members.collect())
    }

    /// Whether clients may put a row by its key.
    pub(super) fn is_replaced(&self) -> bool {
        let key = &self.table.key;
        let Some(created) = self.columns(|grant| &grant.create) else {
            return false;
        };
        let may_give = |place: &usize| {
            let column = &self.table.columns[*place];
            column.generated || (column.is_written() && created.contains(place))
        };
        !key.is_empty() && key.iter().all(may_give) && self.columns(|grant| &grant.update).is_some()
    }

    fn related(&self, many: bool, target: &Described<'_>) -> Value {
        let row = json!({"type": "object", "additionalProperties": true});
        let words = format!("Rows of `{}`, if `select` asks for them.", target.table.name);
        match many {
            true => json!({"type": "array", "description": words, "items": row}),
            false => json!({"type": "object", "nullable": true, "description": words, "additionalProperties": true}),
        }
    }

    fn input_schema(&self, columns: &[usize], is_new: bool) -> Value {
        let written = columns
            .iter()
            .map(|place| &self.table.columns[*place])
            .filter(|column| column.is_written());
        let written: Vec<&Column> = written.collect();
        let properties: Map<String, Value> = written
            .iter()
            .map(|column| (column.name.clone(), input(column)))
            .collect();
        let required: Vec<&str> = written
            .iter()
            .filter(|column| is_new && !column.nullable && !column.default)
            .map(|column| column.name.as_str())
            .collect();
        let description = match is_new {
            true => "A new row.",
            false => "What rows are changed to.",
        };
        let mut schema = json!({
            "type": "object",
            "description": description,
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }
}
