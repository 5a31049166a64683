//! What a program on Tenantry calls itself.

/// The program's name, version and description: the command line, the OpenAPI document and
/// telemetry show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
}

impl Default for Product {
    fn default() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: None,
        }
    }
}
