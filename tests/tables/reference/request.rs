//! Reads: made at random, and written as a URL.

use fastrand::Rng;

use super::{
    filter::{Maker, Tree},
    world::{Table, World},
};

/// A text as a URL has it.
pub(super) fn encoded(text: &str) -> String {
    let each = text.bytes().map(|byte| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    each.collect()
}

/// The rows of one table that are asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Read {
    pub(super) table: usize,
    pub(super) items: Vec<Item>,
    pub(super) filters: Vec<Tree>,
    pub(super) order: Vec<Term>,
    pub(super) limit: Option<u64>,
    pub(super) offset: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) enum Item {
    Star,
    Column {
        place: usize,
        alias: Option<String>,
    },
    Embedded {
        relation: usize,
        key: String,
        alias: bool,
        inner: bool,
        spread: bool,
        read: Box<Read>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Term {
    /// The place of an embedded item, if it is a column of that one's row.
    pub(super) of: Option<usize>,
    pub(super) column: usize,
    pub(super) descending: bool,
    pub(super) nulls_first: Option<bool>,
}

/// Makes reads that are right, for a role.
pub(super) struct Reader<'a> {
    pub(super) world: &'a World,
    pub(super) role: &'static str,
}

impl Reader<'_> {
    /// A read of a table, of which the role may read `columns`.
    pub(super) fn read(&self, random: &mut Rng, table: usize, depth: usize) -> Read {
        let columns = self.world.tables[table].readable(self.role);
        let mut read = Read {
            table,
            ..Read::default()
        };
        self.items(random, &mut read, &columns, depth);
        let maker = Maker {
            table: &self.world.tables[table],
            columns: columns.clone(),
            is_rule: false,
        };
        let filters = [0, 0, 1, 1, 2, 3][random.usize(..6)];
        read.filters = (0..filters).map(|_| maker.tree(random, 0)).collect();
        let embedded = read.embedded();
        if !embedded.is_empty() && random.u8(..3) == 0 {
            let place = random.usize(..embedded.len());
            read.filters.push(Tree::Embedded {
                name: embedded[place].0.to_owned(),
                place,
                exists: random.bool(),
            });
        }
        self.order(random, &mut read, &columns);
        if random.u8(..3) == 0 {
            read.limit = Some(random.u64(0..6));
        }
        if random.u8(..5) == 0 {
            read.offset = Some(random.u64(0..4));
        }
        read
    }

    fn items(&self, random: &mut Rng, read: &mut Read, columns: &[usize], depth: usize) {
        let table = &self.world.tables[read.table];
        if random.u8(..3) == 0 {
            read.items.push(Item::Star);
        } else {
            for (number, place) in columns.iter().enumerate() {
                if random.bool() || (number + 1 == columns.len() && read.items.is_empty()) {
                    let alias = (random.u8(..4) == 0).then(|| format!("a{number}"));
                    read.items.push(Item::Column { place: *place, alias });
                }
            }
        }
        for (relation, found) in table.relations.iter().enumerate() {
            let may = self.world.tables[found.to]
                .access(self.role, |grant| &grant.read)
                .is_some();
            if depth >= 3 || !may || random.u8(..3) > 0 {
                continue;
            }
            let spread = !found.many && depth == 0 && random.u8(..4) == 0;
            let alias = !spread && random.bool();
            let key = if alias {
                format!("e{relation}")
            } else {
                found.name.clone()
            };
            let mut below = self.read(random, found.to, depth + 1);
            if spread {
                // With names that the row around it does not have.
                below.items.retain(|item| matches!(item, Item::Column { .. }));
                for (number, item) in below.items.iter_mut().enumerate() {
                    if let Item::Column { alias, .. } = item {
                        *alias = Some(format!("s{number}"));
                    }
                }
                if below.items.is_empty() {
                    continue;
                }
                let is_plain = |tree: &Tree| !matches!(tree, Tree::Embedded { .. });
                below.filters.retain(is_plain);
                below.order.retain(|term| term.of.is_none());
            }
            if !found.many {
                (below.limit, below.offset, below.order) = (None, None, Vec::new());
            }
            let inner = random.u8(..3) == 0;
            read.items.push(Item::Embedded {
                relation,
                key,
                alias,
                inner,
                spread,
                read: Box::new(below),
            });
        }
    }

    fn order(&self, random: &mut Rng, read: &mut Read, columns: &[usize]) {
        for _ in 0..random.usize(..3) {
            let embedded = read.embedded();
            let table = &self.world.tables[read.table];
            let to_one = |place: &usize| !table.relations[embedded[*place].1].many && !embedded[*place].3;
            let of = (0..embedded.len()).filter(to_one).find(|_| random.u8(..3) == 0);
            let target = of.map_or(read.table, |place| embedded[place].2.table);
            let readable = match of {
                None => columns.to_vec(),
                Some(_) => self.world.tables[target].readable(self.role),
            };
            let column = readable[random.usize(..readable.len())];
            if !self.world.tables[target].columns[column].kind.is_sorted() {
                continue;
            }
            let nulls_first = (random.bool()).then(|| random.bool());
            let descending = random.bool();
            read.order.push(Term {
                of,
                column,
                descending,
                nulls_first,
            });
        }
    }
}

