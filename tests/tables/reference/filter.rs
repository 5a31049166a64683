//! Filters: made at random, written for a URL, and applied to one row at a time with SQL's three
//! truths.

use std::cmp::Ordering;

use fastrand::Rng;

use super::{
    value::{Kind, Value, is_like},
    world::{Asker, Row, Table},
};

/// Filters that are put together.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Test {
        column: usize,
        negated: bool,
        test: Test,
    },
    Group {
        negated: bool,
        any: bool,
        of: Vec<Tree>,
    },
    /// Whether the row has rows of an embedded relation, which has this name and place.
    Embedded {
        name: String,
        place: usize,
        exists: bool,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Test {
    Compare(Operator, Operand),
    /// One of them, or all.
    Several(Operator, bool, Vec<Value>),
    In(Vec<Operand>),
    Is(&'static str),
    IsDistinct(Operand),
}

/// What a row's value is compared with.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    Value(Value),
    /// In a row rule: a claim of the token, or the tenant's id.
    Claim(&'static str),
    Tenant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Like,
    ILike,
}

const COMPARISONS: [Operator; 6] = [
    Operator::Equal,
    Operator::NotEqual,
    Operator::Greater,
    Operator::GreaterOrEqual,
    Operator::Less,
    Operator::LessOrEqual,
];

impl Operator {
    fn word(self) -> &'static str {
        match self {
            Self::Equal => "eq",
            Self::NotEqual => "neq",
            Self::Greater => "gt",
            Self::GreaterOrEqual => "gte",
            Self::Less => "lt",
            Self::LessOrEqual => "lte",
            Self::Like => "like",
            Self::ILike => "ilike",
        }
    }

    fn holds(self, kind: Kind, row: &Value, with: &Value) -> Option<bool> {
        if matches!(self, Self::Like | Self::ILike) {
            let Value::Text(text) = row else { return None };
            return Some(is_like(text, &with.text(), self == Self::ILike));
        }
        let ordering = kind.compare(row, with)?;
        Some(match self {
            Self::Equal => ordering == Ordering::Equal,
            Self::NotEqual => ordering != Ordering::Equal,
            Self::Greater => ordering == Ordering::Greater,
            Self::GreaterOrEqual => ordering != Ordering::Less,
            Self::Less => ordering == Ordering::Less,
            _ => ordering != Ordering::Greater,
        })
    }
}

/// Makes filters of the columns that may be named.
pub(super) struct Maker<'a> {
    pub(super) table: &'a Table,
    pub(super) columns: Vec<usize>,
    /// Whether the filter is a row rule, which may name claims.
    pub(super) is_rule: bool,
}

