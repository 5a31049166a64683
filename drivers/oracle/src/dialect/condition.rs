//! Expressions that are true or false: on Oracle something else than a value.

use sqlparser::ast::{BinaryOperator, Expr, InTarget, UnaryOperator, Value};

use super::{
    Writer, literal,
    refusal::{Result, refuse, refuse_if},
};

/// ORA-01795: how many values a list may have before Oracle 23ai.
const LONGEST_LIST: usize = 1000;

/// Whether an expression is true or false and nothing else: on Oracle a condition, not a value.
pub(super) fn is_condition(expr: &Expr) -> bool {
    use BinaryOperator as Op;
    match expr {
        Expr::Nested(expr) => is_condition(expr),
        Expr::UnaryOp { op, .. } => *op == UnaryOperator::Not,
        Expr::BinaryOp { op, .. } => matches!(
            op,
            Op::And
                | Op::Or
                | Op::Eq
                | Op::NotEq
                | Op::Lt
                | Op::LtEq
                | Op::Gt
                | Op::GtEq
                | Op::PGRegexMatch
                | Op::PGRegexIMatch
                | Op::PGRegexNotMatch
                | Op::PGRegexNotIMatch
        ),
        Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::In { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. }
        | Expr::Exists { .. } => true,
        _ => false,
    }
}

/// The sides of a chain of one operator, `a OR b OR c`, which may be long: a tree as deep as the
/// chain is long.
fn chain<'a>(mut expr: &'a Expr, of: &BinaryOperator) -> Vec<&'a Expr> {
    let mut sides = Vec::new();
    while let Expr::BinaryOp { left, op, right } = expr
        && op == of
    {
        sides.push(&**right);
        expr = left;
    }
    sides.push(expr);
    sides.reverse();
    sides
}

