//! Which rows an upsert changes, and in which columns.

use std::collections::HashSet;

use super::Request;
use crate::{
    plan::{Condition, condition::rule, write::Rows},
    refusal::Refusal,
    request::head::Resolution,
};

impl Request<'_> {
    /// By which columns a row is found, and which are changed then.
    pub(super) fn conflict(
        &self,
        rows: &Rows,
        resolution: Resolution,
    ) -> Result<(Vec<usize>, Option<Vec<usize>>), Refusal> {
        let target = self.conflict_target()?;
        let update = match resolution {
            Resolution::Ignore => None,
            Resolution::Merge => Some(self.updated(rows, &target)),
        };
        Ok((target, update))
    }

    /// The columns that `on_conflict` names; without it, those of the key.
    pub(super) fn conflict_target(&self) -> Result<Vec<usize>, Refusal> {
        let Some(names) = &self.query.on_conflict else {
            return Ok(self.table.key.clone());
        };
        // A column that the role may not read does not exist for it. It knows a key that it gives
        // itself.
        let access = self.access(|grant| &grant.create)?;
        let reads = self.reads();
        let is_known = |place: &usize| {
            reads.is_some_and(|reads| reads.has(*place)) || (self.table.key.contains(place) && access.has(*place))
        };
        let place = |name: &String| {
            let place = self.table.column(name).filter(is_known);
            place.ok_or_else(|| {
                Refusal::no_column(self.table, name, Some(reads.unwrap_or(access)))
                    .at_parameter("on_conflict", "names no column")
            })
        };
        let mut places = names.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        // As in PostgreSQL, a column that is named twice counts once.
        let mut known = HashSet::new();
        places.retain(|place| known.insert(*place));
        Ok(places)
    }

    /// The columns that are changed in a row that is there: those that are set, less those by which
    /// it is found. If these are all, they are set to what they are.
    pub(super) fn updated(&self, rows: &Rows, target: &[usize]) -> Vec<usize> {
        let others: Vec<usize> = rows
            .columns
            .iter()
            .copied()
            .filter(|place| !target.contains(place))
            .collect();
        match others.is_empty() {
            true => target.iter().copied().take(1).collect(),
            false => others,
        }
    }

    /// The rows that an upsert may change, and what must hold of them afterwards.
    pub(super) fn allowed_update(
        &self,
        target: &[usize],
        update: &Option<Vec<usize>>,
    ) -> Result<(Condition<'_>, Condition<'_>), Refusal> {
        let Some(update) = update else {
            return Ok((Condition::Always, Condition::Always));
        };
        let access = self.access(|grant| &grant.update)?;
        let reads = self.reads().ok_or_else(|| self.denied())?;
        // The columns by which a row is found stay as they are.
        if update
            .iter()
            .any(|place| !access.has(*place) && !target.contains(place))
        {
            return Err(self.denied());
        }
        let after = rule(self.table, access, self.caller);
        Ok((after.clone().and(rule(self.table, reads, self.caller)), after))
    }
}