impl Maker<'_> {
    pub(super) fn tree(&self, random: &mut Rng, depth: usize) -> Tree {
        if depth < 3 && random.u8(..4) == 0 {
            return Tree::Group {
                negated: random.u8(..3) == 0,
                any: random.bool(),
                of: (0..random.usize(1..4)).map(|_| self.tree(random, depth + 1)).collect(),
            };
        }
        let column = self.columns[random.usize(..self.columns.len())];
        Tree::Test {
            column,
            negated: random.u8(..4) == 0,
            test: self.test(random, self.table.columns[column].kind),
        }
    }

    fn operand(&self, random: &mut Rng, kind: Kind) -> Operand {
        if self.is_rule && random.bool() {
            match kind {
                Kind::Int2 | Kind::Int4 | Kind::Int8 => return Operand::Claim("number"),
                Kind::Word if random.bool() => return Operand::Tenant,
                Kind::Word => return Operand::Claim("deep.word"),
                _ => {}
            }
        }
        Operand::Value(kind.value(random))
    }

    fn test(&self, random: &mut Rng, kind: Kind) -> Test {
        if kind == Kind::Json || random.u8(..8) == 0 {
            let words: &[&str] = match kind {
                Kind::Bool => &["null", "not_null", "true", "false", "unknown"],
                _ => &["null", "not_null"],
            };
            return Test::Is(words[random.usize(..words.len())]);
        }
        match random.u8(..10) {
            0..2 => {
                let count = random.usize(..4);
                let mut values: Vec<Operand> = (0..count).map(|_| Operand::Value(kind.value(random))).collect();
                if self.is_rule && matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8) {
                    values = vec![Operand::Claim("numbers")];
                }
                Test::In(values)
            }
            2 => Test::IsDistinct(self.operand(random, kind)),
            3 => {
                let operator = self.operator(random, kind);
                let operator = if operator == Operator::NotEqual {
                    Operator::Equal
                } else {
                    operator
                };
                let all = random.bool();
                let values = (0..random.usize(..4)).map(|_| of_operator(random, kind, operator));
                Test::Several(operator, all, values.collect())
            }
            _ => match self.operator(random, kind) {
                operator @ (Operator::Like | Operator::ILike) => {
                    Test::Compare(operator, Operand::Value(of_operator(random, kind, operator)))
                }
                operator => Test::Compare(operator, self.operand(random, kind)),
            },
        }
    }

    fn operator(&self, random: &mut Rng, kind: Kind) -> Operator {
        match kind {
            Kind::Any if random.bool() => Operator::Like,
            kind if kind.is_text() && random.bool() => {
                [Operator::Like, Operator::ILike][usize::from(kind != Kind::Any && random.bool())]
            }
            kind if kind.is_sorted() => COMPARISONS[random.usize(..COMPARISONS.len())],
            _ => COMPARISONS[random.usize(..2)],
        }
    }
}

fn of_operator(random: &mut Rng, kind: Kind, operator: Operator) -> Value {
    let value = kind.value(random);
    if !matches!(operator, Operator::Like | Operator::ILike) {
        return value;
    }
    let mut pattern: Vec<char> = value.text().chars().collect();
    for _ in 0..random.usize(..3) {
        let at = random.usize(..=pattern.len());
        match random.u8(..4) {
            0 => pattern.insert(at, '*'),
            1 => pattern.insert(at, '%'),
            2 if at < pattern.len() => pattern[at] = '_',
            _ if at < pattern.len() => pattern.insert(at, '\\'),
            _ => {}
        }
    }
    let text: String = pattern.into_iter().collect();
    // A pattern may not end in the middle of an escape.
    Value::Text(text.trim_end_matches('\\').to_owned())
}

/// A text in double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Operand {
    fn text(&self) -> String {
        match self {
            Self::Value(value) => value.text(),
            Self::Claim(name) => format!("{{claims.{name}}}"),
            Self::Tenant => "{tenant}".to_owned(),
        }
    }

    /// As an element of a list, or within a group.
    fn element(&self) -> String {
        match self {
            Self::Value(Value::Text(text)) => quoted(text),
            other => other.text(),
        }
    }

    /// The values that it stands for; `None` if the token lacks the claim.
    fn values(&self, asker: &Asker<'_>) -> Option<Vec<Value>> {
        match self {
            Self::Value(value) => Some(vec![value.clone()]),
            Self::Tenant => Some(vec![Value::Text(asker.tenant.to_owned())]),
            Self::Claim(name) => asker.claim(name),
        }
    }

    fn value(&self, asker: &Asker<'_>) -> Option<Value> {
        self.values(asker)?.into_iter().next()
    }
}

impl Test {
    fn text(&self, within: bool) -> String {
        let shown = |operand: &Operand| if within { operand.element() } else { operand.text() };
        match self {
            Self::Compare(operator, with) => format!("{}.{}", operator.word(), shown(with)),
            Self::Several(operator, all, values) => {
                let values: Vec<String> = values.iter().map(|value| quoted(&value.text())).collect();
                let which = if *all { "all" } else { "any" };
                format!("{}({which}).{{{}}}", operator.word(), values.join(","))
            }
            Self::In(values) => {
                let values: Vec<String> = values.iter().map(Operand::element).collect();
                format!("in.({})", values.join(","))
            }
            Self::Is(word) => format!("is.{word}"),
            Self::IsDistinct(with) => format!("isdistinct.{}", shown(with)),
        }
    }

