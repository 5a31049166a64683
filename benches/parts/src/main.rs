//! What the parts of a request's path cost by themselves, on one thread and with nothing to wait for. `./scripts/bench parts` runs it.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use divan::{Bencher, Divan, black_box};
use poem::{Endpoint, EndpointExt, Request, endpoint::BoxEndpoint, http::HeaderMap, http::Method, http::Uri};
use sea_orm::{DbBackend, EntityTrait, QueryOrder, QuerySelect, QueryTrait};
use serde_json::json;
use tenantry_core::{
    BoxError, BuildContext, Registry, RequestHead, Resolution, TenantId, TenantResolver, TrustedProxies,
    engine::{EngineSettings, Tenants, TenantsParts},
};
use tenantry_openapi::{
    ApiParts, ApiSet, BodyLimit, DocumentSettings, LogControl, LogControlLost, LogLevel, MetricsSource, OperatorGate,
    Origin, Problems, Readiness, RequestId, RequestIds, TenantGate, users::entity,
};
use tokio::runtime::Runtime;

struct World {
    /// The engine's housekeeping runs in it.
    runtime: Runtime,
    tenants: Tenants,
    resolver: Arc<dyn TenantResolver>,
    context: BuildContext,
    trusted: TrustedProxies,
    headers: HeaderMap,
    id: TenantId,
    api: BoxEndpoint<'static>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| World::new().expect("the parts can be built"));

/// Operators' sources, which no part that is measured asks.
struct Untold;

impl MetricsSource for Untold {
    fn text(&self) -> Result<String, BoxError> {
        Ok(String::new())
    }
}

impl LogControl for Untold {
    fn set(&self, _: LogLevel) -> Result<(), LogControlLost> {
        Err(LogControlLost)
    }
}

impl World {
    fn new() -> Result<Self, Box<dyn Error>> {
        let runtime = Runtime::new()?;
        let guard = runtime.enter();
        let mut registry = Registry::new();
        registry.resolver::<tenantry_resolvers::HeaderResolver>();
        registry.provider::<tenantry_providers::StaticProvider>();
        registry.driver::<tenantry_drivers::SqliteDriver>();
        let context = BuildContext::for_tests(registry);
        let (provider, driver, resolver) = runtime.block_on(async {
            let registry = &context.registry;
            let secrets = json!({"type": "static", "tenants": {"t0": {"type": "sqlite", "path": "t0.db"}}});
            let provider = registry.build_provider(secrets, &context).await?;
            let driver = registry.build_driver(json!({"type": "sqlite"}), &context).await?;
            let resolver = registry.build_resolver(json!({"type": "header"}), &context).await?;
            Ok::<_, Box<dyn Error>>((provider, driver, resolver))
        })?;
        let tenants = Tenants::new(TenantsParts {
            provider,
            provider_type: "static".to_owned(),
            drivers: vec![("sqlite".to_owned(), driver)],
            settings: EngineSettings::default(),
            on_connect: None,
            observer: None,
        });
        let id: TenantId = "t0".parse()?;
        runtime.block_on(tenants.acquire(&id))?;
        let mut headers = HeaderMap::new();
        headers.insert("host", "127.0.0.1:8080".parse()?);
        headers.insert("x-tenant-id", "t0".parse()?);
        let parts = ApiParts {
            gate: TenantGate {
                resolver: resolver.clone(),
                resolver_type: "header".into(),
                tenants: tenants.clone(),
                trusted_proxies: TrustedProxies::default(),
                id_pattern: context.id_pattern.clone(),
            },
            operator: OperatorGate::default(),
            readiness: Readiness::default(),
            metrics: Arc::new(Untold),
            log: Arc::new(Untold),
            document: DocumentSettings {
                title: "parts".to_owned(),
                version: "1".to_owned(),
                description: None,
                authenticates: false,
                location: resolver.location(),
                id_pattern: context.id_pattern.clone(),
                origin: Origin::default(),
                operator_server: None,
            },
            docs: true,
        };
        let served = tenantry_openapi::routes(parts, ApiSet::new())?;
        let api = served.main.with(BodyLimit { bytes: 1 << 20 }).with(Problems {
            timeout: Some(Duration::from_secs(15)),
            ..Problems::default()
        });
        let api = api.with(RequestIds::with_gates(served.gates)).boxed();
        drop(guard);
        Ok(Self {
            runtime,
            tenants,
            resolver,
            context,
            trusted: TrustedProxies::default(),
            headers,
            id,
            api,
        })
    }

    fn head<'a>(&'a self, uri: &'a Uri) -> RequestHead<'a> {
        RequestHead {
            method: &Method::GET,
            uri,
            headers: &self.headers,
            peer: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            trusted_proxies: &self.trusted,
            id_pattern: &self.context.id_pattern,
        }
    }

    async fn resolve(&self, uri: &Uri) -> TenantId {
        match self.resolver.resolve(&self.head(uri)).await {
            Ok(Resolution::Found { tenant, .. }) => tenant,
            other => panic!("no tenant: {other:?}"),
        }
    }
}

/// What a future gives that waits for nothing.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something"),
    }
}

#[divan::bench]
fn resolve(bencher: Bencher) {
    let (world, uri) = (&*WORLD, Uri::from_static("/api/v1/tenant/users/500"));
    let _runtime = world.runtime.enter();
    bencher.bench_local(|| at_once(world.resolve(black_box(&uri))));
}

#[divan::bench]
fn acquire(bencher: Bencher) {
    let world = &*WORLD;
    let _runtime = world.runtime.enter();
    bencher.bench_local(|| drop(at_once(world.tenants.acquire(black_box(&world.id))).expect("a hit")));
}

#[divan::bench]
fn resolve_and_acquire(bencher: Bencher) {
    let (world, uri) = (&*WORLD, Uri::from_static("/api/v1/tenant/users/500"));
    let _runtime = world.runtime.enter();
    bencher.bench_local(|| {
        at_once(async {
            let tenant = world.resolve(black_box(&uri)).await;
            drop(world.tenants.acquire(&tenant).await.expect("a hit"));
        })
    });
}

/// A request that does nothing, through everything between the HTTP server and the handler.
#[divan::bench]
fn live_without_http(bencher: Bencher) {
    let world = &*WORLD;
    let _runtime = world.runtime.enter();
    bencher
        .with_inputs(|| Request::builder().uri(Uri::from_static("/health/live")).finish())
        .bench_local_values(|request| {
            at_once(world.api.call(request)).is_ok_and(|answer| answer.status().is_success())
        });
}

#[divan::bench]
fn request_id(bencher: Bencher) {
    bencher.bench_local(RequestId::generate);
}

#[divan::bench]
fn find_by_id_written_by_seaorm(bencher: Bencher) {
    bencher.bench_local(|| entity::Entity::find_by_id(black_box(500)).build(DbBackend::Postgres));
}

#[divan::bench]
fn page_written_by_seaorm(bencher: Bencher) {
    bencher.bench_local(|| {
        let select = entity::Entity::find().order_by_asc(entity::Column::Id);
        select.limit(black_box(51)).build(DbBackend::Postgres)
    });
}

fn main() {
    Divan::from_args().sample_count(200).run_benches();
}
