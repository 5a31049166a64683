//! Random declarations, and the rows of their tables.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value as Json, json};

use super::{
    filter::{Maker, Tree},
    value::{KINDS, Kind, Value},
};

pub(super) type Row = Vec<Value>;

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) tables: Vec<Table>,
    pub(super) max_rows: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) key: Vec<usize>,
    /// A column that is unique beside the key.
    pub(super) unique: usize,
    pub(super) columns: Vec<Column>,
    pub(super) relations: Vec<Relation>,
    pub(super) roles: BTreeMap<&'static str, Grant>,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    pub(super) default: Option<Value>,
}

#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) name: String,
    pub(super) to: usize,
    pub(super) here: usize,
    pub(super) there: usize,
    pub(super) many: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Grant {
    pub(super) read: Option<Access>,
    pub(super) create: Option<Access>,
    pub(super) update: Option<Access>,
    pub(super) delete: Option<Access>,
}

#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) columns: Vec<bool>,
    pub(super) rule: Vec<Tree>,
}

/// Names of columns that parameters have too, which are written in quotes then.
const RESERVED: [&str; 5] = ["order", "limit", "offset", "select", "or"];

/// The role that makes the first rows, and may do everything.
pub(super) const MAKER: &str = "maker";
/// The roles that requests have: `knowing` has claims, and `anon` no token.
pub(super) const ROLES: [&str; 4] = ["anon", "knowing", "nameless", MAKER];

/// The sender of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) role: &'static str,
    pub(super) tenant: &'a str,
}

impl Asker<'_> {
    pub(super) fn claims(&self) -> Option<Json> {
        let mut claims = json!({"tenant": self.tenant, "role": self.role, "exp": 4_102_444_800_u64});
        match self.role {
            "anon" => return None,
            "knowing" => {
                claims["number"] = 1.into();
                claims["numbers"] = json!([0, "2", 3]);
                claims["deep"] = json!({"word": "ab"});
            }
            _ => {}
        }
        Some(claims)
    }

    /// The values of a claim; `None` without it.
    pub(super) fn claim(&self, name: &str) -> Option<Vec<Value>> {
        (self.role == "knowing").then(|| match name {
            "number" => vec![Value::Int(1)],
            "numbers" => [0, 2, 3].map(Value::Int).to_vec(),
            _ => vec![Value::Text("ab".to_owned())],
        })
    }
}

impl Access {
    /// Whether its row rule holds of a row.
    pub(super) fn allows(&self, table: &Table, row: &Row, asker: &Asker<'_>) -> bool {
        self.rule.iter().all(|tree| tree.is_known(asker))
            && self
                .rule
                .iter()
                .all(|tree| tree.holds(table, row, asker, &|_| false) == Some(true))
    }
}

impl Table {
    pub(super) fn access(&self, role: &str, of: fn(&Grant) -> &Option<Access>) -> Option<&Access> {
        of(self.roles.get(role)?).as_ref()
    }

    /// The columns that a role may read.
    pub(super) fn readable(&self, role: &str) -> Vec<usize> {
        let access = self.access(role, |grant| &grant.read);
        (0..self.columns.len())
            .filter(|place| access.is_some_and(|access| access.columns[*place]))
            .collect()
    }

    pub(super) fn place(&self, name: &str) -> usize {
        self.columns.iter().position(|column| column.name == name).unwrap()
    }

