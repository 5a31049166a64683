//! The parameters that URLs of every kind of server have.

use std::time::Duration;

use secrecy::SecretString;

use super::{Refusal, UrlSettings};
use crate::database_config::tls::{is_tls, plain};

impl UrlSettings {
    /// Sets what a parameter of this name means in every kind of URL.
    pub(super) fn set_common(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        if is_tls(name) {
            return self.tls.set(name, value);
        }
        let text = Some(value.to_owned()).filter(|value| !value.is_empty());
        match plain(name).as_str() {
            "user" | "username" => self.username = text.or(self.username.take()),
            "password" => self.password = text.map(SecretString::from).or(self.password.take()),
            "dbname" | "database" => self.database = text.or(self.database.take()),
            // What Prisma and Rails call the most connections of one process.
            "connectionlimit" | "pool" => {
                self.max_connections = Some(positive(value)?.into());
            }
            "clientencoding" | "charset" | "encoding" | "characterencoding" => {
                let is_utf8 =
                    ["utf8", "utf-8", "utf8mb4", "unicode", "auto"].contains(&value.to_ascii_lowercase().as_str());
                return is_utf8.then_some(()).ok_or(Refusal::Because(
                    "is another encoding than UTF-8, which every session has: remove it",
                ));
            }
            _ => return Err(Refusal::Unknown),
        }
        Ok(())
    }

    /// Sets how long connecting to one server may take, from whole seconds. 0 means that only the
    /// engine's limit applies.
    pub(super) fn set_connect_timeout(&mut self, seconds: &str) -> Result<(), Refusal> {
        let seconds: i64 = seconds.trim().parse().map_err(|_| Refusal::Value)?;
        let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
        self.connect_timeout = seconds.map(Duration::from_secs);
        Ok(())
    }
}

/// A number that is not 0.
pub(super) fn positive(value: &str) -> Result<u16, Refusal> {
    match value.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err(Refusal::Value),
    }
}

/// Whether a switch is on.
pub(super) fn switch(value: &str) -> Result<bool, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Refusal::Value),
    }
}

/// Accepts a value that means what holds anyway.
pub(super) fn only(value: &str, accepted: &[&str], reason: &'static str) -> Result<(), Refusal> {
    match value.is_empty() || accepted.iter().any(|word| word.eq_ignore_ascii_case(value)) {
        true => Ok(()),
        false => Err(Refusal::Because(reason)),
    }
}
