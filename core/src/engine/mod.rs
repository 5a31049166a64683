//! Between a tenant's name and its database: secrets are cached, pools opened and closed, connections counted.

mod settings;

pub use settings::{EngineSettings, LimitsSettings, PoolDefaults, PoolsSettings, SecretsSettings};
