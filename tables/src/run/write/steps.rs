//! The statements of a change, and what they did.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};
use tenantry_core::{DatabaseError, DatabaseErrorKind};

use super::{Job, Step, Upsert, no_keys};
use crate::{
    declaration::ColumnType,
    model::Column,
    plan::{Condition, write::Rows},
    refusal::Failure,
    run::{failure, read::counted},
    sql::{self, Assignment, Conflict, Dialect, Returned},
    value::Datum,
};

impl<'m> Job<'_, 'm> {
    /// What statements return of each row: the columns of the answer, then the key.
    pub(super) fn returned_columns(&self) -> Vec<usize> {
        let direct = self.representation.filter(|_| !self.reselects());
        let mut columns = direct.map(|read| read.columns.clone()).unwrap_or_default();
        columns.extend_from_slice(&self.target.table.key);
        columns
    }

    /// Runs a statement that returns rows; if `is_new`, with a last column that says which are new.
    pub(super) async fn returning<C: ConnectionTrait>(
        &self,
        on: &C,
        statement: Statement,
        is_new: bool,
        is_alone: bool,
    ) -> Result<Step, Failure> {
        let failure = if is_alone { failure_alone } else { failure };
        let rows = on.query_all_raw(statement).await.map_err(failure)?;
        let columns = self.returned_columns();
        let first = columns.len() - self.target.table.key.len();
        let mut step = Step {
            affected: rows.len() as u64,
            ..Step::default()
        };
        for row in &rows {
            let key = self.target.table.key.iter().zip(first..);
            let key = key.map(|(place, index)| self.read_key(row, index, *place));
            step.keys
                .push(key.collect::<Result<_, _>>().map_err(Failure::Database)?);
            if is_new {
                let new: i32 = row.try_get_by_index(columns.len()).map_err(Failure::Database)?;
                step.new += u64::from(new != 0);
                step.is_new.push(new != 0);
            }
        }
        step.rows = rows;
        Ok(step)
    }

    /// Whether statements return rows. The only statement of a request does not, if nothing of them
    /// is answered.
    fn wants_returned(&self, is_alone: bool) -> bool {
        self.target.dialect.returns_rows() && (self.wants_keys() || !is_alone)
    }

    /// The rows in as many pieces as there must be statements.
    pub(super) fn pieces(&self, rows: &Rows) -> Vec<Rows> {
        let at_once = (self.target.dialect.most_parameters() / rows.columns.len().max(1)).max(1);
        let whole = |rows: &Rows| -> Vec<Rows> {
            let piece = |some: &[Vec<Assignment>]| Rows {
                columns: rows.columns.clone(),
                rows: some.to_vec(),
            };
            rows.rows.chunks(at_once).map(piece).collect()
        };
        if self.target.dialect.has_default_value() {
            return whole(rows);
        }
        // A row without a value for a column leaves the column out; its neighbours of the same kind
        // go along.
        let mut pieces: Vec<Rows> = Vec::new();
        for row in &rows.rows {
            let set = rows
                .columns
                .iter()
                .zip(row)
                .filter(|(_, value)| **value != Assignment::Default);
            let (columns, values): (Vec<usize>, Vec<Assignment>) =
                set.map(|(place, value)| (*place, value.clone())).unzip();
            match pieces.last_mut() {
                Some(last) if last.columns == columns && !columns.is_empty() => last.rows.push(values),
                _ => pieces.push(Rows {
                    columns,
                    rows: vec![values],
                }),
            }
        }
        pieces.iter().flat_map(whole).collect()
    }

    pub(super) async fn insert_rows<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        upsert: Option<&Upsert<'_, 'm>>,
        is_alone: bool,
    ) -> Result<Step, Failure> {
        let conflict = upsert.map(|upsert| Conflict {
            target: upsert.target,
            update: upsert.update.unwrap_or_default(),
            allowed: upsert.before,
        });
        let mut step = Step::default();
        for piece in self.pieces(rows) {
            step.add(self.insert_piece(on, &piece, conflict.as_ref(), is_alone).await?);
        }
        Ok(step)
    }

    pub(super) async fn insert_piece<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        conflict: Option<&Conflict<'_, 'm>>,
        is_alone: bool,
    ) -> Result<Step, Failure> {
        if self.wants_returned(is_alone) {
            let columns = self.returned_columns();
            let is_new = conflict.is_some() && self.target.dialect == Dialect::Postgresql;
            let returned = Returned {
                columns: &columns,
                is_new,
            };
            let statement = sql::insert_or(&self.target, &rows.columns, &rows.rows, conflict, Some(&returned));
            let mut step = self.returning(on, statement, is_new, is_alone).await?;
            if conflict.is_none() {
                step.new = step.affected;
            }
            return Ok(step);
        }
        let statement = sql::insert(&self.target, &rows.columns, &rows.rows, None);
        let done = on.execute_raw(statement).await.map_err(failure)?;
        let affected = done.rows_affected();
        let keys = match affected == rows.rows.len() as u64 {
            true if self.target.dialect == Dialect::Mysql => {
                let first = done.last_insert_id();
                let step = match first > 0 && rows.rows.len() > 1 && !is_alone {
                    true => step_of_keys(on).await?,
                    false => 1,
                };
                self.inserted_keys(rows, first, step)
            }
            true => self.inserted_keys(rows, 0, 1),
            false => None,
        };
        match keys {
            Some(keys) => Ok(Step {
                affected,
                new: affected,
                keys,
                ..Step::default()
            }),
            None if self.wants_keys() => Err(no_keys()),
            None => Ok(Step {
                affected,
                new: affected,
                ..Step::default()
            }),
        }
    }

    /// The keys of inserted rows: as they were given, or counted from the first that MySQL gave, by
    /// this step.
    fn inserted_keys(&self, rows: &Rows, first: u64, step: u64) -> Option<Vec<Vec<Datum>>> {
        // It counts only rows that leave the key to it, so a row that has a key of its own takes no
        // number.
        let counted_place = self.counted_column();
        let is_made = |place: &usize| {
            let at = rows.columns.iter().position(|known| known == place);
            let left_out = |row: &Vec<Assignment>| match at {
                Some(at) => row.get(at) == Some(&Assignment::Default),
                None => true,
            };
            first > 0 && counted_place == Some(*place) && rows.rows.iter().all(left_out)
        };
        let key_of = |index: usize, row: &Vec<Assignment>| {
            let each = self.target.table.key.iter().map(|place| {
                let at = rows.columns.iter().position(|known| known == place);
                match at.and_then(|at| row.get(at)) {
                    Some(Assignment::Value(value)) => Some(value.clone()),
                    _ if is_made(place) => {
                        let id = first.checked_add(u64::try_from(index).ok()?.checked_mul(step)?)?;
                        Some(match self.target.table.columns[*place].kind {
                            // `bigint unsigned`.
                            ColumnType::Numeric => Datum::Numeric(id.to_string()),
                            _ => Datum::Int(i64::try_from(id).ok()?),
                        })
                    }
                    _ => None,
                }
            });
            each.collect::<Option<Vec<Datum>>>()
        };
        rows.rows
            .iter()
            .enumerate()
            .map(|(index, row)| key_of(index, row))
            .collect()
    }

    /// The only part of the key that MySQL can have counted: one that it generates, else one with a
    /// default. If there are several, it is not known which of them is counted.
    fn counted_column(&self) -> Option<usize> {
        let table = self.target.table;
        let is_whole = |place: &usize| {
            matches!(
                table.columns[*place].kind,
                ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 | ColumnType::Numeric
            )
        };
        let whole: Vec<usize> = table.key.iter().copied().filter(is_whole).collect();
        let only = |may_be: fn(&Column) -> bool| {
            let mut parts = whole.iter().copied().filter(|place| may_be(&table.columns[*place]));
            parts.next().filter(|_| parts.next().is_none())
        };
        match whole.iter().any(|place| table.columns[*place].generated) {
            true => only(|column| column.generated),
            false => only(|column| column.default),
        }
    }

    pub(super) async fn update_rows<C: ConnectionTrait>(
        &self,
        on: &C,
        values: &[(usize, Assignment)],
        wanted: &Condition<'m>,
        is_alone: bool,
    ) -> Result<Step, Failure> {
        let table = self.target.table;
        if self.wants_returned(is_alone) {
            let columns = self.returned_columns();
            let returned = Returned {
                columns: &columns,
                is_new: false,
            };
            let statement = sql::update(&self.target, values, wanted, Some(&returned));
            return self.returning(on, statement, false, is_alone).await;
        }
        if is_alone {
            let statement = sql::update(&self.target, values, wanted, None);
            let done = on.execute_raw(statement).await.map_err(failure)?;
            return Ok(Step {
                affected: done.rows_affected(),
                ..Step::default()
            });
        }
        let before = self.locked(on, &table.key, wanted).await?;
        self.check_count(before.len() as u64)?;
        for some in before.chunks(self.keys_at_once()) {
            let these = sql::has_one_of(table, &table.key, some);
            let statement = sql::update(&self.target, values, &these, None);
            on.execute_raw(statement).await.map_err(failure)?;
        }
        let affected = before.len() as u64;
        Ok(Step {
            affected,
            keys: before.into_iter().map(|key| self.key_after(key, values)).collect(),
            ..Step::default()
        })
    }

    /// A row's key after it was changed.
    pub(super) fn key_after(&self, mut key: Vec<Datum>, values: &[(usize, Assignment)]) -> Vec<Datum> {
        for (place, part) in self.target.table.key.iter().zip(&mut key) {
            let set = values.iter().find(|(known, _)| known == place);
            if let Some((_, Assignment::Value(value))) = set {
                *part = value.clone();
            }
        }
        key
    }

    pub(super) async fn delete_rows<C: ConnectionTrait>(
        &self,
        on: &C,
        wanted: &Condition<'m>,
        is_alone: bool,
    ) -> Result<Step, Failure> {
        if self.wants_returned(is_alone) {
            let columns = self.returned_columns();
            let returned = Returned {
                columns: &columns,
                is_new: false,
            };
            let statement = sql::delete(&self.target, wanted, Some(&returned));
            return self.returning(on, statement, false, is_alone).await;
        }
        let statement = sql::delete(&self.target, wanted, None);
        let done = on.execute_raw(statement).await.map_err(failure)?;
        Ok(Step {
            affected: done.rows_affected(),
            ..Step::default()
        })
    }

    /// Some columns of the rows that `wanted` holds of, locked.
    pub(super) async fn locked<C: ConnectionTrait>(
        &self,
        on: &C,
        columns: &[usize],
        wanted: &Condition<'m>,
    ) -> Result<Vec<Vec<Datum>>, Failure> {
        if *wanted == Condition::Never {
            return Ok(Vec::new());
        }
        let statement = sql::locked(&self.target, columns, wanted);
        let rows = on.query_all_raw(statement).await.map_err(failure)?;
        let read = |row: &QueryResult| {
            let each = columns.iter().enumerate();
            let each = each.map(|(index, place)| self.read_key(row, index, *place));
            each.collect::<Result<Vec<Datum>, _>>().map_err(Failure::Database)
        };
        rows.iter().map(read).collect()
    }

    /// A value by which its row is found again. Of a UUID that is stored as a text the spelling
    /// does not count, as in filters.
    pub(super) fn read_key(&self, row: &QueryResult, index: usize, place: usize) -> Result<Datum, DbErr> {
        let kind = &self.target.table.columns[place].kind;
        let value = self.target.dialect.read(row, index, kind)?;
        match &value {
            Datum::Text(text) if *kind == ColumnType::Uuid => Ok(Datum::parse(kind, text).unwrap_or(value)),
            _ => Ok(value),
        }
    }
}

/// How far apart MySQL's generated keys are: servers that write at once have each their own.
async fn step_of_keys<C: ConnectionTrait>(on: &C) -> Result<u64, Failure> {
    let step = "SELECT CAST(@@SESSION.auto_increment_increment AS SIGNED)";
    let row = on.query_one_raw(Statement::from_string(DbBackend::MySql, step)).await;
    row.map_err(failure)?.map_or(Ok(1), |row| counted(&row, 0))
}

/// The failure of a statement that is a transaction by itself. If its answer was too large to be
/// read, it may have been committed nevertheless.
fn failure_alone(error: DbErr) -> Failure {
    match DatabaseErrorKind::of(&error) {
        DatabaseErrorKind::AnswerTooLarge => {
            let unknown = DatabaseError::new(DatabaseErrorKind::OutcomeUnknown);
            Failure::Database(unknown.with_source("the answer is too large to be read").into_db_err())
        }
        _ => failure(error),
    }
}
