//! Statements that change rows.

use std::sync::Arc;

use sea_orm::{
    Statement,
    sea_query::{Alias, CaseStatement, Expr, ExprTrait as _, OnConflict, Query, ReturningClause},
};

use super::{
    Dialect, Use,
    condition::{Scope, condition},
};
use crate::{
    catalogue::Facts,
    model::{Model, Table},
    plan::{ColumnTest, Comparison, Condition},
    value::Datum,
};

/// What a column of a new row is set to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Assignment {
    Value(Datum),
    /// What the database sets by itself.
    Default,
}

/// The table that a statement changes.
#[derive(Clone)]
pub(crate) struct Target<'m> {
    pub(crate) dialect: Dialect,
    pub(crate) model: &'m Model,
    pub(crate) table: &'m Table,
    /// How the tenant's database differs from the declaration.
    pub(crate) facts: Option<Arc<Facts>>,
}

impl Target<'_> {
    fn store(&self, place: usize, assignment: &Assignment) -> Expr {
        let column = &self.table.columns[place];
        let value = match assignment {
            Assignment::Value(value) => self.dialect.bind(value, &column.kind, Use::Store),
            Assignment::Default => return Expr::cust("DEFAULT"),
        };
        let facts = self.facts.as_ref();
        let cast = facts.and_then(|facts| facts.enum_type(self.model.place(self.table), place));
        match cast {
            // PostgreSQL takes no text for an enumeration. The name is its own, in its quotes.
            Some(name) => value.cast_as(Alias::new(name)),
            None => value,
        }
    }
}

/// What a statement that changes rows returns of each, in this order.
pub(crate) struct Returned<'a> {
    /// Places of columns.
    pub(crate) columns: &'a [usize],
    /// Whether the row is new (PostgreSQL alone).
    pub(crate) is_new: bool,
}

/// What becomes of a row that is there already.
pub(crate) struct Conflict<'a, 'm> {
    /// The columns by which it is found.
    pub(crate) target: &'a [usize],
    /// The columns that are changed; none if it stays as it is.
    pub(crate) update: &'a [usize],
    /// Which rows may be changed.
    pub(crate) allowed: &'a Condition<'m>,
}

/// Inserts rows, which all have these columns.
pub(crate) fn insert(
    target: &Target<'_>,
    columns: &[usize],
    rows: &[Vec<Assignment>],
    returned: Option<&Returned<'_>>,
) -> Statement {
    insert_or(target, columns, rows, None, returned)
}

/// As [`insert`], with what is done if a row is there already.
pub(crate) fn insert_or(
    target: &Target<'_>,
    columns: &[usize],
    rows: &[Vec<Assignment>],
    conflict: Option<&Conflict<'_, '_>>,
    returned: Option<&Returned<'_>>,
) -> Statement {
    let table = target.table;
    let mut insert = Query::insert();
    insert.into_table(table.reference());
    if columns.is_empty() {
        insert.or_default_values_many(u32::try_from(rows.len()).unwrap_or(1));
    } else {
        insert.columns(columns.iter().map(|place| table.columns[*place].iden()));
        for row in rows {
            let values = columns.iter().zip(row);
            let values = values.map(|(place, assignment)| target.store(*place, assignment));
            // Each row has as many values as there are columns.
            insert.values_panic(values);
        }
    }
    let scope = Scope::unaliased(target.dialect, target.model, table);
    if let Some(conflict) = conflict {
        insert.on_conflict(on_conflict(&scope, table, conflict));
    }
    if let Some(returned) = returned {
        insert.returning(returning(&scope, table, returned));
    }
    let mut statement = target.dialect.insert(&insert);
    if target.dialect == Dialect::Postgresql && columns.iter().any(|place| table.columns[*place].generated) {
        statement.sql = overriding(&statement.sql);
    }
    statement
}

