//! Reads, answered from memory.

use std::cmp::Ordering;

use super::{
    request::{Item, Read, Term},
    value::{Kind, Value},
    world::{Asker, Row, Table, World},
};

impl Read {
    /// The rows of the table that its filters choose and the role may read, each with its place.
    fn chosen<'w>(&self, world: &'w World, asker: &Asker<'_>) -> Vec<&'w Row> {
        let table = &world.tables[self.table];
        table
            .rows
            .iter()
            .filter(|row| self.chooses(world, row, asker))
            .collect()
    }

    /// Whether a row is one that this read answers.
    pub(super) fn chooses(&self, world: &World, row: &Row, asker: &Asker<'_>) -> bool {
        let table = &world.tables[self.table];
        let Some(access) = table.access(asker.role, |grant| &grant.read) else {
            return false;
        };
        let embedded = self.embedded();
        let exists = |place: usize| {
            let (_, relation, below, _) = embedded[place];
            !below.related(world, table, relation, row, asker).is_empty()
        };
        let inner = self.items.iter().filter_map(|item| match item {
            Item::Embedded { inner, .. } => Some(*inner),
            _ => None,
        });
        access.allows(table, row, asker)
            && self
                .filters
                .iter()
                .all(|tree| tree.holds(table, row, asker, &exists) == Some(true))
            && inner.enumerate().all(|(place, inner)| !inner || exists(place))
    }

    /// The rows of a relation that belong to a row, all of them and in no order.
    fn related<'w>(
        &self,
        world: &'w World,
        table: &Table,
        relation: usize,
        row: &Row,
        asker: &Asker<'_>,
    ) -> Vec<&'w Row> {
        let relation = &table.relations[relation];
        let mut rows = self.chosen(world, asker);
        rows.retain(|other| row[relation.here] != Value::Null && other[relation.there] == row[relation.here]);
        rows
    }

    fn sort(&self, world: &World, rows: &mut [&Row], asker: &Asker<'_>) {
        let table = &world.tables[self.table];
        let embedded = self.embedded();
        let operand = |term: &Term, row: &Row| match term.of {
            None => (table.columns[term.column].kind, row[term.column].clone()),
            Some(place) => {
                let (_, relation, below, _) = embedded[place];
                let kind = world.tables[below.table].columns[term.column].kind;
                let found = below.related(world, table, relation, row, asker);
                (kind, found.first().map_or(Value::Null, |row| row[term.column].clone()))
            }
        };
        rows.sort_by(|one, other| {
            let by_terms = self.order.iter().map(|term| {
                let ((kind, one), (_, other)) = (operand(term, one), operand(term, other));
                term.compare(kind, &one, &other)
            });
            let by_key = table
                .key
                .iter()
                .map(|place| Kind::Int8.compare(&one[*place], &other[*place]).unwrap());
            by_terms
                .chain(by_key)
                .find(|ordering| ordering.is_ne())
                .unwrap_or(Ordering::Equal)
        });
    }

    /// The page of some rows.
    fn page<'w>(&self, mut rows: Vec<&'w Row>, most: u64) -> Vec<&'w Row> {
        let offset = (self.offset.unwrap_or(0) as usize).min(rows.len());
        rows.drain(..offset);
        rows.truncate(self.limit.unwrap_or(most).min(most) as usize);
        rows
    }

    /// What is answered, and how many rows all pages have.
    pub(super) fn answer(&self, world: &World, asker: &Asker<'_>) -> (Vec<String>, usize) {
        let mut rows = self.chosen(world, asker);
        self.sort(world, &mut rows, asker);
        let total = rows.len();
        let rows = self.page(rows, world.max_rows);
        (rows.iter().map(|row| self.object(world, row, asker)).collect(), total)
    }

    pub(super) fn first(&self) -> u64 {
        self.offset.unwrap_or(0)
    }

    /// A row as JSON.
    pub(super) fn object(&self, world: &World, row: &Row, asker: &Asker<'_>) -> String {
        format!("{{{}}}", self.members(world, Some(row), asker).join(","))
    }

    /// The members of a row; all are null if there is none.
    fn members(&self, world: &World, row: Option<&Row>, asker: &Asker<'_>) -> Vec<String> {
        let table = &world.tables[self.table];
        let value = |place: usize| row.map_or("null".to_owned(), |row| row[place].json(table.columns[place].kind));
        let mut members = Vec::new();
        for item in &self.items {
            match item {
                Item::Star => {
                    let each = table.readable(asker.role).into_iter();
                    members.extend(each.map(|place| format!("\"{}\":{}", table.columns[place].name, value(place))));
                }
                Item::Column { place, alias } => {
                    let key = alias.as_ref().unwrap_or(&table.columns[*place].name);
                    members.push(format!("\"{key}\":{}", value(*place)));
                }
                Item::Embedded {
                    relation,
                    key,
                    spread,
                    read,
                    ..
                } => {
                    let mut rows = row.map_or(Vec::new(), |row| read.related(world, table, *relation, row, asker));
                    read.sort(world, &mut rows, asker);
                    if *spread {
                        members.extend(read.members(world, rows.first().copied(), asker));
                        continue;
                    }
                    let rows = read.page(rows, u64::MAX);
                    let objects: Vec<String> = rows.iter().map(|row| read.object(world, row, asker)).collect();
                    let text = match (table.relations[*relation].many, objects.first()) {
                        (true, _) => format!("[{}]", objects.join(",")),
                        (false, Some(object)) => object.clone(),
                        (false, None) => "null".to_owned(),
                    };
                    members.push(format!("\"{key}\":{text}"));
                }
            }
        }
        members
    }
}

impl Term {
    fn compare(&self, kind: Kind, one: &Value, other: &Value) -> Ordering {
        let nulls_first = self.nulls_first.unwrap_or(self.descending);
        let of_null = if nulls_first { Ordering::Less } else { Ordering::Greater };
        match (one == &Value::Null, other == &Value::Null) {
            (true, true) => Ordering::Equal,
            (true, false) => of_null,
            (false, true) => of_null.reverse(),
            (false, false) => {
                let ordering = kind.compare(one, other).unwrap();
                if self.descending { ordering.reverse() } else { ordering }
            }
        }
    }
}
