//! The end of a change: rules are checked, and the changed rows are read for the answer.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, QueryResult};
use tenantry_core::engine::TenantTransaction;

use super::{Changed, Job, Step, text_of};
use crate::{
    json::{Fetched, Writer},
    plan::{Condition, Page},
    refusal::{Failure, Refusal},
    run::{
        failure,
        read::{children, counted},
    },
    sql,
    value::Datum,
};

impl<'m> Job<'_, 'm> {
    /// Refuses the change if a row with one of these keys breaks a rule.
    pub(super) async fn check_rule<C: ConnectionTrait>(
        &self,
        on: &C,
        keys: &[Vec<Datum>],
        rule: &Condition<'m>,
    ) -> Result<(), Failure> {
        if *rule == Condition::Always || self.count(on, keys, rule).await? == keys.len() as u64 {
            return Ok(());
        }
        self.check_keys(on, keys).await?;
        Err(Refusal::row_rule(&self.target.table.name, self.has_token).into())
    }

    /// How many rows with one of these keys a condition holds of.
    async fn count<C: ConnectionTrait>(
        &self,
        on: &C,
        keys: &[Vec<Datum>],
        wanted: &Condition<'m>,
    ) -> Result<u64, Failure> {
        let table = self.target.table;
        let mut count = 0;
        for some in keys.chunks(self.keys_at_once()) {
            let these = sql::has_one_of(table, &table.key, some).and(wanted.clone());
            let row = on.query_one_raw(sql::count_of(&self.target, &these)).await;
            count += row.map_err(failure)?.map_or(Ok(0), |row| counted(&row, 0))?;
        }
        Ok(count)
    }

    /// Refuses the change if a row is not found by its key. MySQL does not return what it stores,
    /// which may be rounded or cut off.
    async fn check_keys<C: ConnectionTrait>(&self, on: &C, keys: &[Vec<Datum>]) -> Result<(), Failure> {
        if self.target.dialect.returns_rows() || self.count(on, keys, &Condition::Always).await? == keys.len() as u64 {
            return Ok(());
        }
        let message = "the database does not store a key as it was given";
        Err(Refusal::bad("0A000", message)
            .hint("Give the key as its columns store it.")
            .into())
    }

    pub(super) async fn finish(&self, transaction: TenantTransaction, step: Step) -> Result<Changed, Failure> {
        self.check_count(step.affected)?;
        if !self.reselects() {
            return self.commit(transaction, self.direct(step)).await;
        }
        let fetched = self.reselect(&transaction, &step.keys).await?;
        if fetched
            .as_ref()
            .is_some_and(|fetched| fetched.rows.len() < step.keys.len())
        {
            self.check_keys(&transaction, &step.keys).await?;
        }
        let changed = Changed {
            affected: step.affected,
            new: step.new,
            keys: step.keys,
            fetched,
        };
        self.commit(transaction, changed).await
    }

    /// Commits the change, unless its answer would be refused: one that grows too large is written
    /// here, to find out.
    pub(super) async fn commit(&self, transaction: TenantTransaction, changed: Changed) -> Result<Changed, Failure> {
        // The role may not read the one row that was changed, or an inner join leaves it out.
        if let Some(fetched) = &changed.fetched
            && self.accepted.is_single()
            && fetched.rows.len() != 1
        {
            return Err(Refusal::not_single(fetched.rows.len() as u64).into());
        }
        if let (Some(read), Some(fetched)) = (self.representation, &changed.fetched)
            && (!read.is_flat() || read.repeats)
        {
            self.writer().body(self.accepted.form, read, fetched)?;
        }
        transaction.commit().await.map_err(Failure::Database)?;
        Ok(changed)
    }

    fn writer(&self) -> Writer {
        Writer {
            dialect: self.target.dialect,
            without_nulls: self.accepted.without_nulls,
        }
    }

    /// What the statement returned is the answer.
    pub(super) fn direct(&self, step: Step) -> Changed {
        let rows = step.rows;
        Changed {
            affected: step.affected,
            new: step.new,
            keys: step.keys,
            fetched: self.representation.map(|_| Fetched {
                rows,
                children: Vec::new(),
            }),
        }
    }

    /// Reads the rows with these keys, in their order unless another one is asked for.
    pub(super) async fn reselect<C: ConnectionTrait>(
        &self,
        on: &C,
        keys: &[Vec<Datum>],
    ) -> Result<Option<Fetched>, Failure> {
        let Some(read) = self.representation else {
            return Ok(None);
        };
        let places = self.target.table.key.iter();
        let key_slots: Vec<(usize, usize)> = places
            .filter_map(|place| Some((read.columns.iter().position(|known| known == place)?, *place)))
            .collect();
        let mut rows = Vec::new();
        for some in keys.chunks(self.keys_at_once()) {
            let wanted = sql::has_one_of(self.target.table, &self.target.table.key, some).and(read.condition.clone());
            let statement = sql::page_of(self.target.dialect, self.target.model, read, &wanted, Page::default());
            rows.extend(on.query_all_raw(statement).await.map_err(failure)?);
        }
        if !self.is_ordered {
            let order: HashMap<Vec<u8>, usize> = keys.iter().map(|key| text_of(key)).zip(0..).collect();
            let place = |row: &QueryResult| {
                let key = key_slots
                    .iter()
                    .map(|(slot, place)| self.read_key(row, read.index(*slot), *place));
                let key = key.collect::<Result<Vec<Datum>, _>>();
                key.ok()
                    .and_then(|key| order.get(&text_of(&key)).copied())
                    .unwrap_or(usize::MAX)
            };
            rows.sort_by_cached_key(place);
        }
        let below = children(
            on,
            self.target.dialect,
            self.target.model,
            read,
            &rows,
            self.most_embedded,
        )
        .await?;
        Ok(Some(Fetched { rows, children: below }))
    }
}
