//! Changes: made at random, and done in memory.

use fastrand::Rng;
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::{
    Asked, Outcome,
    filter::{Maker, Tree},
    request::{Read, Reader, encoded},
    value::{Kind, Value},
    world::{Access, Asker, Row, Table, World},
};

/// A change that is to be made.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) table: usize,
    pub(super) verb: Verb,
    /// The columns that the body sets.
    columns: Vec<usize>,
    /// For each row of the body; `None` leaves the column to its default.
    rows: Vec<Vec<Option<Value>>>,
    filters: Vec<Tree>,
    /// What is answered of the changed rows.
    representation: Option<Read>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verb {
    Insert,
    /// An insert that finds rows by these columns, and changes them or leaves them.
    Upsert {
        by: Vec<usize>,
        merges: bool,
    },
    Put,
    Update,
    Delete,
}

/// The refusal of what a role may not do.
pub(super) fn denied(asker: &Asker<'_>) -> Outcome {
    Outcome::refused(if asker.role == "anon" { 401 } else { 403 }, "42501")
}

/// A body's rows as they are in memory.
type Rows = Vec<Row>;

impl Change {
    pub(super) fn new(random: &mut Rng, world: &World, table: usize, role: &'static str) -> Self {
        let of = &world.tables[table];
        let by_key = || of.key.clone();
        let verb = match random.u8(..10) {
            0..3 => Verb::Insert,
            3 => Verb::Upsert {
                by: vec![of.unique],
                merges: random.bool(),
            },
            4..6 => Verb::Upsert {
                by: by_key(),
                merges: random.u8(..3) > 0,
            },
            6 => Verb::Put,
            7..9 => Verb::Update,
            _ => Verb::Delete,
        };
        let reader = Reader { world, role };
        let columns = of.readable(role);
        let representation = (!columns.is_empty() && random.bool()).then(|| {
            let read = reader.read(random, table, 1).representation();
            match of.key.iter().all(|place| columns.contains(place)) && matches!(verb, Verb::Update | Verb::Delete) {
                true => read.by_key(of),
                false => read,
            }
        });
        let mut change = Self {
            table,
            verb,
            columns: Vec::new(),
            rows: Vec::new(),
            filters: Vec::new(),
            representation,
        };
        let maker = Maker {
            table: of,
            columns: if columns.is_empty() { vec![of.key[0]] } else { columns },
            is_rule: false,
        };
        match change.verb {
            Verb::Update | Verb::Delete => {
                change.filters = (0..random.usize(1..3)).map(|_| maker.tree(random, 1)).collect();
                if change.verb == Verb::Update {
                    let access = of.access(role, |grant| &grant.update);
                    change.body(random, of, access, false);
                }
            }
            _ => change.body(random, of, of.access(role, |grant| &grant.create), true),
        }
        change
    }

    fn body(&mut self, random: &mut Rng, table: &Table, access: Option<&Access>, is_new: bool) {
        for (place, column) in table.columns.iter().enumerate() {
            let may = access.is_none_or(|access| access.columns[place]);
            let needed = is_new && (table.key.contains(&place) || (!column.nullable && column.default.is_none()));
            let is_given = self.verb == Verb::Put && table.key.contains(&place);
            let wanted = match table.key.contains(&place) && !is_new {
                true => random.u8(..12) == 0,
                false => random.bool(),
            };
            if (may || is_given) && (needed || wanted) {
                self.columns.push(place);
            }
        }
        let count = if matches!(self.verb, Verb::Insert | Verb::Upsert { .. }) {
            random.usize(1..5)
        } else {
            1
        };
        for _ in 0..count {
            let each = self.columns.iter().map(|place| {
                let column = &table.columns[*place];
                match () {
                    () if is_new && column.default.is_some() && random.u8(..4) == 0 => None,
                    () if column.nullable && random.u8(..4) == 0 => Some(Value::Null),
                    () if table.key.contains(place) => Some(Value::Int(
                        random.i64(0..if column.kind == Kind::Int2 { 3 } else { 18 }),
                    )),
                    () if *place == table.unique => Some(Value::Int(random.i64(100..118))),
                    () if column.name == "up" => Some(Value::Int(random.i64(0..16))),
                    () => Some(column.kind.value(random)),
                }
            });
            let row = each.collect();
            self.rows.push(row);
        }
    }

