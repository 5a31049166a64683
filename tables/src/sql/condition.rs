//! Conditions as SQL.

use chrono::{Datelike as _, NaiveDate};
use sea_orm::sea_query::{Alias, BinOper, DynIden, Expr, ExprTrait as _, Func, IntoIden as _, Query};

use super::{Dialect, Use};
use crate::{
    declaration::ColumnType,
    model::{Column, Model, Table},
    plan::{Child, ColumnTest, Comparison, Condition},
    value::Datum,
};

/// The table or alias that the columns of a condition belong to.
#[derive(Clone)]
pub(crate) struct Scope<'p, 'm> {
    pub(crate) dialect: Dialect,
    pub(crate) model: &'m Model,
    /// The table's alias, or its name in a statement that has no alias.
    pub(crate) alias: DynIden,
    /// The embedded tables that the condition may test.
    pub(crate) children: &'p [Child<'m>],
    /// How many tables are around this one.
    pub(crate) depth: usize,
}

impl<'p, 'm> Scope<'p, 'm> {
    /// For the outermost table of a select.
    pub(crate) fn new(dialect: Dialect, model: &'m Model, children: &'p [Child<'m>]) -> Self {
        Self {
            dialect,
            model,
            alias: alias(0),
            children,
            depth: 0,
        }
    }

    /// For a statement that changes a table, which has no alias.
    pub(crate) fn unaliased(dialect: Dialect, model: &'m Model, table: &Table) -> Self {
        Self {
            alias: Alias::new(&table.source).into_iden(),
            ..Self::new(dialect, model, &[])
        }
    }

    pub(crate) fn column(&self, column: &Column) -> Expr {
        Expr::col((self.alias.clone(), column.iden()))
    }

    /// A column as the operand of a comparison.
    pub(crate) fn operand(&self, column: &Column) -> Expr {
        self.dialect.operand(self.column(column), &column.kind)
    }

    /// The scope of a table within this one.
    pub(crate) fn within<'q>(&self, children: &'q [Child<'m>]) -> Scope<'q, 'm> {
        Scope {
            dialect: self.dialect,
            model: self.model,
            alias: alias(self.depth + 1),
            children,
            depth: self.depth + 1,
        }
    }

    /// That a row of an embedded table belongs to this one's row.
    pub(crate) fn joins(&self, table: &Table, child: &Child<'_>, inner: &Scope<'_, 'm>) -> Expr {
        let pairs = child.relation.on.iter().zip(&child.mixed);
        let each = pairs.map(|((here, there), mixed)| {
            let (here, there) = (&table.columns[*here], &child.read.table.columns[*there]);
            let same = || inner.column(there).eq(self.column(here));
            let exact = || exactly(self.dialect, inner.column(there)).eq(exactly(self.dialect, self.column(here)));
            match (mixed, is_exact(self.dialect, &here.kind)) {
                (true, _) => exact(),
                (false, true) => same(),
                (false, false) => same().and(exact()),
            }
        });
        conjunction(each.chain(self.differs(table, child)))
    }

    /// What makes each row of this table another one to MariaDB, which remembers what a subquery
    /// returned for a text, and takes it for texts that only a collation finds equal.
    fn differs(&self, table: &Table, child: &Child<'_>) -> Option<Expr> {
        let mut here = child.relation.on.iter().map(|(here, _)| &table.columns[*here].kind);
        if self.dialect != Dialect::Mysql || table.key.is_empty() || here.all(|kind| is_exact(self.dialect, kind)) {
            return None;
        }
        let key = table.key.iter().map(|place| self.column(&table.columns[*place]));
        Some(Expr::from(Func::cust("CONCAT").args(key)).is_not_null())
    }
}

pub(crate) fn alias(depth: usize) -> DynIden {
    const NAMES: [&str; 8] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
    NAMES.get(depth).copied().unwrap_or("t8").into_iden()
}

pub(crate) fn conjunction(each: impl Iterator<Item = Expr>) -> Expr {
    balanced(each, |all, one| all.and(one)).unwrap_or_else(always)
}

pub(crate) fn disjunction(each: impl Iterator<Item = Expr>) -> Expr {
    balanced(each, |any, one| any.or(one)).unwrap_or_else(never)
}

/// Joins expressions pair by pair, since one after the other would make an expression as deep as
/// their number: SQLite refuses more than 1,000, and a stack has its end.
fn balanced(each: impl Iterator<Item = Expr>, join: impl Fn(Expr, Expr) -> Expr) -> Option<Expr> {
    let mut each: Vec<Expr> = each.collect();
    while each.len() > 1 {
        let mut rest = each.into_iter();
        each = std::iter::from_fn(|| {
            let first = rest.next()?;
            Some(match rest.next() {
                Some(second) => join(first, second),
                None => first,
            })
        })
        .collect();
    }
    each.pop()
}

fn always() -> Expr {
    Expr::cust("1 = 1")
}

fn never() -> Expr {
    Expr::cust("1 = 0")
}

/// A condition; `None` if it always holds.
pub(crate) fn condition(scope: &Scope<'_, '_>, table: &Table, condition: &Condition<'_>) -> Option<Expr> {
    match condition {
        Condition::Always => None,
        other => Some(expression(scope, table, other)),
    }
}

fn expression(scope: &Scope<'_, '_>, table: &Table, condition: &Condition<'_>) -> Expr {
    match condition {
        Condition::Always => always(),
        Condition::Never => never(),
        Condition::Column(column, test) => column_test(scope, column, test),
        Condition::Not(inner) => expression(scope, table, inner).not(),
        Condition::All(each) => conjunction(each.iter().map(|one| expression(scope, table, one))),
        Condition::Any(each) => disjunction(each.iter().map(|one| expression(scope, table, one))),
        Condition::Embedded(place) => match scope.children.get(*place) {
            Some(child) => exists(scope, table, child),
            None => never(),
        },
    }
}

fn exists(scope: &Scope<'_, '_>, table: &Table, child: &Child<'_>) -> Expr {
    let inner = scope.within(&child.read.children);
    let target = child.read.table;
    let mut select = Query::select();
    select
        .expr(Expr::cust("1"))
        .from_as(target.reference(), inner.alias.clone())
        .and_where(scope.joins(table, child, &inner));
    // SQLite 3.51 makes a join of EXISTS, and then OFFSET counts a row once for each row that
    // matches it. LIMIT keeps it from that.
    if scope.dialect == Dialect::Sqlite {
        select.limit(1);
    }
    if let Some(expression) = condition(&inner, target, &child.read.condition) {
        select.and_where(expression);
    }
    Expr::exists(select)
}

fn column_test(scope: &Scope<'_, '_>, column: &Column, test: &ColumnTest) -> Expr {
    let dialect = scope.dialect;
    let bind = |value: &Datum| dialect.bind(value, &column.kind, Use::Compare);
    let operand = scope.operand(column);
    match test {
        ColumnTest::IsNull => scope.column(column).is_null(),
        // Oracle has no IS TRUE.
        ColumnTest::IsBool(value) => {
            let value = dialect.bind(&Datum::Bool(*value), &column.kind, Use::Compare);
            scope.column(column).is_not_null().and(operand.eq(value))
        }
        ColumnTest::Compare(comparison, value) => compare(scope, column, *comparison, value),
        ColumnTest::Same(value) => operand.eq(bind(value)),
        ColumnTest::In(values) if column.kind == ColumnType::Date => {
            let days: Option<Vec<_>> = values.iter().map(as_day).collect();
            let days = days.unwrap_or_default();
            let (from, to) = (days.iter().min().copied(), days.iter().max().copied());
            with_bounds(scope, column, (from, to), operand.is_in(values.iter().map(bind)))
        }
        ColumnTest::In(values) => match is_exact(dialect, &column.kind) {
            false => {
                let all = operand.clone().is_in(values.iter().map(bind));
                let exact = values.iter().map(|value| exactly(dialect, bind(value)));
                all.and(exactly(dialect, operand).is_in(exact))
            }
            _ if is_spelled(dialect, column) => {
                operand.is_in(values.iter().flat_map(|value| spelled(value, bind(value))))
            }
            true => operand.is_in(values.iter().map(bind)),
        },
        ColumnTest::IsDistinct(value) if is_spelled(dialect, column) => {
            let others = operand.is_not_in(spelled(value, bind(value)));
            scope.column(column).is_null().or(others)
        }
        ColumnTest::IsDistinct(value) => match dialect {
            Dialect::Mysql if !is_exact(dialect, &column.kind) => exactly(dialect, operand)
                .binary(BinOper::Custom("<=>"), exactly(dialect, bind(value)))
                .not(),
            Dialect::Mysql => operand.binary(BinOper::Custom("<=>"), bind(value)).not(),
            Dialect::Sqlite if column.kind.is_text() => exactly(dialect, operand).binary(BinOper::IsNot, bind(value)),
            Dialect::Sqlite => operand.binary(BinOper::IsNot, bind(value)),
            Dialect::Postgresql => operand.binary(BinOper::Custom("IS DISTINCT FROM"), bind(value)),
            Dialect::Oracle => scope.column(column).is_null().or(operand.ne(bind(value))),
        },
        ColumnTest::Like { pattern, any_case } => like(dialect, operand, pattern, *any_case),
    }
}

/// Whether the database finds two texts equal only if they are the same: on MySQL and SQLite that
/// depends on the column's collation.
pub(super) fn is_exact(dialect: Dialect, kind: &ColumnType) -> bool {
    !matches!(dialect, Dialect::Mysql | Dialect::Sqlite) || !kind.is_text()
}

/// Whether a UUID is a text there, which may be in capitals.
fn is_spelled(dialect: Dialect, column: &Column) -> bool {
    matches!(dialect, Dialect::Mysql | Dialect::Sqlite) && column.kind == ColumnType::Uuid
}

/// A UUID in small letters and in capitals; what was stored otherwise, as it is.
fn spelled(value: &Datum, bound: Expr) -> Vec<Expr> {
    match value {
        Datum::Uuid(uuid) => {
            let capitals = uuid.hyphenated().to_string().to_uppercase();
            vec![bound, Expr::val(capitals)]
        }
        _ => vec![bound],
    }
}

/// A text as it is, whatever the column's collation is.
pub(super) fn exactly(dialect: Dialect, text: Expr) -> Expr {
    match dialect {
        Dialect::Mysql => as_bytes(text),
        Dialect::Postgresql => Expr::cust_with_expr("$1 COLLATE \"C\"", text),
        _ => Expr::cust_with_expr("? COLLATE BINARY", text),
    }
}

/// The bytes of a text in one encoding, whatever the column's own encoding is.
fn as_bytes(expression: Expr) -> Expr {
    Expr::cust_with_expr("CAST(CONVERT(? USING utf8mb4) AS BINARY)", expression)
}

/// Text whose characters are all different from each other, whatever the column's collation is.
fn as_characters(expression: Expr) -> Expr {
    Expr::cust_with_expr("CONVERT(? USING utf8mb4) COLLATE utf8mb4_bin", expression)
}

fn compare(scope: &Scope<'_, '_>, column: &Column, comparison: Comparison, value: &Datum) -> Expr {
    let dialect = scope.dialect;
    let bind = || dialect.bind(value, &column.kind, Use::Compare);
    let operand = scope.operand(column);
    let day = as_day(value);
    let bounds = match comparison {
        Comparison::Equal => (day, day),
        Comparison::NotEqual => (None, None),
        Comparison::Greater | Comparison::GreaterOrEqual => (day, None),
        Comparison::Less | Comparison::LessOrEqual => (None, day),
    };
    let exact = match comparison {
        // An index serves the first comparison; the second one distinguishes upper and lower case.
        Comparison::Equal if !is_exact(dialect, &column.kind) => {
            let exact = exactly(dialect, operand.clone()).eq(exactly(dialect, bind()));
            operand.eq(bind()).and(exact)
        }
        Comparison::NotEqual if !is_exact(dialect, &column.kind) => {
            exactly(dialect, operand).ne(exactly(dialect, bind()))
        }
        Comparison::Equal if is_spelled(dialect, column) => operand.is_in(spelled(value, bind())),
        Comparison::NotEqual if is_spelled(dialect, column) => operand.is_not_in(spelled(value, bind())),
        Comparison::Equal => operand.eq(bind()),
        Comparison::NotEqual => operand.ne(bind()),
        Comparison::Greater => operand.gt(bind()),
        Comparison::GreaterOrEqual => operand.gte(bind()),
        Comparison::Less => operand.lt(bind()),
        Comparison::LessOrEqual => operand.lte(bind()),
    };
    with_bounds(scope, column, bounds, exact)
}

pub(super) fn as_day(value: &Datum) -> Option<NaiveDate> {
    match value {
        Datum::Date(day) => Some(*day),
        _ => None,
    }
}

/// An exact comparison, with bounds that an index can use.
fn with_bounds(
    scope: &Scope<'_, '_>,
    column: &Column,
    bounds: (Option<NaiveDate>, Option<NaiveDate>),
    exact: Expr,
) -> Expr {
    match day_within(scope, column, bounds) {
        Some(within) => within.and(exact),
        None => exact,
    }
}

/// That a day is not before the first one and not after the last one, in a form that an index of
/// the column can use: on SQLite and Oracle the operand of an exact comparison is computed. `None`
/// on other kinds of database, and without a day.
pub(super) fn day_within(
    scope: &Scope<'_, '_>,
    column: &Column,
    (first, last): (Option<NaiveDate>, Option<NaiveDate>),
) -> Option<Expr> {
    if !matches!(scope.dialect, Dialect::Sqlite | Dialect::Oracle) || column.kind != ColumnType::Date {
        return None;
    }
    let bind = |day| scope.dialect.bind(&Datum::Date(day), &column.kind, Use::Compare);
    let from = first.map(|first| scope.column(column).gte(bind(first)));
    // A day may be stored with a time, so it is below the next day. A year of five digits would be
    // another text.
    let next = last
        .and_then(|last| last.succ_opt())
        .filter(|next| next.year() < 10_000);
    let below = next.map(|next| scope.column(column).lt(bind(next)));
    from.into_iter().chain(below).reduce(|from, below| from.and(below))
}

fn like(dialect: Dialect, operand: Expr, pattern: &str, any_case: bool) -> Expr {
    let lower = |expression: Expr| Expr::from(Func::lower(expression));
    let pattern_value = Expr::val(pattern.to_owned());
    match (dialect, any_case) {
        (Dialect::Postgresql, true) => operand.binary(BinOper::Custom("ILIKE"), pattern_value),
        (Dialect::Postgresql, false) => operand.binary(BinOper::Like, pattern_value),
        (Dialect::Oracle, false) => operand.binary(BinOper::Like, Expr::val(necessary_escapes(pattern))),
        (Dialect::Oracle, true) => {
            let pattern_value = Expr::val(necessary_escapes(pattern));
            lower(operand).binary(BinOper::Like, lower(pattern_value))
        }
        (Dialect::Mysql, true) => as_characters(lower(operand)).binary(BinOper::Like, lower(pattern_value)),
        (Dialect::Mysql, false) => as_characters(operand).binary(BinOper::Like, pattern_value),
        // Its LIKE is for ASCII letters of either case, as its lower() is, and has no escapes.
        (Dialect::Sqlite, true) => {
            lower(operand).binary(BinOper::Custom("GLOB"), Expr::val(glob(&pattern.to_ascii_lowercase())))
        }
        (Dialect::Sqlite, false) => operand.binary(BinOper::Custom("GLOB"), Expr::val(glob(pattern))),
    }
}

/// A pattern of LIKE without a backslash before a character that means itself anyway, which Oracle
/// refuses.
fn necessary_escapes(pattern: &str) -> String {
    let mut kept = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match (c, characters.as_str().chars().next()) {
            ('\\', Some('\\' | '%' | '_')) => kept.extend(['\\'].into_iter().chain(characters.next())),
            ('\\', Some(_)) => {}
            _ => kept.push(c),
        }
    }
    kept
}

/// A pattern of LIKE as one of GLOB.
fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        let literal = match c {
            '%' => {
                glob.push('*');
                continue;
            }
            '_' => {
                glob.push('?');
                continue;
            }
            '\\' => match characters.next() {
                Some(escaped) => escaped,
                None => break,
            },
            other => other,
        };
        match literal {
            '*' | '?' | '[' => {
                glob.push('[');
                glob.push(literal);
                glob.push(']');
            }
            other => glob.push(other),
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::{glob, necessary_escapes};

    #[test]
    fn a_backslash_stays_only_before_a_sign_of_patterns() {
        for (pattern, expected) in [
            ("C:\\b%", "C:b%"),
            ("100\\%\\_\\\\", "100\\%\\_\\\\"),
            ("\\\\b\\é", "\\\\bé"),
            ("a%_", "a%_"),
        ] {
            assert_eq!(necessary_escapes(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_means_the_same_as_a_glob() {
        assert_eq!(glob("a%b_c"), "a*b?c");
        assert_eq!(glob("100\\%*[x]?"), "100%[*][[]x][?]");
    }
}
