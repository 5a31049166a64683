//! Expressions that are values.

use sqlparser::ast::{BinaryOperator, CaseWhen, DateTimeField, Expr, TrimWhereField, UnaryOperator, Value};

use super::{
    Kind, SourceColumn, Writer,
    condition::is_condition,
    function,
    literal::placeholder,
    names,
    refusal::{Result, refuse, refuse_if},
    types::oracle_type,
};

/// The type of an expression's values, if the expression determines it.
pub(super) fn kind(expr: &Expr) -> Result<Option<Kind>> {
    Ok(match expr {
        _ if is_condition(expr) => Some(Kind::Bool),
        Expr::Nested(expr) => kind(expr)?,
        Expr::Cast { data_type, .. } => Some(oracle_type(data_type)?.kind),
        Expr::Function(call) => function::kind(call),
        Expr::Extract { .. } => Some(Kind::Decimal),
        Expr::Position { .. } => Some(Kind::Int),
        Expr::UnaryOp { expr: inner, .. } if is_calculation(expr) => kind(inner)?,
        Expr::BinaryOp { left, right, .. } if is_calculation(expr) => match (kind(left)?, kind(right)?) {
            (Some(Kind::Int), Some(Kind::Int)) => Some(Kind::Int),
            (Some(Kind::Int | Kind::BigInt), Some(Kind::Int | Kind::BigInt)) => Some(Kind::BigInt),
            _ => None,
        },
        Expr::Value(value) => match &value.value {
            Value::Boolean(_) => Some(Kind::Bool),
            Value::Number(digits, _) if digits.parse::<i32>().is_ok() => Some(Kind::Int),
            Value::Number(digits, _) if digits.parse::<i64>().is_ok() => Some(Kind::BigInt),
            Value::Number(..) => Some(Kind::Decimal),
            _ => None,
        },
        Expr::Case {
            conditions,
            else_result,
            ..
        } => {
            // A NULL has no type; the other branches determine it.
            let mut kinds = Vec::new();
            for result in conditions.iter().map(|when| &when.result).chain(else_result.as_deref()) {
                if !is_null(result) {
                    kinds.push(kind(result)?);
                }
            }
            kinds.dedup();
            match kinds.as_slice() {
                [kind] => *kind,
                _ => None,
            }
        }
        _ => None,
    })
}

/// Whether it makes whole numbers of whole numbers, on both databases: a quotient has a fraction on
/// Oracle.
fn is_calculation(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(expr) => is_calculation(expr),
        Expr::UnaryOp { op, .. } => matches!(op, UnaryOperator::Minus | UnaryOperator::Plus),
        Expr::BinaryOp { op, .. } => matches!(
            op,
            BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Modulo
        ),
        _ => false,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

/// The name that PostgreSQL gives a column without one.
pub(super) fn name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => names::postgres(ident),
        Expr::CompoundIdentifier(parts) => parts.last().map(names::postgres).unwrap_or_default(),
        Expr::Nested(expr) | Expr::Cast { expr, .. } => name(expr),
        Expr::Function(call) => names::last(&call.name).map(names::postgres).unwrap_or_default(),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        _ => "?column?".to_owned(),
    }
}

