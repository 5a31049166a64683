//! The places where tenants' secrets are kept: one file for each provider.

#[cfg(feature = "aws")]
pub mod aws_secrets_manager;
#[cfg(any(feature = "aws", feature = "vault"))]
mod defaults;
pub mod directory;
pub mod env;
pub mod file;
mod folder_watch;
mod secret_text;
pub mod r#static;
#[cfg(feature = "vault")]
pub mod vault;

#[cfg(feature = "aws")]
pub use aws_secrets_manager::AwsSecretsManagerProvider;
pub use directory::DirectoryProvider;
pub use env::EnvProvider;
pub use file::FileProvider;
pub use r#static::StaticProvider;
#[cfg(feature = "vault")]
pub use vault::VaultProvider;
