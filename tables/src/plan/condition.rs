//! Filters and row rules, with their columns found and their values read.

use std::borrow::Cow;

use super::{
    claims::{self, Takes, only},
    enumeration::enumerated,
};
use crate::{
    caller::Caller,
    declaration::ColumnType,
    model::{Access, Column, Table},
    refusal::Refusal,
    request::{
        filter::{Filter, Is, Operator, Quantifier, Test, Tree},
        rule::listed,
    },
    value::{Datum, Malformed},
};

/// The most tests in one request.
pub(crate) const MOST_TESTS: usize = 1000;

/// The longest pattern that a client may send, in bytes. A database compares each of its characters
/// with each of a text, and SQLite cannot be stopped meanwhile.
pub(crate) const LONGEST_PATTERN: usize = 256;

/// What must hold of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition<'m> {
    Always,
    Never,
    Column(&'m Column, ColumnTest),
    /// There is a row in the embedded table of this place.
    Embedded(usize),
    Not(Box<Condition<'m>>),
    All(Vec<Condition<'m>>),
    Any(Vec<Condition<'m>>),
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ColumnTest {
    Compare(Comparison, Datum),
    /// Equal to the database itself, as its unique constraints compare.
    Same(Datum),
    Like {
        pattern: String,
        any_case: bool,
    },
    In(Vec<Datum>),
    IsNull,
    /// `IS TRUE`, `IS FALSE`.
    IsBool(bool),
    IsDistinct(Datum),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl<'m> Condition<'m> {
    pub(crate) fn not(self) -> Self {
        match self {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            other => Self::Not(Box::new(other)),
        }
    }

    /// Both hold.
    pub(crate) fn and(self, other: Self) -> Self {
        Self::all([self, other])
    }

    pub(crate) fn all(each: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for condition in each {
            match condition {
                Self::Always => {}
                Self::Never => return Self::Never,
                Self::All(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Always,
            1 => kept.remove(0),
            _ => Self::All(kept),
        }
    }

    pub(crate) fn any(each: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for condition in each {
            match condition {
                Self::Never => {}
                Self::Always => return Self::Always,
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Never,
            1 => kept.remove(0),
            _ => Self::Any(kept),
        }
    }
}

/// Reads filters of one table.
pub(crate) struct Conditions<'m, 'c> {
    pub(crate) table: &'m Table,
    /// The columns that filters may name; `None` for a row rule, which may name all.
    pub(crate) readable: Option<&'m Access>,
    pub(crate) caller: Caller<'c>,
    /// The names of the embedded tables, which may be tested for whether they have rows.
    pub(crate) embedded: Vec<String>,
    /// How many more tests the request may have.
    pub(crate) left: usize,
}

impl<'m> Conditions<'m, '_> {
    pub(crate) fn tree(&mut self, tree: &Tree) -> Result<Condition<'m>, Refusal> {
        match tree {
            Tree::Filter(filter) => self.filter(filter),
            Tree::Group { negated, any, of } => {
                let each = of.iter().map(|tree| self.tree(tree)).collect::<Result<Vec<_>, _>>()?;
                let group = if *any {
                    Condition::any(each)
                } else {
                    Condition::all(each)
                };
                Ok(if *negated { group.not() } else { group })
            }
        }
    }

    pub(crate) fn filter(&mut self, filter: &Filter) -> Result<Condition<'m>, Refusal> {
        self.count(1)?;
        let place = self.table.column(&filter.field);
        let place = place.filter(|place| self.readable.is_none_or(|access| access.has(*place)));
        let Some(place) = place else {
            return self.embedded_filter(filter);
        };
        let column = &self.table.columns[place];
        let condition = self
            .test(column, &filter.test)
            .map_err(|mut refusal| match refusal.places.is_empty() {
                true => {
                    refusal.hint = filter.test.hint().map(str::to_owned);
                    let detail = refusal.misfit();
                    refusal.at_parameter(&filter.field, detail)
                }
                false => refusal,
            })?;
        Ok(if filter.negated { condition.not() } else { condition })
    }

    fn count(&mut self, tests: usize) -> Result<(), Refusal> {
        let left = self.left.checked_sub(tests);
        self.left =
            left.ok_or_else(|| Refusal::too_much(format!("the request has more than {MOST_TESTS} conditions")))?;
        Ok(())
    }

    fn embedded_filter(&self, filter: &Filter) -> Result<Condition<'m>, Refusal> {
        let place = self.embedded.iter().position(|name| *name == filter.field);
        let Some(place) = place else {
            return Err(Refusal::no_column(self.table, &filter.field, self.readable)
                .at_parameter(&filter.field, "is no column of the table"));
        };
        let exists = Condition::Embedded(place);
        let is_null = match filter.test {
            Test::Is(Is::Null) => true,
            Test::Is(Is::NotNull) => false,
            _ => {
                let name = &filter.field;
                return Err(
                    Refusal::bad("PGRST120", format!("Bad operator on the '{name}' embedded resource"))
                        .details("Only is null or not is null filters are allowed on embedded resources"),
                );
            }
        };
        Ok(if is_null != filter.negated {
            exists.not()
        } else {
            exists
        })
    }

    fn test(&mut self, column: &'m Column, test: &Test) -> Result<Condition<'m>, Refusal> {
        let is = |test| Condition::Column(column, test);
        match test {
            Test::Is(Is::Null) => Ok(is(ColumnTest::IsNull)),
            Test::Is(Is::NotNull) => Ok(is(ColumnTest::IsNull).not()),
            Test::Is(tested) if column.kind != ColumnType::Bool => {
                let word = match tested {
                    Is::True => "TRUE",
                    Is::False => "FALSE",
                    _ => "UNKNOWN",
                };
                let kind = column.kind.in_messages();
                Err(Refusal::bad(
                    "42804",
                    format!("argument of IS {word} must be type boolean, not type {kind}"),
                ))
            }
            Test::Is(Is::True) => Ok(is(ColumnTest::IsBool(true))),
            Test::Is(Is::False) => Ok(is(ColumnTest::IsBool(false))),
            Test::Is(Is::Unknown) => Ok(is(ColumnTest::IsNull)),
            Test::IsDistinct(text) => {
                comparable(column, "IS DISTINCT FROM")?;
                Ok(is(ColumnTest::IsDistinct(self.value(column, text)?)))
            }
            Test::In(texts) => {
                comparable(column, "=")?;
                self.count(texts.len())?;
                let mut values = Vec::with_capacity(texts.len());
                for text in texts {
                    values.extend(self.values(column, text, Takes::Several)?);
                }
                Ok(match values.is_empty() {
                    true => Condition::Never,
                    false => is(ColumnTest::In(values)),
                })
            }
            Test::Compare(operator, text) => only(self.compare(column, *operator, text, Takes::One)?),
            Test::Quantified(operator, quantifier, texts) => {
                self.count(texts.len())?;
                let placeholder = match self.readable {
                    Some(_) => None,
                    None => listed(texts),
                };
                let texts = placeholder.as_ref().map_or(texts.as_slice(), std::slice::from_ref);
                let mut each = Vec::with_capacity(texts.len());
                for text in texts {
                    each.extend(self.compare(column, *operator, text, Takes::Several)?);
                }
                Ok(match quantifier {
                    Quantifier::Any => Condition::any(each),
                    Quantifier::All => Condition::all(each),
                })
            }
        }
    }

    /// The comparison with a value; with each of them, if it is a claim that is a list.
    fn compare(
        &self,
        column: &'m Column,
        operator: Operator,
        text: &str,
        takes: Takes,
    ) -> Result<Vec<Condition<'m>>, Refusal> {
        let comparison = match operator {
            Operator::Equal => Comparison::Equal,
            Operator::NotEqual => Comparison::NotEqual,
            Operator::Greater => Comparison::Greater,
            Operator::GreaterOrEqual => Comparison::GreaterOrEqual,
            Operator::Less => Comparison::Less,
            Operator::LessOrEqual => Comparison::LessOrEqual,
            Operator::Like | Operator::ILike => {
                let sign = if operator == Operator::Like { "~~" } else { "~~*" };
                if !column.kind.is_text() {
                    return Err(no_operator(column, sign));
                }
                if self.readable.is_some() && text.len() > LONGEST_PATTERN {
                    let message = format!("a pattern has more than {LONGEST_PATTERN} bytes");
                    return Err(Refusal::too_much(message));
                }
                let bound = self.bound(text, takes)?;
                if bound.as_ref().is_some_and(Vec::is_empty) {
                    let unknown = ColumnTest::Compare(Comparison::Equal, Datum::Null);
                    return Ok(vec![Condition::Column(column, unknown)]);
                }
                let patterns = claims::patterns(bound, text)?;
                let like = |pattern| {
                    let any_case = operator == Operator::ILike;
                    Condition::Column(column, ColumnTest::Like { pattern, any_case })
                };
                return Ok(patterns.into_iter().map(like).collect());
            }
        };
        comparable(column, "=")?;
        let values = self.values(column, text, takes)?;
        let compare = |value| match (&column.kind, &value) {
            (ColumnType::Enum(values), Datum::Text(text))
                if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) =>
            {
                enumerated(column, values, comparison, text)
            }
            _ => Condition::Column(column, ColumnTest::Compare(comparison, value)),
        };
        Ok(values.into_iter().map(compare).collect())
    }

    /// What a placeholder of a row rule stands for; `None` if the text is none.
    fn bound(&self, text: &str, takes: Takes) -> Result<Option<Vec<Cow<'_, str>>>, Refusal> {
        match self.readable {
            Some(_) => Ok(None),
            None => claims::bound(&self.caller, text, takes),
        }
    }

    /// A value, or the value of a placeholder.
    fn value(&self, column: &Column, text: &str) -> Result<Datum, Refusal> {
        only(self.values(column, text, Takes::One)?)
    }

    /// The values of a text. A claim that is an empty list stands for NULL: a comparison with it
    /// holds of no row, and neither does its opposite.
    fn values(&self, column: &Column, text: &str, takes: Takes) -> Result<Vec<Datum>, Refusal> {
        let texts = self.bound(text, takes)?.unwrap_or_else(|| vec![text.into()]);
        if texts.is_empty() {
            return Ok(vec![Datum::Null]);
        }
        let dialect = self.caller.dialect;
        let values = texts.iter().map(|text| match Datum::parse(&column.kind, text) {
            Ok(value) if !dialect.holds(&column.kind, &value) => Err(Malformed::Syntax),
            parsed => parsed,
        });
        values
            .collect::<Result<_, _>>()
            .map_err(|malformed| refuse(column, malformed))
    }
}

/// Why a value is refused, in PostgreSQL's words.
pub(crate) fn refuse(column: &Column, malformed: Malformed) -> Refusal {
    let kind = match &column.kind {
        ColumnType::Enum(_) => "enum",
        kind => kind.in_messages(),
    };
    match malformed {
        Malformed::Syntax => match column.kind {
            ColumnType::Enum(_) => Refusal::bad("22P02", "invalid input value for enum"),
            _ => Refusal::malformed(kind),
        },
        Malformed::OutOfRange => Refusal::bad("22003", format!("value out of range for type {kind}")),
        Malformed::TooLong => Refusal::bad(
            "22001",
            format!(
                "value too long for type character varying({})",
                column.max.unwrap_or_default()
            ),
        ),
        Malformed::Nul => Refusal::bad("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"),
    }
}

fn comparable(column: &Column, operator: &str) -> Result<(), Refusal> {
    match column.kind {
        ColumnType::Json => Err(no_operator(column, operator)),
        _ => Ok(()),
    }
}

fn no_operator(column: &Column, operator: &str) -> Refusal {
    let kind = column.kind.in_messages();
    Refusal::new(
        http::StatusCode::NOT_FOUND,
        "42883",
        format!("operator does not exist: {kind} {operator} unknown"),
    )
}

/// The rows that a rule allows. If a value of it is missing, or does not fit its column, it allows
/// no row, even if that value is negated or one of several.
pub(crate) fn rule<'m>(table: &'m Table, access: &'m Access, caller: Caller<'_>) -> Condition<'m> {
    let Some(trees) = &access.rows else {
        return Condition::Always;
    };
    let mut conditions = Conditions {
        table,
        readable: None,
        caller,
        embedded: Vec::new(),
        left: MOST_TESTS,
    };
    let each = trees
        .iter()
        .map(|tree| conditions.tree(tree))
        .collect::<Result<Vec<_>, _>>();
    match each {
        Ok(each) if !each.is_empty() => Condition::all(each),
        _ => Condition::Never,
    }
}
