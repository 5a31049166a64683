//! Reads.

use sea_orm::{
    Statement,
    sea_query::{
        Alias, Expr, ExprTrait as _, Func, IntoIden as _, NullOrdering, Order, OverStatement as _, Query,
        SelectStatement, WindowStatement,
    },
};

use super::{
    Dialect, Use,
    condition::{Scope, as_day, condition, conjunction, day_within, disjunction, exactly, is_exact},
};
use crate::{
    declaration::ColumnType,
    model::{Column, Model},
    plan::{Child, Condition, Page, Read, Term, TermColumn},
    value::Datum,
};

/// The rows of a page, and one more if another page follows. `after` are the order's values of the
/// row before it; `with_count` adds a column that counts the rows of all pages.
pub(crate) fn page(
    dialect: Dialect,
    model: &Model,
    read: &Read<'_>,
    after: Option<&[Datum]>,
    with_count: bool,
) -> Statement {
    dialect.select(&page_select(dialect, model, read, after, with_count))
}

pub(super) fn page_select(
    dialect: Dialect,
    model: &Model,
    read: &Read<'_>,
    after: Option<&[Datum]>,
    with_count: bool,
) -> SelectStatement {
    let scope = Scope::new(dialect, model, &read.children);
    let mut select = columns(&scope, read);
    if let Some(after) = after {
        select.and_where(comes_after(&scope, read, after));
    }
    order_by(&scope, read, &mut select);
    if with_count {
        select.expr(Expr::SubQuery(None, Box::new(counting(dialect, model, read).into())));
    }
    let one_more = read.page.limit.map(|limit| limit.saturating_add(1));
    limit(&mut select, one_more, read.page.offset, dialect);
    select
}

/// The rows of a page that another condition holds of.
pub(crate) fn page_of(
    dialect: Dialect,
    model: &Model,
    read: &Read<'_>,
    wanted: &Condition<'_>,
    page: Page,
) -> Statement {
    let scope = Scope::new(dialect, model, &read.children);
    let mut select = columns_of(&scope, read, wanted);
    order_by(&scope, read, &mut select);
    limit(&mut select, page.limit, page.offset, dialect);
    dialect.select(&select)
}

pub(super) fn limit(select: &mut SelectStatement, limit: Option<u64>, offset: u64, dialect: Dialect) {
    match (limit, dialect) {
        (Some(limit), _) => drop(select.limit(limit)),
        // MySQL and SQLite have no OFFSET alone.
        (None, _) if offset > 0 => drop(select.limit(i64::MAX.unsigned_abs())),
        (None, _) => {}
    }
    if offset > 0 {
        select.offset(offset);
    }
}

/// The columns of a read from its table, with its condition.
pub(super) fn columns(scope: &Scope<'_, '_>, read: &Read<'_>) -> SelectStatement {
    columns_of(scope, read, &read.condition)
}

fn columns_of(scope: &Scope<'_, '_>, read: &Read<'_>, wanted: &Condition<'_>) -> SelectStatement {
    let mut select = Query::select();
    for place in &read.columns {
        let column = &read.table.columns[*place];
        select.expr(scope.dialect.output(scope.column(column), &column.kind));
    }
    if read.columns.is_empty() {
        select.expr(Expr::cust("1"));
    }
    select.from_as(read.table.reference(), scope.alias.clone());
    if let Some(expression) = condition(scope, read.table, wanted) {
        select.and_where(expression);
    }
    select
}

/// How many rows a read has on all of its pages.
pub(crate) fn count(dialect: Dialect, model: &Model, read: &Read<'_>) -> Statement {
    dialect.select(&counting(dialect, model, read))
}

fn counting(dialect: Dialect, model: &Model, read: &Read<'_>) -> SelectStatement {
    let mut scope = Scope::new(dialect, model, &read.children);
    // Not the alias of the statement around it.
    scope.alias = "c0".into_iden();
    let mut select = Query::select();
    select
        .expr(Func::count(Expr::cust("*")))
        .from_as(read.table.reference(), scope.alias.clone());
    if let Some(expression) = condition(&scope, read.table, &read.condition) {
        select.and_where(expression);
    }
    select
}

