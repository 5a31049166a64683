//! One suite per family of plugins, which every plugin of that family runs in its own tests. A
//! sentence in a trait's documentation is a case here.

pub mod driver;
pub mod provider;
pub mod resolver;
