//! A program of one's own: what `App` adds to the built-in server.

use std::{
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use poem::{Endpoint, EndpointExt as _, Request};
use poem_openapi::{OpenApi, payload::PlainText};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tenantry::{
    App, Problem, StartError, Tenant,
    core::{BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, TenantId},
    jobs::{self, Schedule},
    opentelemetry::metrics::Counter,
};

const TENANCY: &str = "server: { listen: \"127.0.0.1:0\" }\n\
    tenancy:\n  resolver: { type: header }\n  provider: { type: outage, name: NAME }\n";

/// Gives `tenant1` and `tenant2` a SQLite file each, unless it is away.
struct Outage(&'static AtomicBool);

static AWAY: AtomicBool = AtomicBool::new(false);
static NEVER: AtomicBool = AtomicBool::new(false);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutageConfig {
    name: String,
}

impl Plugin<dyn SecretProvider> for Outage {
    const TYPE: &'static str = "outage";
    const EXAMPLE: &'static str = "{ type: outage, name: here }";
    type Config = OutageConfig;

    async fn build(config: OutageConfig, _: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self(if config.name == "away" { &AWAY } else { &NEVER }))
    }
}

#[async_trait]
impl SecretProvider for Outage {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        self.list().await?;
        Ok(SecretDocument::from_value(
            json!({"type": "sqlite", "path": format!("{tenant}.db")}),
        ))
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(ProviderError::Unavailable("away".into())),
            false => Ok(["tenant1", "tenant2"].map(|id| id.parse().unwrap()).to_vec()),
        }
    }
}

fn app() -> App {
    App::new().plugins(|registry| {
        registry.provider::<Outage>();
    })
}

