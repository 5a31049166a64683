//! Whatever a request holds, no resolver panics, waits for ever, or finds anything but a valid id that the request names.
//! `PROPTEST_CASES` sets how many requests are tried; `./scripts/fuzz` tries a million.

#![allow(clippy::unwrap_used, reason = "only `#[test]` functions are excepted by themselves")]

use std::{cell::RefCell, collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Uri};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde_json::{Value, json};
use tenantry_core::{
    BuildContext, ForwardedHeader, Registry, RequestHead, Resolution, TenantIdPattern, TenantResolver, TrustedProxies,
};
use tenantry_resolvers::{
    ChainResolver, CookieResolver, HeaderResolver, HostResolver, PathResolver, QueryResolver, StaticResolver,
    SubdomainResolver,
};

/// The resolvers that find a tenant only where the request has its name, as it is but for upper and lower case.
const VERBATIM: [&str; 4] = ["header", "subdomain", "path", "cookie"];

fn mappings() -> Vec<Value> {
    let mut plain = vec![
        json!({"type": "header"}),
        json!({"type": "subdomain", "domain": "example.com"}),
        json!({"type": "path"}),
        json!({"type": "query"}),
        json!({"type": "cookie"}),
        json!({"type": "host", "hosts": {"example.com": "tenant1", "a.example.com": "tenant2"}}),
    ];
    if cfg!(feature = "jwt") {
        plain.push(json!({"type": "jwt", "secret": SECRET}));
        plain.push(json!({"type": "jwt", "public_key": include_str!("keys/rsa.public.pem")}));
    }
    let chains = ["first", "all"].map(|agreement| json!({"type": "chain", "agreement": agreement, "resolvers": plain}));
    plain.extend(chains);
    plain.push(json!({"type": "static", "tenant": "tenant1"}));
    plain
}

const SECRET: &str = "a secret of more than thirty-two bytes";

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .resolver::<ChainResolver>()
        .resolver::<CookieResolver>()
        .resolver::<HeaderResolver>()
        .resolver::<HostResolver>()
        .resolver::<PathResolver>()
        .resolver::<QueryResolver>()
        .resolver::<StaticResolver>()
        .resolver::<SubdomainResolver>();
    #[cfg(feature = "jwt")]
    registry.resolver::<tenantry_resolvers::JwtResolver>();
    registry
}

/// A token with this header and claims, well signed.
#[cfg(feature = "jwt")]
fn signed(claims: &Value) -> Vec<u8> {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key)
        .unwrap()
        .into_bytes()
}

#[cfg(not(feature = "jwt"))]
fn signed(_: &Value) -> Vec<u8> {
    Vec::new()
}

/// What may stand in a tenant's place: ids, what looks like them, and anything.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(select(b"abz09_-".as_slice()), 1..66),
        3 => vec(select(b"aZ0_-.%/\\:@,;=\"' []&?#+~{}2e5cfF".as_slice()), 0..24),
        1 => select(vec![b"tenant1".to_vec(), b"tenant2".to_vec(), b"..".to_vec(), b"%2e%2e".to_vec(), b"".to_vec()]),
        1 => vec(any::<u8>(), 0..80),
    ]
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn target() -> impl Strategy<Value = Vec<u8>> {
    (0..7, name(), name()).prop_map(|(form, a, b)| match form {
        0 => joined(&[b"/t/", &a, b"/", &b]),
        1 => joined(&[b"/t/", &a]),
        2 => joined(&[b"/", &a, b"?", &b]),
        3 => joined(&[b"/x?tenant=", &a, b"&tenant=", &b]),
        4 => joined(&[b"http://", &a, b".example.com/t/", &b]),
        5 => joined(&[b"/x?&tenant=", &b]),
        _ => b"/".to_vec(),
    })
}

fn header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    (0..9, name(), name()).prop_map(|(form, a, b)| match form {
        0 => ("x-tenant-id", a),
        1 => ("host", joined(&[&a, b".example.com"])),
        2 => ("host", joined(&[&a, b":", &b])),
        3 => ("cookie", joined(&[b"tenant=", &a, b"; tenant=", &b])),
        4 => ("cookie", joined(&[&a, b";tenant=\"", &b, b"\""])),
        5 => ("authorization", joined(&[b"Bearer ", &a, b".", &b, b".", &a])),
        6 => {
            let tenant = String::from_utf8_lossy(&a);
            (
                "authorization",
                joined(&[
                    b"Bearer ",
                    &signed(&json!({"tenant": tenant, "exp": 9_999_999_999_u64})),
                ]),
            )
        }
        7 => ("x-forwarded-host", joined(&[&a, b", ", &b, b".example.com"])),
        _ => (
            "forwarded",
            joined(&[b"for=1;host=\"", &a, b".example.com\";proto=", &b]),
        ),
    })
}

