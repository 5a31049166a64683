//! What a client may say of a user.

use std::borrow::Cow;

use email_address::{EmailAddress, Options};
use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde_json::{Value, json};

use crate::{
    Fault,
    input::{Input, text, unknown},
};

const MAX_NAME: usize = 200;
const MAX_EMAIL: usize = 254;

/// A name with optional white space around it: 1 to 200 characters that begin and end with
/// something else than white space. No control characters, since PostgreSQL accepts no NUL and none
/// belongs in a name. White space is Unicode's, written out, since the meaning of `\s` differs
/// between regular expression engines.
const NAME_PATTERN: &str = concat!(
    r"^[\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*",
    r"[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"([^\u0000-\u001f\u007f-\u009f]{0,198}",
    r"[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000])?",
    r"[\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$"
);

/// The addresses of RFC 5321 without quoted local parts, address literals and names outside ASCII,
/// which databases would compare in different ways.
const EMAIL_PATTERN: &str = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$";

/// A user as a client writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserInput {
    /// Trimmed.
    pub(crate) name: String,
    pub(crate) email: String,
}

impl Type for UserInput {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "UserInput".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(Self::name().into_owned())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(Self::name().into_owned(), |_| {
            let name = MetaSchema {
                description: Some("1 to 200 characters, not counting white space around them, which is removed."),
                min_length: Some(1),
                pattern: Some(NAME_PATTERN.to_owned()),
                ..MetaSchema::new("string")
            };
            let email = MetaSchema {
                description: Some("An email address; no two users of a tenant have the same, whatever its case."),
                max_length: Some(MAX_EMAIL),
                pattern: Some(EMAIL_PATTERN.to_owned()),
                ..MetaSchema::new_with_format("string", "email")
            };
            MetaSchema {
                description: Some("A user as a client writes it."),
                required: vec!["name", "email"],
                properties: vec![
                    ("name", MetaSchemaRef::Inline(Box::new(name))),
                    ("email", MetaSchemaRef::Inline(Box::new(email))),
                ],
                // As many as are required: no others. The document says it as
                // `additionalProperties: false`.
                max_properties: Some(2),
                example: Some(json!({"name": "John Doe", "email": "john@tenant1.com"})),
                ..MetaSchema::new("object")
            }
        });
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl Input for UserInput {
    fn read(value: Value) -> Result<Self, Vec<Fault>> {
        let Value::Object(mut members) = value else {
            return Err(vec![Fault::pointer("", "is not an object")]);
        };
        let mut faults = Vec::new();
        let name = text(&mut members, "name", &mut faults).and_then(|name| check_name(&name, &mut faults));
        let email = text(&mut members, "email", &mut faults).and_then(|email| check_email(email, &mut faults));
        faults.extend(members.keys().map(|key| unknown(key)));
        match (name, email) {
            (Some(name), Some(email)) if faults.is_empty() => Ok(Self { name, email }),
            _ => Err(faults),
        }
    }
}

fn check_name(raw: &str, faults: &mut Vec<Fault>) -> Option<String> {
    let name = raw.trim();
    let detail = if raw.chars().any(char::is_control) {
        "holds a control character"
    } else if name.is_empty() {
        "is empty"
    } else if name.chars().count() > MAX_NAME {
        "is longer than 200 characters"
    } else {
        return Some(name.to_owned());
    };
    faults.push(Fault::pointer("/name", detail));
    None
}

fn check_email(email: String, faults: &mut Vec<Fault>) -> Option<String> {
    let detail = if email.len() > MAX_EMAIL {
        "is longer than 254 characters"
    } else if !is_email(&email) {
        "is not an email address"
    } else {
        return Some(email);
    };
    faults.push(Fault::pointer("/email", detail));
    None
}

/// Whether the text matches [`EMAIL_PATTERN`] and RFC 5321's rules for the lengths of its parts and
/// the places of dots and hyphens.
fn is_email(text: &str) -> bool {
    let local = |b: u8| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b);
    let domain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    let Some((user, host)) = text.split_once('@') else {
        return false;
    };
    let options = Options::default()
        .with_required_tld()
        .without_domain_literal()
        .without_display_text();
    user.bytes().all(local) && host.bytes().all(domain) && EmailAddress::parse_with_options(text, options).is_ok()
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn pointers(value: Value) -> Vec<(String, String)> {
        let faults = UserInput::read(value).unwrap_err();
        faults
            .into_iter()
            .map(|fault| (fault.pointer.unwrap_or_default(), fault.detail))
            .collect()
    }

    #[test]
    fn every_bad_field_is_named() {
        let named = pointers(json!({"name": " ", "email": 5, "role/x~": true}));
        let expected = [
            ("/name", "is empty"),
            ("/email", "is not a string"),
            ("/role~1x~0", "is not known"),
        ];
        assert_eq!(
            named,
            expected.map(|(pointer, detail)| (pointer.to_owned(), detail.to_owned()))
        );
        assert_eq!(pointers(json!([])).len(), 1);
        assert_eq!(pointers(json!({})).len(), 2);
    }

    #[test]
    fn a_name_is_trimmed_and_has_1_to_200_characters() {
        let name = |name: &str| UserInput::read(json!({"name": name, "email": "a@b.cd"})).map(|input| input.name);
        assert_eq!(name("  Jörg  "), Ok("Jörg".to_owned()));
        assert!(name(&"ä".repeat(200)).is_ok());
        for bad in ["", "\u{2003}", "a\0b", "a\n", "\u{85}", &"ä".repeat(201)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_documented_patterns_hold_for_what_is_taken() {
        let name = Regex::new(NAME_PATTERN).unwrap();
        for sample in [
            "a",
            " a ",
            " ",
            "\u{a0}",
            "\u{3000}",
            "\u{feff}",
            "\u{85}",
            "\u{7f}",
            "a\tb",
            "",
            "\u{180e}",
            "a b",
            &"a".repeat(200),
            &"a".repeat(201),
            &format!(" {} ", "a".repeat(200)),
            "\u{85}a",
        ] {
            assert_eq!(
                name.is_match(sample),
                check_name(sample, &mut Vec::new()).is_some(),
                "{sample:?}"
            );
        }
        let all_spaces: String = ('\0'..=char::MAX).filter(|c| c.is_whitespace()).collect();
        assert!(!name.is_match(&all_spaces));
        let email = Regex::new(EMAIL_PATTERN).unwrap();
        for good in [
            "a@b.cd",
            "!#$%&'*+-/=?^_`{|}~@A.COM",
            "a.b+c@x-y.example.org",
            "0@a.xn--p1ai",
        ] {
            assert!(is_email(good), "{good}");
            assert!(email.is_match(good), "{good}");
        }
        let bad = [
            "",
            "a",
            "@b.cd",
            "a@",
            "a@b",
            "a@@b.cd",
            "a b@c.de",
            "\"a b\"@c.de",
            "a@[127.0.0.1]",
            "a..b@c.de",
            ".a@c.de",
            "a.@c.de",
            "a@-b.cd",
            "a@b-.cd",
            "a@b..cd",
            "jörg@c.de",
            "a@c.de\n",
            "a\0@c.de",
            "A <a@b.cd>",
            "a@b_c.de",
        ];
        for bad in bad {
            assert!(!is_email(bad), "{bad:?}");
        }
        assert!(!is_email(&format!("{}@b.cd", "a".repeat(65))));
        assert!(check_email(format!("a@{}.cd", "b.".repeat(130)), &mut Vec::new()).is_none());
    }
}
