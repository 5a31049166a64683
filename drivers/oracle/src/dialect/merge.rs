//! `INSERT ... ON CONFLICT`, for which Oracle has `MERGE`.
//!
//! If another session inserts the same key at the same time, `MERGE` may fail with a unique
//! violation.

use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, Expr, Ident, OnConflict, OnConflictAction, SelectItem, Values,
};

use super::{
    Name, Plan, Step, Writer,
    change::Target,
    names,
    refusal::{Result, refuse, refuse_if},
    table::RowsOf,
};

/// PostgreSQL's name for the row that could not be inserted.
const EXCLUDED: &str = "\"EXCLUDED\"";

pub(super) fn plan(
    target: &Target<'_>,
    values: &Values,
    conflict: &OnConflict,
    returning: Option<&[SelectItem]>,
) -> Result<Plan> {
    let keys = match (&conflict.conflict_target, &conflict.action) {
        (
            Some(ConflictTarget::Columns {
                columns,
                predicate: None,
            }),
            _,
        ) if !columns.is_empty() => columns,
        (None, OnConflictAction::DoNothing) => return target.rows_that_are_not_taken(values, returning),
        _ => return refuse("`ON CONFLICT` without a list of columns"),
    };
    refuse_if(target.columns.is_empty(), "`ON CONFLICT` without the columns to insert")?;
    let mut generated = false;
    for key in keys {
        generated |= position(target, key)?.is_none();
    }
    if generated && matches!(conflict.action, OnConflictAction::DoNothing) {
        // The database makes a key that no other row has.
        return target.rows(values, returning);
    }
    let steps = match returning {
        // One after the other, since each row is read again by its key.
        Some(_) => values
            .rows
            .iter()
            .map(|row| {
                let rows = vec![row.clone()];
                let one = Values { rows, ..values.clone() };
                step(target, &one, keys, conflict, returning)
            })
            .collect::<Result<_>>()?,
        None => vec![step(target, values, keys, conflict, None)?],
    };
    let only_if_touched = match &conflict.action {
        OnConflictAction::DoNothing => true,
        OnConflictAction::DoUpdate(update) => update.selection.is_some(),
    };
    Ok(Plan::Merge { steps, only_if_touched })
}

fn step(
    target: &Target<'_>,
    values: &Values,
    keys: &[Ident],
    conflict: &OnConflict,
    returning: Option<&[SelectItem]>,
) -> Result<Step> {
    let table = names::quoted(target.table)?;
    let mut writer = Writer::default();
    let known_as = Name::of(names::last(target.table)?)?;
    writer.scopes.push(vec![(known_as.clone(), Some(table.clone()))]);
    writer.push(&format!("MERGE INTO {table} USING ("));
    writer.rows(values, &target.columns, &RowsOf::Change { keys })?;
    writer.push(&format!(") {EXCLUDED} ON ("));
    let table_name = known_as.quoted();
    writer.list(" AND ", keys, |writer, key| {
        inserted(target, key)?;
        let key = Name::of(key)?.quoted();
        writer.push(&format!("{table_name}.{key} = {EXCLUDED}.{key}"));
        Ok(())
    })?;
    writer.push(")");
    if let OnConflictAction::DoUpdate(update) = &conflict.action {
        writer.matched(&update.assignments, keys)?;
        if let Some(condition) = &update.selection {
            writer.push(" WHERE ");
            writer.condition(condition)?;
        }
    }
    writer.push(" WHEN NOT MATCHED THEN INSERT (");
    writer.names(target.columns.iter().copied())?;
    writer.push(") VALUES (");
    writer.list(", ", &target.columns, |writer, column| {
        let column = Name::of(column)?.quoted();
        writer.push(&format!("{EXCLUDED}.{column}"));
        Ok(())
    })?;
    writer.push(")");
    let then = match returning {
        None => None,
        Some(items) => Some(read_again(target, values, keys, items)?),
    };
    Ok(Step { sql: writer.sql, then })
}

/// The position of a key among the inserted columns, if it is one of them.
fn position(target: &Target<'_>, key: &Ident) -> Result<Option<usize>> {
    let name = Name::of(key)?;
    for (index, column) in target.columns.iter().enumerate() {
        if Name::of(column)? == name {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn inserted(target: &Target<'_>, key: &Ident) -> Result<usize> {
    match position(target, key)? {
        Some(place) => Ok(place),
        None => refuse("`ON CONFLICT` of a column that is not inserted"),
    }
}

impl Writer {
    fn matched(&mut self, assignments: &[Assignment], keys: &[Ident]) -> Result<()> {
        let mut kept = Vec::new();
        for assignment in assignments {
            let AssignmentTarget::ColumnName(column) = &assignment.target else {
                return refuse("`SET` of several columns at once");
            };
            let column = names::last(column)?;
            let is_key = keys.iter().any(|key| names::postgres(key) == names::postgres(column));
            // ORA-38104: a column of the ON clause cannot be updated. An assignment of its present
            // value is left out.
            if !is_key {
                kept.push(assignment.clone());
            } else if !is_excluded(&assignment.value, column) {
                return refuse("an update of the columns of `ON CONFLICT`");
            }
        }
        if kept.is_empty() {
            return refuse("`DO UPDATE` of the columns of `ON CONFLICT` only");
        }
        self.push(" WHEN MATCHED THEN UPDATE SET ");
        self.assignments(&kept)
    }
}

fn is_excluded(value: &Expr, column: &Ident) -> bool {
    match value {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, name] => names::postgres(table) == "excluded" && names::postgres(name) == names::postgres(column),
            _ => false,
        },
        _ => false,
    }
}

/// MERGE returns no row, so the row is read by its key.
fn read_again(
    target: &Target<'_>,
    values: &Values,
    keys: &[Ident],
    items: &[SelectItem],
) -> Result<(super::Sql, Vec<super::Output>)> {
    let Some(row) = values.rows.first() else {
        return refuse("`ON CONFLICT` without rows");
    };
    let table = names::quoted(target.table)?;
    let mut writer = Writer::default();
    writer
        .scopes
        .push(vec![(Name::of(names::last(target.table)?)?, Some(table.clone()))]);
    writer.push("SELECT ");
    let mut columns = Vec::new();
    writer.list(", ", items, |writer, item| {
        refuse_if(matches!(item, SelectItem::Wildcard(_)), "`RETURNING *`")?;
        columns.push(writer.item(item, false)?);
        Ok(())
    })?;
    writer.push(&format!(" FROM {table} WHERE "));
    writer.list(" AND ", keys, |writer, key| {
        writer.name(key)?;
        writer.push(" = ");
        match row.content.get(inserted(target, key)?) {
            Some(value) => writer.value(value),
            None => refuse("a row with fewer values than columns"),
        }
    })?;
    Ok((writer.sql, columns))
}
