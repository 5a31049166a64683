//! The extractor that makes an operation an operator's.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, Method, Uri, header, uri::Authority};
use poem::{Request, RequestBody, Result};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, registry::Registry};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tenantry_core::is_this_machine;

use crate::{Gates, Problem, RequestContext, known_query, operator_route::OperatorRoute, tenant::placeholder};

/// The name under which the extractor marks operations, and under which the document has the
/// operator's bearer token.
pub(crate) const OPERATOR_SCHEME: &str = "Operator";

/// The target of the log lines about operators, which are written at every log level.
pub const AUDIT_TARGET: &str = "tenantry::audit";

/// Headers that a proxy adds. A request with one of them comes from somewhere else, although the
/// proxy connects from a loopback address.
const OF_PROXIES: [HeaderName; 3] = [header::FORWARDED, header::VIA, HeaderName::from_static("x-real-ip")];

/// Decides whether a request is an operator's.
#[derive(Debug)]
pub struct OperatorGate {
    /// The token that an operator presents.
    pub token: Option<SecretString>,
    /// Whether a local request is an operator's if there is no token: see [`admit`](Self::admit).
    pub loopback: bool,
}

impl Default for OperatorGate {
    fn default() -> Self {
        Self {
            token: None,
            loopback: true,
        }
    }
}

impl OperatorGate {
    /// Admits a request with the operator's token. If there is no token, and `loopback` is set, it
    /// admits a local request: one from a loopback address, with a local `Host` and `Origin`, that
    /// no proxy has forwarded. The checks of `Host` and `Origin` refuse requests from pages of
    /// other sites that a browser on this machine shows, including pages that point their own name
    /// at 127.0.0.1 (DNS rebinding).
    ///
    /// `peer` is the address at the other end of the connection.
    ///
    /// # Errors
    /// 401 `unauthenticated`.
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), Problem> {
        let refused = |reason| Err(Problem::unauthenticated(None, reason));
        let Some(token) = &self.token else {
            return match self.loopback {
                false => refused("no operator token is configured, so there are no operators"),
                true if is_local(uri, headers, peer) => Ok(()),
                true => refused("no operator token is configured, so only local requests are an operator's"),
            };
        };
        let Some(given) = bearer(headers) else {
            return refused("an operator's bearer token is required");
        };
        if bool::from(given.ct_eq(token.expose_secret().as_bytes())) {
            return Ok(());
        }
        let reason = "the bearer token is not the operator's";
        Err(Problem::unauthenticated(Some("invalid_token"), reason))
    }
}

fn is_local(uri: &Uri, headers: &HeaderMap, peer: Option<IpAddr>) -> bool {
    let is_of_proxy = |name: &HeaderName| OF_PROXIES.contains(name) || name.as_str().starts_with("x-forwarded-");
    let values = |name| headers.get_all(name).iter().map(|value| value.to_str().ok());
    let target = uri.authority().map(|authority| Some(authority.as_str()));
    let hosts: Vec<_> = values(header::HOST).chain(target).collect();
    let mut origins = values(header::ORIGIN).map(|origin| Some(origin?.split_once("://")?.1));
    let is_local_host = |host: Option<&str>| host.is_some_and(is_local_host);
    peer.is_some_and(|peer| peer.to_canonical().is_loopback())
        && !hosts.is_empty()
        && hosts.into_iter().all(is_local_host)
        && origins.all(is_local_host)
        && !headers.keys().any(is_of_proxy)
        && !is_cross_site(headers)
}

/// Whether a host, with or without a port, is a loopback address, `localhost`, or a name below it.
fn is_local_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    !host.contains('@') && is_this_machine(authority.host())
}

/// The token of the one `Authorization: Bearer` (RFC 6750 §2.1; the scheme's letters are of either
/// case, RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.as_bytes(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether a browser says that a page of another site sent this. It says so also of requests
/// without an `Origin`, such as those for pictures.
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site")
}

