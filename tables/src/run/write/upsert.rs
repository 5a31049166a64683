//! Inserts of rows that may be there already.

use std::collections::{HashMap, HashSet};

use sea_orm::ConnectionTrait;

use super::{Job, Step, Upsert, text_of};
use crate::{
    catalogue::{is_unique, unique_columns},
    plan::{Condition, write::Rows},
    refusal::{Failure, Refusal},
    run::failure,
    sql::{self, Assignment, Conflict, Dialect, Returned},
    value::Datum,
};

/// The most rows that one statement changes to values of their own: the database looks for each
/// row's values among all of them.
const MOST_AT_ONCE: usize = 200;

impl<'m> Job<'_, 'm> {
    /// With `ON CONFLICT`. A row that may not be changed is missing from what comes back.
    pub(super) async fn upsert_at_once<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        rule: &Condition<'m>,
        upsert: Upsert<'_, 'm>,
    ) -> Result<Step, Failure> {
        let step = self.insert_rows(on, rows, Some(&upsert), false).await;
        let step = step.map_err(|failure| match failure {
            // PostgreSQL's object_not_in_prerequisite_state, as of what it cannot write: the
            // constraint is deferrable.
            Failure::Refused(refusal) if refusal.code == "55000" => no_constraint().into(),
            other => other,
        })?;
        if upsert.update.is_some() && step.affected < rows.rows.len() as u64 {
            return Err(self.breaks_rule());
        }
        let of = |new: bool| -> Vec<Vec<Datum>> {
            let each = step.keys.iter().zip(&step.is_new).filter(|(_, is_new)| **is_new == new);
            each.map(|(key, _)| key.clone()).collect()
        };
        self.check_rule(on, &of(true), rule).await?;
        self.check_rule(on, &of(false), upsert.after).await?;
        Ok(step)
    }

    /// Refuses columns that are not unique together: rows would be found by values that no
    /// constraint compares.
    pub(super) async fn check_target<C: ConnectionTrait>(&self, on: &C, target: &[usize]) -> Result<(), Failure> {
        let table = self.target.table;
        let is_key = target.len() == table.key.len() && target.iter().all(|place| table.key.contains(place));
        // PostgreSQL refuses them itself.
        if is_key || self.takes_conflicts() {
            return Ok(());
        }
        let statement = unique_columns(self.target.dialect, table);
        let rows = on.query_all_raw(statement).await.map_err(failure)?;
        let columns: Vec<&str> = target
            .iter()
            .map(|place| table.columns[*place].source.as_str())
            .collect();
        match is_unique(&rows, &columns).map_err(Failure::Database)? {
            true => Ok(()),
            false => Err(no_constraint().into()),
        }
    }

    /// Looks which rows are there, inserts the others, and changes these. `seen` has the values by
    /// which the rows before these were found, and those of these are added.
    pub(super) async fn upsert_in_steps<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        rule: &Condition<'m>,
        upsert: Upsert<'_, 'm>,
        seen: &mut Seen,
    ) -> Result<Step, Failure> {
        let sorted = self.sort_out(on, rows, &upsert, seen).await?;
        let mut places = sorted.new_places.clone();
        let mut step = Step::default();
        if !sorted.new.rows.is_empty() {
            let inserted = self.insert_rows(on, &sorted.new, None, false).await?;
            self.check_rule(on, inserted.all_keys(rule)?, rule).await?;
            step.add(inserted);
        }
        let Some(update) = upsert.update else {
            return Ok(step);
        };
        let known = self.with_keys(on, &sorted.known, upsert.target, upsert.before).await?;
        // What a column's default is only the database knows, so such rows go one by one.
        let has_default = |row: &Known| {
            let mut values = rows.columns.iter().zip(&row.values);
            values.any(|(place, value)| *value == Assignment::Default && update.contains(place))
        };
        let (by_default, by_value): (Vec<_>, Vec<_>) = known.into_iter().partition(has_default);
        let pieces = by_default
            .chunks(1)
            .chain(by_value.chunks(self.changed_at_once(rows, upsert.target)));
        for piece in pieces {
            places.extend(piece.iter().map(|row| row.place));
            let changed = match piece {
                [row] if self.target.dialect == Dialect::Sqlite && has_default(row) => {
                    self.change_one(on, rows, row, &upsert).await?
                }
                piece => self.change_each(on, rows, piece, &upsert).await?,
            };
            self.check_rule(on, &changed.keys, upsert.after).await?;
            step.add(changed);
        }
        step.sort(&places);
        Ok(step)
    }

    fn breaks_rule(&self) -> Failure {
        Refusal::row_rule(&self.target.table.name, self.has_token).into()
    }

    fn changed_at_once(&self, rows: &Rows, target: &[usize]) -> usize {
        if self.target.dialect == Dialect::Oracle {
            // The values of one column may be of several types there, which its CASE does not take.
            return 1;
        }
        // A text is compared twice on MySQL.
        let each = (rows.columns.len() + 1) * (1 + 2 * target.len());
        (self.target.dialect.most_parameters() / each).clamp(1, MOST_AT_ONCE)
    }

    /// Adds the keys of rows that are there. All of them must be rows that may be changed.
    async fn with_keys<C: ConnectionTrait>(
        &self,
        on: &C,
        known: &[Known],
        target: &[usize],
        before: &Condition<'m>,
    ) -> Result<Vec<Known>, Failure> {
        let table = self.target.table;
        let columns: Vec<usize> = table.key.iter().chain(target).copied().collect();
        let mut keys = HashMap::new();
        for some in known.chunks(self.keys_at_once()) {
            let targets: Vec<Vec<Datum>> = some.iter().map(|row| row.target.clone()).collect();
            let wanted = sql::has_one_of(table, target, &targets).and(before.clone());
            for mut values in self.locked(on, &columns, &wanted).await? {
                let found_by = values.split_off(table.key.len());
                keys.insert(text_of(&found_by), values);
            }
        }
        let each = known.iter().map(|row| {
            let key = keys.get(&text_of(&row.target)).ok_or_else(|| self.breaks_rule())?;
            Ok(Known {
                key: key.clone(),
                ..row.clone()
            })
        });
        each.collect()
    }

    /// Changes a row of SQLite, which has no word for a default but in an insert that leaves it
    /// out.
    async fn change_one<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        known: &Known,
        upsert: &Upsert<'_, 'm>,
    ) -> Result<Step, Failure> {
        let set = rows.columns.iter().copied().zip(known.values.iter().cloned());
        let (columns, values) = set.filter(|(_, value)| *value != Assignment::Default).unzip();
        let row = Rows {
            columns,
            rows: vec![values],
        };
        let conflict = Conflict {
            target: upsert.target,
            update: upsert.update.unwrap_or_default(),
            allowed: upsert.before,
        };
        self.insert_piece(on, &row, Some(&conflict), false).await
    }

    /// Gives each of some rows its own values, in one statement.
    async fn change_each<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        known: &[Known],
        upsert: &Upsert<'_, 'm>,
    ) -> Result<Step, Failure> {
        let update = upsert.update.unwrap_or_default();
        let set = |row: &Known| -> Vec<(usize, Assignment)> {
            let each = rows.columns.iter().copied().zip(row.values.iter().cloned());
            each.filter(|(place, _)| update.contains(place)).collect()
        };
        let changes: Vec<sql::Change> = known
            .iter()
            .map(|row| sql::Change {
                target: row.target.clone(),
                values: set(row),
            })
            .collect();
        let keys: Vec<Vec<Datum>> = known
            .iter()
            .zip(&changes)
            .map(|(row, change)| self.key_after(row.key.clone(), &change.values))
            .collect();
        if !self.target.dialect.returns_rows() {
            let statement = sql::update_each(&self.target, upsert.target, &changes, None);
            on.execute_raw(statement).await.map_err(failure)?;
            return Ok(Step {
                affected: keys.len() as u64,
                keys,
                ..Step::default()
            });
        }
        let columns = self.returned_columns();
        let returned = Returned {
            columns: &columns,
            is_new: false,
        };
        let statement = sql::update_each(&self.target, upsert.target, &changes, Some(&returned));
        let mut changed = self.returning(on, statement, false, false).await?;
        if changed.affected != keys.len() as u64 {
            return Err(self.breaks_rule());
        }
        let order: HashMap<Vec<u8>, usize> = keys.iter().map(|key| text_of(key)).zip(0..).collect();
        let places: Vec<usize> = changed
            .keys
            .iter()
            .map(|key| order.get(&text_of(key)).copied().unwrap_or(usize::MAX))
            .collect();
        changed.sort(&places);
        Ok(changed)
    }

    async fn sort_out<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        upsert: &Upsert<'_, 'm>,
        seen: &mut Seen,
    ) -> Result<Sorted, Failure> {
        let target_of = |row: &Vec<Assignment>| values_of(upsert.target, &rows.columns, row);
        let targets: Vec<Vec<Datum>> = rows.rows.iter().filter_map(target_of).collect();
        let mut found = Vec::new();
        for some in targets.chunks(self.keys_at_once()) {
            let wanted = sql::has_one_of(self.target.table, upsert.target, some);
            found.extend(self.locked(on, upsert.target, &wanted).await?);
        }
        let is_text = |place: &usize| self.target.table.columns[*place].kind.is_text();
        if let ([row], [target], true) = (rows.rows.as_slice(), targets.as_slice(), found.is_empty())
            && upsert.target.iter().any(is_text)
        {
            // A constraint may find texts equal that are not the same, such as capitals.
            let wanted = sql::is_same(self.target.table, upsert.target, target);
            if let [there] = self.locked(on, upsert.target, &wanted).await?.as_slice() {
                if !seen.insert(text_of(there)) && upsert.update.is_some() {
                    return Err(given_twice().into());
                }
                return Ok(Sorted::of_known(rows, row, upsert.target, there));
            }
        }
        let known: HashSet<Vec<u8>> = found.iter().map(|values| text_of(values)).collect();
        if known.len() < found.len() && !repeats(&targets) {
            return Err(no_constraint().into());
        }
        let mut sorted = Sorted {
            new: Rows {
                columns: rows.columns.clone(),
                rows: Vec::new(),
            },
            new_places: Vec::new(),
            known: Vec::new(),
        };
        for (place, row) in rows.rows.iter().enumerate() {
            let target = target_of(row);
            if let Some(target) = &target {
                let text = text_of(target);
                if !seen.insert(text.clone()) {
                    if upsert.update.is_none() {
                        continue;
                    }
                    return Err(given_twice().into());
                }
                if known.contains(&text) {
                    sorted.known.push(Known {
                        place,
                        target: target.clone(),
                        key: Vec::new(),
                        values: row.clone(),
                    });
                    continue;
                }
            }
            sorted.new.rows.push(row.clone());
            sorted.new_places.push(place);
        }
        Ok(sorted)
    }
}

