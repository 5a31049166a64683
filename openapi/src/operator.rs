//! The extractor that makes an operation an operator's.

use std::net::IpAddr;

use http::{HeaderMap, header};
use poem::{Request, RequestBody, Result};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, registry::Registry};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::{Noted, Problem, tenant::placeholder};

/// The name under which the extractor marks operations, and under which the document has the operator's bearer token.
pub(crate) const OPERATOR_SCHEME: &str = "Operator";

/// Tells who is an operator.
#[derive(Debug, Default)]
pub struct OperatorGate {
    /// The token that an operator bears. With none, whoever speaks from a loopback address is an operator, and nobody else.
    pub token: Option<SecretString>,
}

impl OperatorGate {
    /// Whether a request with these headers, from this peer, is an operator's. `peer` is the address at the other end of the connection:
    /// what a forwarded header says counts for nothing here.
    ///
    /// # Errors
    /// 401 `unauthenticated`.
    pub fn admit(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), Problem> {
        match &self.token {
            Some(token) => {
                let Some(given) = bearer(headers) else {
                    return Err(Problem::unauthenticated(None, "an operator's bearer token is needed"));
                };
                if bool::from(given.ct_eq(token.expose_secret().as_bytes())) {
                    return Ok(());
                }
                Err(Problem::unauthenticated(
                    Some("invalid_token"),
                    "the bearer token is not the operator's",
                ))
            }
            None => {
                let local = peer.is_some_and(|peer| peer.to_canonical().is_loopback());
                if local && !is_cross_site(headers) {
                    return Ok(());
                }
                Err(Problem::unauthenticated(
                    None,
                    "no operator token is configured, so only the machine itself is the operator",
                ))
            }
        }
    }
}

/// The token of the one `Authorization: Bearer` (RFC 6750 §2.1; the scheme's letters are of either case, RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.as_bytes(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether a browser says that another site's page sent this: such a page speaks from a loopback address too.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
}

/// Says that the request is an operator's. An operation with a parameter of this type is for operators only. Write it before the other
/// parameters.
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
        let Some(gates) = request.data::<Noted>().and_then(Noted::gates) else {
            tracing::error!("an operator's operation is served without an `OperatorGate`");
            return Err(Problem::internal().into());
        };
        let peer = request.remote_addr().as_socket_addr().map(|address| address.ip());
        gates.operator.admit(request.headers(), peer)?;
        Ok(Self(()))
    }
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
        }
    }

    #[test]
    fn with_a_token_only_its_bearer_is_the_operator() {
        let loopback = Some("127.0.0.1".parse().unwrap());
        let admitted = |value| {
            with_token()
                .admit(&headers(&[("authorization", value)]), loopback)
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
        assert!(with_token().admit(&twice, loopback).is_err());
        assert!(with_token().admit(&HeaderMap::new(), loopback).is_err());
    }

    #[test]
    fn without_a_token_only_a_loopback_peer_is_the_operator() {
        let admitted = |peer: Option<&str>, values: &[_]| {
            let peer = peer.map(|peer| peer.parse().unwrap());
            OperatorGate::default().admit(&headers(values), peer).is_ok()
        };
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(admitted(Some(peer), &[]), "{peer}");
        }
        for peer in [Some("192.0.2.1"), Some("10.0.0.1"), Some("::ffff:192.0.2.1"), None] {
            assert!(!admitted(peer, &[]), "{peer:?}");
            assert!(
                !admitted(
                    peer,
                    &[("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")]
                ),
                "{peer:?}"
            );
        }
        assert!(!admitted(Some("127.0.0.1"), &[("sec-fetch-site", "cross-site")]));
        assert!(admitted(Some("127.0.0.1"), &[("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn a_refusal_says_how_to_authenticate() {
        let wrong = headers(&[("authorization", "Bearer wrong")]);
        let problem = with_token().admit(&wrong, None).unwrap_err();
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
