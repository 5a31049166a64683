//! Functions and what else has a name in an expression.

use sqlparser::ast::{
    CeilFloorKind, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowType,
};

use super::{
    Kind, Writer, names,
    refusal::{Result, refuse, refuse_if},
};

/// Functions that are the same in both databases, but for their names: PostgreSQL's and Oracle's.
/// How many arguments they may have.
const SAME: &[(&str, &str, std::ops::RangeInclusive<usize>)] = &[
    ("abs", "ABS", 1..=1),
    ("avg", "AVG", 1..=1),
    ("btrim", "TRIM", 1..=1),
    ("ceil", "CEIL", 1..=1),
    ("ceiling", "CEIL", 1..=1),
    ("char_length", "LENGTH", 1..=1),
    ("character_length", "LENGTH", 1..=1),
    ("coalesce", "COALESCE", 2..=100),
    ("count", "COUNT", 1..=1),
    ("dense_rank", "DENSE_RANK", 0..=0),
    ("exp", "EXP", 1..=1),
    ("first_value", "FIRST_VALUE", 1..=1),
    ("floor", "FLOOR", 1..=1),
    ("initcap", "INITCAP", 1..=1),
    ("lag", "LAG", 1..=3),
    ("last_value", "LAST_VALUE", 1..=1),
    ("lead", "LEAD", 1..=3),
    ("length", "LENGTH", 1..=1),
    ("ln", "LN", 1..=1),
    ("lower", "LOWER", 1..=1),
    ("lpad", "LPAD", 2..=3),
    ("ltrim", "LTRIM", 1..=2),
    ("max", "MAX", 1..=1),
    ("min", "MIN", 1..=1),
    ("mod", "MOD", 2..=2),
    ("ntile", "NTILE", 1..=1),
    ("nullif", "NULLIF", 2..=2),
    ("power", "POWER", 2..=2),
    ("rank", "RANK", 0..=0),
    ("replace", "REPLACE", 3..=3),
    ("round", "ROUND", 1..=2),
    ("row_number", "ROW_NUMBER", 0..=0),
    ("rpad", "RPAD", 2..=3),
    ("rtrim", "RTRIM", 1..=2),
    ("sign", "SIGN", 1..=1),
    ("sqrt", "SQRT", 1..=1),
    ("stddev", "STDDEV", 1..=1),
    ("strpos", "INSTR", 2..=2),
    ("substr", "SUBSTR", 2..=3),
    ("substring", "SUBSTR", 2..=3),
    ("sum", "SUM", 1..=1),
    ("trunc", "TRUNC", 1..=2),
    ("upper", "UPPER", 1..=1),
    ("variance", "VARIANCE", 1..=1),
];

fn name(call: &Function) -> Option<String> {
    match names::parts(&call.name).ok()?.as_slice() {
        [ident] => Some(names::postgres(ident)),
        _ => None,
    }
}

/// The type that a function gives whatever its arguments are.
pub(super) fn kind(call: &Function) -> Option<Kind> {
    Some(match name(call)?.as_str() {
        "count" | "row_number" | "rank" | "dense_rank" => Kind::BigInt,
        "length" | "char_length" | "character_length" | "strpos" | "ntile" => Kind::Int,
        "avg" | "stddev" | "variance" => Kind::Decimal,
        "now" | "current_timestamp" => Kind::TimestampTz,
        "localtimestamp" => Kind::Timestamp,
        "current_date" => Kind::Date,
        "gen_random_uuid" => Kind::Uuid,
        "random" => Kind::Double,
        _ => return None,
    })
}