/// The statement that also inserts what an identity column would make itself (`GENERATED ALWAYS`).
/// Only `PUT` inserts such a value: that of the row that it is about.
fn overriding(sql: &str) -> String {
    let mut quoted = false;
    let place = sql.char_indices().find(|(index, c)| {
        quoted ^= *c == '"';
        !quoted && sql[*index..].starts_with(" VALUES ")
    });
    let (before, values) = sql.split_at(place.map_or(sql.len(), |(index, _)| index));
    format!("{before} OVERRIDING SYSTEM VALUE{values}")
}

fn on_conflict(scope: &Scope<'_, '_>, table: &Table, conflict: &Conflict<'_, '_>) -> OnConflict {
    let iden = |place: &usize| table.columns[*place].iden();
    let mut on_conflict = OnConflict::columns(conflict.target.iter().map(iden));
    if conflict.update.is_empty() {
        on_conflict.do_nothing();
    } else {
        // A row keeps what it was found by, although the new one may spell it otherwise.
        let (kept, changed): (Vec<&usize>, Vec<&usize>) = conflict
            .update
            .iter()
            .partition(|place| conflict.target.contains(place));
        on_conflict.update_columns(changed.iter().map(|place| iden(place)));
        // The database returns only a row that it changes.
        if changed.is_empty() {
            let values = kept
                .into_iter()
                .map(|place| (iden(place), scope.column(&table.columns[*place])));
            on_conflict.values(values);
        }
        if let Some(allowed) = condition(scope, table, conflict.allowed) {
            on_conflict.action_and_where(allowed);
        }
    }
    on_conflict
}

fn returning(scope: &Scope<'_, '_>, table: &Table, returned: &Returned<'_>) -> ReturningClause {
    let columns = returned.columns.iter().map(|place| {
        let column = &table.columns[*place];
        scope.dialect.output(scope.column(column), &column.kind)
    });
    let is_new = returned
        .is_new
        .then(|| Expr::cust("CASE WHEN xmax = 0 THEN 1 ELSE 0 END"));
    let mut expressions: Vec<Expr> = columns.chain(is_new).collect();
    if expressions.is_empty() {
        expressions.push(Expr::cust("1"));
    }
    Query::returning().exprs(expressions)
}

/// Changes the rows that a condition holds of.
pub(crate) fn update(
    target: &Target<'_>,
    values: &[(usize, Assignment)],
    changed: &Condition<'_>,
    returned: Option<&Returned<'_>>,
) -> Statement {
    let table = target.table;
    let scope = Scope::unaliased(target.dialect, target.model, table);
    let mut update = Query::update();
    update.table(table.reference());
    for (place, assignment) in values {
        let column = &table.columns[*place];
        update.value(Alias::new(&column.source), target.store(*place, assignment));
    }
    if let Some(expression) = condition(&scope, table, changed) {
        update.and_where(expression);
    }
    if let Some(returned) = returned {
        update.returning(returning(&scope, table, returned));
    }
    target.dialect.update(&update)
}

/// What one of several rows is set to.
pub(crate) struct Change {
    /// The values by which the row is found.
    pub(crate) target: Vec<Datum>,
    /// The same columns for each row.
    pub(crate) values: Vec<(usize, Assignment)>,
}