pub(super) fn order_by(scope: &Scope<'_, '_>, read: &Read<'_>, select: &mut SelectStatement) {
    for term in &read.order {
        let (expression, nullable) = order_operand(scope, read, term);
        let order = if term.descending { Order::Desc } else { Order::Asc };
        match nullable {
            true => select.order_by_expr_with_nulls(expression, order, nulls(term)),
            false => select.order_by_expr(expression, order),
        };
    }
}

fn nulls(term: &Term) -> NullOrdering {
    match term.nulls_first {
        true => NullOrdering::First,
        false => NullOrdering::Last,
    }
}

/// What is sorted by, and whether it can be NULL.
fn order_operand(scope: &Scope<'_, '_>, read: &Read<'_>, term: &Term) -> (Expr, bool) {
    match term.column {
        TermColumn::Own(place) => {
            let column = &read.table.columns[place];
            (sort_key(scope, column), column.nullable)
        }
        TermColumn::Related(child, place) => {
            let child = &read.children[child];
            let target = child.read.table;
            let inner = scope.within(&child.read.children);
            let mut select = Query::select();
            select
                .expr(sort_key(&inner, &target.columns[place]))
                .from_as(target.reference(), inner.alias.clone())
                .and_where(scope.joins(read.table, child, &inner))
                .limit(1);
            // A row that is not embedded, because of a filter or a row rule, does not decide the
            // order.
            if let Some(expression) = condition(&inner, target, &child.read.condition) {
                select.and_where(expression);
            }
            (Expr::SubQuery(None, Box::new(select.into())), true)
        }
    }
}

/// What a column is sorted by. An enumeration is sorted in its declared order on every kind of
/// database, since some store it as a text, and others compare and sort it in different orders.
fn sort_key(scope: &Scope<'_, '_>, column: &Column) -> Expr {
    let ColumnType::Enum(values) = &column.kind else {
        return scope.operand(column);
    };
    let place = |place: usize| Expr::cust(place.to_string());
    let mut case = Expr::case(scope.column(column).is_null(), Expr::cust("NULL"));
    for (at, value) in values.iter().enumerate() {
        case = case.case(scope.operand(column).eq(Expr::val(value.clone())), place(at));
    }
    case.finally(place(values.len())).into()
}

/// A value as the operand of a comparison with a column's [`sort_key`].
fn sort_value(dialect: Dialect, column: &Column, value: &Datum) -> Expr {
    match (&column.kind, value) {
        (ColumnType::Enum(values), Datum::Text(text)) => {
            let place = values.iter().position(|known| known == text).unwrap_or(values.len());
            Expr::cust(place.to_string())
        }
        _ => dialect.bind(value, &column.kind, Use::Compare),
    }
}

/// That a row comes after the one with these values of the order's columns.
fn comes_after(scope: &Scope<'_, '_>, read: &Read<'_>, values: &[Datum]) -> Expr {
    let terms = read.order.iter().zip(values);
    let steps: Vec<Step> = terms
        .filter_map(|(term, value)| step(scope, read, term, value))
        .collect();
    let any = any_beyond(&steps).unwrap_or_else(|| Expr::cust("1 = 0"));
    match first_bound(scope, read, values) {
        Some(bound) => bound.and(any),
        None => any,
    }
}

/// How a row compares with another one in a column of the order.
struct Step {
    /// That it comes after it by this column, if any row can.
    beyond: Option<Expr>,
    /// That this column does not say which comes first.
    same: Expr,
}

fn step(scope: &Scope<'_, '_>, read: &Read<'_>, term: &Term, value: &Datum) -> Option<Step> {
    let TermColumn::Own(place) = term.column else {
        return None;
    };
    let column = &read.table.columns[place];
    let operand = || sort_key(scope, column);
    let bound = || sort_value(scope.dialect, column, value);
    let is_null = || scope.column(column).is_null();
    let beyond = match (value, term.nulls_first) {
        (Datum::Null, true) => Some(is_null().not()),
        (Datum::Null, false) => None,
        (_, nulls_first) => {
            let beyond = if term.descending {
                operand().lt(bound())
            } else {
                operand().gt(bound())
            };
            Some(match column.nullable && !nulls_first {
                true => beyond.or(is_null()),
                false => beyond,
            })
        }
    };
    let same = match value {
        Datum::Null => is_null(),
        _ => operand().eq(bound()),
    };
    Some(Step { beyond, same })
}

