//! The values that have a form of their own. Each is a [`format`](Form) in the schema, checked by
//! the same function that reads it, so that all faults of a file are found before any of it is
//! read.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use http::Uri;
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tenantry_core::{ByteSize, HumanDuration, TOO_LONG, TenantIdPattern};

/// The form of a text: its name in the schema's `format`, its check, and what to say of a text that
/// is not of it.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    pub(crate) check: fn(&str) -> bool,
    pub(crate) message: &'static str,
}

/// The shortest of the durations that must not be zero.
const SHORTEST: Duration = Duration::from_millis(1);

/// Every form.
pub(crate) const FORMS: &[Form] = &[
    Form {
        name: "listen-address",
        check: |text| text.parse::<ListenAddress>().is_ok(),
        message: "is not an IP address and port such as `127.0.0.1:8080` or `[::]:8080`",
    },
    Form {
        name: "byte-size",
        check: |text| ByteSize::parse(text).is_some(),
        message: "is not a number of bytes such as `1MiB`, `500kB` or `1048576`",
    },
    Form {
        name: "ip-network",
        check: |text| text.parse::<Network>().is_ok(),
        message: "is not an IP network such as `10.0.0.0/8` or `::1`",
    },
    Form {
        name: "otlp-endpoint",
        check: |text| text.parse::<Endpoint>().is_ok(),
        message: "is neither `stdout` nor an `http://` or `https://` URL without a user name",
    },
    Form {
        name: "log-filter",
        check: |text| text.parse::<LogFilter>().is_ok(),
        message: "is not a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), also per part of the program as in \
                  `info,tenantry_core=debug`",
    },
    Form {
        name: "tenant-id-pattern",
        check: |text| text.parse::<IdPattern>().is_ok(),
        message: "is not a regular expression",
    },
    Form {
        name: "admin-token",
        check: |text| text.is_empty() || (text.len() >= 16 && text.bytes().all(|b| b.is_ascii_graphic())),
        message: "must have at least 16 characters, all of them visible ASCII, or be empty for none",
    },
    // What is no duration at all is refused by its pattern.
    Form {
        name: HumanDuration::ANY_FORM,
        check: |text| HumanDuration::parse(text) != Err(TOO_LONG),
        message: TOO_LONG,
    },
    Form {
        name: HumanDuration::POSITIVE_FORM,
        check: |text| match HumanDuration::parse(text) {
            Ok(duration) => duration.0 >= SHORTEST,
            Err(reason) => reason != TOO_LONG,
        },
        message: "must be at least 1ms, and at most 3650 days",
    },
];

/// A text is not of the form it should have. It says which form is right, not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotOfForm(&'static str);

impl NotOfForm {
    fn new(form: &str) -> Self {
        let known = FORMS.iter().find(|known| known.name == form);
        Self(known.map_or("has the wrong form", |known| known.message))
    }
}

/// What all the types below share: they are texts to serde and to the schema.
macro_rules! text_form {
    ($type:ty, $schema:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// An IP address and port to listen on. Port 0 lets the system choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl Default for ListenAddress {
    fn default() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 8080)))
    }
}

impl FromStr for ListenAddress {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        text.parse().map(Self).map_err(|_| NotOfForm::new("listen-address"))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_form!(ListenAddress, {"type": "string", "format": "listen-address"});

/// An IP network or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        let network = text.parse::<IpNet>().ok();
        let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.map(Self).ok_or_else(|| NotOfForm::new("ip-network"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_form!(Network, {"type": "string", "format": "ip-network"});

/// The destination of traces or metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The program's own output.
    Stdout,
    /// The collector at this `http://` or `https://` URL.
    Url(String),
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::Url("http://localhost:4317".to_owned())
    }
}

impl FromStr for Endpoint {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        let uri: Option<Uri> = text.parse().ok();
        let fits = uri.is_some_and(|uri| {
            let authority = uri.authority().map(http::uri::Authority::as_str);
            matches!(uri.scheme_str(), Some("http" | "https"))
                && authority.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        });
        if fits {
            Ok(Self::Url(text.to_owned()))
        } else {
            Err(NotOfForm::new("otlp-endpoint"))
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Url(url) => url,
        })
    }
}

text_form!(Endpoint, {"type": "string", "format": "otlp-endpoint"});

/// Which log lines are written: a level, and other levels for parts of the program, in the form of
/// `tracing_subscriber`'s `Targets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter as text, in lower case if it is a single level.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        let level = |word: &str| {
            let levels = ["off", "error", "warn", "info", "debug", "trace"];
            levels.iter().any(|known| known.eq_ignore_ascii_case(word))
        };
        let target = |word: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
            !word.is_empty() && word.chars().all(plain)
        };
        // Without the check for levels, a misspelled level would be taken for the name of a part of
        // the program.
        let fits = text
            .split(',')
            .map(str::trim)
            .all(|directive| match directive.split_once('=') {
                Some((part, word)) => target(part) && level(word),
                None => level(directive),
            });
        if !fits {
            return Err(NotOfForm::new("log-filter"));
        }
        Ok(Self(if level(text) {
            text.to_lowercase()
        } else {
            text.to_owned()
        }))
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_form!(LogFilter, {"type": "string", "format": "log-filter"});

/// A rule of the operator's own for tenant ids.
#[derive(Debug, Clone)]
pub struct IdPattern {
    text: String,
    rule: TenantIdPattern,
}

impl IdPattern {
    /// The compiled rule.
    pub fn rule(&self) -> TenantIdPattern {
        self.rule.clone()
    }
}

impl FromStr for IdPattern {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        let rule = TenantIdPattern::new(text).map_err(|_| NotOfForm::new("tenant-id-pattern"))?;
        Ok(Self {
            text: text.to_owned(),
            rule,
        })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

text_form!(IdPattern, {"type": "string", "format": "tenant-id-pattern"});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_level_is_not_taken_for_a_part_of_the_program() {
        for text in ["info", "INFO", "info,sqlx=warn", "off, tenantry_core::engine=debug"] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text}");
        }
        for text in ["inof", "", "info,", "sqlx=loud", "=info", "verbose", "a b=info"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
    }

    #[test]
    fn endpoints_are_urls_or_stdout() {
        for text in ["stdout", "http://localhost:4317", "https://otel.example.com/v1/traces"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "localhost:4317",
            "ftp://x",
            "http://",
            "http://user:canary@host",
            "STDOUT",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_single_address_is_a_network_of_one() {
        assert_eq!("10.0.0.1".parse::<Network>().unwrap().to_string(), "10.0.0.1/32");
        assert_eq!("fd00::/8".parse::<Network>().unwrap().to_string(), "fd00::/8");
        assert!("10.0.0.0/33".parse::<Network>().is_err());
    }

    #[test]
    fn every_error_names_its_form() {
        for form in FORMS {
            assert_eq!(NotOfForm::new(form.name).to_string(), form.message);
        }
    }
}