/// The argument that determines the type of a function's result.
pub(super) fn same_type_argument(call: &Function) -> Option<&Expr> {
    let same = matches!(
        name(call)?.as_str(),
        "min" | "max" | "coalesce" | "nullif" | "first_value" | "last_value" | "lag" | "lead" | "abs" | "sum"
    );
    match &call.args {
        FunctionArguments::List(list) if same => match list.args.first()? {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn is_sum(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if name(call).as_deref() == Some("sum"))
}

/// Writes a function that has no parentheses in PostgreSQL.
pub(super) fn keyword(writer: &mut Writer, name: &str) {
    writer.push(match name {
        "localtimestamp" => "LOCALTIMESTAMP",
        // Oracle's has a time of day.
        "current_date" => "TRUNC(CURRENT_DATE)",
        _ => "CURRENT_TIMESTAMP",
    });
}

impl Writer {
    /// A function of Oracle's with plain arguments.
    pub(super) fn function(&mut self, name: &str, arguments: &[&Expr]) -> Result<()> {
        self.push(name);
        self.push("(");
        self.list(", ", arguments.iter().copied(), Self::value)?;
        self.push(")");
        Ok(())
    }

    pub(super) fn call(&mut self, call: &Function) -> Result<()> {
        let Some(name) = name(call) else {
            return refuse("a function with a schema");
        };
        refuse_if(call.filter.is_some(), "`FILTER` of an aggregate")?;
        refuse_if(call.null_treatment.is_some(), "`IGNORE NULLS`")?;
        refuse_if(!call.within_group.is_empty(), "`WITHIN GROUP`")?;
        refuse_if(
            call.parameters != FunctionArguments::None || call.uses_odbc_syntax,
            "this form of a call",
        )?;
        let no_list = FunctionArgumentList {
            duplicate_treatment: None,
            args: Vec::new(),
            clauses: Vec::new(),
        };
        let list = match &call.args {
            FunctionArguments::None => &no_list,
            FunctionArguments::List(list) => list,
            FunctionArguments::Subquery(_) => return refuse("a query as the argument of a function"),
        };
        let arguments = list.args.len();
        match name.as_str() {
            "now" | "current_timestamp" | "localtimestamp" | "current_date" if arguments == 0 => {
                keyword(self, &name);
                Ok(())
            }
            "gen_random_uuid" if arguments == 0 => {
                self.push("SYS_GUID()");
                Ok(())
            }
            "current_schema" if arguments == 0 => {
                self.push("SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA')");
                Ok(())
            }
            "random" if arguments == 0 => {
                self.push("DBMS_RANDOM.VALUE");
                Ok(())
            }
            // PostgreSQL's leaves NULLs out, and on Oracle a NULL is an empty text.
            "concat" if arguments > 0 => self.concat(list),
            "string_agg" if arguments == 2 => self.string_agg(list, call.over.is_some()),
            name => self.known(name, list, call),
        }
    }

    /// A call of a function that Oracle has too, perhaps by another name.
    fn known(&mut self, name: &str, list: &FunctionArgumentList, call: &Function) -> Result<()> {
        let arguments = list.args.len();
        let unknown = || refuse(format!("the function `{name}`"));
        let Some((_, oracle, range)) = SAME.iter().find(|(postgres, ..)| *postgres == name) else {
            return unknown();
        };
        refuse_if(
            !range.contains(&arguments),
            &format!("`{name}` with {arguments} arguments"),
        )?;
        refuse_if(
            !list.clauses.is_empty(),
            "an `ORDER BY` or another clause among a function's arguments",
        )?;
        self.push(oracle);
        self.push("(");
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            self.push("DISTINCT ");
        }
        let counts = *oracle == "COUNT";
        self.list(", ", &list.args, |writer, argument| writer.argument(argument, counts))?;
        self.push(")");
        match &call.over {
            None => Ok(()),
            Some(window) => self.window(window),
        }
    }

    fn argument(&mut self, argument: &FunctionArg, counts: bool) -> Result<()> {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.value(expr),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if counts => {
                self.push("*");
                Ok(())
            }
            FunctionArg::Unnamed(_) => refuse("`*` as an argument"),
            FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => refuse("an argument with a name"),
        }
    }

    fn concat(&mut self, list: &FunctionArgumentList) -> Result<()> {
        refuse_if(
            !list.clauses.is_empty() || list.duplicate_treatment.is_some(),
            "this form of `concat`",
        )?;
        self.push("(");
        self.list(" || ", &list.args, |writer, argument| {
            writer.push("TO_CHAR(");
            writer.argument(argument, false)?;
            writer.push(")");
            Ok(())
        })?;
        self.push(")");
        Ok(())
    }

    fn string_agg(&mut self, list: &FunctionArgumentList, windowed: bool) -> Result<()> {
        refuse_if(
            windowed || list.duplicate_treatment.is_some(),
            "this form of `string_agg`",
        )?;
        use sqlparser::ast::FunctionArgumentClause as Clause;
        let order = match list.clauses.as_slice() {
            [] => None,
            [Clause::OrderBy(order)] => Some(order),
            _ => return refuse("this form of `string_agg`"),
        };
        self.push("LISTAGG(");
        self.list(", ", &list.args, |writer, argument| writer.argument(argument, false))?;
        self.push(") WITHIN GROUP (ORDER BY ");
        match order {
            Some(order) => self.list(", ", order, Self::order_by_expr)?,
            None => self.push("NULL"),
        }
        self.push(")");
        Ok(())
    }

    fn window(&mut self, window: &WindowType) -> Result<()> {
        let WindowType::WindowSpec(window) = window else {
            return refuse("`WINDOW`");
        };
        refuse_if(window.window_name.is_some(), "`WINDOW`")?;
        self.push(" OVER (");
        if !window.partition_by.is_empty() {
            self.push("PARTITION BY ");
            self.list(", ", &window.partition_by, Self::value)?;
        }
        if !window.order_by.is_empty() {
            self.push(if window.partition_by.is_empty() {
                "ORDER BY "
            } else {
                " ORDER BY "
            });
            self.list(", ", &window.order_by, Self::order_by_expr)?;
        }
        if let Some(frame) = &window.window_frame {
            self.frame(frame)?;
        }
        self.push(")");
        Ok(())
    }

    fn frame(&mut self, frame: &WindowFrame) -> Result<()> {
        self.push(match frame.units {
            WindowFrameUnits::Rows => " ROWS ",
            WindowFrameUnits::Range => " RANGE ",
            WindowFrameUnits::Groups => return refuse("`GROUPS` of a window"),
        });
        match &frame.end_bound {
            None => self.bound(&frame.start_bound),
            Some(end) => {
                self.push("BETWEEN ");
                self.bound(&frame.start_bound)?;
                self.push(" AND ");
                self.bound(end)
            }
        }
    }

    fn bound(&mut self, bound: &WindowFrameBound) -> Result<()> {
        let (distance, word) = match bound {
            WindowFrameBound::CurrentRow => {
                self.push("CURRENT ROW");
                return Ok(());
            }
            WindowFrameBound::Preceding(distance) => (distance, " PRECEDING"),
            WindowFrameBound::Following(distance) => (distance, " FOLLOWING"),
        };
        match distance {
            None => self.push("UNBOUNDED"),
            Some(distance) => self.value(distance)?,
        }
        self.push(word);
        Ok(())
    }

    pub(super) fn rounded(&mut self, name: &str, expr: &Expr, field: &CeilFloorKind) -> Result<()> {
        match field {
            CeilFloorKind::DateTimeField(sqlparser::ast::DateTimeField::NoDateTime) => self.function(name, &[expr]),
            _ => refuse(format!("`{}` with two arguments", name.to_lowercase())),
        }
    }
}