/// The parameters of a read that are for its own table, and for those embedded in it.
fn parameters(world: &World, read: &Read, path: &str, to: &mut Vec<(String, String)>) {
    let table = &world.tables[read.table];
    for filter in &read.filters {
        let (name, value) = filter.parameter(table);
        to.push((format!("{path}{name}"), value));
    }
    if !read.order.is_empty() {
        let each: Vec<String> = read.order.iter().map(|term| term.text(world, read)).collect();
        to.push((format!("{path}order"), each.join(",")));
    }
    let numbers = [("limit", read.limit), ("offset", read.offset)];
    to.extend(
        numbers
            .into_iter()
            .filter_map(|(name, number)| Some((format!("{path}{name}"), number?.to_string()))),
    );
    for (key, _, below, _) in read.embedded() {
        parameters(world, below, &format!("{path}{key}."), to);
    }
}

impl Read {
    /// Only the columns and the embedded rows of another one, for what a change answers.
    pub(super) fn representation(mut self) -> Self {
        self.filters.clear();
        (self.order, self.limit, self.offset) = (Vec::new(), None, None);
        self
    }

    /// In the order of the key.
    pub(super) fn by_key(mut self, table: &Table) -> Self {
        let term = |column: &usize| Term {
            of: None,
            column: *column,
            descending: false,
            nulls_first: None,
        };
        self.order = table.key.iter().map(term).collect();
        self
    }

    pub(super) fn query(&self, world: &World) -> Vec<(String, String)> {
        let mut all = vec![("select".to_owned(), self.select(world))];
        parameters(world, self, "", &mut all);
        all
    }

    /// The name, the relation, and the read of each embedded item; and whether it is spread.
    pub(super) fn embedded(&self) -> Vec<(&str, usize, &Self, bool)> {
        let each = self.items.iter().filter_map(|item| match item {
            Item::Embedded {
                key,
                relation,
                read,
                spread,
                ..
            } => Some((key.as_str(), *relation, &**read, *spread)),
            _ => None,
        });
        each.collect()
    }

    fn select(&self, world: &World) -> String {
        let table = &world.tables[self.table];
        let each = self.items.iter().map(|item| match item {
            Item::Star => "*".to_owned(),
            Item::Column { place, alias } => {
                let alias = alias.as_ref().map_or(String::new(), |alias| format!("{alias}:"));
                format!("{alias}{}", table.columns[*place].name)
            }
            Item::Embedded {
                relation,
                key,
                alias,
                inner,
                spread,
                read,
            } => {
                let alias = if *alias { format!("{key}:") } else { String::new() };
                let (dots, inner) = (if *spread { "..." } else { "" }, if *inner { "!inner" } else { "" });
                let name = &table.relations[*relation].name;
                format!("{alias}{dots}{name}{inner}({})", read.select(world))
            }
        });
        each.collect::<Vec<_>>().join(",")
    }
}

impl Term {
    fn text(&self, world: &World, read: &Read) -> String {
        let (table, of) = match self.of {
            None => (read.table, None),
            Some(place) => {
                let (key, _, below, _) = read.embedded()[place];
                (below.table, Some(key))
            }
        };
        let name = &world.tables[table].columns[self.column].name;
        let name = of.map_or(name.clone(), |key| format!("{key}({name})"));
        let descending = if self.descending { ".desc" } else { "" };
        let nulls = match self.nulls_first {
            None => "",
            Some(true) => ".nullsfirst",
            Some(false) => ".nullslast",
        };
        format!("{name}{descending}{nulls}")
    }
}
