//! The secret providers, one file or folder each. Caching is the engine's; it gives a fetch five
//! seconds and a list thirty.
//!
//! | Module | What providers have in common |
//! | --- | --- |
//! | `secret_text` | reads a secret that is held as text: a JSON object or a URL |
//! | `defaults` | completes a secret that says only a part |
//! | `remote` | reads `Retry-After`, and silences the clients of clouds |
//! | `folder_watch` | reports changes in a folder, for `file` and `directory` |
//! | `aws` | settings, credentials, deadlines, lists, and which error of AWS is of which kind |

#[cfg(any(feature = "aws", feature = "aws-ssm"))]
mod aws;
#[cfg(feature = "aws")]
pub mod aws_secrets_manager;
#[cfg(feature = "aws-ssm")]
pub mod aws_ssm;
#[cfg(any(feature = "aws", feature = "aws-ssm", feature = "gcp", feature = "vault"))]
mod defaults;
pub mod directory;
pub mod env;
pub mod file;
mod folder_watch;
#[cfg(feature = "gcp")]
pub mod gcp_secret_manager;
#[cfg(any(feature = "aws", feature = "aws-ssm", feature = "gcp", feature = "vault"))]
mod remote;
mod secret_text;
pub mod r#static;
#[cfg(feature = "vault")]
pub mod vault;

#[cfg(feature = "aws")]
pub use aws_secrets_manager::AwsSecretsManagerProvider;
#[cfg(feature = "aws-ssm")]
pub use aws_ssm::AwsSsmProvider;
pub use directory::DirectoryProvider;
pub use env::EnvProvider;
pub use file::FileProvider;
#[cfg(feature = "gcp")]
pub use gcp_secret_manager::GcpSecretManagerProvider;
pub use r#static::StaticProvider;
#[cfg(feature = "vault")]
pub use vault::VaultProvider;
