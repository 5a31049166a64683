//! The resolvers, one file each. Each implements [`TenantResolver`](tenantry_core::TenantResolver),
//! and the configuration chooses one by its `TYPE`.

mod chain;
mod cookie;
mod header;
mod host;
mod host_name;
#[cfg(feature = "jwt")]
mod jwt;
mod one_value;
mod path;
mod query;
mod r#static;
mod subdomain;
#[cfg(test)]
mod test_requests;

pub use chain::{Agreement, ChainConfig, ChainResolver};
pub use cookie::{CookieConfig, CookieResolver};
pub use header::{HeaderConfig, HeaderResolver};
pub use host::{HostConfig, HostResolver};
#[cfg(feature = "jwt")]
pub use jwt::{JwtAlgorithm, JwtConfig, JwtResolver, Texts};
pub use path::{PathConfig, PathResolver};
pub use query::{QueryConfig, QueryResolver};
pub use r#static::{StaticConfig, StaticResolver};
pub use subdomain::{SubdomainConfig, SubdomainResolver};
