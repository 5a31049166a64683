//! The suite of cases that every resolver must pass.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Uri};
use serde_json::{Value, json};

use crate::{
    ApiKeyPlace, BuildContext, Plugin, Registry, RequestHead, Resolution, ResolveError, TenantIdPattern,
    TenantLocation, TenantResolver, TrustedProxies,
};

/// How long a resolver may take for one request before the suite calls it stuck.
const DEADLINE: Duration = Duration::from_secs(30);

/// Texts that no rule for tenant ids allows.
const NEVER_IDS: &[&[u8]] = &[
    b"",
    b".",
    b"..",
    b"../x",
    b"/",
    b"a/b",
    b"a\\b",
    b"a.b",
    b"a b",
    b"a\tb",
    b"a\r\nb",
    b"a\0b",
    b"%2e%2e",
    b"a%2fb",
    b"%74enant1",
    "münchen".as_bytes(),
    "ｔenant1".as_bytes(),
    b"\xff\xfe",
    b"tenant1\xff",
    &[b'a'; 65],
    &[b'a'; 5000],
];

/// Texts that the default rule does not allow.
const NOT_BY_DEFAULT: &[&[u8]] = &[b"-a", b"a-", b"_a", b"a_", b"a,b", b"a:b", b"a=b", b"a@b", &[b'a'; 64]];

/// Ids that the default rule allows.
const IDS: &[&str] = &["tenant1", "a", "7", "a-b_c", "x--y", "0-0"];

type Naming = Box<dyn Fn(&[u8]) -> Option<Request<()>>>;
type NamingTwo = Box<dyn Fn(&str, &str) -> Option<Request<()>>>;

/// How one resolver is put to the test: its mapping, and how requests name a tenant under it.
pub struct ResolverCase {
    mapping: Value,
    others: fn(&mut Registry),
    names: Option<Naming>,
    names_two: Option<NamingTwo>,
    ignores_case: bool,
    names_none: Vec<Request<()>>,
    finds: Vec<(Request<()>, String)>,
    refuses: Vec<Request<()>>,
}

impl ResolverCase {
    /// The resolver that `mapping` (with its `type`) chooses.
    pub fn new(mapping: Value) -> Self {
        Self {
            mapping,
            others: |_| {},
            names: None,
            names_two: None,
            ignores_case: false,
            names_none: Vec::new(),
            finds: Vec::new(),
            refuses: Vec::new(),
        }
    }

    /// With other resolvers that its mapping names.
    #[must_use]
    pub fn with(mut self, others: fn(&mut Registry)) -> Self {
        self.others = others;
        self
    }

    /// A client may name any tenant: `write` makes a request with these raw bytes as the tenant. It
    /// returns `None` for bytes that this place of a request cannot contain.
    #[must_use]
    pub fn names(mut self, write: impl Fn(&[u8]) -> Option<Request<()>> + 'static) -> Self {
        self.names = Some(Box::new(write));
        self
    }

    /// A request has room for two names.
    #[must_use]
    pub fn names_two(mut self, write: impl Fn(&str, &str) -> Option<Request<()>> + 'static) -> Self {
        self.names_two = Some(Box::new(write));
        self
    }

    /// Upper and lower case are the same at its place, so that a name is read in lower case.
    #[must_use]
    pub fn ignores_case(mut self) -> Self {
        self.ignores_case = true;
        self
    }

    /// A request that names no tenant.
    #[must_use]
    pub fn names_none(mut self, request: Request<()>) -> Self {
        self.names_none.push(request);
        self
    }

    /// A request that names `tenant`.
    #[must_use]
    pub fn finds(mut self, request: Request<()>, tenant: &str) -> Self {
        self.finds.push((request, tenant.to_owned()));
        self
    }

    /// A request that names a tenant, but malformed.
    #[must_use]
    pub fn refuses(mut self, request: Request<()>) -> Self {
        self.refuses.push(request);
        self
    }

    /// Runs every case.
    ///
    /// # Panics
    /// When the resolver breaks one, with the sentence it broke.
    pub async fn run<P: Plugin<dyn TenantResolver> + TenantResolver>(self) {
        self.the_example_builds::<P>().await;
        self.every_key_is_documented::<P>();
        self.an_unknown_key_is_refused::<P>().await;
        let default = self.built::<P>(TenantIdPattern::default()).await;
        the_location_can_be_shown(&default.resolver.location());
        self.what_is_named_is_found(&default).await;
        self.a_request_that_names_none_is_absent(&default).await;
        self.a_malformed_name_is_never_absent_nor_found(&default).await;
        self.two_different_names_are_malformed(&default).await;
        self.upper_case_is_what_the_place_makes_of_it(&default).await;
        self.the_configured_rule_holds::<P>().await;
        nothing_in_a_request_makes_it_panic(&default).await;
    }

