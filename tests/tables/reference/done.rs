//! Changes, done in memory.

use super::{
    Outcome,
    change::{Change, Verb},
    request::Read,
    value::Value,
    world::{Asker, Row, Table, World},
};

/// The refusal of what a role may not do.
pub(super) fn denied(asker: &Asker<'_>) -> Outcome {
    Outcome::refused(if asker.role == "anon" { 401 } else { 403 }, "42501")
}

/// A body's rows as they are in memory.
type Rows = Vec<Row>;

impl Change {
    /// Makes the change in memory, or says why it is refused.
    pub(super) fn make(&self, world: &mut World, asker: &Asker<'_>) -> Outcome {
        let before = world.clone();
        let table = &before.tables[self.table];
        if let Some(refusal) = self.refusal(table, asker) {
            return refusal;
        }
        let done = match self.verb {
            Verb::Delete => Ok(self.delete(&before, world, asker)),
            Verb::Update => self.update(&before, world, asker),
            _ => self.insert(&before, world, asker),
        };
        match done {
            Ok((rows, new)) => self.answered(&before, world, asker, &rows, new),
            Err(refused) => {
                *world = before;
                refused
            }
        }
    }

    /// Why it is refused whatever the rows are.
    fn refusal(&self, table: &Table, asker: &Asker<'_>) -> Option<Outcome> {
        let reads = table.access(asker.role, |grant| &grant.read);
        let access = match self.verb {
            Verb::Update => table.access(asker.role, |grant| &grant.update),
            Verb::Delete => table.access(asker.role, |grant| &grant.delete),
            _ => table.access(asker.role, |grant| &grant.create),
        };
        let needs_read = matches!(self.verb, Verb::Update | Verb::Delete)
            || self.representation.is_some()
            || self.merges(table).is_some();
        let is_new = !matches!(self.verb, Verb::Update | Verb::Delete);
        let needed = |(place, column): (usize, &super::world::Column)| {
            !column.nullable && column.default.is_none() && !self.columns.contains(&place)
        };
        let lacks = is_new && table.columns.iter().enumerate().any(needed);
        let by = self.merges(table);
        let update = table.access(asker.role, |grant| &grant.update);
        let changes = |by: &[usize]| {
            let mut changed = self.columns.iter().filter(|place| !by.contains(place));
            update.is_none_or(|update| changed.any(|place| !update.columns[*place]))
        };
        let may_not = access.is_none() || (needs_read && reads.is_none()) || by.is_some_and(changes);
        // Columns of `on_conflict` are known to a role that may read them.
        let is_known = |place: &usize| {
            reads.is_some_and(|reads| reads.columns[*place])
                || (table.key.contains(place) && access.is_some_and(|access| access.columns[*place]))
        };
        let is_unknown = match &self.verb {
            Verb::Upsert { by, .. } => *by != table.key && !by.iter().all(is_known),
            _ => false,
        };
        // The key of a `PUT` is written like other columns.
        let may_write = |place: &usize| access.is_none_or(|access| access.columns[*place]);
        let sets_key = self.verb == Verb::Put && !table.key.iter().all(may_write);
        let wrong = [
            (may_not, denied(asker)),
            (sets_key, denied(asker).or(400, "PGRST204")),
            (lacks, Outcome::refused(400, "23502")),
            (is_unknown, Outcome::refused(400, "PGRST204")),
        ];
        let wrong = wrong
            .into_iter()
            .filter_map(|(is_wrong, refused)| is_wrong.then_some(refused));
        wrong.reduce(Outcome::or_as)
    }

    /// The columns by which rows are found that are changed then.
    fn merges<'s>(&'s self, table: &'s Table) -> Option<&'s [usize]> {
        match &self.verb {
            Verb::Upsert { by, merges: true } => Some(by),
            Verb::Put => Some(&table.key),
            _ => None,
        }
    }

    fn delete(&self, before: &World, world: &mut World, asker: &Asker<'_>) -> (Rows, usize) {
        let table = &before.tables[self.table];
        let access = table.access(asker.role, |grant| &grant.delete).unwrap();
        let removed = |row: &Row| self.chooses(before, row, asker) && access.allows(table, row, asker);
        let rows = table.rows.iter().filter(|row| removed(row)).cloned().collect();
        world.tables[self.table].rows.retain(|row| !removed(row));
        (rows, 0)
    }

    /// Whether the filters choose a row that the role may read.
    fn chooses(&self, world: &World, row: &Row, asker: &Asker<'_>) -> bool {
        let read = Read {
            table: self.table,
            filters: self.filters.clone(),
            ..Read::default()
        };
        read.chooses(world, row, asker)
    }

    fn update(&self, before: &World, world: &mut World, asker: &Asker<'_>) -> Result<(Rows, usize), Outcome> {
        let table = &before.tables[self.table];
        let access = table.access(asker.role, |grant| &grant.update).unwrap();
        let (mut changed, mut breaks_rule) = (Vec::new(), false);
        for row in &mut world.tables[self.table].rows {
            if self.columns.is_empty() || !self.chooses(before, row, asker) || !access.allows(table, row, asker) {
                continue;
            }
            for (place, value) in self.columns.iter().zip(&self.rows[0]) {
                row[*place] = value.clone().unwrap();
            }
            breaks_rule |= !access.allows(table, row, asker);
            changed.push(row.clone());
        }
        self.kept(world, breaks_rule, asker).map(|()| (changed, 0))
    }

