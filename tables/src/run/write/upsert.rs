//! Inserts of rows that may be there already.

use std::collections::HashSet;

use sea_orm::ConnectionTrait;

use super::{Job, Step, Upsert, text_of};
use crate::{
    plan::{Condition, write::Rows},
    refusal::{Failure, Refusal},
    sql::{self, Assignment},
    value::Datum,
};

impl<'m> Job<'_, 'm> {
    /// With `ON CONFLICT`. A row that may not be changed is missing from what comes back.
    pub(super) async fn upsert_at_once<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        rule: &Condition<'m>,
        upsert: Upsert<'_, 'm>,
    ) -> Result<Step, Failure> {
        let step = self.insert_rows(on, rows, Some(&upsert), false).await?;
        if upsert.update.is_some() {
            if step.affected < rows.rows.len() as u64 {
                return Err(Refusal::row_rule(&self.target.table.name, self.has_token).into());
            }
            self.check_rule(on, &step, upsert.allowed).await?;
        }
        if step.new > 0 {
            self.check_rule(on, &step, rule).await?;
        }
        Ok(step)
    }

    /// Looks which rows are there, inserts the others and changes these one by one.
    pub(super) async fn upsert_in_steps<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        rule: &Condition<'m>,
        upsert: Upsert<'_, 'm>,
    ) -> Result<Step, Failure> {
        let sorted = self.sort_out(on, rows, &upsert).await?;
        let places: Vec<usize> = sorted
            .new_places
            .iter()
            .copied()
            .chain(sorted.known.iter().map(|row| row.0))
            .collect();
        let mut step = Step::default();
        if !sorted.new.rows.is_empty() {
            let inserted = self.insert_rows(on, &sorted.new, None, false).await?;
            self.check_rule(on, &inserted, rule).await?;
            step.add(inserted);
        }
        let Some(update) = upsert.update else {
            return Ok(step);
        };
        for (_, target, row) in sorted.known {
            let values: Vec<(usize, Assignment)> = rows
                .columns
                .iter()
                .copied()
                .zip(row)
                .filter(|(place, value)| update.contains(place) && *value != Assignment::Default)
                .collect();
            let is_it = sql::has_one_of(self.target.table, upsert.target, &[target]);
            let changed = self
                .update_rows(on, &values, &is_it.and(upsert.allowed.clone()), false)
                .await?;
            if changed.affected != 1 {
                return Err(Refusal::row_rule(&self.target.table.name, self.has_token).into());
            }
            self.check_rule(on, &changed, upsert.allowed).await?;
            step.add(changed);
        }
        step.sort(&places);
        Ok(step)
    }

    async fn sort_out<C: ConnectionTrait>(
        &self,
        on: &C,
        rows: &Rows,
        upsert: &Upsert<'_, 'm>,
    ) -> Result<Sorted, Failure> {
        let target_of = |row: &[Assignment]| -> Option<Vec<Datum>> {
            let each = upsert.target.iter().map(|place| {
                let at = rows.columns.iter().position(|known| known == place)?;
                match row.get(at)? {
                    Assignment::Value(Datum::Null) | Assignment::Default => None,
                    Assignment::Value(value) => Some(value.clone()),
                }
            });
            each.collect()
        };
        let targets: Vec<Vec<Datum>> = rows.rows.iter().filter_map(|row| target_of(row)).collect();
        let wanted = sql::has_one_of(self.target.table, upsert.target, &targets);
        let found = self.locked(on, upsert.target, &wanted).await?;
        let known: HashSet<Vec<u8>> = found.iter().map(|values| text_of(values)).collect();
        if known.len() < found.len() {
            let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
            return Err(Refusal::bad("42P10", message).into());
        }
        let mut sorted = Sorted {
            new: Rows {
                columns: rows.columns.clone(),
                rows: Vec::new(),
            },
            new_places: Vec::new(),
            known: Vec::new(),
        };
        let mut seen = HashSet::new();
        for (place, row) in rows.rows.iter().enumerate() {
            let Some(target) = target_of(row) else {
                sorted.new.rows.push(row.clone());
                sorted.new_places.push(place);
                continue;
            };
            let text = text_of(&target);
            if !seen.insert(text.clone()) {
                if upsert.update.is_none() {
                    continue;
                }
                let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
                return Err(Refusal::bad("21000", message).into());
            }
            if known.contains(&text) {
                sorted.known.push((place, target, row.clone()));
            } else {
                sorted.new.rows.push(row.clone());
                sorted.new_places.push(place);
            }
        }
        Ok(sorted)
    }
}

/// The rows of an upsert, with their places in the body.
struct Sorted {
    new: Rows,
    new_places: Vec<usize>,
    /// Those that are there, with the values by which they were found.
    known: Vec<(usize, Vec<Datum>, Vec<Assignment>)>,
}