    fn context<P: Plugin<dyn TenantResolver> + TenantResolver>(&self, pattern: &TenantIdPattern) -> BuildContext {
        let mut registry = Registry::new();
        (self.others)(&mut registry);
        registry.resolver::<P>();
        let mut context = BuildContext::for_tests(registry);
        context.id_pattern = pattern.clone();
        context
    }

    async fn built<P: Plugin<dyn TenantResolver> + TenantResolver>(&self, pattern: TenantIdPattern) -> Built {
        assert_eq!(self.mapping["type"], P::TYPE, "the case's mapping is of another type");
        let resolver = self.context::<P>(&pattern).resolver(self.mapping.clone()).await;
        let resolver = resolver.unwrap_or_else(|error| panic!("the case's mapping does not build: {error}"));
        Built { resolver, pattern }
    }

    async fn the_example_builds<P: Plugin<dyn TenantResolver> + TenantResolver>(&self) {
        let example: Value = serde_saphyr::from_str(P::EXAMPLE)
            .unwrap_or_else(|error| panic!("the example is not YAML: {error}\n{}", P::EXAMPLE));
        assert_eq!(example["type"], P::TYPE, "the example chooses another type");
        let context = self.context::<P>(&TenantIdPattern::default());
        if let Err(error) = context.resolver(example).await {
            panic!("the example does not build: {error}\n{}", P::EXAMPLE);
        }
    }

    fn every_key_is_documented<P: Plugin<dyn TenantResolver> + TenantResolver>(&self) {
        let context = self.context::<P>(&TenantIdPattern::default());
        let registered = context
            .registry
            .resolvers()
            .find(|registered| registered.type_name == P::TYPE);
        let registered = registered.unwrap_or_else(|| panic!("`{}` is not registered", P::TYPE));
        assert!(!registered.summary().is_empty(), "`Config` has no documentation");
        let schema = registered.schema();
        let keys = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        for (key, schema) in keys {
            let documented = schema["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(documented, "the key `{key}` has no documentation");
        }
        assert_eq!(
            schema.get("additionalProperties"),
            Some(&json!(false)),
            "`Config` does not deny unknown fields"
        );
    }

    async fn an_unknown_key_is_refused<P: Plugin<dyn TenantResolver> + TenantResolver>(&self) {
        let mut mapping = self.mapping.clone();
        mapping["no_such_key"] = json!(1);
        let built = self.context::<P>(&TenantIdPattern::default()).resolver(mapping).await;
        assert!(built.is_err(), "an unknown key is ignored");
    }

    async fn what_is_named_is_found(&self, built: &Built) {
        for (request, tenant) in &self.finds {
            built.finds(request, tenant).await;
        }
        let Some(names) = &self.names else {
            assert!(!self.finds.is_empty(), "the case names no tenant at all");
            return;
        };
        for id in IDS {
            let request = names(id.as_bytes()).unwrap_or_else(|| panic!("the case cannot name the tenant `{id}`"));
            built.finds(&request, id).await;
        }
        for request in self.names_two.iter().filter_map(|write| write("tenant1", "tenant1")) {
            built.finds(&request, "tenant1").await;
        }
    }

    async fn a_request_that_names_none_is_absent(&self, built: &Built) {
        for request in &self.names_none {
            match built.resolve(request).await {
                Ok(Resolution::Absent) => {}
                other => panic!("a request that names no tenant is {other:?}: {request:?}"),
            }
        }
    }

    async fn a_malformed_name_is_never_absent_nor_found(&self, built: &Built) {
        for request in &self.refuses {
            built.refuses(request).await;
        }
        let Some(names) = &self.names else { return };
        let mut written = 0;
        for raw in NEVER_IDS.iter().chain(NOT_BY_DEFAULT) {
            let Some(request) = names(raw) else { continue };
            written += 1;
            built.refuses(&request).await;
        }
        let all = NEVER_IDS.len() + NOT_BY_DEFAULT.len();
        assert!(
            written * 2 > all,
            "the case writes only {written} of {all} malformed names"
        );
    }

    async fn two_different_names_are_malformed(&self, built: &Built) {
        let Some(write) = &self.names_two else { return };
        for (first, second) in [
            ("tenant1", "tenant2"),
            ("tenant1", ""),
            ("", "tenant1"),
            ("tenant1", "../x"),
        ] {
            let Some(request) = write(first, second) else { continue };
            built.refuses(&request).await;
        }
    }

    async fn upper_case_is_what_the_place_makes_of_it(&self, built: &Built) {
        let Some(request) = self.names.as_ref().and_then(|names| names(b"Tenant1")) else {
            return;
        };
        if self.ignores_case {
            built.finds(&request, "tenant1").await;
        } else {
            built.refuses(&request).await;
        }
    }

    async fn the_configured_rule_holds<P: Plugin<dyn TenantResolver> + TenantResolver>(&self) {
        let Some(names) = &self.names else { return };
        let built = self.built::<P>(pattern("[a-z]{2}-[0-9]+")).await;
        for (raw, is_an_id) in [
            ("ab-42", true),
            ("tenant1", false),
            ("ab-42x", false),
            ("xab-42", false),
        ] {
            let request = names(raw.as_bytes()).unwrap_or_else(|| panic!("the case cannot name the tenant `{raw}`"));
            match is_an_id {
                true => built.finds(&request, raw).await,
                false => built.refuses(&request).await,
            }
        }
        let loose = self.built::<P>(pattern("(?s).*")).await;
        for request in NEVER_IDS.iter().filter_map(|raw| names(raw)) {
            loose.refuses(&request).await;
        }
        if let (false, Some(request)) = (self.ignores_case, names(b"Tenant1")) {
            loose.finds(&request, "Tenant1").await;
        }
    }
}

fn pattern(regex: &str) -> TenantIdPattern {
    TenantIdPattern::new(regex).unwrap_or_else(|error| panic!("{error}"))
}

/// A resolver, and the rule it was built for.
struct Built {
    resolver: Arc<dyn TenantResolver>,
    pattern: TenantIdPattern,
}

impl Built {
    async fn resolve(&self, request: &Request<()>) -> Result<Resolution, ResolveError> {
        let head = RequestHead {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            peer: Some(IpAddr::from([192, 0, 2, 1])),
            trusted_proxies: &TrustedProxies::default(),
            id_pattern: &self.pattern,
        };
        match tokio::time::timeout(DEADLINE, self.resolver.resolve(&head)).await {
            Ok(resolved) => resolved,
            Err(_) => panic!("it waits without a deadline: {request:?}"),
        }
    }

