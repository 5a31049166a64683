//! A tenant's name, checked before it reaches a lookup, a path, a metric or a log.

use std::{fmt, str::FromStr};

use arrayvec::ArrayString;
use regex::Regex;
use serde::{Serialize, Serializer};

/// The most bytes a tenant id may have, whatever pattern is configured.
pub const MAX_TENANT_ID_BYTES: usize = 64;

/// The rule if `tenancy.id_pattern` is not set.
pub const DEFAULT_TENANT_ID_PATTERN: &str = "^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$";

/// A tenant's name. It exists only after a [`TenantIdPattern`] accepted it, so wherever one is held
/// it is safe in a path, a metric label or a log line. It is `Copy` and lives inline: naming the
/// tenant of a request allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(ArrayString<MAX_TENANT_ID_BYTES>);

impl TenantId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl AsRef<str> for TenantId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.as_str())
    }
}

impl Serialize for TenantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Parses by the default rule. If a pattern is configured, use [`TenantIdPattern::parse`].
impl FromStr for TenantId {
    type Err = TenantIdError;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        TenantIdPattern::default().parse(raw)
    }
}

/// Why a text is not a tenant id. It does not repeat the text, which comes from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TenantIdError {
    /// Nothing was there.
    #[error("is empty")]
    Empty,
    /// More than [`MAX_TENANT_ID_BYTES`].
    #[error("is longer than 64 bytes")]
    TooLong,
    /// A character that no pattern may allow: `/`, `.`, `%`, `\`, white space, a control character
    /// or a non-ASCII one.
    #[error("has a character that is not allowed in a tenant id")]
    ForbiddenCharacter,
    /// The configured (or default) pattern does not match.
    #[error("does not match the pattern for tenant ids")]
    PatternMismatch,
}

/// The rule that tenant ids follow: the default one, or `tenancy.id_pattern`. Whatever it says, an
/// id has 1 to 64 bytes and holds no `/`, `.`, `%`, `\`, white space, control or non-ASCII
/// character.
#[derive(Debug, Clone, Default)]
pub struct TenantIdPattern(Option<Regex>);

impl TenantIdPattern {
    /// A configured pattern. It must match the whole id, so it is anchored at both ends if it is
    /// not yet.
    ///
    /// # Errors
    /// What is wrong with the regular expression.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        Regex::new(&format!(r"\A(?:{pattern})\z")).map(|regex| Self(Some(regex)))
    }

    /// The operator's own pattern as it was given; `None` for [`DEFAULT_TENANT_ID_PATTERN`].
    pub fn pattern(&self) -> Option<&str> {
        let anchored = self.0.as_ref()?.as_str();
        anchored.strip_prefix(r"\A(?:")?.strip_suffix(r")\z")
    }

    /// Checks `raw` and makes an id of it.
    ///
    /// # Errors
    /// Which part of the rule it breaks.
    pub fn parse(&self, raw: &str) -> Result<TenantId, TenantIdError> {
        if raw.is_empty() {
            return Err(TenantIdError::Empty);
        }
        let id = ArrayString::from(raw).map_err(|_| TenantIdError::TooLong)?;
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'.' | b'%' | b'\\');
        if !raw.bytes().all(allowed) {
            return Err(TenantIdError::ForbiddenCharacter);
        }
        let matched = match &self.0 {
            Some(regex) => regex.is_match(raw),
            None => matches_default(raw.as_bytes()),
        };
        if matched {
            Ok(TenantId(id))
        } else {
            Err(TenantIdError::PatternMismatch)
        }
    }
}

/// [`DEFAULT_TENANT_ID_PATTERN`] by hand: it runs once a request.
fn matches_default(raw: &[u8]) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: u8| edge(b) || b == b'_' || b == b'-';
    match raw {
        [only] => edge(*only),
        [first, middle @ .., last] => {
            raw.len() <= 63 && edge(*first) && edge(*last) && middle.iter().copied().all(inner)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_by_hand_is_the_documented_pattern() {
        let regex = TenantIdPattern::new(DEFAULT_TENANT_ID_PATTERN).unwrap();
        let by_hand = TenantIdPattern::default();
        let alphabet = ["a", "0", "_", "-", "A", "~", "z", "9"];
        let mut samples: Vec<String> = vec![String::new()];
        for _ in 0..4 {
            let longer: Vec<String> = samples
                .iter()
                .flat_map(|s| alphabet.iter().map(move |c| format!("{s}{c}")))
                .collect();
            samples.extend(longer);
            samples.dedup();
        }
        samples.extend((60..70).map(|n| "a".repeat(n)));
        for sample in &samples {
            assert_eq!(regex.parse(sample), by_hand.parse(sample), "{sample}");
        }
    }

    #[test]
    fn whatever_could_leave_its_place_is_refused() {
        let loose = TenantIdPattern::new(".*").unwrap();
        for raw in ["../x", "a/b", "%2e%2e", "a.b", "a b", "a\n", "münchen", "a\\b", ""] {
            assert!(loose.parse(raw).is_err(), "{raw:?}");
            assert!(TenantIdPattern::default().parse(raw).is_err(), "{raw:?}");
        }
        assert_eq!(loose.parse(&"a".repeat(65)), Err(TenantIdError::TooLong));
        assert_eq!("Tenant1".parse::<TenantId>(), Err(TenantIdError::PatternMismatch));
    }

    #[test]
    fn a_pattern_of_ones_own_must_match_the_whole_id() {
        let pattern = TenantIdPattern::new("T[0-9]+|x").unwrap();
        assert_eq!(pattern.parse("T42").unwrap().as_str(), "T42");
        assert!(pattern.parse("T42-and-more").is_err());
        assert!(pattern.parse("yx").is_err());
        assert_eq!(pattern.pattern(), Some("T[0-9]+|x"));
    }
}
