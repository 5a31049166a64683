//! What a resolver sees of a request, and which forwarded headers are believed.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, header};
use ipnet::IpNet;

use crate::{MalformedReason, TenantId, TenantIdError, TenantIdPattern};

/// The head of a request as it arrived: before routing, nothing decoded.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target as received, its path and query still percent-encoded.
    pub uri: &'a Uri,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The address of the peer that holds the connection; `None` for a local socket.
    pub peer: Option<IpAddr>,
    /// Whose forwarded headers are believed.
    pub trusted_proxies: &'a TrustedProxies,
    /// The rule for tenant ids.
    pub id_pattern: &'a TenantIdPattern,
}

impl<'a> RequestHead<'a> {
    /// Makes a tenant id of what a resolver found.
    ///
    /// # Errors
    /// Which part of the rule it breaks.
    pub fn tenant_id(&self, raw: &str) -> Result<TenantId, TenantIdError> {
        self.id_pattern.parse(raw)
    }

    /// The host the client asked for, without its port: from `Forwarded` (RFC 7239 §5.3) or `X-Forwarded-Host` when the
    /// peer is a trusted proxy and sent one, else from the target or `Host`. Of several hops' values the last counts, which is
    /// the one that the trusted proxy itself wrote. `None` where there is none. Letters are as received, and host names do
    /// not tell upper from lower case.
    ///
    /// # Errors
    /// [`Ambiguous`](MalformedReason::Ambiguous) when the request names several that differ: two `Host` lines, a target and a
    /// `Host` (RFC 9113 §8.3.1), or a `Forwarded` and an `X-Forwarded-Host`, one of which the proxy may have let through
    /// from the client. [`Unreadable`](MalformedReason::Unreadable) when what stands there is no host name or address.
    pub fn host(&self) -> Result<Option<&'a str>, MalformedReason> {
        let (standard, x_header) = self.forwarded("host", "x-forwarded-host")?;
        let forwarded = agreed(without_port(standard)?, without_port(x_header)?)?;
        if forwarded.is_some() {
            return Ok(forwarded);
        }
        let target = self.uri.authority().map(|authority| authority.as_str());
        agreed(without_port(target)?, without_port(self.single(header::HOST)?)?)
    }

    /// `http` or `https` as the client used it, by the same rule as [`host`](Self::host); `None` where no trusted proxy says.
    pub fn forwarded_scheme(&self) -> Option<&'a str> {
        let (standard, x_header) = self.forwarded("proto", "x-forwarded-proto").ok()?;
        agreed(standard, x_header).ok()?
    }

    /// What the last hop says in `Forwarded` and in its `X-Forwarded-` kin, where the peer is a trusted proxy.
    fn forwarded(&self, parameter: &str, x_header: &str) -> Result<Forwarded<'a>, MalformedReason> {
        if !self.peer.is_some_and(|peer| self.trusted_proxies.contains(peer)) {
            return Ok((None, None));
        }
        let last_hop = |name: &str| -> Result<Option<&'a str>, MalformedReason> {
            match self.headers.get_all(name).iter().next_back() {
                Some(line) => {
                    let line = line.to_str().map_err(|_| MalformedReason::Unreadable)?;
                    Ok(Some(line.rsplit(',').next().unwrap_or(line)))
                }
                None => Ok(None),
            }
        };
        let standard = last_hop(header::FORWARDED.as_str())?.and_then(|hop| {
            hop.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                let matches = name.trim().eq_ignore_ascii_case(parameter);
                matches.then(|| value.trim().trim_matches('"'))
            })
        });
        Ok((standard, last_hop(x_header)?.map(str::trim)))
    }

    /// The value of a header that may be there once, or again with the same value.
    fn single(&self, name: header::HeaderName) -> Result<Option<&'a str>, MalformedReason> {
        let mut values = self.headers.get_all(name).iter();
        let Some(first) = values.next() else {
            return Ok(None);
        };
        if values.any(|other| other != first) {
            return Err(MalformedReason::Ambiguous);
        }
        first.to_str().map(Some).map_err(|_| MalformedReason::Unreadable)
    }
}

/// What `Forwarded` says, and what the `X-Forwarded-` header says.
type Forwarded<'a> = (Option<&'a str>, Option<&'a str>);

/// The one of two sources that says something, where they do not contradict each other.
fn agreed<'a>(first: Option<&'a str>, second: Option<&'a str>) -> Result<Option<&'a str>, MalformedReason> {
    match (first, second) {
        (Some(first), Some(second)) if !first.eq_ignore_ascii_case(second) => Err(MalformedReason::Ambiguous),
        (first, second) => Ok(first.or(second)),
    }
}

