//! The only list of plugins. To add a plugin, add a line here, or call
//! [`App::plugins`](crate::App::plugins) in a program of your own.

use tenantry_core::Registry;

/// The types of plugins that a program may be built without, each with its feature.
pub(crate) const FEATURES: [(&str, &str); 9] = [
    ("jwt", "jwt"),
    ("aws-secrets-manager", "aws"),
    ("aws-ssm", "aws-ssm"),
    ("gcp-secret-manager", "gcp"),
    ("vault", "vault"),
    ("mysql", "mysql"),
    ("oracle", "oracle"),
    ("postgresql", "postgresql"),
    ("sqlite", "sqlite"),
];

/// Adds the built-in resolvers, providers and drivers.
pub fn register(registry: &mut Registry) {
    use tenantry_providers as providers;
    use tenantry_resolvers as resolvers;

    registry.resolver::<resolvers::ChainResolver>();
    registry.resolver::<resolvers::CookieResolver>();
    registry.resolver::<resolvers::HeaderResolver>();
    registry.resolver::<resolvers::HostResolver>();
    #[cfg(feature = "jwt")]
    registry.resolver::<resolvers::JwtResolver>();
    registry.resolver::<resolvers::PathResolver>();
    registry.resolver::<resolvers::QueryResolver>();
    registry.resolver::<resolvers::StaticResolver>();
    registry.resolver::<resolvers::SubdomainResolver>();

    #[cfg(feature = "aws")]
    registry.provider::<providers::AwsSecretsManagerProvider>();
    #[cfg(feature = "aws-ssm")]
    registry.provider::<providers::AwsSsmProvider>();
    registry.provider::<providers::DirectoryProvider>();
    registry.provider::<providers::EnvProvider>();
    registry.provider::<providers::FileProvider>();
    #[cfg(feature = "gcp")]
    registry.provider::<providers::GcpSecretManagerProvider>();
    registry.provider::<providers::StaticProvider>();
    #[cfg(feature = "vault")]
    registry.provider::<providers::VaultProvider>();

    #[cfg(feature = "mysql")]
    registry.driver::<tenantry_drivers::MysqlDriver>();
    #[cfg(feature = "oracle")]
    registry.driver::<tenantry_drivers::OracleDriver>();
    #[cfg(feature = "postgresql")]
    registry.driver::<tenantry_drivers::PostgresqlDriver>();
    #[cfg(feature = "sqlite")]
    registry.driver::<tenantry_drivers::SqliteDriver>();
}
