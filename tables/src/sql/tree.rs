//! A read with its embedded rows as one statement of PostgreSQL, which sees one snapshot by itself.
//!
//! Each table's rows are a query of the `WITH` clause, which finds the rows that belong to those of
//! the query before it. The statement returns the rows of all tables, one table after the other.
//!
//! Other databases have no arrays: whether an index serves would be left to their planners. SQLite
//! has no round trip to save besides.

use sea_orm::{
    Statement,
    sea_query::{
        Alias, Asterisk, CommonTableExpression, DynIden, Expr, ExprTrait as _, Func, IntoIden as _, JoinType, Order,
        Query, SelectStatement, UnionType, WithClause, extension::postgres::PgFunc,
    },
};

use super::{
    Dialect,
    condition::{Scope, conjunction, exactly},
    select::{columns, limit, order_by, page_select},
};
use crate::{
    model::Model,
    plan::{Child, Read},
    value::Datum,
};

/// The most columns of a statement; PostgreSQL has up to 1,664.
pub(crate) const MOST_COLUMNS: usize = 1600;

/// The rows of a page, and all that are embedded in them, at most `most` of each relation. A row's
/// first column is the [number](Read::number) of its table; its last one counts the rows of all
/// pages if that is asked.
pub(crate) fn tree(model: &Model, read: &Read<'_>, after: Option<&[Datum]>, with_count: bool, most: u64) -> Statement {
    let mut tree = Tree {
        model,
        most,
        types: Vec::new(),
        with_count,
        with: WithClause::new(),
        branches: Vec::new(),
    };
    tree.add_types(read);
    let scope = Scope::new(Dialect::Postgresql, model, &read.children);
    let mut select = page_select(Dialect::Postgresql, model, read, after, with_count);
    add_keys(&scope, read, &mut select);
    tree.add(read, select, read.page.limit);
    let mut branches = tree.branches.into_iter();
    let mut all = branches.next().unwrap_or_default();
    all.unions(branches.map(|branch| (UnionType::All, branch)));
    all.with_cte(tree.with);
    Dialect::Postgresql.select(&all)
}

struct Tree<'t> {
    model: &'t Model,
    most: u64,
    /// The types of the columns after the first one.
    types: Vec<&'static str>,
    with_count: bool,
    with: WithClause,
    /// The rows of each table, in columns of its own.
    branches: Vec<SelectStatement>,
}

/// The name of a table's query.
fn rows_of(read: &Read<'_>) -> DynIden {
    Alias::new(format!("r{}", read.number)).into_iden()
}

/// The name of a column in the query of its table.
fn output(slot: usize) -> DynIden {
    Alias::new(format!("c{slot}")).into_iden()
}

/// The name of a column as the rows of a relation are compared with it.
fn key(slot: usize) -> DynIden {
    Alias::new(format!("k{slot}")).into_iden()
}

impl<'t> Tree<'t> {
    /// Collects the types of the columns, in the order in which the read got them.
    fn add_types(&mut self, read: &Read<'_>) {
        for (slot, place) in read.columns.iter().enumerate() {
            if read.index(slot) > self.types.len() {
                let kind = &read.table.columns[*place].kind;
                self.types.push(Dialect::output_type(kind));
            }
        }
        for child in read.children.iter().filter(|child| child.is_sent()) {
            self.add_types(&child.read);
        }
    }

    /// Adds the query of a table, and those of the tables embedded in it. Of its rows only the
    /// first `kept` have embedded ones.
    fn add(&mut self, read: &Read<'_>, select: SelectStatement, kept: Option<u64>) {
        let mut names: Vec<DynIden> = (0..read.columns.len()).map(output).collect();
        let is_counted = self.with_count && self.branches.is_empty();
        if is_counted {
            names.push("n".into_iden());
        }
        names.extend(keys(read).map(key));
        let mut query = CommonTableExpression::new();
        query.table_name(rows_of(read)).columns(names).query(select);
        self.with.cte(query);
        self.branches.push(self.branch(read, is_counted));
        for child in read.children.iter().filter(|child| child.is_sent()) {
            let select = self.related(read, child, kept);
            self.add(&child.read, select, None);
        }
    }