/// `example.com:8080` and `[::1]:8080` without their ports; `None` when there is nothing at all. Whatever else stands there,
/// such as a user name before the host, is refused: two readers could take different parts of it for the host.
fn without_port(host: Option<&str>) -> Result<Option<&str>, MalformedReason> {
    let Some(host) = host.map(str::trim).filter(|host| !host.is_empty()) else {
        return Ok(None);
    };
    let end = match host.strip_prefix('[') {
        Some(address) => address.find(']').map(|at| at + 2).ok_or(MalformedReason::Unreadable)?,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let allowed: fn(&u8) -> bool = if name.starts_with('[') {
        |b| b.is_ascii_hexdigit() || b":.[]".contains(b)
    } else {
        |b| b.is_ascii_alphanumeric() || b"-._~%".contains(b)
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let port_is_well_formed = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    if name.is_empty() || !name.as_bytes().iter().all(allowed) || !port_is_well_formed {
        return Err(MalformedReason::Unreadable);
    }
    Ok(Some(name))
}

/// The networks whose forwarded headers are believed: `server.trusted_proxies`.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// These networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `address` is in one of them. An IPv4 address mapped into IPv6 counts as the IPv4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read_host(
        uri: &'static str,
        peer: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Option<String>, MalformedReason> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let head = RequestHead {
            method: &Method::GET,
            uri: &Uri::from_static(uri),
            headers: &map,
            peer: Some(peer.parse().unwrap()),
            trusted_proxies: &trusted,
            id_pattern: &TenantIdPattern::default(),
        };
        head.host().map(|host| host.map(str::to_owned))
    }

    fn host_of(peer: &str, headers: &[(&'static str, &str)]) -> Option<String> {
        read_host("/x", peer, headers).unwrap()
    }

    const CLIENT: &str = "192.0.2.1";
    const PROXY: &str = "10.1.2.3";

    #[test]
    fn a_forwarded_host_counts_only_from_a_trusted_proxy() {
        let headers = [("host", "a.example.com:80"), ("x-forwarded-host", "b.example.com")];
        assert_eq!(host_of(CLIENT, &headers).as_deref(), Some("a.example.com"));
        assert_eq!(host_of(PROXY, &headers).as_deref(), Some("b.example.com"));
        assert_eq!(host_of("::ffff:10.1.2.3", &headers).as_deref(), Some("b.example.com"));
    }

    #[test]
    fn the_hop_that_the_trusted_proxy_wrote_counts() {
        let chain = [
            ("host", "lb"),
            ("x-forwarded-host", "evil.example.com, b.example.com:443"),
        ];
        assert_eq!(host_of(PROXY, &chain).as_deref(), Some("b.example.com"));
        let standard = [
            ("host", "lb"),
            (
                "forwarded",
                "host=evil.example.com;proto=http, for=192.0.2.9; host=\"c.example.com\"",
            ),
        ];
        assert_eq!(host_of(PROXY, &standard).as_deref(), Some("c.example.com"));
    }

    #[test]
    fn a_forwarded_header_that_a_proxy_let_through_beside_its_own_is_refused() {
        let both = [
            ("host", "lb"),
            ("forwarded", "host=evil.example.com"),
            ("x-forwarded-host", "b.example.com"),
        ];
        assert_eq!(read_host("/x", PROXY, &both), Err(MalformedReason::Ambiguous));
        assert_eq!(host_of(CLIENT, &both).as_deref(), Some("lb"));
        let agreeing = [
            ("forwarded", "host=b.example.com"),
            ("x-forwarded-host", "B.example.com:443"),
        ];
        assert_eq!(host_of(PROXY, &agreeing).as_deref(), Some("b.example.com"));
    }

    #[test]
    fn ports_go_and_brackets_stay() {
        assert_eq!(host_of(CLIENT, &[("host", "[::1]:8080")]).as_deref(), Some("[::1]"));
        assert_eq!(host_of(CLIENT, &[("host", "")]), None);
        assert_eq!(host_of(CLIENT, &[]), None);
    }

    #[test]
    fn hosts_that_differ_are_ambiguous() {
        let two = [("host", "a"), ("host", "b")];
        assert_eq!(read_host("/x", CLIENT, &two), Err(MalformedReason::Ambiguous));
        assert_eq!(host_of(CLIENT, &[("host", "a"), ("host", "a")]).as_deref(), Some("a"));
        let target = "http://a.example.com/x";
        let host = |value| read_host(target, CLIENT, &[("host", value)]);
        assert_eq!(host("b.example.com"), Err(MalformedReason::Ambiguous));
        assert_eq!(host("A.example.com:80").unwrap().as_deref(), Some("a.example.com"));
    }

    #[test]
    fn what_is_no_host_is_unreadable() {
        for host in [
            "a@b",
            "a:80@b",
            "a:b",
            "[::1",
            "[::1]x",
            "a/b",
            "a b",
            "münchen.example.com",
            ":80",
            "a,b",
        ] {
            let read = read_host("/x", CLIENT, &[("host", host)]);
            assert_eq!(read, Err(MalformedReason::Unreadable), "{host}");
            let read = read_host("/x", PROXY, &[("host", "a"), ("x-forwarded-host", host)]);
            assert!(read.is_err() || host == "a,b", "{host}");
        }
    }
}