/// That a row comes after another one by any of these columns. Halves keep the expression short and
/// flat: an alternative for each column would repeat all columns before it, and alternatives within
/// one another would be as deep as there are columns.
fn any_beyond(steps: &[Step]) -> Option<Expr> {
    if let [only] = steps {
        return only.beyond.clone();
    }
    if steps.is_empty() {
        return None;
    }
    let (first, rest) = steps.split_at(steps.len() / 2);
    let same = first.iter().map(|step| step.same.clone());
    let later = any_beyond(rest).map(|later| conjunction(same).and(later));
    match (any_beyond(first), later) {
        (Some(sooner), Some(later)) => Some(sooner.or(later)),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => None,
    }
}

/// What an index of the first column can use of several.
fn first_bound(scope: &Scope<'_, '_>, read: &Read<'_>, values: &[Datum]) -> Option<Expr> {
    let (term, value) = read.order.iter().zip(values).next()?;
    let TermColumn::Own(place) = term.column else {
        return None;
    };
    let column = &read.table.columns[place];
    if read.order.len() < 2 || column.nullable || *value == Datum::Null {
        return None;
    }
    let day = as_day(value);
    let days = if term.descending { (None, day) } else { (day, None) };
    if let Some(within) = day_within(scope, column, days) {
        return Some(within);
    }
    let bound = sort_value(scope.dialect, column, value);
    let operand = sort_key(scope, column);
    Some(if term.descending {
        operand.lte(bound)
    } else {
        operand.gte(bound)
    })
}

/// The values that rows of a relation are looked for by.
pub(crate) struct Joined<'a> {
    /// For each row that rows belong to, the values of the relation's columns.
    pub(crate) keys: &'a [Vec<Datum>],
    /// Whether other statements have more keys. Each then returns only rows of its own keys, or a
    /// row that the database finds equal to keys of two of them would be there twice.
    pub(crate) is_part: bool,
    /// The most rows of all together.
    pub(crate) most: u64,
}

/// The rows that belong to any of these, those of one in their order.
pub(crate) fn related(dialect: Dialect, model: &Model, child: &Child<'_>, joined: &Joined<'_>) -> Statement {
    let read = &child.read;
    let scope = Scope::new(dialect, model, &read.children);
    let mut select = columns(&scope, read);
    let page = read.page;
    let is_paged = page.limit.is_some() || page.offset > 0;
    let precisely = is_paged || joined.is_part;
    select.and_where(belongs(&scope, child, joined.keys, precisely));
    if !is_paged || joined.keys.len() == 1 {
        if joined.keys.len() > 1 {
            // PostgreSQL plans a statement that it has seen a few times for a tenth of the rows,
            // whatever the bound is. With the key alone to sort by, it reads the whole table in
            // that order.
            for (_, there) in &child.relation.on {
                select.order_by_expr(scope.column(&read.table.columns[*there]), Order::Asc);
            }
        }
        order_by(&scope, read, &mut select);
        let most = page.limit.map_or(joined.most, |limit| Ord::min(limit, joined.most));
        limit(&mut select, Some(most), page.offset, dialect);
        return dialect.select(&select);
    }
    dialect.select(&numbered(&scope, child, joined))
}

