//! The order of an enumeration.

use super::{ColumnTest, Comparison, Condition};
use crate::{model::Column, value::Datum};

/// The values of an enumeration before or after one of them, in the order in which it is declared.
/// The caller has made sure that `text` is one of them.
pub(super) fn enumerated<'m>(
    column: &'m Column,
    values: &[String],
    comparison: Comparison,
    text: &str,
) -> Condition<'m> {
    let at = values.iter().position(|value| value == text).unwrap_or(values.len());
    let fits = |place: usize| match comparison {
        Comparison::Equal => place == at,
        Comparison::NotEqual => place != at,
        Comparison::Greater => place > at,
        Comparison::GreaterOrEqual => place >= at,
        Comparison::Less => place < at,
        Comparison::LessOrEqual => place <= at,
    };
    let is_one_of = |fits: &dyn Fn(usize) -> bool| {
        let fitting = values.iter().enumerate().filter(|(place, _)| fits(*place));
        let fitting = fitting.map(|(_, value)| Datum::Text(value.clone()));
        Condition::Column(column, ColumnTest::In(fitting.collect()))
    };
    if (0..values.len()).any(fits) {
        return is_one_of(&fits);
    }
    // No value fits, and of NULL it is unknown: its opposite does not hold of NULL either.
    let any = is_one_of(&|_| true);
    Condition::All(vec![any.clone(), Condition::Not(Box::new(any))])
}
