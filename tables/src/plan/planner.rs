//! Plans reads: tables, columns and relations are found, roles and row rules applied.

use super::{
    Condition, Page, Read, Term, TermColumn,
    condition::{Conditions, MOST_TESTS, rule},
    scope::{Level, Scope},
};
use crate::{
    caller::Caller,
    catalogue::Facts,
    declaration::ColumnType,
    model::{Access, Model, Relation, Table},
    refusal::Refusal,
    request::{
        order,
        query::{Path, Query, twice},
        select::{Embedded, Item},
    },
};

/// The most tables in one request.
const MOST_TABLES: usize = 20;
/// The most items of one `select`.
const MOST_ITEMS: usize = 1000;

/// Plans reads.
pub(crate) struct Planner<'m, 'q> {
    pub(crate) model: &'m Model,
    pub(crate) caller: Caller<'q>,
    query: &'q Query,
    facts: Option<&'q Facts>,
    tables_left: usize,
    tests_left: usize,
    /// Whether the rows are those that the request changed.
    is_representation: bool,
}

impl<'m, 'q> Planner<'m, 'q> {
    pub(crate) fn new(model: &'m Model, caller: Caller<'q>, query: &'q Query, facts: Option<&'q Facts>) -> Self {
        Self {
            model,
            caller,
            query,
            facts,
            tables_left: MOST_TABLES,
            tests_left: MOST_TESTS,
            is_representation: false,
        }
    }

