//! What a resolver sees of a request, and which forwarded headers are believed.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, header};
use ipnet::IpNet;

use crate::{TenantId, TenantIdError, TenantIdPattern};

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
    /// the one that the trusted proxy itself wrote. `None` where there is none, or more than one that differ.
    pub fn host(&self) -> Option<&'a str> {
        let forwarded = self.forwarded("host", "x-forwarded-host");
        let host = match forwarded {
            Some(host) => host,
            None => match self.uri.authority() {
                Some(authority) => authority.as_str(),
                None => self.single(header::HOST)?,
            },
        };
        without_port(host)
    }

    /// `http` or `https` as the client used it, by the same rule as [`host`](Self::host); `None` where no trusted proxy says.
    pub fn forwarded_scheme(&self) -> Option<&'a str> {
        self.forwarded("proto", "x-forwarded-proto")
    }

    fn forwarded(&self, parameter: &str, x_header: &str) -> Option<&'a str> {
        if !self.trusted_proxies.contains(self.peer?) {
            return None;
        }
        let standard = self.headers.get_all(header::FORWARDED).iter().next_back();
        if let Some(value) = standard {
            let hop = value.to_str().ok()?.rsplit(',').next()?;
            let found = hop.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim()
                    .eq_ignore_ascii_case(parameter)
                    .then(|| value.trim().trim_matches('"'))
            });
            if found.is_some() {
                return found;
            }
        }
        let value = self.headers.get_all(x_header).iter().next_back()?;
        value.to_str().ok()?.rsplit(',').next().map(str::trim)
    }

    /// The value of a header that may be there once; `None` when it is absent, unreadable, or there twice with different values.
    fn single(&self, name: header::HeaderName) -> Option<&'a str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?;
        values.all(|other| other == first).then_some(())?;
        first.to_str().ok()
    }
}

/// `example.com:8080` and `[::1]:8080` without their ports; `None` when nothing is left.
fn without_port(host: &str) -> Option<&str> {
    let host = host.trim();
    let name = if host.starts_with('[') {
        host.split_inclusive(']').next().unwrap_or(host)
    } else {
        host.split(':').next().unwrap_or(host)
    };
    (!name.is_empty()).then_some(name)
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

    fn host_of(peer: &str, headers: &[(&'static str, &'static str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let head = RequestHead {
            method: &Method::GET,
            uri: &Uri::from_static("/x"),
            headers: &map,
            peer: Some(peer.parse().unwrap()),
            trusted_proxies: &trusted,
            id_pattern: &TenantIdPattern::default(),
        };
        head.host().map(str::to_owned)
    }

    #[test]
    fn a_forwarded_host_counts_only_from_a_trusted_proxy() {
        let headers = [("host", "a.example.com:80"), ("x-forwarded-host", "b.example.com")];
        assert_eq!(host_of("192.0.2.1", &headers).as_deref(), Some("a.example.com"));
        assert_eq!(host_of("10.1.2.3", &headers).as_deref(), Some("b.example.com"));
        assert_eq!(host_of("::ffff:10.1.2.3", &headers).as_deref(), Some("b.example.com"));
    }

    #[test]
    fn the_hop_that_the_trusted_proxy_wrote_counts() {
        let chain = [("host", "lb"), ("x-forwarded-host", "evil.example.com, b.example.com:443")];
        assert_eq!(host_of("10.1.2.3", &chain).as_deref(), Some("b.example.com"));
        let standard = [
            ("host", "lb"),
            ("forwarded", "host=evil.example.com;proto=http, for=192.0.2.9; host=\"c.example.com\""),
        ];
        assert_eq!(host_of("10.1.2.3", &standard).as_deref(), Some("c.example.com"));
    }

    #[test]
    fn ports_go_and_brackets_stay() {
        assert_eq!(host_of("192.0.2.1", &[("host", "[::1]:8080")]).as_deref(), Some("[::1]"));
        assert_eq!(host_of("192.0.2.1", &[("host", "")]), None);
        assert_eq!(host_of("192.0.2.1", &[("host", "a"), ("host", "b")]), None);
    }
}
