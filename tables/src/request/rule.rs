//! Row rules: filters that a declaration writes, with places for what is known of the request.

use super::{
    filter::{Filter, Is, Operator, Test, Tree},
    query::{Query, query},
};
use crate::declaration::{ColumnType, TableDeclaration};

/// A value in a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placeholder<'a> {
    /// `{tenant}`.
    Tenant,
    /// `{claims.x}`; dots go deeper.
    Claim(&'a str),
}

/// The placeholder that a value is, as a whole.
pub(crate) fn placeholder(value: &str) -> Option<Placeholder<'_>> {
    let inside = value.strip_prefix('{')?.strip_suffix('}')?;
    match inside.strip_prefix("claims.") {
        Some(claim) if !claim.is_empty() && claim.trim() == claim => Some(Placeholder::Claim(claim)),
        Some(_) => None,
        None => (inside == "tenant").then_some(Placeholder::Tenant),
    }
}

/// The placeholder that the list of a quantifier is: the braces of `eq(any).{claims.ids}` are those
/// of the placeholder, too.
pub(crate) fn listed(values: &[String]) -> Option<String> {
    let [only] = values else { return None };
    let whole = format!("{{{only}}}");
    placeholder(&whole).is_some().then_some(whole)
}

/// Reads a rule.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(text: &str) -> Result<Vec<Tree>, String> {
    let Query {
        select,
        filters,
        groups,
        orders,
        limits,
        offsets,
        columns,
        on_conflict,
        after,
    } = query(text, &[]).map_err(|refusal| match refusal.details {
        Some(details) => format!("is no filter: {}; {details}", refusal.message),
        None => format!("is no filter: {}", refusal.message),
    })?;
    let others = select.is_some()
        || columns.is_some()
        || on_conflict.is_some()
        || after.is_some()
        || !orders.is_empty()
        || !limits.is_empty()
        || !offsets.is_empty();
    if others || filters.iter().any(|(path, _)| !path.is_empty()) || groups.iter().any(|(path, _)| !path.is_empty()) {
        return Err("may hold filters of the table's own columns and nothing else".to_owned());
    }
    let filters = filters.into_iter().map(|(_, filter)| Tree::Filter(filter));
    let trees: Vec<Tree> = filters.chain(groups.into_iter().map(|(_, group)| group)).collect();
    match trees.is_empty() {
        true => Err("is empty".to_owned()),
        false => Ok(trees),
    }
}

/// Checks that a rule can be read, and that its columns are the table's.
pub(crate) fn check(text: &str, table: &TableDeclaration) -> Result<(), String> {
    read(text)?.iter().try_for_each(|tree| check_tree(tree, table))
}

fn check_tree(tree: &Tree, table: &TableDeclaration) -> Result<(), String> {
    match tree {
        Tree::Group { of, .. } => of.iter().try_for_each(|tree| check_tree(tree, table)),
        Tree::Filter(filter) => check_filter(filter, table),
    }
}

fn check_filter(filter: &Filter, table: &TableDeclaration) -> Result<(), String> {
    let Some(column) = table.column(&filter.field) else {
        let known = table.columns.iter().map(|(name, _)| name.as_str());
        return Err(match tenantry_core::nearest(&filter.field, known) {
            Some(nearest) => format!(
                "names `{}`, which is no column of the table; is it `{nearest}`?",
                filter.field
            ),
            None => format!("names `{}`, which is no column of the table", filter.field),
        });
    };
    let is_pattern = matches!(
        &filter.test,
        Test::Compare(Operator::Like | Operator::ILike, _) | Test::Quantified(Operator::Like | Operator::ILike, ..)
    );
    let fits = match &filter.test {
        Test::Is(Is::Null | Is::NotNull) => true,
        Test::Is(_) => column.kind == ColumnType::Bool,
        _ if is_pattern => column.kind.is_text(),
        _ => column.kind != ColumnType::Json,
    };
    if !fits {
        let field = &filter.field;
        return Err(format!("tests `{field}` with an operator that its type does not have"));
    }
    let values: Vec<&String> = match &filter.test {
        Test::Compare(_, value) | Test::IsDistinct(value) => vec![value],
        Test::Quantified(_, _, values) if listed(values).is_some() => Vec::new(),
        Test::Quantified(_, _, values) | Test::In(values) => values.iter().collect(),
        Test::Is(_) => Vec::new(),
    };
    let is_listed = matches!(&filter.test, Test::Quantified(..));
    for value in values {
        if placeholder(value).is_some() {
            continue;
        }
        if opens_a_placeholder(value) || (is_listed && is_like_a_placeholder(value)) {
            return Err(format!(
                "compares `{}` with what is no placeholder: only `{{claims.x}}` and `{{tenant}}` are, each as a whole value",
                filter.field
            ));
        }
        if !is_pattern && crate::value::Datum::parse(&column.kind, value).is_err() {
            return Err(format!("compares `{}` with what is no value of its type", filter.field));
        }
    }
    Ok(())
}

/// Whether a text was most likely meant to hold a placeholder: a word stands after a brace.
fn opens_a_placeholder(text: &str) -> bool {
    let mut parts = text.split('{').skip(1);
    parts.any(|part| part.trim_start().starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Whether an element of a quantifier's list was most likely meant as a placeholder: its braces are
/// gone.
fn is_like_a_placeholder(element: &str) -> bool {
    let lower = element.trim().to_ascii_lowercase();
    lower == "tenant" || lower.starts_with("claims.") || lower.starts_with("claim.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    #[test]
    fn a_rule_tests_columns_by_what_their_types_have() {
        let table = json!({"columns": {
            "state": {"type": {"enum": ["new", "paid"]}}, "id": {"type": "int8"}, "info": {"type": "json"},
            "flag": {"type": "bool"},
        }});
        let table = serde_json::from_value(table).unwrap();
        for right in [
            "state=like.n*",
            "state=eq.new&id=in.({claims.ids})",
            "or=(flag.is.true,info.is.null)",
            "state=like.{1,2}*",
            "state=not.like.{claims.state}",
            "state=ilike(any).{claims.states}",
            "and=(id.eq(all).{claims.ids},state.eq.{tenant})",
        ] {
            assert_eq!(check(right, &table), Ok(()), "{right}");
        }
        for (wrong, part) in [
            ("id=like.1*", "an operator that its type does not have"),
            ("info=eq.1", "an operator that its type does not have"),
            ("id=is.true", "an operator that its type does not have"),
            ("state=eq.n*", "no value of its type"),
            ("id=eq.{claims.id}0", "no placeholder"),
            ("state=like.{claims.state}*", "no placeholder"),
            ("state=like.{claim.state}", "no placeholder"),
            ("state=like.{Claims.state}", "no placeholder"),
            ("id=eq.{ claims.id }", "no placeholder"),
            ("id=eq.{claims. id}", "no placeholder"),
            ("id=in.(1,{role})", "no placeholder"),
            ("state=like(any).{claim.state}", "no placeholder"),
            ("state=like(any).{claims.a,claims.b}", "no placeholder"),
            ("other=eq.1", "no column of the table"),
            ("id=eq.1&limit=1", "nothing else"),
        ] {
            let fault = check(wrong, &table).unwrap_err();
            assert!(fault.contains(part), "{wrong}: {fault}");
        }
    }
}