/// Says that the request is an operator's. An operation with a parameter of this type is for
/// operators only. Write it before the other parameters.
///
/// With an operators' listener the operation is served only there, and it is never served below a
/// tenant's path. If it takes a [`Tenant`](crate::Tenant) too, the request has to name the tenant
/// in another place than the path and the `Authorization` header. An extractor that wraps this one
/// has to name its scheme `Operator`, and an enum of security schemes with it among the
/// alternatives is an operator's too.
#[derive(Debug, Clone, Copy)]
pub struct Operator(());

impl<'a> ApiExtractor<'a> for Operator {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(OPERATOR_SCHEME, placeholder());
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![OPERATOR_SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let Some(gates) = request.data::<RequestContext>().and_then(RequestContext::gates) else {
            tracing::error!("an operator's operation is served without an `OperatorGate`");
            return Err(Problem::internal().into());
        };
        let Some(route) = request.data::<Arc<OperatorRoute>>() else {
            // A hidden operation on a route that is not for operators, or an extractor that does
            // not say that it takes one.
            tracing::debug!("an `Operator` is asked for on a route that is not for operators");
            return Err(Problem::not_found("There is no such route.").into());
        };
        let peer = request.remote_addr().as_socket_addr().map(|address| address.ip());
        let admitted = gates.operator.admit(request.uri(), request.headers(), peer);
        // Actions that only read are in the access log.
        if admitted.is_err() || !matches!(*request.method(), Method::GET | Method::HEAD) {
            audit(request, gates, route, peer, admitted.is_ok());
        }
        admitted?;
        known_query::check(request)?;
        Ok(Self(()))
    }
}