/// A request of what can be said in HTTP at all; the rest of what was drawn is left out.
fn request() -> impl Strategy<Value = Request<()>> {
    (target(), vec(header(), 0..5)).prop_map(|(target, headers)| {
        let mut request = Request::new(());
        if let Ok(uri) = Uri::from_maybe_shared(target) {
            *request.uri_mut() = uri;
        }
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request.headers_mut().append(name, value);
            }
        }
        request
    })
}

/// Everything a client wrote, in lower case.
fn text_of(request: &Request<()>) -> Vec<u8> {
    let mut text = request.uri().to_string().into_bytes();
    for value in request.headers().values() {
        text.push(b'\n');
        text.extend_from_slice(value.as_bytes());
    }
    text.to_ascii_lowercase()
}

struct Subject {
    type_name: String,
    pattern: TenantIdPattern,
    resolver: Arc<dyn TenantResolver>,
}

impl Subject {
    async fn hears(&self, head: RequestHead<'_>, request: &Request<()>) -> Result<bool, TestCaseError> {
        let head = RequestHead {
            id_pattern: &self.pattern,
            ..head
        };
        let Ok(Resolution::Found { tenant: id, .. }) = self.resolver.resolve(&head).await else {
            return Ok(false);
        };
        prop_assert_eq!(self.pattern.parse(id.as_str()), Ok(id));
        let raw = id.as_str().as_bytes();
        let allowed = |b: &u8| b.is_ascii_graphic() && !b"/.%\\".contains(b);
        prop_assert!((1..=64).contains(&raw.len()) && raw.iter().all(allowed));
        if VERBATIM.contains(&self.type_name.as_str()) {
            let named = text_of(request)
                .windows(raw.len())
                .any(|part| part.eq_ignore_ascii_case(raw));
            prop_assert!(named, "{} found {id}, which the request does not name", self.type_name);
        }
        Ok(true)
    }
}

/// All resolvers, under the default rule for ids and under one that allows everything that may be allowed.
async fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for pattern in [TenantIdPattern::default(), TenantIdPattern::new("(?s).*").unwrap()] {
        let mut context = BuildContext::for_tests(registry());
        context.id_pattern = pattern.clone();
        for mapping in mappings() {
            let type_name = mapping["type"].as_str().unwrap().to_owned();
            let resolver = context.resolver(mapping).await;
            subjects.push(Subject {
                type_name,
                pattern: pattern.clone(),
                resolver: resolver.map_err(|error| error.to_string()).unwrap(),
            });
        }
    }
    subjects
}

/// Tries `cases` requests, and gives the types of the resolvers that found a tenant in any of them.
fn try_requests(cases: u32) -> BTreeSet<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let subjects = runtime.block_on(subjects());
    let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], ForwardedHeader::XForwarded);
    let found = RefCell::new(BTreeSet::new());
    let config = Config {
        failure_persistence: None,
        cases,
        ..Config::default()
    };
    let tested = TestRunner::new(config).run(&(request(), any::<bool>()), |(request, trusted)| {
        let head = RequestHead {
            method: &Method::GET,
            uri: request.uri(),
            headers: request.headers(),
            peer: Some(IpAddr::from([if trusted { 10 } else { 192 }, 0, 2, 1])),
            trusted_proxies: &proxies,
            id_pattern: &TenantIdPattern::default(),
        };
        let every_resolver = async {
            for subject in &subjects {
                if subject.hears(head, &request).await? && !found.borrow().contains(&subject.type_name) {
                    found.borrow_mut().insert(subject.type_name.clone());
                }
            }
            Ok(())
        };
        let heard = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), every_resolver).await });
        heard.unwrap_or_else(|_| Err(TestCaseError::fail("a resolver waits without a deadline")))
    });
    if let Err(error) = tested {
        panic!("{error}");
    }
    found.into_inner()
}

#[test]
fn no_request_makes_a_resolver_panic_or_find_what_is_no_tenant() {
    let cases = Config::default().cases;
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let found: BTreeSet<String> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| try_requests(cases.div_ceil(threads))))
            .collect();
        tasks.into_iter().flat_map(|task| task.join().unwrap()).collect()
    });
    // Of few requests, there need be none for each resolver.
    if cases < 256 {
        return;
    }
    // Requests that no resolver ever finds a tenant in would prove nothing. That a host is one of the two that are known is rare.
    for mapping in mappings() {
        let type_name = mapping["type"].as_str().unwrap();
        assert!(
            type_name == "host" || found.contains(type_name),
            "`{type_name}` found no tenant in any request"
        );
    }
}