    /// The rows after a change; or that it breaks a rule, or makes a unique value twice.
    fn kept(&self, world: &World, breaks_rule: bool, asker: &Asker<'_>) -> Result<(), Outcome> {
        let table = &world.tables[self.table];
        let is_twice = |columns: &[usize]| {
            let mut known: Vec<Vec<&Value>> = Vec::new();
            table.rows.iter().any(|row| {
                let values: Vec<&Value> = columns.iter().map(|place| &row[*place]).collect();
                let is_known = !values.contains(&&Value::Null) && known.contains(&values);
                known.push(values);
                is_known
            })
        };
        match (is_twice(&table.key) || is_twice(&[table.unique]), breaks_rule) {
            (false, false) => Ok(()),
            (true, false) => Err(Outcome::refused(409, "23505")),
            (false, true) => Err(denied(asker)),
            (true, true) => Err(denied(asker).or(409, "23505")),
        }
    }

    fn insert(&self, before: &World, world: &mut World, asker: &Asker<'_>) -> Result<(Rows, usize), Outcome> {
        let table = &before.tables[self.table];
        let create = table.access(asker.role, |grant| &grant.create).unwrap();
        let update = table.access(asker.role, |grant| &grant.update);
        let read = table.access(asker.role, |grant| &grant.read);
        let (by, merges): (&[usize], bool) = match &self.verb {
            Verb::Upsert { by, merges } => (by, *merges),
            Verb::Put => (&table.key, true),
            _ => (&[], false),
        };
        let (mut done, mut new, mut breaks_rule) = (Vec::new(), 0, false);
        let (mut seen, mut moves): (Vec<Vec<Value>>, bool) = (Vec::new(), false);
        for body in &self.rows {
            let row = self.new_row(table, body);
            let found_by: Vec<Value> = by.iter().map(|place| row[*place].clone()).collect();
            let can_be_found = !by.is_empty() && !found_by.contains(&Value::Null);
            if can_be_found && seen.contains(&found_by) {
                match merges {
                    true => {
                        return Err(Outcome::refused(400, "21000")
                            .or(409, "23505")
                            .or(403, "42501")
                            .or(401, "42501"));
                    }
                    false => continue,
                }
            }
            let is_it = |known: &Row| can_be_found && by.iter().all(|place| known[*place] == row[*place]);
            let known = before.tables[self.table].rows.iter().position(is_it);
            seen.push(found_by);
            match known {
                None => {
                    breaks_rule |= !create.allows(table, &row, asker);
                    new += 1;
                    done.push(row.clone());
                    world.tables[self.table].rows.push(row);
                }
                Some(_) if !merges => {}
                Some(at) => {
                    let known = &before.tables[self.table].rows[at];
                    let mut changed = known.clone();
                    for place in self.columns.iter().filter(|place| !by.contains(place)) {
                        changed[*place] = row[*place].clone();
                    }
                    let may = [update, read]
                        .iter()
                        .all(|access| access.is_some_and(|access| access.allows(table, known, asker)));
                    breaks_rule |= !may || !update.is_some_and(|update| update.allows(table, &changed, asker));
                    done.push(changed.clone());
                    world.tables[self.table].rows[at] = changed;
                }
            }
            moves |= self.kept(world, false, asker).is_err();
        }
        // A row that a rule keeps from changing may be in the way of another one, and either is
        // refused first.
        let kept = self.kept(world, breaks_rule, asker);
        let kept = kept.map_err(|refused| match breaks_rule && merges {
            true => refused.or(409, "23505"),
            false => refused,
        });
        match moves {
            true => Err(kept.err().unwrap_or(Outcome::Either)),
            false => kept.map(|()| (done, new)),
        }
    }

    fn new_row(&self, table: &Table, body: &[Option<Value>]) -> Row {
        let each = table.columns.iter().enumerate().map(|(place, column)| {
            let at = self.columns.iter().position(|known| *known == place);
            let given = at.and_then(|at| body[at].clone());
            given.or_else(|| column.default.clone()).unwrap_or(Value::Null)
        });
        each.collect()
    }

    fn answered(&self, before: &World, after: &World, asker: &Asker<'_>, rows: &Rows, new: usize) -> Outcome {
        let full = self.representation.is_some();
        let status = match &self.verb {
            Verb::Upsert { merges: true, .. } if new == 0 => 200,
            Verb::Insert | Verb::Upsert { .. } => 201,
            Verb::Put if full && new > 0 => 201,
            _ if full => 200,
            _ => 204,
        };
        let Some(read) = &self.representation else {
            return Outcome::Rows {
                status,
                rows: None,
                is_ordered: true,
                range: None,
            };
        };
        // What is removed is read while it is there.
        let world = if self.verb == Verb::Delete { before } else { after };
        let shown = rows.iter().filter(|row| read.chooses(world, row, asker));
        Outcome::Rows {
            status,
            rows: Some(shown.map(|row| read.object(world, row, asker)).collect()),
            is_ordered: !matches!(self.verb, Verb::Update | Verb::Delete),
            range: None,
        }
    }
}
