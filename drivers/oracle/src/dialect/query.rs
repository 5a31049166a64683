//! Queries.

use std::sync::LazyLock;

use sqlparser::{
    ast::{
        Cte, Distinct, Expr, Fetch, GroupByExpr, LimitClause, LockClause, LockType, NonBlock, OrderBy, OrderByExpr,
        OrderByKind, OrderBySort, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator,
        SetQuantifier, Statement,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::{
    Name, Output, Plan, Writer, names,
    refusal::{Result, refuse, refuse_if},
};

/// The plainest query there is, to find what another one has besides the clauses that are known
/// here.
static PLAIN: LazyLock<Option<(Query, Select)>> = LazyLock::new(|| {
    let statement = Parser::parse_sql(&PostgreSqlDialect {}, "SELECT 1").ok()?.pop()?;
    let Statement::Query(query) = statement else {
        return None;
    };
    let select = query.body.as_select()?.clone();
    Some((*query, select))
});

pub(super) fn plan(query: &Query) -> Result<Plan> {
    let mut writer = Writer::default();
    let columns = writer.query(query)?;
    Ok(Plan::Query {
        sql: writer.sql,
        columns,
        locks: !query.locks.is_empty(),
    })
}

impl Writer {
    pub(super) fn query(&mut self, query: &Query) -> Result<Vec<Output>> {
        check_query(query)?;
        if let Some(with) = &query.with {
            self.push("WITH ");
            self.list(", ", &with.cte_tables, |writer, cte| writer.cte(cte, with.recursive))?;
            self.push(" ");
        }
        let columns = self.set(&query.body)?;
        if let Some(order) = &query.order_by {
            self.push(" ORDER BY ");
            self.order_by(order)?;
        }
        self.limit(query.limit_clause.as_ref(), query.fetch.as_ref())?;
        let limited = query.limit_clause.is_some() || query.fetch.is_some();
        for lock in &query.locks {
            // ORA-02014: rows cannot be locked through a view, which such a query is to Oracle.
            refuse_if(limited, "`LIMIT` together with `FOR UPDATE`")?;
            self.lock(lock)?;
        }
        Ok(columns)
    }

    fn cte(&mut self, cte: &Cte, recursive: bool) -> Result<()> {
        refuse_if(cte.from.is_some(), "`FROM` in a `WITH`")?;
        // Oracle recognizes a recursive WITH by its list of columns.
        refuse_if(
            recursive && cte.alias.columns.is_empty(),
            "`WITH RECURSIVE` without a list of columns",
        )?;
        self.queries.push(Name::of(&cte.alias.name)?);
        self.name(&cte.alias.name)?;
        if !cte.alias.columns.is_empty() {
            self.push(" (");
            self.names(cte.alias.columns.iter().map(|column| &column.name))?;
            self.push(")");
        }
        self.push(" AS (");
        self.query(&cte.query)?;
        self.push(")");
        Ok(())
    }

    fn set(&mut self, set: &SetExpr) -> Result<Vec<Output>> {
        match set {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => {
                self.push("(");
                let columns = self.query(query)?;
                self.push(")");
                Ok(columns)
            }
            SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => {
                let columns = self.set(left)?;
                self.push(match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => " UNION ALL ",
                    (SetOperator::Union, SetQuantifier::None | SetQuantifier::Distinct) => " UNION ",
                    (SetOperator::Intersect, SetQuantifier::None | SetQuantifier::Distinct) => " INTERSECT ",
                    (SetOperator::Except, SetQuantifier::None | SetQuantifier::Distinct) => " MINUS ",
                    _ => return refuse(format!("`{op} {set_quantifier}`")),
                });
                // PostgreSQL's INTERSECT binds closer than UNION, Oracle's does not.
                let nested = matches!(**right, SetExpr::SetOperation { .. });
                if nested {
                    self.push("(");
                }
                self.set(right)?;
                if nested {
                    self.push(")");
                }
                Ok(columns)
            }
            SetExpr::Values(_) => refuse("`VALUES` outside `INSERT` and without names for its columns"),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                refuse("a change of rows within a query")
            }
            SetExpr::Table(_) => refuse("`TABLE`"),
        }
    }

    fn select(&mut self, select: &Select) -> Result<Vec<Output>> {
        check_select(select)?;
        let scope = self.scope(&select.from)?;
        self.scopes.push(scope);
        self.push("SELECT ");
        match &select.distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => self.push("DISTINCT "),
            Some(Distinct::On(_)) => return refuse("`DISTINCT ON`"),
        }
        let alone = select.projection.len() == 1;
        let mut columns = Vec::new();
        self.list(", ", &select.projection, |writer, item| {
            columns.push(writer.item(item, alone)?);
            Ok(())
        })?;
        self.push(" FROM ");
        if select.from.is_empty() {
            self.push("DUAL");
        }
        self.list(", ", &select.from, Self::table_with_joins)?;
        if let Some(condition) = &select.selection {
            self.push(" WHERE ");
            self.condition(condition)?;
        }
        match &select.group_by {
            GroupByExpr::Expressions(expressions, modifiers) => {
                refuse_if(!modifiers.is_empty(), "a modifier of `GROUP BY`")?;
                if !expressions.is_empty() {
                    self.push(" GROUP BY ");
                    self.list(", ", expressions, Self::value)?;
                }
            }
            GroupByExpr::All(_) => return refuse("`GROUP BY ALL`"),
        }
        if let Some(condition) = &select.having {
            self.push(" HAVING ");
            self.condition(condition)?;
        }
        self.scopes.pop();
        // Only Oracle knows the number of columns behind a wildcard.
        let known = columns.iter().all(|column| column.name.is_some());
        Ok(if known { columns } else { Vec::new() })
    }

    pub(super) fn item(&mut self, item: &SelectItem, alone: bool) -> Result<Output> {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let output = self.output(expr)?;
                self.value(expr)?;
                Ok(output)
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let mut output = self.output(expr)?;
                output.name = Some(names::postgres(alias));
                self.value(expr)?;
                self.push(" AS ");
                self.name(alias)?;
                Ok(output)
            }
            SelectItem::Wildcard(options) => {
                refuse_if(!options.to_string().is_empty(), "an option of `*`")?;
                // ORA-00923.
                refuse_if(!alone, "`*` beside other columns")?;
                self.push("*");
                Ok(Output::default())
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                refuse_if(!options.to_string().is_empty(), "an option of `*`")?;
                let name = names::quoted(name)?;
                self.push(&name);
                self.push(".*");
                Ok(Output::default())
            }
            SelectItem::QualifiedWildcard(..) => refuse("`*` of an expression"),
            SelectItem::ExprWithAliases { .. } => refuse("several names for one column"),
        }
    }

    pub(super) fn order_by(&mut self, order: &OrderBy) -> Result<()> {
        refuse_if(order.interpolate.is_some(), "`INTERPOLATE`")?;
        match &order.kind {
            OrderByKind::Expressions(expressions) => self.list(", ", expressions, Self::order_by_expr),
            OrderByKind::All(_) => refuse("`ORDER BY ALL`"),
        }
    }

    pub(super) fn order_by_expr(&mut self, order: &OrderByExpr) -> Result<()> {
        refuse_if(order.with_fill.is_some(), "`WITH FILL`")?;
        self.value(&order.expr)?;
        self.push(match &order.options.sort {
            None => "",
            Some(OrderBySort::Asc) => " ASC",
            Some(OrderBySort::Desc) => " DESC",
            Some(_) => return refuse("`ORDER BY ... USING`"),
        });
        self.push(match order.options.nulls_first {
            None => "",
            Some(true) => " NULLS FIRST",
            Some(false) => " NULLS LAST",
        });
        Ok(())
    }

    fn limit(&mut self, limit: Option<&LimitClause>, fetch: Option<&Fetch>) -> Result<()> {
        let (limit, offset) = match limit {
            None => (None, None),
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) => {
                refuse_if(!limit_by.is_empty(), "`LIMIT ... BY`")?;
                (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
            }
            Some(LimitClause::OffsetCommaLimit { .. }) => return refuse("`LIMIT` with a comma"),
        };
        if let Some(offset) = offset {
            self.push(" OFFSET ");
            self.value(offset)?;
            self.push(" ROWS");
        }
        let ties = fetch.is_some_and(|fetch| fetch.with_ties);
        refuse_if(fetch.is_some_and(|fetch| fetch.percent), "`FETCH ... PERCENT`")?;
        let one = fetch.is_some_and(|fetch| fetch.quantity.is_none());
        if let Some(limit) = limit.or(fetch.and_then(|fetch| fetch.quantity.as_ref())) {
            self.push(" FETCH NEXT ");
            self.value(limit)?;
            self.push(if ties { " ROWS WITH TIES" } else { " ROWS ONLY" });
        } else if one {
            self.push(if ties {
                " FETCH NEXT 1 ROWS WITH TIES"
            } else {
                " FETCH NEXT 1 ROWS ONLY"
            });
        }
        Ok(())
    }

    fn lock(&mut self, lock: &LockClause) -> Result<()> {
        refuse_if(lock.lock_type != LockType::Update, "`FOR SHARE`")?;
        refuse_if(lock.of.is_some(), "`FOR UPDATE OF`")?;
        self.push(" FOR UPDATE");
        self.push(match &lock.nonblock {
            None => "",
            Some(NonBlock::Nowait) => " NOWAIT",
            Some(NonBlock::SkipLocked) => " SKIP LOCKED",
        });
        Ok(())
    }

    pub(super) fn subquery(&mut self, query: &Query) -> Result<()> {
        self.push("(");
        self.query(query)?;
        self.push(")");
        Ok(())
    }
}