    fn branch(&self, read: &Read<'_>, is_counted: bool) -> SelectStatement {
        let mut branch = Query::select();
        branch.expr(Expr::cust(read.number.to_string()).cast_as("bigint"));
        let slots = 0..read.columns.len();
        for (index, of_type) in (1..).zip(&self.types) {
            match slots.clone().find(|slot| read.index(*slot) == index) {
                Some(slot) => branch.expr(Expr::col(output(slot))),
                None => branch.expr(Expr::cust("NULL").cast_as(*of_type)),
            };
        }
        if self.with_count {
            match is_counted {
                true => branch.expr(Expr::col("n")),
                false => branch.expr(Expr::cust("NULL").cast_as("bigint")),
            };
        }
        branch.from(rows_of(read));
        branch
    }

    /// The rows that belong to any of the first `kept` rows of another table, those of one in their
    /// order.
    fn related(&self, parent: &Read<'_>, child: &Child<'_>, kept: Option<u64>) -> SelectStatement {
        let read = &child.read;
        let scope = Scope::new(Dialect::Postgresql, self.model, &read.children);
        let there: Vec<Expr> = child
            .relation
            .on
            .iter()
            .map(|(_, there)| scope.operand(&read.table.columns[*there]))
            .collect();
        let mut parents = Query::select();
        parents.columns(child.here.iter().map(|slot| key(*slot)));
        parents.from(rows_of(parent));
        if let Some(kept) = kept {
            parents.limit(kept);
        }
        let mut select = columns(&scope, read);
        add_keys(&scope, read, &mut select);
        let most = Some(self.most.saturating_add(1));
        let page = read.page;
        if page.limit.is_none() && page.offset == 0 {
            select.and_where(is_one_of(&there, parents));
            // PostgreSQL plans for a tenth of the rows, whatever the bound is. With the key alone
            // to sort by, it reads the whole table in that order.
            for there in there {
                select.order_by_expr(there, Order::Asc);
            }
            order_by(&scope, read, &mut select);
            limit(&mut select, most, 0, Dialect::Postgresql);
            return select;
        }
        // A page of the rows of each, for which an index may serve.
        let each = child.here.iter().zip(there).zip(&child.mixed);
        select.and_where(conjunction(each.map(|((slot, there), mixed)| {
            let here = Expr::col(("p", key(*slot)));
            let same = there.clone().eq(here.clone());
            match mixed {
                true => same.and(exactly(Dialect::Postgresql, there).eq(exactly(Dialect::Postgresql, here))),
                false => same,
            }
        })));
        order_by(&scope, read, &mut select);
        limit(&mut select, page.limit, page.offset, Dialect::Postgresql);
        let mut different = Query::select();
        different.distinct().column(Asterisk).from_subquery(parents, "q");
        let mut each = Query::select();
        each.column(("l", Asterisk)).from_subquery(different, "p");
        each.join_lateral(JoinType::InnerJoin, select, "l", Expr::cust("1 = 1"));
        limit(&mut each, most, 0, Dialect::Postgresql);
        each
    }
}

fn add_keys(scope: &Scope<'_, '_>, read: &Read<'_>, select: &mut SelectStatement) {
    for slot in keys(read) {
        let operand = scope.operand(&read.table.columns[read.columns[slot]]);
        // So that the collation of what it is compared with counts, for which an index may serve.
        select.expr(match is_mixed(read, slot) {
            true => Expr::cust_with_expr("$1 COLLATE \"default\"", operand),
            false => operand,
        });
    }
}