/// A page of the rows of each: they are numbered within the row that they belong to.
fn numbered(scope: &Scope<'_, '_>, child: &Child<'_>, joined: &Joined<'_>) -> SelectStatement {
    let read = &child.read;
    let (page, dialect) = (read.page, scope.dialect);
    let name = |slot: usize| Alias::new(format!("c{slot}"));
    let mut inner = Query::select();
    for (slot, place) in read.columns.iter().enumerate() {
        let column = &read.table.columns[*place];
        inner.expr_as(dialect.output(scope.column(column), &column.kind), name(slot));
    }
    let mut window = WindowStatement::new();
    for (there, exact) in columns_there(scope, child) {
        let column = scope.column(there);
        window.add_partition_by(if exact { column } else { exactly(dialect, column) });
    }
    for term in &read.order {
        let (expression, nullable) = order_operand(scope, read, term);
        let order = if term.descending { Order::Desc } else { Order::Asc };
        match nullable {
            true => window.order_by_expr_with_nulls(expression, order, nulls(term)),
            false => window.order_by_expr(expression, order),
        };
    }
    inner.expr_window_as(Func::cust(Alias::new("ROW_NUMBER")), window, Alias::new("n"));
    inner.from_as(read.table.reference(), scope.alias.clone());
    if let Some(expression) = condition(scope, read.table, &read.condition) {
        inner.and_where(expression);
    }
    inner.and_where(belongs(scope, child, joined.keys, true));
    let number = || Expr::col(Alias::new("n"));
    let mut select = Query::select();
    for slot in 0..read.columns.len() {
        select.expr(Expr::col(name(slot)));
    }
    select.from_subquery(inner, Alias::new("p"));
    let bound = |number: u64| Expr::val(i64::try_from(number).unwrap_or(i64::MAX));
    select.and_where(number().gt(bound(page.offset)));
    if let Some(limit) = page.limit {
        select.and_where(number().lte(bound(page.offset.saturating_add(limit))));
    }
    select.order_by_expr(number(), Order::Asc);
    select.limit(joined.most);
    select
}

/// The columns of a relation there, and whether the database finds texts in them equal only if they
/// are the same.
fn columns_there<'m>(scope: &Scope<'_, '_>, child: &Child<'m>) -> impl Iterator<Item = (&'m Column, bool)> {
    let (dialect, table) = (scope.dialect, child.read.table);
    child
        .relation
        .on
        .iter()
        .zip(&child.mixed)
        .map(move |((_, there), mixed)| {
            let column = &table.columns[*there];
            (column, !mixed && is_exact(dialect, &column.kind))
        })
}

/// That a row belongs to any of these. Unless `precisely`, it may be a row that only the database
/// finds equal, which is left out of the answer.
fn belongs(scope: &Scope<'_, '_>, child: &Child<'_>, keys: &[Vec<Datum>], precisely: bool) -> Expr {
    let columns: Vec<_> = columns_there(scope, child)
        .map(|(column, is_exact)| (column, is_exact || !precisely))
        .collect();
    let bind = |column: &Column, value: &Datum| scope.dialect.bind(value, &column.kind, Use::Compare);
    let exact = |text: Expr| exactly(scope.dialect, text);
    if let [(column, is_exact)] = columns.as_slice() {
        let mut values: Vec<Expr> = keys
            .iter()
            .filter_map(|key| key.first())
            .map(|value| bind(column, value))
            .collect();
        pad(&mut values);
        let is_one_of = |operand: Expr, mut values: Vec<Expr>| match values.len() {
            1 => operand.eq(values.remove(0)),
            _ => operand.is_in(values),
        };
        let found = is_one_of(scope.operand(column), values.clone());
        return match is_exact {
            true => found,
            false => found.and(is_one_of(
                exact(scope.operand(column)),
                values.into_iter().map(exact).collect(),
            )),
        };
    }
    let row = |key: &Vec<Datum>| {
        let each = columns.iter().zip(key).map(|((column, is_exact), value)| {
            let same = scope.operand(column).eq(bind(column, value));
            match is_exact {
                true => same,
                false => same.and(exact(scope.operand(column)).eq(exact(bind(column, value)))),
            }
        });
        conjunction(each)
    };
    disjunction(keys.iter().map(row))
}

/// Repeats the last value until there are as many as a power of two, so that connections keep few
/// prepared statements for lists of every length.
fn pad(values: &mut Vec<Expr>) {
    let Some(last) = values.last().cloned() else {
        return;
    };
    let wanted = values.len().next_power_of_two();
    values.resize(wanted, last);
}