impl Writer {
    /// Writes a condition, which Oracle requires after WHERE, ON, HAVING, WHEN, AND, OR and NOT.
    pub(super) fn condition(&mut self, expr: &Expr) -> Result<()> {
        use BinaryOperator as Op;
        match expr {
            Expr::Nested(inner) => self.within_parentheses(|writer| writer.condition(inner)),
            Expr::Value(value) => match &value.value {
                Value::Boolean(truth) => {
                    self.push(if *truth { "1 = 1" } else { "1 = 0" });
                    Ok(())
                }
                _ => self.is_one(expr),
            },
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => {
                self.push("NOT ");
                self.within_parentheses(|writer| writer.condition(expr))
            }
            Expr::BinaryOp {
                op: op @ (Op::And | Op::Or),
                ..
            } => self.list(
                if *op == Op::And { " AND " } else { " OR " },
                chain(expr, op),
                |writer, side| writer.side(side, op),
            ),
            Expr::BinaryOp { left, op, right } if is_condition(expr) => self.comparison(left, op, right),
            Expr::IsNull(inner) => self.operand_then(inner, " IS NULL"),
            Expr::IsNotNull(inner) => self.operand_then(inner, " IS NOT NULL"),
            Expr::IsTrue(inner) => self.is_truth(inner, 1, false),
            Expr::IsNotTrue(inner) => self.is_truth(inner, 1, true),
            Expr::IsFalse(inner) => self.is_truth(inner, 0, false),
            Expr::IsNotFalse(inner) => self.is_truth(inner, 0, true),
            // To DECODE two NULLs are the same.
            Expr::IsDistinctFrom(left, right) => self.decode(left, right, " = 1"),
            Expr::IsNotDistinctFrom(left, right) => self.decode(left, right, " = 0"),
            Expr::In {
                expr,
                target,
                negated,
                global: false,
            } => self.is_in(expr, target, *negated),
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                self.operand(expr)?;
                self.push(if *negated { " NOT BETWEEN " } else { " BETWEEN " });
                self.operand(low)?;
                self.push(" AND ");
                self.operand(high)
            }
            Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_deref(), *negated, false),
            Expr::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_deref(), *negated, true),
            Expr::Exists { subquery, negated } => {
                self.push(if *negated { "NOT EXISTS " } else { "EXISTS " });
                self.subquery(subquery)
            }
            Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => self.quantified(left, compare_op, "ANY", right),
            Expr::AllOp {
                left,
                compare_op,
                right,
            } => self.quantified(left, compare_op, "ALL", right),
            _ => self.is_one(expr),
        }
    }

    /// One side of AND or OR.
    fn side(&mut self, expr: &Expr, within: &BinaryOperator) -> Result<()> {
        match expr {
            Expr::BinaryOp {
                op: BinaryOperator::Or, ..
            } if *within == BinaryOperator::And => self.within_parentheses(|writer| writer.condition(expr)),
            _ => self.condition(expr),
        }
    }

    fn is_one(&mut self, expr: &Expr) -> Result<()> {
        self.operand_then(expr, " = 1")
    }

    fn operand_then(&mut self, expr: &Expr, then: &str) -> Result<()> {
        self.operand(expr)?;
        self.push(then);
        Ok(())
    }

    /// `IS TRUE` and its kin, which are never NULL.
    fn is_truth(&mut self, expr: &Expr, number: u8, negated: bool) -> Result<()> {
        self.push("DECODE(");
        self.value(expr)?;
        self.push(&format!(", {number}, 1, 0) = {}", u8::from(!negated)));
        Ok(())
    }

    fn decode(&mut self, left: &Expr, right: &Expr, then: &str) -> Result<()> {
        self.push("DECODE(");
        self.value(left)?;
        self.push(", ");
        self.value(right)?;
        self.push(", 0, 1)");
        self.push(then);
        Ok(())
    }

    fn comparison(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<()> {
        use BinaryOperator as Op;
        let tuple = |expr: &Expr| matches!(expr, Expr::Tuple(_));
        refuse_if(tuple(left) || tuple(right), "a comparison of rows outside `IN`")?;
        let (ignores_case, negated) = match op {
            Op::PGRegexMatch => (false, false),
            Op::PGRegexIMatch => (true, false),
            Op::PGRegexNotMatch => (false, true),
            Op::PGRegexNotIMatch => (true, true),
            _ => {
                self.operand(left)?;
                self.push(match op {
                    Op::Eq => " = ",
                    Op::NotEq => " <> ",
                    Op::Lt => " < ",
                    Op::LtEq => " <= ",
                    Op::Gt => " > ",
                    Op::GtEq => " >= ",
                    _ => return refuse(format!("the operator `{op}`")),
                });
                return self.operand(right);
            }
        };
        self.push(if negated { "NOT REGEXP_LIKE(" } else { "REGEXP_LIKE(" });
        self.value(left)?;
        self.push(", ");
        self.value(right)?;
        self.push(if ignores_case { ", 'i')" } else { ", 'c')" });
        Ok(())
    }

    fn is_in(&mut self, expr: &Expr, target: &InTarget, negated: bool) -> Result<()> {
        let word = if negated { " NOT IN (" } else { " IN (" };
        match target {
            InTarget::Subquery(query) => {
                self.operand(expr)?;
                self.push(word);
                self.query(query)?;
                self.push(")");
                Ok(())
            }
            // PostgreSQL has no empty list either; SeaORM writes a condition on two numbers then.
            InTarget::List(values) if values.is_empty() => refuse("an empty list after `IN`"),
            InTarget::List(values) => {
                let several = values.len() > LONGEST_LIST;
                if several {
                    self.push("(");
                }
                let between = if negated { " AND " } else { " OR " };
                self.list(between, values.chunks(LONGEST_LIST), |writer, values| {
                    writer.operand(expr)?;
                    writer.push(word);
                    writer.list(", ", values, Self::value)?;
                    writer.push(")");
                    Ok(())
                })?;
                if several {
                    self.push(")");
                }
                Ok(())
            }
            _ => refuse("this kind of list after `IN`"),
        }
    }

    fn like(
        &mut self,
        expr: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        negated: bool,
        ignores_case: bool,
    ) -> Result<()> {
        for (index, side) in [expr, pattern].into_iter().enumerate() {
            if index > 0 {
                self.push(if negated { " NOT LIKE " } else { " LIKE " });
            }
            if ignores_case {
                self.push("UPPER(");
                self.value(side)?;
                self.push(")");
            } else {
                self.operand(side)?;
            }
        }
        match escape.map(literal) {
            // PostgreSQL escapes with a backslash by default; Oracle does not escape at all.
            None => self.push(" ESCAPE '\\'"),
            Some(Some("")) => {}
            Some(Some(character)) => self.push(&format!(" ESCAPE {}", literal::quoted(character))),
            Some(None) => return refuse("an `ESCAPE` that is no text"),
        }
        Ok(())
    }

    fn quantified(&mut self, left: &Expr, op: &BinaryOperator, word: &str, right: &Expr) -> Result<()> {
        let Expr::Subquery(query) = right else {
            return refuse(format!("`{word}` of an array"));
        };
        self.comparison_operator(left, op)?;
        self.push(word);
        self.push(" ");
        self.subquery(query)
    }

    fn comparison_operator(&mut self, left: &Expr, op: &BinaryOperator) -> Result<()> {
        self.operand(left)?;
        match op {
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq => {
                self.push(&format!(" {op} "));
                Ok(())
            }
            _ => refuse(format!("the operator `{op}`")),
        }
    }
}

/// The text of a literal.
fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}
