//! The parameters of operators' requests.

use poem_openapi::registry::MetaSchema;
use serde_json::Value;
use tenantry_core::{DEFAULT_TENANT_ID_PATTERN, MAX_TENANT_ID_BYTES, TenantId, TenantIdPattern};

use crate::{
    Problem,
    input::{Parameter, Parsed},
};

/// The `format` that marks a tenant id in the document. The configured pattern replaces the default
/// one there.
pub(crate) const TENANT_ID_FORMAT: &str = "tenant-id";

/// The schema of a tenant id.
pub(crate) fn tenant_id_schema() -> MetaSchema {
    MetaSchema {
        pattern: Some(DEFAULT_TENANT_ID_PATTERN.to_owned()),
        min_length: Some(1),
        max_length: Some(MAX_TENANT_ID_BYTES),
        example: Some("tenant1".into()),
        ..MetaSchema::new_with_format("string", TENANT_ID_FORMAT)
    }
}

/// The text of a tenant id. The configured pattern decides whether it is one.
#[derive(Debug, Clone)]
pub(crate) struct TenantIdText(String);

impl Parameter for TenantIdText {
    const NAME: &'static str = "tenant_id";

    fn schema() -> MetaSchema {
        tenant_id_schema()
    }

    fn read(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn to_value(&self) -> Value {
        self.0.clone().into()
    }
}

/// Makes a tenant id of the parameter `name`.
pub(crate) fn read_tenant(
    pattern: &TenantIdPattern,
    name: &str,
    given: Parsed<TenantIdText>,
) -> Result<TenantId, Problem> {
    let mut faults = crate::input::Faults::default();
    match faults.parameter(name, given) {
        Some(TenantIdText(text)) => pattern
            .parse(&text)
            .map_err(|error| Problem::tenant_malformed(name, error)),
        None => Err(faults.into()),
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag(pub(crate) bool);

impl Parameter for Flag {
    const NAME: &'static str = "flag";

    fn schema() -> MetaSchema {
        MetaSchema {
            example: Some(true.into()),
            ..MetaSchema::new("boolean")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            _ => Err("is neither `true` nor `false`".to_owned()),
        }
    }

    fn to_value(&self) -> Value {
        self.0.into()
    }
}