impl Writer {
    /// The table's column that an expression takes its values from: the column itself, its greatest
    /// value, and so on.
    pub(super) fn source(&self, expr: &Expr) -> Result<Option<SourceColumn>> {
        match expr {
            Expr::Nested(expr) => self.source(expr),
            Expr::Identifier(column) => self.origin(None, column),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, column] | [_, table, column] => self.origin(Some(table), column),
                _ => Ok(None),
            },
            Expr::Function(call) => match function::same_type_argument(call) {
                Some(argument) => self.source(argument),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The columns that a calculation is made of, if it is made of columns, parameters and whole
    /// numbers. A parameter has the type of what it is calculated with.
    pub(super) fn operands(&self, expr: &Expr) -> Result<Vec<SourceColumn>> {
        let mut columns = Vec::new();
        if !is_calculation(expr) || !self.collect(expr, &mut columns)? {
            columns.clear();
        }
        Ok(columns)
    }

    fn collect(&self, expr: &Expr, columns: &mut Vec<SourceColumn>) -> Result<bool> {
        match expr {
            Expr::Nested(expr) => return self.collect(expr, columns),
            Expr::UnaryOp { expr: inner, .. } if is_calculation(expr) => return self.collect(inner, columns),
            Expr::BinaryOp { left, right, .. } if is_calculation(expr) => {
                return Ok(self.collect(left, columns)? && self.collect(right, columns)?);
            }
            _ if placeholder(expr)?.is_some() || kind(expr)? == Some(Kind::Int) => return Ok(true),
            _ if function::is_sum(expr) => return Ok(false),
            _ => {}
        }
        let column = self.source(expr)?;
        let found = column.is_some();
        columns.extend(column);
        Ok(found)
    }

    pub(super) fn within_parentheses(&mut self, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.push("(");
        write(self)?;
        self.push(")");
        Ok(())
    }

    /// A value beside an operator, in parentheses if it has operators of its own, since precedence
    /// differs between the two databases.
    pub(super) fn operand(&mut self, expr: &Expr) -> Result<()> {
        match expr {
            Expr::BinaryOp { .. } | Expr::UnaryOp { .. } if !is_condition(expr) => {
                self.within_parentheses(|writer| writer.value(expr))
            }
            _ => self.value(expr),
        }
    }

    /// Writes a value.
    pub(super) fn value(&mut self, expr: &Expr) -> Result<()> {
        if is_condition(expr) {
            self.push("CASE WHEN ");
            self.condition(expr)?;
            self.push(" THEN 1 WHEN NOT (");
            self.condition(expr)?;
            self.push(") THEN 0 END");
            return Ok(());
        }
        match expr {
            Expr::Identifier(ident) => match (ident.quote_style, ident.value.to_lowercase().as_str()) {
                (None, "current_timestamp" | "localtimestamp" | "current_date") => {
                    function::keyword(self, &ident.value.to_lowercase());
                    Ok(())
                }
                _ => self.name(ident),
            },
            Expr::CompoundIdentifier(parts) => {
                refuse_if(parts.len() > 3, "a name of more than three parts")?;
                self.list(".", parts, Self::name)
            }
            Expr::Nested(inner) => self.within_parentheses(|writer| writer.value(inner)),
            Expr::Tuple(values) => self.within_parentheses(|writer| writer.list(", ", values, Self::value)),
            Expr::Value(value) => self.literal(expr, &value.value),
            Expr::TypedString(typed) => self.typed_string(typed),
            Expr::UnaryOp {
                op: op @ (UnaryOperator::Minus | UnaryOperator::Plus),
                expr,
            } => {
                self.push(if *op == UnaryOperator::Minus { "-" } else { "+" });
                match **expr {
                    // Two signs would be a comment.
                    Expr::UnaryOp { .. } => self.within_parentheses(|writer| writer.value(expr)),
                    _ => self.operand(expr),
                }
            }
            Expr::UnaryOp { op, .. } => refuse(format!("the operator `{op}`")),
            Expr::BinaryOp { left, op, right } => self.calculation(left, op, right),
            Expr::Cast {
                expr,
                data_type,
                format: None,
                ..
            } => self.cast(expr, data_type),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(operand.as_deref(), conditions, else_result.as_deref()),
            Expr::Function(call) => self.call(call),
            Expr::Subquery(query) => self.subquery(query),
            Expr::Extract { field, expr, .. } => self.extract(field, expr),
            Expr::Ceil { expr, field } => self.rounded("CEIL", expr, field),
            Expr::Floor { expr, field } => self.rounded("FLOOR", expr, field),
            Expr::Position { expr, r#in } => self.function("INSTR", &[r#in, expr]),
            Expr::Substring {
                expr,
                substring_from: Some(from),
                substring_for,
                special: false,
                ..
            } => {
                let mut arguments = vec![&**expr, &**from];
                arguments.extend(substring_for.as_deref());
                self.function("SUBSTR", &arguments)
            }
            Expr::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters: None,
            } => self.trim(trim_where.as_ref(), trim_what.as_deref(), expr),
            Expr::AtTimeZone { timestamp, time_zone } => {
                self.operand(timestamp)?;
                self.push(" AT TIME ZONE ");
                self.operand(time_zone)
            }
            other => refuse(format!("the expression `{}`", what(other))),
        }
    }

    fn calculation(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<()> {
        let sign = match op {
            BinaryOperator::Plus => " + ",
            BinaryOperator::Minus => " - ",
            BinaryOperator::Multiply => " * ",
            BinaryOperator::Divide => " / ",
            BinaryOperator::StringConcat => " || ",
            BinaryOperator::Modulo => return self.function("MOD", &[left, right]),
            BinaryOperator::BitwiseAnd => return self.function("BITAND", &[left, right]),
            _ => return refuse(format!("the operator `{op}`")),
        };
        // A chain of one operator needs no parentheses on its left.
        match left {
            Expr::BinaryOp { op: inner, .. } if inner == op => self.value(left)?,
            _ => self.operand(left)?,
        }
        self.push(sign);
        self.operand(right)
    }

    fn case(&mut self, operand: Option<&Expr>, conditions: &[CaseWhen], otherwise: Option<&Expr>) -> Result<()> {
        self.push("CASE");
        if let Some(operand) = operand {
            self.push(" ");
            self.value(operand)?;
        }
        for when in conditions {
            self.push(" WHEN ");
            match operand {
                Some(_) => self.value(&when.condition)?,
                None => self.condition(&when.condition)?,
            }
            self.push(" THEN ");
            self.value(&when.result)?;
        }
        if let Some(otherwise) = otherwise {
            self.push(" ELSE ");
            self.value(otherwise)?;
        }
        self.push(" END");
        Ok(())
    }

    fn extract(&mut self, field: &DateTimeField, expr: &Expr) -> Result<()> {
        let word = match field {
            DateTimeField::Year => "YEAR",
            DateTimeField::Month => "MONTH",
            DateTimeField::Day => "DAY",
            DateTimeField::Hour => "HOUR",
            DateTimeField::Minute => "MINUTE",
            DateTimeField::Second => "SECOND",
            other => return refuse(format!("`EXTRACT` of `{}`", other.to_string().to_lowercase())),
        };
        self.push(&format!("EXTRACT({word} FROM "));
        self.value(expr)?;
        self.push(")");
        Ok(())
    }

    fn trim(&mut self, side: Option<&TrimWhereField>, what: Option<&Expr>, expr: &Expr) -> Result<()> {
        // Oracle's TRIM takes a single character off, LTRIM and RTRIM any of several, as PostgreSQL
        // does.
        let name = match (side, what) {
            (None | Some(TrimWhereField::Both), None) => "TRIM",
            (Some(TrimWhereField::Leading), _) => "LTRIM",
            (Some(TrimWhereField::Trailing), _) => "RTRIM",
            (_, Some(what)) => {
                self.push("LTRIM(");
                self.function("RTRIM", &[expr, what])?;
                self.push(", ");
                self.value(what)?;
                self.push(")");
                return Ok(());
            }
        };
        let mut arguments = vec![expr];
        arguments.extend(what);
        self.function(name, &arguments)
    }
}

/// The kind of an expression, without its contents.
fn what(expr: &Expr) -> String {
    let debug = format!("{expr:?}");
    debug.chars().take_while(char::is_ascii_alphanumeric).collect()
}