    async fn finds(&self, request: &Request<()>, tenant: &str) {
        match self.resolve(request).await {
            Ok(Resolution::Found { tenant: found, .. }) if found.as_str() == tenant => {}
            other => panic!("the tenant `{tenant}` is named, and the outcome is {other:?}: {request:?}"),
        }
    }

    async fn refuses(&self, request: &Request<()>) {
        match self.resolve(request).await {
            Err(ResolveError::Malformed { place, .. }) => assert!(!place.is_empty(), "the place has no name"),
            other => panic!("a malformed name must be refused as malformed, and is {other:?}: {request:?}"),
        }
    }
}

fn the_location_can_be_shown(location: &TenantLocation) {
    match location {
        TenantLocation::Header { name }
        | TenantLocation::Query { name }
        | TenantLocation::Cookie { name }
        | TenantLocation::Bearer { claim: name } => assert!(!name.is_empty(), "the location has no name"),
        TenantLocation::ApiKey { place, description } => {
            let (ApiKeyPlace::Header(name) | ApiKeyPlace::Query(name) | ApiKeyPlace::Cookie(name)) = place;
            assert!(!name.is_empty(), "the location has no name");
            assert!(!description.is_empty(), "the key has no description");
        }
        TenantLocation::Subdomain { domain } => {
            assert!(
                !domain.is_empty() && !domain.starts_with('.'),
                "`{domain}` is no domain"
            );
        }
        TenantLocation::Path { prefix } => {
            let well_formed = prefix.starts_with('/') && !prefix.ends_with('/');
            assert!(
                well_formed,
                "the prefix `{prefix}` has no leading slash, or a trailing one"
            );
        }
        TenantLocation::Host | TenantLocation::Fixed => {}
        TenantLocation::AnyOf(all) | TenantLocation::AllOf(all) => {
            assert!(!all.is_empty(), "the location has no parts");
            all.iter().for_each(the_location_can_be_shown);
        }
    }
}

async fn nothing_in_a_request_makes_it_panic(built: &Built) {
    let targets = [
        "*",
        "/",
        "//",
        "/?",
        "/?&&=&=",
        "http://[::1]:1/%",
        "/t//%00?tenant=%&tenant",
        "example.com:443",
    ];
    let names = [
        "host",
        "cookie",
        "authorization",
        "x-tenant-id",
        "forwarded",
        "x-forwarded-host",
        "tenant",
    ];
    let values: [&[u8]; 9] = [
        b"",
        b" ",
        b"=",
        b";;;=;",
        b"Bearer",
        b"Bearer ..",
        b"\xff\xff",
        b"[",
        b"\"\t\"=\",;:@[]{}()<>?\\",
    ];
    for target in targets {
        for value in values {
            let mut request = Request::new(());
            *request.method_mut() = Method::OPTIONS;
            *request.uri_mut() = target
                .parse::<Uri>()
                .unwrap_or_else(|error| panic!("`{target}` is no target: {error}"));
            let value = HeaderValue::from_bytes(value).unwrap_or_else(|error| panic!("no header value: {error}"));
            for name in names {
                request.headers_mut().append(name, value.clone());
            }
            if let Ok(Resolution::Found { tenant: id, .. }) = built.resolve(&request).await {
                assert_eq!(
                    built.pattern.parse(id.as_str()),
                    Ok(id),
                    "what was found is no valid id"
                );
            }
        }
    }
}
