//! The parameters of the list of all tenants' health.

use poem_openapi::registry::MetaSchema;
use serde_json::Value;
use strum::VariantArray as _;
use tenantry_core::{MAX_TENANT_ID_BYTES, TenantId};

use crate::{input::Parameter, tenant_health::Status};

/// The place in the list after which a page begins: the bytes of an id in hexadecimal, so that
/// exactly the texts of the documented pattern are places. Other clients treat it as opaque, but
/// `fleet_page/page.js` (`reread`) makes such a place itself: change both together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct After(pub(crate) Vec<u8>);

const PATTERN: &str = "^(?:[0-9a-f]{2}){1,64}$";

impl After {
    pub(crate) fn of(tenant: &TenantId) -> Self {
        Self(tenant.as_str().as_bytes().to_vec())
    }

    /// The cursor's text for clients.
    pub(crate) fn to_text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Parameter for After {
    const NAME: &'static str = "place";

    fn schema() -> MetaSchema {
        MetaSchema {
            min_length: Some(2),
            max_length: Some(2 * MAX_TENANT_ID_BYTES),
            pattern: Some(PATTERN.to_owned()),
            // Before every id, so that what is then listed begins with the first.
            example: Some("00".into()),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let wrong = || "is not a cursor of this list; use `next` of the previous page".to_owned();
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let pairs = text.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            })
            .collect();
        let fits = |bytes: &Vec<u8>| (1..=MAX_TENANT_ID_BYTES).contains(&bytes.len());
        bytes.filter(fits).map(Self).ok_or_else(wrong)
    }

    fn to_value(&self) -> Value {
        self.to_text().into()
    }
}

/// The most tenants on a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimit(pub(crate) usize);

impl PageLimit {
    const MAX: usize = 10_000;
    pub(crate) const DEFAULT: Self = Self(1000);
}

impl Parameter for PageLimit {
    const NAME: &'static str = "tenants_limit";

    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(Self::MAX as f64),
            example: Some(Self::DEFAULT.0.into()),
            ..MetaSchema::new_with_format("integer", "int32")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(limit @ 1..=Self::MAX) => Ok(Self(limit)),
            _ => Err(format!("is not a whole number from 1 to {}", Self::MAX)),
        }
    }

    fn to_value(&self) -> Value {
        self.0.into()
    }
}

impl Parameter for Status {
    const NAME: &'static str = "status";

    fn schema() -> MetaSchema {
        MetaSchema {
            enum_items: Self::VARIANTS.iter().map(Self::to_value).collect(),
            example: Some("healthy".into()),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let words = || {
            Self::VARIANTS
                .iter()
                .map(|status| format!("`{}`", <&str>::from(status)))
        };
        text.parse()
            .map_err(|_| format!("is none of {}", words().collect::<Vec<_>>().join(", ")))
    }

    fn to_value(&self) -> Value {
        <&str>::from(self).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back() {
        for id in ["a", "tenant-1", &"x".repeat(64)] {
            let id: TenantId = tenantry_core::TenantIdPattern::new(".*").unwrap().parse(id).unwrap();
            assert_eq!(After::read(&After::of(&id).to_text()), Ok(After::of(&id)));
        }
    }

    #[test]
    fn exactly_the_texts_of_the_pattern_are_places() {
        let pattern = regex::Regex::new(PATTERN).unwrap();
        let longest = "ab".repeat(64);
        let longer = "ab".repeat(65);
        for text in ["", "0", "00", "ff", "FF", "0g", "000", "é", " 00", &longest, &longer] {
            assert_eq!(After::read(text).is_ok(), pattern.is_match(text), "{text}");
        }
    }

    #[test]
    fn a_limit_is_from_one_to_ten_thousand() {
        for (text, expected) in [
            ("1", true),
            ("10000", true),
            ("0", false),
            ("10001", false),
            ("x", false),
        ] {
            assert_eq!(PageLimit::read(text).is_ok(), expected, "{text}");
        }
    }
}
