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
        if *rule == Condition::Always {
            return Ok(());
        }
        let mut kept = 0;
        for some in keys.chunks(self.keys_at_once()) {
            let wanted = sql::has_one_of(self.target.table, &self.target.table.key, some).and(rule.clone());
            let statement = sql::count_of(&self.target, &wanted);
            let row = on.query_one_raw(statement).await.map_err(failure)?;
            kept += row.map_or(Ok(0), |row| counted(&row, 0))?;
        }
        match kept == keys.len() as u64 {
            true => Ok(()),
            false => Err(Refusal::row_rule(&self.target.table.name, self.has_token).into()),
        }
    }

    pub(super) async fn finish(&self, transaction: TenantTransaction, step: Step) -> Result<Changed, Failure> {
        self.check_count(step.affected)?;
        if !self.reselects() {
            return self.commit(transaction, self.direct(step)).await;
        }
        let fetched = self.reselect(&transaction, &step.keys).await?;
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