/// Whether embedded rows are found by this column, and theirs has another collation.
fn is_mixed(read: &Read<'_>, slot: usize) -> bool {
    let mut pairs = read
        .children
        .iter()
        .flat_map(|child| child.here.iter().zip(&child.mixed));
    pairs.any(|(here, mixed)| *here == slot && *mixed)
}

/// The slots of a table's columns by which embedded rows are found, each once.
fn keys(read: &Read<'_>) -> impl Iterator<Item = usize> {
    let is_key = |slot: &usize| {
        let mut sent = read.children.iter().filter(|child| child.is_sent());
        sent.any(|child| child.here.contains(slot))
    };
    (0..read.columns.len()).filter(move |slot| is_key(slot))
}

/// That columns have the values of any row of a query. An array lets an index serve, however many
/// rows PostgreSQL believes there are.
fn is_one_of(columns: &[Expr], query: SelectStatement) -> Expr {
    match columns {
        [column] => {
            let array = Func::cust("ARRAY").arg(Expr::SubQuery(None, Box::new(query.into())));
            column.clone().eq(PgFunc::any(array))
        }
        several => Expr::tuple(several.iter().cloned()).in_subquery(query),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::tree;
    use crate::{
        caller::Caller, declaration::Tables, model::Model, plan::planner::Planner, request::query::query, sql::Dialect,
    };

    #[test]
    fn all_tables_are_read_by_one_statement() {
        let tables: Tables = serde_json::from_value(json!({
            "orders": {
                "key": ["id"],
                "columns": {"id": {"type": "int8"}, "at": {"type": "timestamptz"}},
                "relations": {"items": {"to": "items", "on": {"id": "order_id"}, "many": true}},
                "allow": {"anon": {"read": {}}}
            },
            "items": {
                "key": ["order_id", "line"],
                "columns": {"order_id": {"type": "int8"}, "line": {"type": "int2"}, "code": {"type": "text"}},
                "relations": {"product": {"to": "products", "on": {"code": "code"}}},
                "allow": {"anon": {"read": {}}}
            },
            "products": {
                "key": ["code"],
                "columns": {"code": {"type": "text"}, "name": {"type": "text"}},
                "allow": {"anon": {"read": {}}}
            }
        }))
        .unwrap();
        let model = Model::new(&tables);
        let sql = |text: &str| {
            let query = query(text, &[]).unwrap();
            let caller = Caller::new("tenant1", None, "role", Dialect::Postgresql);
            let planner = Planner::new(&model, caller, &query, None);
            let mut read = planner.read(model.table("orders").unwrap()).unwrap();
            read.lay_out();
            tree(&model, &read, None, true, 9).sql
        };
        let nested = sql("select=at,items(line,product(name))&limit=2");
        assert_eq!(
            nested.matches("FROM \"orders\"").count(),
            2,
            "the rows, and their count: {nested}"
        );
        assert_eq!(nested.matches(" UNION ALL ").count(), 2, "{nested}");
        for part in [
            "\"order_id\" = ANY(ARRAY((SELECT \"k1\" FROM \"r1\" LIMIT $2))) ORDER BY",
            "\"code\" = ANY(ARRAY((SELECT \"k1\" FROM \"r2\"))) ORDER BY",
            "SELECT CAST((1) AS bigint), \"c0\", \"c1\", CAST((NULL) AS text), CAST((NULL) AS bigint), CAST((NULL) AS text),",
            "SELECT CAST((2) AS bigint), CAST((NULL) AS timestamptz), \"c0\", \"c1\", \"c2\", CAST((NULL) AS text),",
            "SELECT CAST((3) AS bigint), CAST((NULL) AS timestamptz), CAST((NULL) AS bigint), \"c0\", CAST((NULL) AS bigint), \"c1\",",
        ] {
            assert!(nested.contains(part), "{part}: {nested}");
        }
        let paged = sql("select=id,items(line)&limit=2&items.limit=3");
        assert!(
            paged.contains("JOIN LATERAL") && paged.contains("= \"p\".\"k0\""),
            "{paged}"
        );
    }
}
