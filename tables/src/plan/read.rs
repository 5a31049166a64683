//! A read, with the rows of relations that are embedded in it.

use std::collections::{HashMap, HashSet};

use super::{Condition, scope::Level};
use crate::{
    model::{Relation, Table},
    refusal::Refusal,
    request::select::Embedded,
    sql::Dialect,
    value::write_text,
};

/// The rows of one table that are wanted.
#[derive(Debug)]
pub(crate) struct Read<'m> {
    pub(crate) table: &'m Table,
    /// The members of a row, in their order.
    pub(crate) outputs: Vec<Output>,
    /// The columns that the statement returns, as places in the table: those of the outputs, then
    /// those that joins and pages need.
    pub(crate) columns: Vec<usize>,
    /// Its number if a statement returns the rows of several tables, and 0 otherwise.
    pub(crate) number: usize,
    /// The index of each column in the rows of such a statement.
    places: Vec<usize>,
    /// Whether a column is there under several names.
    pub(crate) repeats: bool,
    pub(crate) condition: Condition<'m>,
    pub(crate) order: Vec<Term>,
    /// Whether the role may know the key, so that a page can begin after a row.
    pub(crate) knows_key: bool,
    pub(crate) page: Page,
    pub(crate) children: Vec<Child<'m>>,
}

/// Which of the rows, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Page {
    pub(crate) offset: u64,
    pub(crate) limit: Option<u64>,
}

/// A member of a row.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    Column {
        key: String,
        /// The key as JSON, with the colon after it.
        begin: Vec<u8>,
        /// The place in [`Read::columns`].
        slot: usize,
    },
    /// The embedded rows of this place.
    Child(usize),
}

/// The rows of a relation.
#[derive(Debug)]
pub(crate) struct Child<'m> {
    /// The member's name.
    pub(crate) key: String,
    /// How parameters name it.
    pub(super) level: Level,
    pub(crate) relation: &'m Relation,
    /// Whether only rows that have such a row are wanted.
    pub(crate) inner: bool,
    /// Whether its members stand in the row itself.
    pub(crate) spread: bool,
    /// Whether the answer has it: `roles()` is only there for filters.
    pub(crate) shown: bool,
    pub(crate) read: Read<'m>,
    /// The place in `columns` of each column of the relation here, and there.
    pub(crate) here: Vec<usize>,
    pub(crate) there: Vec<usize>,
    /// For each column of the relation, whether the database cannot compare it as it is.
    pub(crate) mixed: Vec<bool>,
}

/// A term of an order.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    pub(crate) column: TermColumn,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TermColumn {
    /// A place in the table's columns.
    Own(usize),
    /// A column of the one embedded row of this place.
    Related(usize, usize),
}

impl Child<'_> {
    /// Whether its rows are asked of the database.
    pub(crate) fn is_sent(&self) -> bool {
        self.shown && self.read.page.limit != Some(0)
    }

    /// The names of the members that it gives to the row around it.
    fn members(&self) -> Vec<&str> {
        match self.spread {
            true => self.read.members(),
            false => vec![&self.key],
        }
    }
}

fn twice(key: &str) -> Refusal {
    let key = crate::refusal::shortened(key);
    let message = format!("'{key}' is there twice in 'select': give one of them an alias");
    Refusal::bad("PGRST100", message).at_parameter("select", "holds a name twice")
}

impl<'m> Read<'m> {
    pub(super) fn new(table: &'m Table, knows_key: bool) -> Self {
        Self {
            table,
            outputs: Vec::new(),
            columns: Vec::new(),
            number: 0,
            places: Vec::new(),
            repeats: false,
            condition: Condition::Always,
            order: Vec::new(),
            knows_key,
            page: Page::default(),
            children: Vec::new(),
        }
    }

    /// Adds a column as a member.
    pub(super) fn add_column(&mut self, key: &str, place: usize) {
        let slot = self.slot(place);
        let mut begin = Vec::with_capacity(key.len() + 3);
        write_text(&mut begin, key);
        begin.push(b':');
        let key = key.to_owned();
        self.outputs.push(Output::Column { key, begin, slot });
    }

    /// Refuses two members of one name. A column that is there twice under it counts once.
    pub(super) fn check_members(&mut self) -> Result<(), Refusal> {
        let mut known: HashMap<&str, Option<usize>> = HashMap::with_capacity(self.outputs.len());
        let mut is_shown = vec![false; self.columns.len()];
        let mut again = HashSet::new();
        for (index, output) in self.outputs.iter().enumerate() {
            match output {
                Output::Column { key, slot, .. } => match known.insert(key, Some(*slot)) {
                    None => self.repeats |= std::mem::replace(&mut is_shown[*slot], true),
                    Some(before) if before == Some(*slot) => drop(again.insert(index)),
                    Some(_) => return Err(twice(key)),
                },
                Output::Child(place) => {
                    for key in self.children[*place].members() {
                        if known.insert(key, None).is_some() {
                            return Err(twice(key));
                        }
                    }
                }
            }
        }
        if !again.is_empty() {
            let mut index = 0..;
            self.outputs
                .retain(|_| index.next().is_some_and(|index| !again.contains(&index)));
        }
        Ok(())
    }

