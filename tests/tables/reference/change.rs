//! Changes: made at random, and written as requests.

use fastrand::Rng;
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::{
    Asked,
    filter::{Maker, Tree},
    request::{Read, Reader, encoded},
    value::{Kind, Value},
    world::{Access, Row, Table, World},
};

/// A change that is to be made.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) table: usize,
    pub(super) verb: Verb,
    /// The columns that the body sets.
    pub(super) columns: Vec<usize>,
    /// For each row of the body; `None` leaves the column to its default.
    pub(super) rows: Vec<Vec<Option<Value>>>,
    pub(super) filters: Vec<Tree>,
    /// What is answered of the changed rows.
    pub(super) representation: Option<Read>,
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
            _ => Some(self.json(table)[0].clone()),
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