/// Changes rows, each to values of its own. `found_by` are the columns by which they are found.
pub(crate) fn update_each(
    target: &Target<'_>,
    found_by: &[usize],
    changes: &[Change],
    returned: Option<&Returned<'_>>,
) -> Statement {
    let table = target.table;
    let scope = Scope::unaliased(target.dialect, target.model, table);
    let is_it = |values: &Vec<Datum>| {
        let one = has_one_of(table, found_by, std::slice::from_ref(values));
        condition(&scope, table, &one)
    };
    let mut update = Query::update();
    update.table(table.reference());
    let columns = changes
        .first()
        .map(|change| change.values.as_slice())
        .unwrap_or_default();
    for (at, (place, _)) in columns.iter().enumerate() {
        let value = |change: &Change| {
            change
                .values
                .get(at)
                .map(|(_, assignment)| target.store(*place, assignment))
        };
        let value = match changes {
            [only] => value(only),
            several => {
                let mut case = CaseStatement::new();
                for change in several {
                    if let (Some(is_it), Some(value)) = (is_it(&change.target), value(change)) {
                        case = case.case(is_it, value);
                    }
                }
                Some(case.into())
            }
        };
        if let Some(value) = value {
            update.value(table.columns[*place].iden(), value);
        }
    }
    let targets: Vec<Vec<Datum>> = changes.iter().map(|change| change.target.clone()).collect();
    if let Some(expression) = condition(&scope, table, &has_one_of(table, found_by, &targets)) {
        update.and_where(expression);
    }
    if let Some(returned) = returned {
        update.returning(returning(&scope, table, returned));
    }
    target.dialect.update(&update)
}

/// Removes the rows that a condition holds of.
pub(crate) fn delete(target: &Target<'_>, removed: &Condition<'_>, returned: Option<&Returned<'_>>) -> Statement {
    let table = target.table;
    let scope = Scope::unaliased(target.dialect, target.model, table);
    let mut delete = Query::delete();
    delete.from_table(table.reference());
    if let Some(expression) = condition(&scope, table, removed) {
        delete.and_where(expression);
    }
    if let Some(returned) = returned {
        delete.returning(returning(&scope, table, returned));
    }
    target.dialect.delete(&delete)
}

/// Some columns of the rows that a condition holds of, which nothing else changes until the end of
/// the transaction.
pub(crate) fn locked(target: &Target<'_>, columns: &[usize], wanted: &Condition<'_>) -> Statement {
    let table = target.table;
    let scope = Scope::new(target.dialect, target.model, &[]);
    let mut select = Query::select();
    for place in columns {
        let column = &table.columns[*place];
        select.expr(target.dialect.output(scope.column(column), &column.kind));
    }
    select.from_as(table.reference(), scope.alias.clone());
    if let Some(expression) = condition(&scope, table, wanted) {
        select.and_where(expression);
    }
    // A transaction of SQLite that changes something is alone.
    if target.dialect != Dialect::Sqlite {
        select.lock_exclusive();
    }
    target.dialect.select(&select)
}

/// How many of the rows with these keys a condition holds of.
pub(crate) fn count_of(target: &Target<'_>, wanted: &Condition<'_>) -> Statement {
    let table = target.table;
    let scope = Scope::new(target.dialect, target.model, &[]);
    let mut select = Query::select();
    select.expr(sea_orm::sea_query::Func::count(Expr::cust("*")));
    select.from_as(table.reference(), scope.alias.clone());
    if let Some(expression) = condition(&scope, table, wanted) {
        select.and_where(expression);
    }
    target.dialect.select(&select)
}

/// That a row has values in these columns which the database itself finds equal to these.
pub(crate) fn is_same<'m>(table: &'m Table, columns: &[usize], values: &[Datum]) -> Condition<'m> {
    Condition::all(
        columns
            .iter()
            .zip(values)
            .map(|(place, value)| Condition::Column(&table.columns[*place], ColumnTest::Same(value.clone()))),
    )
}

/// That a row has one of these values in these columns.
pub(crate) fn has_one_of<'m>(table: &'m Table, columns: &[usize], keys: &[Vec<Datum>]) -> Condition<'m> {
    if let [place] = columns {
        let values: Vec<Datum> = keys.iter().filter_map(|key| key.first().cloned()).collect();
        return match values.is_empty() {
            true => Condition::Never,
            false => Condition::Column(&table.columns[*place], ColumnTest::In(values)),
        };
    }
    Condition::any(keys.iter().map(|key| {
        let each = columns.iter().zip(key).map(|(place, value)| {
            let test = ColumnTest::Compare(Comparison::Equal, value.clone());
            Condition::Column(&table.columns[*place], test)
        });
        Condition::all(each)
    }))
}
