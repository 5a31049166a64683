//! Filters: `gt.18`, `not.in.(1,2)`, and the groups `(a.eq.1,or(b.is.null,c.lt.3))`.

use super::scan::{Scan, Unexpected};

/// How deep groups may be nested.
pub(crate) const DEEPEST_GROUP: usize = 10;

/// What is asked of one column, or of one embedded table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter {
    /// The column's name.
    pub(crate) field: String,
    pub(crate) negated: bool,
    pub(crate) test: Test,
}

/// An operator and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Compare(Operator, String),
    /// `eq(any).{1,2}`: several values, of which one must fit, or all.
    Quantified(Operator, Quantifier, Vec<String>),
    In(Vec<String>),
    Is(Is),
    IsDistinct(String),
}

impl Test {
    /// What a client most likely meant by a value that does not fit its column.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        let Self::Compare(operator, value) = self else {
            return None;
        };
        // The offset of a time: `2026-01-02T03:04:05 02:00`.
        let offset = value.rsplit_once(' ').map(|(_, after)| after.as_bytes());
        let has_lost_plus = value.contains('T') && matches!(offset, Some([b'0'..=b'9', b'0'..=b'9', ..]));
        match operator {
            Operator::Equal | Operator::NotEqual if value == "null" => {
                Some("A column is compared with NULL by `is.null` and `not.is.null`.")
            }
            _ => has_lost_plus.then_some("A `+` in a URL stands for a space; write `%2B`."),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Like,
    ILike,
}