    fn new(place: usize, random: &mut Rng) -> Self {
        let is_composite = random.u8(..4) == 0;
        let mut columns = vec![column("id", "id", Kind::Int8, false)];
        if is_composite {
            columns.push(column("part", "the_part", Kind::Int2, false));
        }
        columns.push(column("up", "up_id", Kind::Int8, true));
        columns.push(column("code", "code", Kind::Int4, true));
        for number in 0..random.usize(3..7) {
            let kind = KINDS[random.usize(..KINDS.len())];
            let source = if random.bool() {
                format!("c{number}")
            } else {
                format!("Column {number}")
            };
            let name = match number == 0 && random.bool() {
                true => RESERVED[random.usize(..RESERVED.len())].to_owned(),
                false => format!("c{number}"),
            };
            let mut column = column(&name, &source, kind, random.bool());
            // MariaDB has no defaults for all of them.
            if kind != Kind::Json && random.u8(..3) == 0 {
                column.default = Some(kind.value(random));
            }
            columns.push(column);
        }
        // As a map of JSON has them.
        columns.sort_by(|one, other| one.name.cmp(&other.name));
        let place_of = |name: &str| columns.iter().position(|column| column.name == name).unwrap();
        Self {
            name: format!("t{place}"),
            source: if random.bool() {
                format!("t{place}")
            } else {
                format!("the_table_{place}")
            },
            key: match is_composite {
                true => vec![place_of("id"), place_of("part")],
                false => vec![place_of("id")],
            },
            unique: place_of("code"),
            columns,
            relations: Vec::new(),
            roles: BTreeMap::new(),
            rows: Vec::new(),
        }
    }

    fn grant(&self, random: &mut Rng) -> Grant {
        let mut access = |often: u8| {
            (random.u8(..10) < often).then(|| {
                let all: Vec<usize> = (0..self.columns.len()).collect();
                let few = random.u8(..3) == 0;
                let columns = all.iter().map(|place| *place == 0 || !few || random.bool()).collect();
                let maker = Maker {
                    table: self,
                    columns: all,
                    is_rule: true,
                };
                let rules = [0, 0, 1, 1, 2][random.usize(..5)];
                let rule = (0..rules).map(|_| maker.tree(random, 1)).collect();
                Access { columns, rule }
            })
        };
        Grant {
            read: access(9),
            create: access(7),
            update: access(7),
            delete: access(7),
        }
    }

    /// A row with a key of these numbers.
    fn row(&self, random: &mut Rng, id: i64, targets: i64) -> Row {
        let value = |column: &Column, random: &mut Rng| match column.name.as_str() {
            "id" => Value::Int(id),
            "part" => Value::Int(id % 3),
            "up" => Value::Int(random.i64(0..targets)),
            "code" => Value::Int(id + 100),
            _ => column.kind.value(random),
        };
        let each = self
            .columns
            .iter()
            .map(|column| match column.nullable && random.u8(..4) == 0 {
                true => Value::Null,
                false => value(column, random),
            });
        each.collect()
    }
}

fn column(name: &str, source: &str, kind: Kind, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        source: source.to_owned(),
        kind,
        nullable,
        default: None,
    }
}

impl Column {
    /// The name of the parameter that filters it.
    pub(super) fn parameter(&self) -> String {
        match RESERVED.contains(&self.name.as_str()) {
            true => format!("\"{}\"", self.name),
            false => self.name.clone(),
        }
    }
}

impl World {
    pub(super) fn new(random: &mut Rng) -> Self {
        let count = random.usize(2..5);
        let mut tables: Vec<Table> = (0..count).map(|place| Table::new(place, random)).collect();
        for place in 0..count {
            // To a table with a key of one column, which may be the same.
            let targets: Vec<usize> = (0..count).filter(|to| tables[*to].key.len() == 1).collect();
            if targets.is_empty() {
                continue;
            }
            let to = targets[random.usize(..targets.len())];
            let (here, there) = (tables[place].place("up"), tables[to].key[0]);
            tables[place].relations.push(Relation {
                name: "above".to_owned(),
                to,
                here,
                there,
                many: false,
            });
            let name = format!("below{place}");
            tables[to].relations.push(Relation {
                name,
                to: place,
                here: there,
                there: here,
                many: true,
            });
        }
        for table in &mut tables[..count] {
            for role in &ROLES[..3] {
                let grant = table.grant(random);
                table.roles.insert(role, grant);
            }
            let all = Some(Access {
                columns: vec![true; table.columns.len()],
                rule: Vec::new(),
            });
            let maker = Grant {
                read: all.clone(),
                create: all.clone(),
                update: all.clone(),
                delete: all,
            };
            table.roles.insert(MAKER, maker);
            let rows = random.i64(0..14);
            table.rows = (0..rows).map(|id| table.row(random, id, 12)).collect();
        }
        Self {
            tables,
            max_rows: if random.u8(..4) == 0 { random.u64(3..8) } else { 1000 },
        }
    }
}
