//! The parameters that libpq reads, and those of JDBC, Prisma, Rails, Node's and Python's clients.

pub(super) mod options;

use super::{
    Pooler, Refusal, UrlSettings,
    common::{only, positive, switch},
    parts::{host_name, parse_port},
};
use crate::{
    TlsMode,
    database_config::{session::SessionTarget, tls::plain},
};

/// Sets what a parameter means.
pub(super) fn set(settings: &mut UrlSettings, name: &str, value: &str, is_jdbc: bool) -> Result<(), Refusal> {
    match plain(name).as_str() {
        "host" | "hostaddr" | "port" if value.is_empty() => Ok(()),
        "host" => hosts(settings, value),
        "hostaddr" => addresses(settings, value),
        "port" => ports(settings, value),
        "unixsock" => {
            // pg8000 names the socket itself, others its folder.
            let folder = value.rsplit_once("/.s.PGSQL.").map_or(value, |(folder, _)| folder);
            hosts(settings, folder)
        }
        "sslmode" if value == "no-verify" => settings.tls.demand(TlsMode::Require),
        // PostgreSQL's JDBC driver verifies unless `sslmode` says otherwise.
        "ssl" if is_jdbc && (value.is_empty() || value == "true") => settings.tls.demand(TlsMode::VerifyFull),
        "sslrootcert" if value == "system" => settings.tls.demand(TlsMode::VerifyFull),
        "sslsni" => only(value, &["1"], "is off: the host's name is always sent"),
        "sslcompression" => only(value, &["0"], "is on, which TLS no longer has"),
        "sslminprotocolversion" => only(
            value,
            &["TLSv1", "TLSv1.1", "TLSv1.2"],
            "cannot be demanded: TLS 1.2 is the lowest",
        ),
        "sslnegotiation" => only(value, &["postgres"], "has to be `postgres`"),
        "gssencmode" => only(value, &["disable", "prefer"], "cannot be honoured: sqlx has no GSSAPI"),
        "channelbinding" => only(
            value,
            &["disable", "prefer"],
            "cannot be honoured, since sqlx does not bind channels: remove it and set `sslmode=verify-full`",
        ),
        "options" => options::set(settings, value),
        "applicationname" => {
            settings.session.application_name = Some(value.to_owned()).filter(|name| !name.is_empty());
            Ok(())
        }
        "fallbackapplicationname" => {
            settings
                .session
                .application_name
                .get_or_insert_with(|| value.to_owned());
            Ok(())
        }
        "connecttimeout" | "logintimeout" => settings.set_connect_timeout(value),
        "targetsessionattrs" | "targetservertype" => {
            settings.session.target = SessionTarget::parse(value).ok_or(Refusal::Value)?;
            Ok(())
        }
        "loadbalancehosts" => {
            settings.load_balanced = match value {
                "random" => true,
                "disable" => false,
                value => switch(value)?,
            };
            Ok(())
        }
        "schema" => {
            settings.session.schema = Some(value.to_owned()).filter(|schema| !schema.is_empty());
            Ok(())
        }
        "currentschema" | "searchpath" | "schemasearchpath" => {
            settings.session.schema = options::names(value).ok_or(Refusal::Value)?;
            Ok(())
        }
        "pgbouncer" => {
            settings.pooler = Some(if switch(value)? {
                Pooler::Transaction
            } else {
                Pooler::None
            });
            Ok(())
        }
        "poolmaxconns" => {
            settings.max_connections = Some(positive(value)?.into());
            Ok(())
        }
        // Says that the parameters mean what libpq takes them to mean.
        "uselibpqcompat" => only(value, &["true"], "has to be `true`"),
        _ => settings.set_common(name, value),
    }
}

/// `host=h1,h2`: other hosts than the URL's, with its ports.
fn hosts(settings: &mut UrlSettings, value: &str) -> Result<(), Refusal> {
    let ports: Vec<_> = settings.servers.iter().map(|(_, port)| *port).collect();
    let host = |host: &str| host_name(host.to_owned()).map_err(|_| Refusal::Value);
    let hosts: Vec<String> = value.split(',').map(host).collect::<Result<_, _>>()?;
    settings.servers = pair(hosts, &ports)?;
    Ok(())
}

/// `hostaddr`: the address of the host, which then needs no look-up. The name in a certificate is
/// compared with this address.
fn addresses(settings: &mut UrlSettings, value: &str) -> Result<(), Refusal> {
    if !settings.servers.is_empty() {
        return Err(Refusal::Because(
            "cannot be honoured beside a host, since sqlx checks the certificate of what it connects to: write only one",
        ));
    }
    let is_address = |address: &str| address.parse::<std::net::IpAddr>().is_ok();
    if !value.split(',').all(is_address) {
        return Err(Refusal::Value);
    }
    hosts(settings, value)
}

/// `port=5433,5434`: a port for each host, or one for all.
fn ports(settings: &mut UrlSettings, value: &str) -> Result<(), Refusal> {
    let port = |port: &str| parse_port(port).map_err(|_| Refusal::Value);
    let ports: Vec<_> = value.split(',').map(port).collect::<Result<_, _>>()?;
    if settings.servers.is_empty() {
        return Err(Refusal::Because("has to follow `host`"));
    }
    let hosts = settings.servers.drain(..).map(|(host, _)| host).collect();
    settings.servers = pair(hosts, &ports)?;
    Ok(())
}

fn pair(hosts: Vec<String>, ports: &[Option<u16>]) -> Result<Vec<(String, Option<u16>)>, Refusal> {
    let port = |index: usize| match ports {
        [] => Some(None),
        [one] => Some(*one),
        many => many.get(index).copied(),
    };
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(Refusal::Because("does not have a port for each host"));
    }
    let servers = hosts.into_iter().enumerate();
    Ok(servers.map(|(index, host)| (host, port(index).flatten())).collect())
}
