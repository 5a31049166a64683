//! The part of a request that a resolver sees, and the rules for forwarded headers.

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
    /// The peers that may set forwarded headers.
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

    /// The host that the client asked for, without its port: the [forwarded](Self::forwarded_host)
    /// one if there is one, else the request's [own](Self::own_host). Letters are as received;
    /// host names are not case-sensitive.
    ///
    /// # Errors
    /// As the two.
    pub fn host(&self) -> Result<Option<&'a str>, MalformedReason> {
        match self.forwarded_host()? {
            Some(forwarded) => Ok(Some(forwarded)),
            None => self.own_host(),
        }
    }

    /// The host in the request's target or its `Host`, without its port; `None` if it names none.
    ///
    /// # Errors
    /// [`Ambiguous`](MalformedReason::Ambiguous) if the request names several that differ: two
    /// `Host` lines, or a target and a `Host` (RFC 9113 §8.3.1).
    /// [`Unreadable`](MalformedReason::Unreadable) if it is no host name or address.
    pub fn own_host(&self) -> Result<Option<&'a str>, MalformedReason> {
        let target = without_port(self.uri.authority().map(|authority| authority.as_str()))?;
        let header = without_port(self.single(header::HOST)?)?;
        match (target, header) {
            (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => Err(MalformedReason::Ambiguous),
            (target, header) => Ok(target.or(header)),
        }
    }

    /// The host that a trusted proxy forwarded, without its port, from the one header that the
    /// proxy writes ([`ForwardedHeader`]); `None` if the peer is no trusted proxy, or sent none. If
    /// the header has several values, the last one counts, which the trusted proxy itself wrote.
    ///
    /// # Errors
    /// [`Unreadable`](MalformedReason::Unreadable) if it is no host name or address.
    pub fn forwarded_host(&self) -> Result<Option<&'a str>, MalformedReason> {
        if !self.peer.is_some_and(|peer| self.trusted_proxies.contains(peer)) {
            return Ok(None);
        }
        without_port(match self.trusted_proxies.header {
            ForwardedHeader::None => None,
            ForwardedHeader::XForwarded => self.last_hop("x-forwarded-host")?,
            ForwardedHeader::Forwarded => self.last_hop("forwarded")?.and_then(|hop| {
                hop.split(';').find_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    let is_host = name.trim().eq_ignore_ascii_case("host");
                    is_host.then(|| value.trim().trim_matches('"'))
                })
            }),
        })
    }

    /// The last value of a header that each proxy appends to.
    fn last_hop(&self, name: &str) -> Result<Option<&'a str>, MalformedReason> {
        let Some(line) = self.headers.get_all(name).iter().next_back() else {
            return Ok(None);
        };
        let line = line.to_str().map_err(|_| MalformedReason::Unreadable)?;
        Ok(line.rsplit(',').next())
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

/// `example.com:8080` and `[::1]:8080` without their ports; `None` when there is nothing at all.
/// Any other text, such as a user name before the host, is refused, since two programs could read
/// different hosts from it.
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

/// The header in which a trusted proxy writes the host that the client asked for:
/// `server.forwarded`. A client can send the other one through the proxy, so that one is not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// None: the proxy does not change `Host`.
    #[default]
    None,
    /// `X-Forwarded-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239 §5.3).
    Forwarded,
}

/// The networks of trusted proxies, `server.trusted_proxies`, and the header that they write.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// The proxies in these networks, which write `header`.
    pub fn new(networks: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self { networks, header }
    }

    /// Whether `address` is in one of them. An IPv4 address mapped into IPv6 counts as the IPv4
    /// one.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
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
        read_from(ForwardedHeader::XForwarded, uri, peer, headers)
    }

    fn read_from(
        header: ForwardedHeader,
        uri: &'static str,
        peer: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Option<String>, MalformedReason> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], header);
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
        let read = read_from(ForwardedHeader::Forwarded, "/x", PROXY, &standard);
        assert_eq!(read.unwrap().as_deref(), Some("c.example.com"));
    }

    #[test]
    fn a_header_that_the_proxy_does_not_write_is_not_read() {
        let both = [
            ("host", "lb"),
            ("forwarded", "host=a.example.com"),
            ("x-forwarded-host", "b.example.com"),
        ];
        for (header, host) in [
            (ForwardedHeader::None, "lb"),
            (ForwardedHeader::Forwarded, "a.example.com"),
            (ForwardedHeader::XForwarded, "b.example.com"),
        ] {
            assert_eq!(read_from(header, "/x", PROXY, &both).unwrap().as_deref(), Some(host));
            assert_eq!(read_from(header, "/x", CLIENT, &both).unwrap().as_deref(), Some("lb"));
            let without = read_from(header, "/x", PROXY, &both[..1]);
            assert_eq!(without.unwrap().as_deref(), Some("lb"));
        }
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
