//! The parameters that clients of MySQL and MariaDB write: its own programs, Connector/J, Prisma,
//! Rails, SQLAlchemy, Node's and Go's.

use super::{
    Refusal, UrlSettings,
    common::{only, switch},
    parts::{host_name, parse_port},
};
use crate::{
    TlsMode,
    database_config::tls::{is_tls, plain},
};

/// Sets what a parameter means.
pub(super) fn set(settings: &mut UrlSettings, name: &str, value: &str, is_jdbc: bool) -> Result<(), Refusal> {
    let demand = |settings: &mut UrlSettings, mode| match switch(value)? {
        true => settings.tls.demand(mode),
        false => Ok(()),
    };
    match plain(name).as_str() {
        // Connector/J.
        "usessl" => match switch(value)? {
            true => settings.tls.demand(TlsMode::Require),
            false => settings.tls.demand(TlsMode::Disable),
        },
        "requiressl" => demand(settings, TlsMode::Require),
        "verifyservercertificate" => demand(settings, TlsMode::VerifyCa),
        "allowpublickeyretrieval" => switch(value).map(drop),
        "servertimezone" | "connectiontimezone" | "loc" => only(value, &["UTC", "Etc/UTC", "GMT"], IN_UTC),
        "useunicode" | "reconnect" | "autoreconnect" => only(value, &["true", "1"], "is off, which Tenantry cannot do"),
        // Python's clients.
        "sslverifycert" => demand(settings, TlsMode::VerifyCa),
        "sslverifyidentity" | "sslverifyservercert" | "sslverify" => demand(settings, TlsMode::VerifyFull),
        "ssldisabled" => demand(settings, TlsMode::Disable),
        // Go's client.
        "tls" if value == "true" => settings.tls.demand(TlsMode::VerifyFull),
        "tls" if value == "skip-verify" => settings.tls.demand(TlsMode::Require),
        "sslmode" if is_jdbc && value.eq_ignore_ascii_case("trust") => settings.tls.demand(TlsMode::Require),
        "sslcert" if !name.contains(['-', '_']) => Err(Refusal::Because(
            "is an authority to some clients and a client's certificate to others: write `ssl-ca` or `ssl-cert`",
        )),
        "socket" | "unixsocket" | "socketpath" if value.starts_with('/') => {
            settings.servers = vec![(value.to_owned(), None)];
            Ok(())
        }
        "host" if value.is_empty() => Ok(()),
        "host" => {
            let host = host_name(value.to_owned()).map_err(|_| Refusal::Value)?;
            let port = settings.servers.first().and_then(|(_, port)| *port);
            settings.servers = vec![(host, port)];
            Ok(())
        }
        "port" => {
            let port = parse_port(value).map_err(|_| Refusal::Value)?;
            for server in &mut settings.servers {
                server.1 = port.or(server.1);
            }
            Ok(())
        }
        "connecttimeout" if name == "connectTimeout" => {
            let milliseconds: u64 = value.parse().map_err(|_| Refusal::Value)?;
            settings.connect_timeout = (milliseconds > 0).then_some(std::time::Duration::from_millis(milliseconds));
            Ok(())
        }
        "connecttimeout" => settings.set_connect_timeout(value),
        _ if is_tls(name) => settings.tls.set(name, value),
        _ => settings.set_common(name, value),
    }
}

const IN_UTC: &str = "is another time zone than UTC, which every session has: remove it";
