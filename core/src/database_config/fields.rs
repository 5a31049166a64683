//! The members of a secret, read by their names.

use std::{net::Ipv6Addr, time::Duration};

use serde_json::{Map, Value};

use crate::{HumanDuration, SecretInvalid, duration::TOO_LONG};

/// The members of one object of the secret, and the path of the object.
pub(super) struct Fields<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) at: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn wrong<T>(&self, name: &str, reason: &str) -> Result<T, SecretInvalid> {
        Err(SecretInvalid::new(format!("{}{name}", self.at), reason))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, SecretInvalid> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => self.wrong(name, "is not a string"),
        }
    }

    /// A host name, an address, or the folder of a Unix socket. An IPv6 address may be in brackets,
    /// as in a URL.
    pub(super) fn host(&self) -> Result<Option<String>, SecretInvalid> {
        let Some(host) = self.text("host")? else {
            return Ok(None);
        };
        let is_address = |text: &str| {
            let address = text.split_once('%').map_or(text, |(address, _)| address);
            address.parse::<Ipv6Addr>().is_ok()
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Some(address) = inner.filter(|inner| is_address(inner)) {
            return Ok(Some(address.to_owned()));
        }
        let names_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !host.starts_with('/') && !is_address(&host) && (names_port || host.contains("://")) {
            return self.wrong(
                "host",
                "is more than a host: a port belongs in `port`, and a URL in `url`",
            );
        }
        Ok(Some(host))
    }

    pub(super) fn first_text(&self, names: &[&str]) -> Result<Option<String>, SecretInvalid> {
        for name in names {
            if let Some(text) = self.text(name)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, SecretInvalid> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => self.wrong(name, "is not an object"),
        }
    }

    /// A whole number, or a text that holds one.
    pub(super) fn integer(&self, name: &str) -> Result<Option<u64>, SecretInvalid> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_u64(),
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => self.wrong(name, "is not a whole number"),
        }
    }

    pub(super) fn port(&self, name: &str) -> Result<Option<u16>, SecretInvalid> {
        match self.integer(name)?.map(u16::try_from) {
            None => Ok(None),
            Some(Ok(port)) if port > 0 => Ok(Some(port)),
            Some(_) => self.wrong(name, "is not a port from 1 to 65535"),
        }
    }

    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, SecretInvalid> {
        match self.integer(name)?.map(u16::try_from) {
            None => Ok(None),
            Some(Ok(count)) => Ok(Some(usize::from(count))),
            Some(Err(_)) => self.wrong(name, "is more than 65535"),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, SecretInvalid> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => self.wrong(name, "is neither true nor false"),
        }
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, SecretInvalid> {
        let duration = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => match HumanDuration::parse(text) {
                Ok(duration) => Some(duration.0),
                Err(reason) => return self.wrong(name, reason),
            },
            Some(value) => value.as_u64().map(Duration::from_nanos),
        };
        match duration {
            Some(duration) if !duration.is_zero() && duration < Duration::from_millis(1) => self.wrong(
                name,
                "is below one millisecond, as a number without a unit is: write `30s`",
            ),
            Some(duration) if duration > HumanDuration::LONGEST.0 => self.wrong(name, TOO_LONG),
            Some(duration) => Ok(Some(duration)),
            None => self.wrong(name, "is not a duration such as `30m`, nor whole nanoseconds"),
        }
    }
}
