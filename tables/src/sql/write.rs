//! Statements that change rows.

use sea_orm::{
    Statement,
    sea_query::{Alias, Expr, OnConflict, Query, ReturningClause},
};

use super::{
    Dialect, Use,
    tests_of_rows::{Scope, condition},
};
use crate::{
    model::{Column, Model, Table},
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

fn store(dialect: Dialect, column: &Column, assignment: &Assignment) -> Expr {
    match assignment {
        Assignment::Value(value) => dialect.bind(value, &column.kind, Use::Store),
        Assignment::Default => Expr::cust("DEFAULT"),
    }
}

/// Inserts rows, which all have these columns.
pub(crate) fn insert(
    dialect: Dialect,
    model: &Model,
    table: &Table,
    columns: &[usize],
    rows: &[Vec<Assignment>],
    returned: Option<&Returned<'_>>,
) -> Statement {
    insert_or(dialect, model, table, columns, rows, None, returned)
}

/// As [`insert`], with what is done if a row is there already.
pub(crate) fn insert_or(
    dialect: Dialect,
    model: &Model,
    table: &Table,
    columns: &[usize],
    rows: &[Vec<Assignment>],
    conflict: Option<&Conflict<'_, '_>>,
    returned: Option<&Returned<'_>>,
) -> Statement {
    let mut insert = Query::insert();
    insert.into_table(table.reference());
    if columns.is_empty() {
        insert.or_default_values_many(u32::try_from(rows.len()).unwrap_or(1));
    } else {
        insert.columns(columns.iter().map(|place| table.columns[*place].iden()));
        for row in rows {
            let values = columns.iter().zip(row);
            let values = values.map(|(place, assignment)| store(dialect, &table.columns[*place], assignment));
            // Each row has as many values as there are columns.
            insert.values_panic(values);
        }
    }
    let scope = Scope::unaliased(dialect, model, table);
    if let Some(conflict) = conflict {
        insert.on_conflict(on_conflict(&scope, table, conflict));
    }
    if let Some(returned) = returned {
        insert.returning(returning(&scope, table, returned));
    }
    dialect.insert(&insert)
}

fn on_conflict(scope: &Scope<'_, '_>, table: &Table, conflict: &Conflict<'_, '_>) -> OnConflict {
    let iden = |place: &usize| table.columns[*place].iden();
    let mut on_conflict = OnConflict::columns(conflict.target.iter().map(iden));
    if conflict.update.is_empty() {
        on_conflict.do_nothing();
    } else {
        on_conflict.update_columns(conflict.update.iter().map(iden));
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
    dialect: Dialect,
    model: &Model,
    table: &Table,
    values: &[(usize, Assignment)],
    changed: &Condition<'_>,
    returned: Option<&Returned<'_>>,
) -> Statement {
    let scope = Scope::unaliased(dialect, model, table);
    let mut update = Query::update();
    update.table(table.reference());
    for (place, assignment) in values {
        let column = &table.columns[*place];
        update.value(Alias::new(&column.source), store(dialect, column, assignment));
    }
    if let Some(expression) = condition(&scope, table, changed) {
        update.and_where(expression);
    }
    if let Some(returned) = returned {
        update.returning(returning(&scope, table, returned));
    }
    dialect.update(&update)
}

/// Removes the rows that a condition holds of.
pub(crate) fn delete(
    dialect: Dialect,
    model: &Model,
    table: &Table,
    removed: &Condition<'_>,
    returned: Option<&Returned<'_>>,
) -> Statement {
    let scope = Scope::unaliased(dialect, model, table);
    let mut delete = Query::delete();
    delete.from_table(table.reference());
    if let Some(expression) = condition(&scope, table, removed) {
        delete.and_where(expression);
    }
    if let Some(returned) = returned {
        delete.returning(returning(&scope, table, returned));
    }
    dialect.delete(&delete)
}

/// Some columns of the rows that a condition holds of, which nothing else changes until the end of the
/// transaction.
pub(crate) fn locked(
    dialect: Dialect,
    model: &Model,
    table: &Table,
    columns: &[usize],
    wanted: &Condition<'_>,
) -> Statement {
    let scope = Scope::new(dialect, model, &[]);
    let mut select = Query::select();
    for place in columns {
        let column = &table.columns[*place];
        select.expr(dialect.output(scope.column(column), &column.kind));
    }
    select.from_as(table.reference(), scope.alias.clone());
    if let Some(expression) = condition(&scope, table, wanted) {
        select.and_where(expression);
    }
    // A transaction of SQLite that changes something is alone.
    if dialect != Dialect::Sqlite {
        select.lock_exclusive();
    }
    dialect.select(&select)
}

/// How many of the rows with these keys a condition holds of.
pub(crate) fn count_of(dialect: Dialect, model: &Model, table: &Table, wanted: &Condition<'_>) -> Statement {
    let scope = Scope::new(dialect, model, &[]);
    let mut select = Query::select();
    select.expr(sea_orm::sea_query::Func::count(Expr::cust("*")));
    select.from_as(table.reference(), scope.alias.clone());
    if let Some(expression) = condition(&scope, table, wanted) {
        select.and_where(expression);
    }
    dialect.select(&select)
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