fn no_constraint() -> Refusal {
    let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
    Refusal::bad("42P10", message)
}

fn given_twice() -> Refusal {
    let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
    Refusal::bad("21000", message)
}

/// The values by which a row is found; `None` if one of them is null, or only known to the
/// database.
fn values_of(target: &[usize], columns: &[usize], row: &[Assignment]) -> Option<Vec<Datum>> {
    let each = target.iter().map(|place| {
        let at = columns.iter().position(|known| known == place)?;
        match row.get(at)? {
            Assignment::Value(Datum::Null) | Assignment::Default => None,
            Assignment::Value(value) => Some(value.clone()),
        }
    });
    each.collect()
}

/// Whether some of these values are the same.
fn repeats(targets: &[Vec<Datum>]) -> bool {
    let mut seen = HashSet::new();
    !targets.iter().all(|target| seen.insert(text_of(target)))
}

/// The values by which rows were found, as texts.
pub(super) type Seen = HashSet<Vec<u8>>;

/// The rows of an upsert, with their places in the body.
struct Sorted {
    new: Rows,
    new_places: Vec<usize>,
    /// Those that are there.
    known: Vec<Known>,
}

impl Sorted {
    /// One row, which is there with these values of its own in the columns by which it was found.
    /// They stay as they are, although the body spells them otherwise.
    fn of_known(rows: &Rows, row: &[Assignment], target: &[usize], there: &[Datum]) -> Self {
        let each = rows.columns.iter().zip(row).map(|(place, value)| {
            let at = target.iter().position(|known| known == place);
            let own = at.and_then(|at| there.get(at));
            own.map_or_else(|| value.clone(), |own| Assignment::Value(own.clone()))
        });
        Self {
            new: Rows {
                columns: rows.columns.clone(),
                rows: Vec::new(),
            },
            new_places: Vec::new(),
            known: vec![Known {
                place: 0,
                target: there.to_vec(),
                key: Vec::new(),
                values: each.collect(),
            }],
        }
    }
}

/// A row that is there.
#[derive(Clone)]
struct Known {
    /// Its place in the body.
    place: usize,
    /// The values by which it was found.
    target: Vec<Datum>,
    /// Its key before it is changed.
    key: Vec<Datum>,
    /// What its columns are set to.
    values: Vec<Assignment>,
}