    /// The read that the whole query describes.
    pub(crate) fn read(mut self, table: &'m Table) -> Result<Read<'m>, Refusal> {
        let star = [Item::Star];
        let items = self.query.select.as_deref().unwrap_or(&star);
        let mut read = self.table(table, items, &Scope::default())?;
        self.check_paths(&read)?;
        if let Some(places) = super::cursor::places(&read) {
            for place in places {
                read.slot(place);
            }
        }
        Ok(read)
    }

    /// What is answered of rows that the request changed: its filters chose them already.
    pub(crate) fn representation(mut self, table: &'m Table) -> Result<Read<'m>, Refusal> {
        self.is_representation = true;
        let mut read = self.read(table)?;
        for place in &table.key {
            read.slot(*place);
        }
        read.page = Page::default();
        Ok(read)
    }

    /// The rows that the filters of the table itself choose.
    pub(crate) fn chosen(mut self, table: &'m Table, access: &'m Access) -> Result<Condition<'m>, Refusal> {
        self.filters(table, access, &Scope::default(), Vec::new())
    }

    /// What may be read of a table.
    pub(crate) fn access(&self, table: &'m Table) -> Result<&'m Access, Refusal> {
        let grant = table.roles.get(self.caller.role);
        let access = grant.and_then(|grant| grant.read.as_ref());
        access.ok_or_else(|| Refusal::denied(&table.name, self.caller.has_token()))
    }

    fn table(&mut self, table: &'m Table, items: &[Item], scope: &Scope) -> Result<Read<'m>, Refusal> {
        self.tables_left = self
            .tables_left
            .checked_sub(1)
            .ok_or_else(|| Refusal::too_much(format!("the request embeds more than {MOST_TABLES} tables")))?;
        let access = self.access(table)?;
        let knows_key = !table.key.is_empty() && table.key.iter().all(|place| access.has(*place));
        let mut read = Read::new(table, knows_key);
        if items.len() > MOST_ITEMS {
            return Err(Refusal::too_much(format!("`select` has more than {MOST_ITEMS} items")));
        }
        for item in items {
            self.item(&mut read, access, item, items, scope)?;
        }
        read.check_members()?;
        self.conditions(&mut read, access, scope)?;
        self.order(&mut read, access, scope)
            .map_err(|refusal| refusal.in_parameter(&scope.path(), "order"))?;
        read.page = Page {
            offset: self.at(scope, &self.query.offsets)?.copied().unwrap_or(0),
            limit: self.at(scope, &self.query.limits)?.copied(),
        };
        Ok(read)
    }

    fn item(
        &mut self,
        read: &mut Read<'m>,
        access: &Access,
        item: &Item,
        items: &[Item],
        scope: &Scope,
    ) -> Result<(), Refusal> {
        match item {
            Item::Star => {
                let table = self.model.place(read.table);
                for (place, column) in read.table.columns.iter().enumerate() {
                    // A column of a later schema is no part of an earlier one.
                    let is_later = self.facts.is_some_and(|facts| facts.is_later(table, place));
                    if access.has(place) && !is_later {
                        read.add_column(&column.name, place);
                    }
                }
                Ok(())
            }
            Item::Column { name, alias } => {
                let place = read.table.column(name).filter(|place| access.has(*place));
                let place = place.ok_or_else(|| {
                    Refusal::no_column(read.table, name, Some(access))
                        .at_parameter("select", "names a column that the table does not have")
                })?;
                read.add_column(alias.as_ref().unwrap_or(name), place);
                Ok(())
            }
            Item::Aggregate => Err(Refusal::bad("PGRST123", "Use of aggregate functions is not allowed")),
            Item::Embedded(embedded) => self.embedded(read, embedded, Level::of(embedded, items), scope),
        }
    }

    fn embedded(
        &mut self,
        read: &mut Read<'m>,
        embedded: &Embedded,
        level: Level,
        scope: &Scope,
    ) -> Result<(), Refusal> {
        let relation = find_relation(self.model, read.table, embedded)?;
        if embedded.spread && relation.many {
            return Err(Refusal::bad("PGRST127", "Feature not implemented")
                .details("Only rows of relations to one can be spread"));
        }
        let within = scope.within(level.clone());
        let below = self.table(self.model.target(relation), &embedded.items, &within)?;
        let table = self.model.place(read.table);
        let mixed = relation.on.iter().map(|(here, there)| {
            self.facts
                .is_some_and(|facts| facts.is_mixed((table, *here), (relation.to, *there)))
        });
        read.add_child(relation, embedded, level, mixed.collect(), below)
    }

    fn conditions(&mut self, read: &mut Read<'m>, access: &'m Access, scope: &Scope) -> Result<(), Refusal> {
        let embedded = read.children.iter().map(|child| child.key.clone()).collect();
        let filters = match self.is_representation && scope.is_outermost() {
            true => Condition::Always,
            false => self.filters(read.table, access, scope, embedded)?,
        };
        let inner = read.children.iter().enumerate().filter(|(_, child)| child.inner);
        let inner = Condition::all(inner.map(|(place, _)| Condition::Embedded(place)));
        read.condition = Condition::all([filters, inner, rule(read.table, access, self.caller)]);
        Ok(())
    }

    fn filters(
        &mut self,
        table: &'m Table,
        access: &'m Access,
        scope: &Scope,
        embedded: Vec<String>,
    ) -> Result<Condition<'m>, Refusal> {
        let query = self.query;
        let mut conditions = Conditions {
            table,
            readable: Some(access),
            caller: self.caller,
            embedded,
            left: self.tests_left,
        };
        let mut each = Vec::new();
        for (path, filter) in query.filters.iter().filter(|(path, _)| scope.is(path)) {
            let condition = conditions.filter(filter);
            each.push(condition.map_err(|refusal| refusal.in_parameter(path, &filter.field))?);
        }
        for (path, tree) in query.groups.iter().filter(|(path, _)| scope.is(path)) {
            let condition = conditions.tree(tree);
            each.push(condition.map_err(|refusal| refusal.in_parameter(path, tree.parameter()))?);
        }
        self.tests_left = conditions.left;
        Ok(Condition::all(each))
    }

    fn order(&mut self, read: &mut Read<'m>, access: &Access, scope: &Scope) -> Result<(), Refusal> {
        let terms = self
            .at(scope, &self.query.orders)?
            .map(Vec::as_slice)
            .unwrap_or_default();
        for term in terms {
            let column = match &term.relation {
                None => {
                    let place = read.table.column(&term.column).filter(|place| access.has(*place));
                    TermColumn::Own(place.ok_or_else(|| {
                        Refusal::no_column(read.table, &term.column, Some(access))
                            .at_parameter("order", "names a column that the table does not have")
                    })?)
                }
                Some(name) => self.related_term(read, name, term)?,
            };
            let kind = match column {
                TermColumn::Own(place) => &read.table.columns[place].kind,
                TermColumn::Related(child, place) => &read.children[child].read.table.columns[place].kind,
            };
            if *kind == ColumnType::Json {
                let message = "could not identify an ordering operator for type json";
                return Err(Refusal::new(http::StatusCode::NOT_FOUND, "42883", message)
                    .at_parameter("order", "names a column of the type json"));
            }
            read.order_by(Term {
                column,
                descending: term.descending,
                nulls_first: term.nulls_first.unwrap_or(term.descending),
            });
        }
        let table = read.table;
        for place in &table.key {
            read.order_by(Term {
                column: TermColumn::Own(*place),
                descending: false,
                nulls_first: false,
            });
        }
        Ok(())
    }

    fn related_term(&self, read: &Read<'m>, name: &str, term: &order::Term) -> Result<TermColumn, Refusal> {
        let known = read.children.iter().position(|child| child.key == name);
        let at = known.ok_or_else(|| Refusal::not_embedded(name, None))?;
        let child = &read.children[at];
        if child.relation.many {
            let (origin, target) = (&read.table.name, name);
            return Err(
                Refusal::bad("PGRST118", format!("A related order on '{target}' is not possible")).details(format!(
                    "'{origin}' and '{target}' do not form a many-to-one or one-to-one relationship"
                )),
            );
        }
        let target = child.read.table;
        let access = self.access(target)?;
        let place = target.column(&term.column).filter(|place| access.has(*place));
        let place = place.ok_or_else(|| {
            Refusal::no_column(target, &term.column, Some(access))
                .at_parameter("order", "names a column that the table does not have")
        })?;
        Ok(TermColumn::Related(at, place))
    }

    /// The only part that is for this table.
    fn at<T>(&self, scope: &Scope, parts: &'q [(Path, T)]) -> Result<Option<&'q T>, Refusal> {
        let mut these = parts.iter().filter(|(path, _)| scope.is(path));
        match (these.next(), these.next()) {
            (first, None) => Ok(first.map(|(_, part)| part)),
            (_, Some((path, _))) => Err(twice(&path.join("."))),
        }
    }

    /// Refuses a part of the query that is for a table which is not embedded.
    fn check_paths(&self, read: &Read<'m>) -> Result<(), Refusal> {
        for path in self.query.paths() {
            let mut at = read;
            for name in path {
                let Some(child) = at.children.iter().find(|child| child.level.is(name)) else {
                    let aliased = at.children.iter().find(|child| child.relation.name == *name);
                    let alias = aliased.map(|child| child.key.as_str());
                    return Err(Refusal::not_embedded(name, alias)
                        .at_parameter(&path.join("."), "is no embedded table of the request"));
                };
                at = &child.read;
            }
        }
        Ok(())
    }
}

/// The relation of that name; else the only one that leads to the table of that name; else the one
/// to the row that the column of that name refers to.
fn find_relation<'m>(model: &'m Model, table: &'m Table, embedded: &Embedded) -> Result<&'m Relation, Refusal> {
    let name = &embedded.name;
    let is_meant = |relation: &Relation| match &embedded.hint {
        None => true,
        Some(hint) => {
            relation.name == *hint
                || relation.on.iter().any(|(here, there)| {
                    table.columns[*here].name == *hint || model.target(relation).columns[*there].name == *hint
                })
        }
    };
    let by_name = table.relations.iter().find(|relation| relation.name == *name);
    if let Some(relation) = by_name.filter(|relation| is_meant(relation)) {
        return Ok(relation);
    }
    let by_table = table
        .relations
        .iter()
        .filter(|relation| model.target(relation).name == *name);
    let found: Vec<&Relation> = by_table.filter(|relation| is_meant(relation)).collect();
    if found.is_empty()
        && let Some(relation) = refers(table, name).filter(|relation| is_meant(relation))
    {
        return Ok(relation);
    }
    match found.as_slice() {
        [only] => Ok(only),
        [] => {
            let known = table.relations.iter().map(|relation| relation.name.as_str());
            let nearest = tenantry_core::nearest(name, known);
            Err(Refusal::no_relation(&table.name, name, nearest)
                .at_parameter("select", "names a relation that the table does not have"))
        }
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|relation| format!("'{name}!{}'", relation.name))
                .collect();
            Err(Refusal::new(
                http::StatusCode::MULTIPLE_CHOICES,
                "PGRST201",
                format!(
                    "Could not embed because more than one relationship was found for '{}' and '{name}'",
                    table.name
                ),
            )
            .hint(format!(
                "Try changing '{name}' to one of the following: {}.",
                names.join(", ")
            )))
        }
    }
}

/// The relation to the one row that a column of this name refers to.
fn refers<'m>(table: &'m Table, column: &str) -> Option<&'m Relation> {
    let is_it = |relation: &&Relation| {
        let is_key = |on: &[(usize, usize)]| matches!(on, [(here, _)] if table.columns[*here].name == column);
        !relation.many && is_key(&relation.on)
    };
    table.relations.iter().find(is_it)
}