/// A folder with a configuration of one's own.
struct Folder {
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Folder {
    fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        Self { folder, file }
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn background_work_has_the_tenants_and_notices_the_end() {
    let folder = Folder::with(&TENANCY.replace("NAME", "background"));
    let (answered, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let app = {
        let (answered, stopped) = (answered.clone(), stopped.clone());
        app().background("one", |tenants, stop| async move {
            let tenant: TenantId = "tenant1".parse().unwrap();
            let database = tenants.acquire(&tenant).await.unwrap();
            database.ping().await.unwrap();
            drop(database);
            answered.fetch_add(1, Ordering::SeqCst);
            stop.cancelled().await;
            stopped.fetch_add(1, Ordering::SeqCst);
        })
    };
    let app = app.background("two", |_, _| async { panic!("what one piece of work does is its own") });
    let app = app.background("three", |_, _| -> std::future::Ready<()> {
        panic!("also before its future")
    });
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = checks.clone();
    let app = app.readiness("four", move |_| {
        assert_ne!(
            counted.fetch_add(1, Ordering::SeqCst),
            0,
            "a check that panics is repeated"
        );
        std::future::ready(Ok::<_, String>(()))
    });
    let server = app.start(&folder.file).await.unwrap();
    until("it did not run", || async { answered.load(Ordering::SeqCst) > 0 }).await;
    let tenant: TenantId = "tenant1".parse().unwrap();
    assert!(server.tenants().acquire(&tenant).await.is_ok());
    assert_eq!(stopped.load(Ordering::SeqCst), 0);
    until("the check ran again", || async { checks.load(Ordering::SeqCst) > 1 }).await;
    server.stop().await.unwrap();
    assert_eq!(stopped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_job_runs_once_for_each_tenant_on_one_of_two_instances() {
    let folder = Folder::with(&TENANCY.replace("NAME", "jobs"));
    let runs = Arc::new(AtomicUsize::new(0));
    let start = || {
        let runs = runs.clone();
        let hourly = Schedule::every(Duration::from_secs(3600));
        let app = app().each_tenant("count", hourly, move |database| {
            let runs = runs.clone();
            async move {
                database.ping().await?;
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        });
        app.start(&folder.file)
    };
    let (first, second) = tokio::join!(start(), start());
    let (first, second) = (first.unwrap(), second.unwrap());
    until("both tenants had a run", || async { runs.load(Ordering::SeqCst) == 2 }).await;

    // Both instances have looked again by then.
    let tenant: TenantId = "tenant1".parse().unwrap();
    let period = Duration::from_secs(3600);
    for (server, is_ours) in [(&first, true), (&second, false), (&first, false)] {
        let database = server.tenants().acquire(&tenant).await.unwrap();
        assert_eq!(jobs::claim(&database, "another", period).await.unwrap(), is_ours);
        assert!(!jobs::claim(&database, "count", period).await.unwrap());
    }
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_job_that_hangs_for_one_tenant_runs_for_the_others() {
    let folder = Folder::with(&TENANCY.replace("NAME", "hangs"));
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let app = app().each_tenant("often", Schedule::every(Duration::from_secs(1)), move |database| {
        let runs = counted.clone();
        async move {
            if database.tenant().as_str() == "tenant1" {
                std::future::pending::<()>().await;
            }
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let server = app.start(&folder.file).await.unwrap();
    until("the other tenant had two runs", || async {
        runs.load(Ordering::SeqCst) >= 2
    })
    .await;
    drop(server);
}

#[tokio::test]
async fn a_job_goes_on_while_the_provider_is_away_and_after_a_failure() {
    let folder = Folder::with(&TENANCY.replace("NAME", "away"));
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let app = app().each_tenant("often", Schedule::every(Duration::from_secs(1)), move |database| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        assert_ne!(run, 2, "the third run panics before its future");
        async move {
            database.ping().await?;
            match run {
                0 => Err("the first run fails".into()),
                1 => panic!("the second run panics"),
                _ => Ok(()),
            }
        }
    });
    let server = app.start(&folder.file).await.unwrap();
    until("both had a run", || async { runs.load(Ordering::SeqCst) >= 2 }).await;
    AWAY.store(true, Ordering::SeqCst);
    let before = runs.load(Ordering::SeqCst);
    until("both ran again", || async { runs.load(Ordering::SeqCst) >= before + 4 }).await;
    server.stop().await.unwrap();
}

struct Greetings {
    greeting: String,
    greeted: Counter<u64>,
}

#[OpenApi]
impl Greetings {
    /// Greet the tenant
    #[oai(path = "/api/v1/tenant/greeting", method = "get", operation_id = "greet")]
    async fn greet(&self, tenant: Tenant) -> PlainText<String> {
        self.greeted.add(1, &[]);
        tenant.ping().await.unwrap();
        PlainText(format!("{}, {}", self.greeting, tenant.tenant()))
    }
}

/// How tenants are greeted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Manners {
    /// The word.
    greeting: String,
}

/// Refuses what says that it is rude.
async fn polite<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<E::Output> {
    match request.headers().contains_key("x-rude") {
        true => Err(Problem::conflict("Say it politely.").into()),
        false => next.call(request).await,
    }
}

struct Polite;

impl<E: Endpoint + 'static> poem::Middleware<E> for Polite {
    type Output = poem::endpoint::BoxEndpoint<'static, E::Output>;

    fn transform(&self, inner: E) -> Self::Output {
        inner.around(polite).boxed()
    }
}

fn greeter() -> App {
    app()
        .name("greeter")
        .version("7.8.9")
        .description("Greets tenants.")
        .section::<Manners>("manners")
        .without_users()
        .migrations([(
            "sqlite/0001_greet.sql",
            "CREATE TABLE greetings (id INTEGER PRIMARY KEY)",
        )])
        .middleware(Polite)
        .setup(|app, setup| async move {
            let manners = setup.section::<Manners>()?;
            Ok(app.api(Greetings {
                greeting: manners.greeting.clone(),
                greeted: setup.meter().u64_counter("greetings").build(),
            }))
        })
}

#[tokio::test]
async fn a_program_has_its_own_name_section_metric_and_migrations() {
    let folder = Folder::with(&format!(
        "{}manners: {{ greeting: hello }}\nmigrations: {{ on_connect: true }}\n",
        TENANCY.replace("NAME", "greeter")
    ));
    let server = greeter().start(&folder.file).await.unwrap();
    let client = reqwest::Client::new();
    let get = |path: &str, header: &'static str| {
        let request = client.get(format!("http://{}{path}", server.address()));
        let request = request.header("X-Tenant-ID", "tenant1").header(header, "1");
        async move { request.send().await.unwrap() }
    };
    let greeting = get("/api/v1/tenant/greeting", "x").await;
    assert_eq!(greeting.text().await.unwrap(), "hello, tenant1");
    let rude = get("/api/v1/tenant/greeting", "x-rude").await;
    assert_eq!(rude.status(), 409);
    let rude: Value = rude.json().await.unwrap();
    assert_eq!(rude["code"], "conflict");

    let metrics = get("/metrics", "x").await.text().await.unwrap();
    assert!(metrics.contains("greetings_total"), "{metrics}");
    assert!(metrics.contains("tenantry_connections_open"), "{metrics}");

    let document: Value = get("/openapi.json", "x").await.json().await.unwrap();
    assert_eq!(document["info"]["title"], "greeter");
    assert_eq!(document["info"]["version"], "7.8.9");
    assert!(
        document["info"]["description"]
            .as_str()
            .unwrap()
            .starts_with("Greets tenants.\n")
    );
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/api/v1/tenant/greeting") && paths.contains_key("/api/v1/tenant/info"));
    assert!(!paths.contains_key("/api/v1/tenant/users") && !paths.contains_key("/api/v1/tenant/stats"));
    assert_eq!(get("/api/v1/tenant/users", "x").await.status(), 404);
    server.stop().await.unwrap();

    let database = folder.folder.path().join("data/tenant1.db");
    let bytes = std::fs::read(database).unwrap();
    let has = |table: &str| bytes.windows(table.len()).any(|window| window == table.as_bytes());
    assert!(has("CREATE TABLE greetings") && !has("CREATE TABLE users"));
}

#[tokio::test]
async fn a_fault_of_an_added_section_names_its_place() {
    let faults = |config: String| async move {
        let folder = Folder::with(&format!("{}{config}", TENANCY.replace("NAME", "faults")));
        match greeter().start(&folder.file).await {
            Err(StartError::Configuration(faults)) => faults.to_string(),
            other => panic!("it started: {}", other.is_ok()),
        }
    };
    let misspelt = faults("manners: { greetin: canary }\n".to_owned()).await;
    assert!(
        misspelt.contains("config.yaml:5:12: manners.greetin: unknown key; did you mean `greeting`?"),
        "{misspelt}"
    );
    let wrong = faults("manners: { greeting: [canary] }\n".to_owned()).await;
    assert!(wrong.contains("manners.greeting: expected a string"), "{wrong}");
    let missing = faults(String::new()).await;
    assert!(missing.contains("manners: is missing"), "{missing}");
    for message in [misspelt, wrong, missing] {
        assert!(!message.contains("canary"), "{message}");
    }
}

#[tokio::test]
async fn a_section_cannot_take_a_built_in_one_s_name_nor_come_late() {
    let config = TENANCY.replace("NAME", "sections");
    let folder = Folder::with(&config);
    let taken = app().section::<Manners>("server").start(&folder.file).await;
    assert!(matches!(taken, Err(StartError::Configuration(faults)) if faults.to_string().contains("by another name")));
    let late = app().setup(|app, _| async { Ok(app.section::<Manners>("manners")) });
    assert!(matches!(late.start(&folder.file).await, Err(StartError::Setup(_))));
}

#[tokio::test]
async fn readiness_follows_the_checks() {
    let folder = Folder::with(&TENANCY.replace("NAME", "ready"));
    let passes = Arc::new(AtomicBool::new(false));
    let shared = passes.clone();
    let app = app().readiness("warehouse", move |_| {
        let passes = shared.load(Ordering::SeqCst);
        async move { if passes { Ok(()) } else { Err("the warehouse is closed") } }
    });
    let server = app.start(&folder.file).await.unwrap();
    let ready = || async {
        let answer = reqwest::get(format!("http://{}/health/ready", server.address()));
        let answer = answer.await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body, json!({"status": if status == 200 { "up" } else { "down" }}));
        status
    };
    assert_eq!(ready().await, 503);
    passes.store(true, Ordering::SeqCst);
    until("it is ready", || async { ready().await == 200 }).await;
    passes.store(false, Ordering::SeqCst);
    until("it is not ready", || async { ready().await == 503 }).await;
    server.stop().await.unwrap();
}