/// Writes the log line about an action, or about a refused request.
fn audit(request: &Request, gates: &Gates, route: &OperatorRoute, peer: Option<IpAddr>, admitted: bool) {
    // Of what the client wrote, only a well-formed tenant id is logged.
    let written = route.tenant(request);
    let tenant = written.and_then(|written| gates.tenant.id_pattern.parse(&written).ok());
    tracing::info!(
        target: AUDIT_TARGET,
        action = format_args!("{} {}", request.method(), route.documented),
        outcome = if admitted { "admitted" } else { "refused" },
        tenant_id = tenant.as_ref().map(|tenant| tenant.as_str()),
        peer = peer.map(tracing::field::display),
        request_id = request.data::<RequestContext>().map(|context| context.id().as_str()),
        "an operator's request"
    );
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = values
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        pairs.for_each(|(name, value): (header::HeaderName, _)| {
            map.append(name, value);
        });
        map
    }

    fn with_token() -> OperatorGate {
        OperatorGate {
            token: Some("correct-horse-battery".into()),
            loopback: true,
        }
    }

    #[test]
    fn with_a_token_only_its_bearer_is_the_operator() {
        let loopback = Some("127.0.0.1".parse().unwrap());
        let admitted = |value| {
            with_token()
                .admit(&Uri::default(), &headers(&[("authorization", value)]), loopback)
                .is_ok()
        };
        assert!(admitted("Bearer correct-horse-battery"));
        assert!(admitted("bearer correct-horse-battery"));
        for bad in [
            "Bearer correct-horse-batterz",
            "Bearer ",
            "Bearer",
            "Basic correct-horse-battery",
            "",
            "Bearer correct",
        ] {
            assert!(!admitted(bad), "{bad}");
        }
        let twice = headers(&[
            ("authorization", "Bearer correct-horse-battery"),
            ("authorization", "Bearer x"),
        ]);
        assert!(with_token().admit(&Uri::default(), &twice, loopback).is_err());
        assert!(
            with_token()
                .admit(&Uri::default(), &HeaderMap::new(), loopback)
                .is_err()
        );
    }

    const HERE: Option<&str> = Some("127.0.0.1");

    /// Whether a gate without a token admits a request.
    fn admitted(peer: Option<&str>, values: &[(&'static str, &'static str)]) -> bool {
        let peer = peer.map(|peer| peer.parse().unwrap());
        let admitted = |gate: OperatorGate| gate.admit(&Uri::default(), &headers(values), peer).is_ok();
        assert!(!admitted(OperatorGate {
            token: None,
            loopback: false
        }));
        admitted(OperatorGate::default())
    }

    #[test]
    fn without_a_token_only_a_loopback_peer_is_admitted() {
        let host = ("host", "localhost:8080");
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(admitted(Some(peer), &[host]), "{peer}");
        }
        for peer in [Some("192.0.2.1"), Some("10.0.0.1"), Some("::ffff:192.0.2.1"), None] {
            assert!(!admitted(peer, &[host]), "{peer:?}");
        }
    }

    #[test]
    fn without_a_token_host_and_origin_are_local() {
        for host in [
            "localhost",
            "LOCALHOST:1",
            "app.localhost:8080",
            "127.0.0.1",
            "127.0.0.2:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:8080",
        ] {
            assert!(admitted(HERE, &[("host", host)]), "{host}");
        }
        for host in [
            "localtest.me",
            "localhost.evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "evil@localhost",
            "0.0.0.0",
            "[::]",
            "192.0.2.1",
            "notlocalhost",
            "localhost:8080:1",
            "a b",
            "",
        ] {
            assert!(!admitted(HERE, &[("host", host)]), "{host}");
        }
        assert!(!admitted(HERE, &[]), "without a host");
        assert!(!admitted(HERE, &[("host", "localhost"), ("host", "evil.example")]));
        let gate = OperatorGate::default();
        let http2 = |uri: &'static str| {
            let uri = Uri::from_static(uri);
            gate.admit(&uri, &HeaderMap::new(), Some("::1".parse().unwrap()))
                .is_ok()
        };
        assert!(http2("http://localhost:8080/metrics") && !http2("http://localtest.me/metrics"));
        for (origin, local) in [
            ("http://localhost:3000", true),
            ("https://127.0.0.1", true),
            ("http://[::1]:8080", true),
            ("https://evil.example", false),
            ("http://localhost.evil.example", false),
            ("http://evil@localhost", false),
            ("null", false),
            ("", false),
        ] {
            let values = [("host", "localhost"), ("origin", origin)];
            assert_eq!(admitted(HERE, &values), local, "{origin}");
        }
    }

    #[test]
    fn without_a_token_a_forwarded_request_is_refused() {
        for name in [
            "forwarded",
            "via",
            "x-real-ip",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-client-cert",
        ] {
            let values = [("host", "localhost"), (name, "127.0.0.1")];
            assert!(!admitted(HERE, &values), "{name}");
        }
        let site = |site| admitted(HERE, &[("host", "localhost"), ("sec-fetch-site", site)]);
        assert!(!site("cross-site") && site("same-origin") && site("none"));
    }

    #[test]
    fn without_a_token_no_header_makes_a_peer_local() {
        let claims = [
            ("x-forwarded-for", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
        ];
        for peer in [Some("192.0.2.1"), Some("10.0.0.1"), Some("::ffff:192.0.2.1"), None] {
            for claim in claims {
                assert!(!admitted(peer, &[("host", "localhost"), claim]), "{peer:?} {claim:?}");
            }
        }
    }

    #[test]
    fn a_refusal_says_how_to_authenticate() {
        let wrong = headers(&[("authorization", "Bearer wrong")]);
        let problem = with_token().admit(&Uri::default(), &wrong, None).unwrap_err();
        let response = problem.to_response(&crate::RequestId::generate());
        assert_eq!(response.status(), 401);
        assert!(
            response
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer error=\"invalid_token\"")
        );
        assert!(!format!("{:?}{problem:?}", with_token()).contains("horse"));
    }
}