    pub(super) fn add_child(
        &mut self,
        relation: &'m Relation,
        embedded: &Embedded,
        level: Level,
        mixed: Vec<bool>,
        mut below: Read<'m>,
    ) -> Result<(), Refusal> {
        let key = embedded.key();
        if self.children.iter().any(|child| child.shown && child.key == key) {
            return Err(twice(key));
        }
        let here = relation.on.iter().map(|(here, _)| self.slot(*here)).collect();
        let there = relation.on.iter().map(|(_, there)| below.slot(*there)).collect();
        // A spread row without members is none of the answer.
        let shown = !(embedded.items.is_empty() || embedded.spread && below.outputs.is_empty());
        if shown {
            self.outputs.push(Output::Child(self.children.len()));
        }
        self.children.push(Child {
            key: key.to_owned(),
            level,
            relation,
            inner: embedded.inner,
            spread: embedded.spread,
            shown,
            read: below,
            here,
            there,
            mixed,
        });
        Ok(())
    }

    /// The names of its members, with those of spread rows.
    pub(crate) fn members(&self) -> Vec<&str> {
        let each = self.outputs.iter().flat_map(|output| match output {
            Output::Column { key, .. } => vec![key.as_str()],
            Output::Child(place) => self.children[*place].members(),
        });
        each.collect()
    }

    /// Adds a term to the order. Rows that are equal in a column stay equal in it, so a second term
    /// of that column changes nothing and is left out.
    pub(super) fn order_by(&mut self, term: Term) {
        if self.order.iter().all(|known| known.column != term.column) {
            self.order.push(term);
        }
    }

    /// The place of a column in [`columns`](Self::columns), to which it is added.
    pub(crate) fn slot(&mut self, place: usize) -> usize {
        match self.columns.iter().position(|known| *known == place) {
            Some(slot) => slot,
            None => {
                self.columns.push(place);
                self.columns.len() - 1
            }
        }
    }

    /// Gives each table of the read a number, and each column a place in the rows of one statement
    /// that returns the rows of all tables. It comes last: a column that is added later has none.
    pub(crate) fn lay_out(&mut self) {
        self.place(&mut 0, &mut Vec::new());
    }

    /// A row is of one table, so tables share the columns of the same type. The first column is the
    /// table's number.
    fn place(&mut self, tables: &mut usize, types: &mut Vec<&'static str>) {
        *tables += 1;
        self.number = *tables;
        self.places.clear();
        let mut is_used = vec![false; types.len()];
        for column in &self.columns {
            let wanted = Dialect::output_type(&self.table.columns[*column].kind);
            let known = (0..types.len()).find(|at| types[*at] == wanted && !is_used[*at]);
            let at = known.unwrap_or_else(|| {
                types.push(wanted);
                is_used.push(false);
                types.len() - 1
            });
            is_used[at] = true;
            self.places.push(at + 1);
        }
        for child in self.children.iter_mut().filter(|child| child.is_sent()) {
            child.read.place(tables, types);
        }
    }

    /// Whether one statement returns its rows and the embedded ones.
    pub(crate) fn is_laid_out(&self) -> bool {
        self.number > 0
    }

    /// The index of a column in the statement's rows.
    pub(crate) fn index(&self, slot: usize) -> usize {
        self.places.get(slot).copied().unwrap_or(slot)
    }

    /// The number of its last table.
    pub(crate) fn last_number(&self) -> usize {
        let sent = self.children.iter().filter(|child| child.is_sent());
        sent.fold(self.number, |_, child| child.read.last_number())
    }

    /// How many columns it has, with those of the embedded tables.
    pub(crate) fn width(&self) -> usize {
        let sent = self.children.iter().filter(|child| child.is_sent());
        self.columns.len() + sent.map(|child| child.read.width()).sum::<usize>()
    }

    /// The index of the column that counts the rows of all pages.
    pub(crate) fn count_index(&self) -> usize {
        match self.is_laid_out() {
            true => self.last_index() + 1,
            false => self.columns.len().max(1),
        }
    }

    fn last_index(&self) -> usize {
        let sent = self.children.iter().filter(|child| child.is_sent());
        let indexes = self.places.iter().copied();
        indexes
            .chain(sent.map(|child| child.read.last_index()))
            .max()
            .unwrap_or(0)
    }

    /// Whether a row is selected by its table's columns alone, and is answered without embedded
    /// rows.
    pub(crate) fn is_flat(&self) -> bool {
        self.children.is_empty()
    }
}