pub(super) fn check_query(query: &Query) -> Result<()> {
    let Some((plain, _)) = &*PLAIN else {
        return refuse("a query");
    };
    let rest = Query {
        with: None,
        body: plain.body.clone(),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        ..query.clone()
    };
    refuse_if(rest != *plain, "a clause of this query")
}

fn check_select(select: &Select) -> Result<()> {
    let Some((_, plain)) = &*PLAIN else {
        return refuse("a query");
    };
    refuse_if(select.into.is_some(), "`SELECT INTO`")?;
    refuse_if(!select.named_window.is_empty(), "`WINDOW`")?;
    refuse_if(select.qualify.is_some(), "`QUALIFY`")?;
    let rest = Select {
        distinct: None,
        projection: plain.projection.clone(),
        from: Vec::new(),
        selection: None,
        group_by: plain.group_by.clone(),
        having: None,
        ..select.clone()
    };
    refuse_if(rest != *plain, "a clause of this `SELECT`")
}

impl Writer {
    /// The facts about a column that need no query to the database.
    pub(super) fn output(&self, expr: &Expr) -> Result<Output> {
        Ok(Output {
            name: Some(super::expression::name(expr)),
            kind: super::expression::kind(expr)?,
            origin: self.source(expr)?,
            sum: super::function::is_sum(expr),
            operands: self.operands(expr)?,
        })
    }
}