    /// The request.
    pub(super) fn asked(&self, world: &World) -> Asked {
        let table = &world.tables[self.table];
        let mut query: Vec<(String, String)> = self.filters.iter().map(|filter| filter.parameter(table)).collect();
        let mut prefer = vec![if self.representation.is_some() {
            "return=representation"
        } else {
            "return=minimal"
        }];
        if let Some(read) = &self.representation {
            query.extend(read.query(world));
        }
        let name = |place: &usize| table.columns[*place].name.clone();
        let names = |places: &[usize]| places.iter().map(name).collect::<Vec<_>>().join(",");
        let is_insert = matches!(self.verb, Verb::Insert | Verb::Upsert { .. } | Verb::Put);
        if is_insert && !self.columns.is_empty() {
            prefer.push("missing=default");
            query.push(("columns".to_owned(), names(&self.columns)));
        }
        let mut method = Method::POST;
        match &self.verb {
            Verb::Insert => {}
            Verb::Upsert { by, merges } => {
                prefer.push(if *merges {
                    "resolution=merge-duplicates"
                } else {
                    "resolution=ignore-duplicates"
                });
                if *by != table.key {
                    query.push(("on_conflict".to_owned(), names(by)));
                }
            }
            Verb::Put => {
                method = Method::PUT;
                for place in &table.key {
                    let at = self.columns.iter().position(|known| known == place).unwrap();
                    query.push((
                        table.columns[*place].parameter(),
                        format!("eq.{}", self.rows[0][at].as_ref().unwrap().text()),
                    ));
                }
            }
            Verb::Update => method = Method::PATCH,
            Verb::Delete => method = Method::DELETE,
        }
        let query: Vec<String> = query
            .into_iter()
            .map(|(name, value)| format!("{name}={}", encoded(&value)))
            .collect();
        let body = match &self.verb {
            Verb::Delete => None,
            Verb::Insert | Verb::Upsert { .. } => Some(self.json(table)),
            _ => Some(self.json(table)[0].clone().into()),
        };
        Asked {
            method,
            path: format!("{}?{}", table.name, query.join("&")),
            prefer: prefer.join(", "),
            accept: "*/*",
            body: body.map(|body| body.to_string()),
        }
    }

    fn json(&self, table: &Table) -> Json {
        let object = |row: &Vec<Option<Value>>| {
            let set = self.columns.iter().zip(row).filter_map(|(place, value)| {
                let (column, value) = (&table.columns[*place], value.as_ref()?);
                Some((
                    column.name.clone(),
                    serde_json::from_str(&value.json(column.kind)).unwrap(),
                ))
            });
            Json::Object(set.collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }

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
        match (lacks, may_not) {
            (false, false) => None,
            (true, false) => Some(Outcome::refused(400, "23502")),
            (false, true) => Some(denied(asker)),
            (true, true) => Some(denied(asker).or(400, "23502")),
        }
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
        let mut seen: Vec<Vec<Value>> = Vec::new();
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
        }
        self.kept(world, breaks_rule, asker).map(|()| (done, new))
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

/// Everything that the first rows of a table are made with.
pub(super) fn first_rows(table: &Table) -> String {
    let object = |row: &Row| {
        let set = row.iter().zip(&table.columns).map(|(value, column)| {
            (
                column.name.clone(),
                serde_json::from_str(&value.json(column.kind)).unwrap(),
            )
        });
        Json::Object(set.collect::<Map<_, _>>())
    };
    json!(table.rows.iter().map(object).collect::<Vec<_>>()).to_string()
}
