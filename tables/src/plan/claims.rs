//! What the placeholders of row rules stand for.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    caller::Caller,
    refusal::Refusal,
    request::rule::{Placeholder, placeholder},
};

/// Which claims an operator takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// A single value.
    One,
    /// A single value, or a list.
    Several,
}

/// The texts that a placeholder stands for; `None` if the text is no placeholder. There are none
/// for a claim that is an empty list.
pub(super) fn bound<'c>(caller: &Caller<'c>, text: &str, takes: Takes) -> Result<Option<Vec<Cow<'c, str>>>, Refusal> {
    Ok(match placeholder(text) {
        None => None,
        Some(Placeholder::Tenant) => Some(vec![caller.tenant.into()]),
        Some(Placeholder::Claim(name)) => Some(match caller.claim(name) {
            Some(Value::Array(items)) if takes == Takes::Several => {
                items.iter().map(scalar).collect::<Option<_>>().ok_or_else(no_claim)?
            }
            claim => vec![claim.and_then(scalar).ok_or_else(no_claim)?],
        }),
    })
}

/// A rule needs what the request's token does not say. The rule then allows no row.
pub(super) fn no_claim() -> Refusal {
    Refusal::bad("42501", "a row rule needs a claim that the token does not have")
}

/// A floating-point number from here on stands for several whole ones: 2 to the power of 53.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn scalar(claim: &Value) -> Option<Cow<'_, str>> {
    match claim {
        Value::String(text) => Some(text.as_str().into()),
        // It may have been rounded to a number that belongs to another user.
        Value::Number(number) if number.is_f64() && number.as_f64().is_none_or(|value| value.abs() >= EXACT) => None,
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(value) => Some(value.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The value or condition of an operator that [takes one](Takes::One).
pub(super) fn only<T>(values: Vec<T>) -> Result<T, Refusal> {
    values.into_iter().next().ok_or_else(no_claim)
}

/// The patterns of `like`. What a placeholder stands for is a text, in which no character has
/// another meaning.
pub(super) fn patterns(bound: Option<Vec<Cow<'_, str>>>, text: &str) -> Result<Vec<String>, Refusal> {
    if let Some(texts) = bound {
        let each = texts.iter().map(|text| match text.contains('\0') {
            false => Ok(escaped(text)),
            true => Err(no_claim()),
        });
        return each.collect();
    }
    if text.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1 {
        return Err(Refusal::bad("22025", "LIKE pattern must not end with escape character"));
    }
    Ok(vec![text.replace('*', "%")])
}

/// A text as a pattern that fits this text alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '%' | '_') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        caller::Caller,
        model::Model,
        plan::{ColumnTest, Condition, condition::rule},
        sql::Dialect,
        value::Datum,
    };

    /// What a rule makes of these claims.
    fn of(rows: &str, claims: serde_json::Value) -> String {
        let tables = json!({"notes": {
            "key": ["id"],
            "columns": {"id": {"type": "int8"}, "owner": {"type": "text"}, "number": {"type": "numeric"}},
            "allow": {"anon": {"read": {"rows": rows}}},
        }});
        let model = Model::new(&serde_json::from_value(tables).unwrap());
        let caller = Caller {
            role: "anon",
            tenant: "acme_1",
            claims: claims.as_object(),
            dialect: Dialect::Sqlite,
        };
        let table = model.table("notes").unwrap();
        let access = table.roles["anon"].read.as_ref().unwrap();
        text(&rule(table, access, caller))
    }

    fn text(condition: &Condition<'_>) -> String {
        let list = |each: &[Condition<'_>]| each.iter().map(text).collect::<Vec<_>>().join(" ");
        match condition {
            Condition::Column(_, ColumnTest::Like { pattern, .. }) => format!("like {pattern}"),
            Condition::Column(_, ColumnTest::Compare(_, Datum::Null)) => "is NULL".to_owned(),
            Condition::Column(_, ColumnTest::Compare(_, value)) => format!("is {}", value.to_text()),
            Condition::Column(_, ColumnTest::In(values)) => {
                let values = values.iter().map(|value| match value {
                    Datum::Null => "NULL".to_owned(),
                    value => value.to_text(),
                });
                format!("in {}", values.collect::<Vec<_>>().join(" "))
            }
            Condition::Not(inner) => format!("not {}", text(inner)),
            Condition::Any(each) => format!("any {}", list(each)),
            Condition::All(each) => format!("all {}", list(each)),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_placeholder_is_bound_under_every_operator() {
        let claims = || json!({"sub": "a*_%\\", "ids": [1, 2]});
        for (rows, expected) in [
            ("owner=like.{claims.sub}", "like a*\\_\\%\\\\"),
            ("owner=not.ilike.{claims.sub}", "not like a*\\_\\%\\\\"),
            ("owner=like(any).{claims.sub}", "like a*\\_\\%\\\\"),
            ("owner=like.{tenant}", "like acme\\_1"),
            ("owner=eq(any).{tenant}", "is acme_1"),
            ("id=eq(any).{claims.ids}", "any is 1 is 2"),
            ("id=gt(all).{claims.ids}", "all is 1 is 2"),
            ("id=not.in.(1,{claims.ids})", "not in 1 1 2"),
            (
                "or=(id.eq(any).{\"{claims.ids}\",3},owner.like.x*)",
                "any any is 1 is 2 is 3 like x%",
            ),
        ] {
            assert_eq!(of(rows, claims()), expected, "{rows}");
        }
    }

    #[test]
    fn without_its_claim_a_rule_allows_no_row() {
        for rows in [
            "owner=like.{claims.x}",
            "owner=not.like.{claims.x}",
            "owner=not.like(any).{claims.x}",
            "owner=not.ilike(all).{claims.x}",
            "id=not.eq(any).{claims.x}",
            "or=(id.eq.1,owner.like.{claims.x})",
        ] {
            for claims in [
                json!({}),
                json!({"x": null}),
                json!({"x": {"y": 1}}),
                json!({"x": [[]]}),
            ] {
                assert_eq!(of(rows, claims.clone()), "Never", "{rows} {claims}");
            }
        }
        assert_eq!(of("owner=not.like.{claims.x}", json!({"x": "a\u{0}"})), "Never");
        assert_eq!(of("owner=not.like.{claims.x}", json!({"x": ["a", "b"]})), "Never");
    }

    #[test]
    fn a_number_that_was_rounded_allows_no_row() {
        for (number, expected) in [
            ("123456789012345678901", "Never"),
            ("-1e20", "Never"),
            ("9007199254740993.0", "Never"),
            ("9007199254740993", "is 9007199254740993"),
            ("18446744073709551615", "is 18446744073709551615"),
            ("-0.5", "is -0.5"),
        ] {
            let claims = serde_json::from_str(&format!("{{\"x\": {number}}}")).unwrap();
            assert_eq!(of("number=eq.{claims.x}", claims), expected, "{number}");
        }
        assert_eq!(of("owner=eq.{claims.x}", json!({"x": 1e20})), "Never");
        assert_eq!(of("number=not.in.({claims.x})", json!({"x": [1, 1e20]})), "Never");
    }

    #[test]
    fn an_empty_list_stands_for_null() {
        for (rows, expected) in [
            ("owner=not.like(any).{claims.x}", "not is NULL"),
            ("owner=not.in.({claims.x})", "not in NULL"),
            ("id=in.(1,{claims.x})", "in 1 NULL"),
            ("id=gt(all).{claims.x}", "is NULL"),
            ("not.or=(id.eq.1,id.eq(any).{claims.x})", "not any is 1 is NULL"),
        ] {
            assert_eq!(of(rows, json!({"x": []})), expected, "{rows}");
        }
    }

    #[test]
    fn a_list_is_no_single_value() {
        for rows in [
            "id=eq.{claims.x}",
            "id=not.gt.{claims.x}",
            "id=isdistinct.{claims.x}",
            "owner=not.like.{claims.x}",
        ] {
            for claim in [json!([]), json!([1]), json!([1, 2])] {
                assert_eq!(of(rows, json!({"x": claim})), "Never", "{rows}");
            }
        }
    }
}