    /// Whether it holds of a value. Claims must be there.
    fn holds(&self, kind: Kind, row: &Value, asker: &Asker<'_>) -> Option<bool> {
        match self {
            Self::Compare(operator, with) => operator.holds(kind, row, &with.value(asker)?),
            Self::Several(operator, all, values) => {
                let each: Vec<_> = values.iter().map(|value| operator.holds(kind, row, value)).collect();
                together(!*all, &each)
            }
            Self::In(values) => {
                let values = values.iter().filter_map(|value| value.values(asker)).flatten();
                let each: Vec<_> = values.map(|value| Operator::Equal.holds(kind, row, &value)).collect();
                together(true, &each)
            }
            Self::Is("null" | "unknown") => Some(*row == Value::Null),
            Self::Is("not_null") => Some(*row != Value::Null),
            Self::Is(word) => Some(*row == Value::Bool(*word == "true")),
            Self::IsDistinct(with) => Some(*row != with.value(asker)?),
        }
    }

    fn operands(&self) -> Vec<&Operand> {
        match self {
            Self::Compare(_, with) | Self::IsDistinct(with) => vec![with],
            Self::In(values) => values.iter().collect(),
            Self::Several(..) | Self::Is(_) => Vec::new(),
        }
    }
}

/// `OR` of some truths, or `AND`.
fn together(any: bool, each: &[Option<bool>]) -> Option<bool> {
    match () {
        () if each.contains(&Some(any)) => Some(any),
        () if each.contains(&None) => None,
        () => Some(!any),
    }
}

impl Tree {
    /// As a parameter: its name and its value.
    pub(super) fn parameter(&self, table: &Table) -> (String, String) {
        let not = |negated: bool| if negated { "not." } else { "" };
        match self {
            Self::Test { column, negated, test } => {
                let name = table.columns[*column].parameter();
                (name, format!("{}{}", not(*negated), test.text(false)))
            }
            Self::Embedded { name, exists, .. } => {
                (name.clone(), if *exists { "not.is.null" } else { "is.null" }.to_owned())
            }
            Self::Group { negated, any, of } => {
                let name = format!("{}{}", not(*negated), if *any { "or" } else { "and" });
                (name, format!("({})", members(of, table)))
            }
        }
    }

    /// Within a group.
    fn member(&self, table: &Table) -> String {
        match self {
            Self::Test { column, negated, test } => {
                let not = if *negated { "not." } else { "" };
                format!("{}.{not}{}", table.columns[*column].name, test.text(true))
            }
            other => {
                let (name, value) = other.parameter(table);
                match other {
                    Self::Embedded { .. } => format!("{name}.{value}"),
                    _ => format!("{name}{value}"),
                }
            }
        }
    }

    /// Whether it holds of a row; `exists` says which embedded relations have rows.
    pub(super) fn holds(
        &self,
        table: &Table,
        row: &Row,
        asker: &Asker<'_>,
        exists: &dyn Fn(usize) -> bool,
    ) -> Option<bool> {
        let (negated, truth) = match self {
            Self::Test { column, negated, test } => {
                (*negated, test.holds(table.columns[*column].kind, &row[*column], asker))
            }
            Self::Group { negated, any, of } => {
                let each: Vec<_> = of.iter().map(|tree| tree.holds(table, row, asker, exists)).collect();
                (*negated, together(*any, &each))
            }
            Self::Embedded {
                place, exists: wanted, ..
            } => (false, Some(exists(*place) == *wanted)),
        };
        truth.map(|truth| truth != negated)
    }

    /// Whether the token has every claim that it names.
    pub(super) fn is_known(&self, asker: &Asker<'_>) -> bool {
        match self {
            Self::Test { test, .. } => test.operands().iter().all(|operand| operand.values(asker).is_some()),
            Self::Group { of, .. } => of.iter().all(|tree| tree.is_known(asker)),
            Self::Embedded { .. } => true,
        }
    }
}

fn members(of: &[Tree], table: &Table) -> String {
    let each: Vec<String> = of.iter().map(|tree| tree.member(table)).collect();
    each.join(",")
}