impl Operator {
    /// Their words, those first that begin with another one.
    pub(crate) const WORDS: [(&'static str, Self); 8] = [
        ("eq", Self::Equal),
        ("neq", Self::NotEqual),
        ("gte", Self::GreaterOrEqual),
        ("gt", Self::Greater),
        ("lte", Self::LessOrEqual),
        ("lt", Self::Less),
        ("like", Self::Like),
        ("ilike", Self::ILike),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantifier {
    Any,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    Null,
    NotNull,
    True,
    False,
    Unknown,
}

/// A group of filters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Filter(Filter),
    Group {
        negated: bool,
        /// Whether one of them is enough.
        any: bool,
        of: Vec<Tree>,
    },
}

impl Tree {
    /// The name of the parameter that it is.
    pub(crate) fn parameter(&self) -> &str {
        match self {
            Self::Filter(filter) => &filter.field,
            Self::Group { negated, any, .. } => match (negated, any) {
                (false, false) => "and",
                (false, true) => "or",
                (true, false) => "not.and",
                (true, true) => "not.or",
            },
        }
    }
}

const OPERATOR: &str = "\"not\" or operator (eq, gt, ...)";

/// The text after `column=`: an operator and its value, up to the end.
pub(crate) fn filter(field: String, scan: &mut Scan<'_>) -> Result<Filter, Unexpected> {
    let (negated, test) = negated_test(scan, |scan| Ok(scan.take_rest().to_owned()))?;
    scan.expect_end()?;
    Ok(Filter { field, negated, test })
}

fn negated_test(
    scan: &mut Scan<'_>,
    value: fn(&mut Scan<'_>) -> Result<String, Unexpected>,
) -> Result<(bool, Test), Unexpected> {
    let negated = scan.take("not.");
    Ok((negated, test(scan, value)?))
}

fn test(scan: &mut Scan<'_>, value: fn(&mut Scan<'_>) -> Result<String, Unexpected>) -> Result<Test, Unexpected> {
    if scan.take("in.") {
        return list(scan).map(Test::In);
    }
    if scan.take("isdistinct.") {
        return value(scan).map(Test::IsDistinct);
    }
    if scan.take("is.") {
        return is(scan).map(Test::Is);
    }
    for (word, operator) in Operator::WORDS {
        let mut after = scan.clone();
        if !after.take(word) {
            continue;
        }
        let quantifier = quantifier(operator, &mut after);
        if after.take(".") {
            *scan = after;
            return match quantifier {
                None => Ok(Test::Compare(operator, value(scan)?)),
                Some(quantifier) => Ok(Test::Quantified(operator, quantifier, braces(scan)?)),
            };
        }
    }
    Err(scan.unexpected(OPERATOR))
}

fn quantifier(operator: Operator, scan: &mut Scan<'_>) -> Option<Quantifier> {
    if operator == Operator::NotEqual {
        return None;
    }
    match (scan.take("(any)"), scan.take("(all)")) {
        (true, _) => Some(Quantifier::Any),
        (_, true) => Some(Quantifier::All),
        _ => None,
    }
}

fn is(scan: &mut Scan<'_>) -> Result<Is, Unexpected> {
    let before = scan.clone();
    let word = scan.take_while(|c| c.is_ascii_alphabetic() || c == '_');
    let found = match word.to_ascii_lowercase().as_str() {
        "null" => Is::Null,
        "not_null" => Is::NotNull,
        "true" => Is::True,
        "false" => Is::False,
        "unknown" => Is::Unknown,
        _ => return Err(before.unexpected("isVal: (null, not_null, true, false, unknown)")),
    };
    Ok(found)
}

/// `(1,"a,b",3)`.
fn list(scan: &mut Scan<'_>) -> Result<Vec<String>, Unexpected> {
    scan.skip_spaces();
    scan.expect("(")?;
    scan.skip_spaces();
    let mut elements = vec![element(scan)?];
    while scan.take(",") {
        elements.push(element(scan)?);
    }
    scan.expect(")")?;
    scan.skip_spaces();
    // `in.()` is an empty list, and not a list with one empty text.
    match elements.as_slice() {
        [only] if only.value.is_empty() && !only.quoted => Ok(Vec::new()),
        _ => Ok(elements.into_iter().map(|element| element.value).collect()),
    }
}

struct Element {
    value: String,
    quoted: bool,
}

/// A quoted text counts as one only if it is the whole element.
fn element(scan: &mut Scan<'_>) -> Result<Element, Unexpected> {
    if scan.peek() == Some('"') {
        let mut after = scan.clone();
        if let Ok(value) = after.quoted()
            && matches!(after.peek(), None | Some(',' | ')'))
        {
            *scan = after;
            return Ok(Element { value, quoted: true });
        }
    }
    let value = scan.take_while(|c| !matches!(c, ',' | ')')).to_owned();
    Ok(Element { value, quoted: false })
}

/// `{1,"a,b",3}`, as PostgreSQL writes arrays.
fn braces(scan: &mut Scan<'_>) -> Result<Vec<String>, Unexpected> {
    scan.expect("{")?;
    let mut elements = Vec::new();
    if scan.take("}") {
        return Ok(elements);
    }
    loop {
        scan.skip_spaces();
        if scan.peek() == Some('"') {
            elements.push(scan.quoted()?);
        } else {
            let element = scan.take_while(|c| !matches!(c, ',' | '{' | '}' | '"'));
            elements.push(element.trim_matches(' ').to_owned());
        }
        scan.skip_spaces();
        if scan.take("}") {
            return Ok(elements);
        }
        scan.expect(",")?;
    }
}

/// The text after `and=` and `or=`: `(a.eq.1,b.gt.2)`.
pub(crate) fn group(negated: bool, any: bool, scan: &mut Scan<'_>) -> Result<Tree, Unexpected> {
    let of = members(scan, 1)?;
    scan.expect_end()?;
    Ok(Tree::Group { negated, any, of })
}

fn members(scan: &mut Scan<'_>, depth: usize) -> Result<Vec<Tree>, Unexpected> {
    if depth > DEEPEST_GROUP {
        return Err(scan.unexpected("fewer groups within one another"));
    }
    scan.skip_spaces();
    scan.expect("(")?;
    let mut of = Vec::new();
    loop {
        scan.skip_spaces();
        of.push(member(scan, depth)?);
        scan.skip_spaces();
        if scan.take(")") {
            scan.skip_spaces();
            return Ok(of);
        }
        if !scan.take(",") {
            return Err(scan.unexpected("\",\" or \")\""));
        }
    }
}

fn member(scan: &mut Scan<'_>, depth: usize) -> Result<Tree, Unexpected> {
    for (words, negated, any) in [
        ("and", false, false),
        ("or", false, true),
        ("not.and", true, false),
        ("not.or", true, true),
    ] {
        let mut after = scan.clone();
        if after.take(words) {
            after.skip_spaces();
            if after.peek() == Some('(') {
                *scan = after;
                let of = members(scan, depth + 1)?;
                return Ok(Tree::Group { negated, any, of });
            }
        }
    }
    let expecting = "field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)";
    let field = match scan.peek() {
        Some(')' | ',') | None => return Err(scan.unexpected(expecting)),
        _ => scan.name()?,
    };
    scan.expect(".")?;
    let (negated, test) = negated_test(scan, value_in_group)?;
    Ok(Tree::Filter(Filter { field, negated, test }))
}

/// A value that ends before a comma or a parenthesis, unless it is in quotes or braces.
fn value_in_group(scan: &mut Scan<'_>) -> Result<String, Unexpected> {
    if scan.peek() == Some('{') {
        let mut after = scan.clone();
        after.take("{");
        after.take_while(|c| !matches!(c, '{' | '}'));
        if after.take("}") {
            let length = scan.rest().len() - after.rest().len();
            let value = scan.rest()[..length].to_owned();
            *scan = after;
            return Ok(value);
        }
    }
    element(scan).map(|element| element.value)
}
