use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{
    self, ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future,
};
use aws_sdk_secretsmanager::config::Credentials;
use serde_json::{Value, json};
use tenantry_core::{
    DatabaseConfig, Registry,
    conformance::provider::{CANARY, Misbehaviour, ProviderFixture, check},
};
use tenantry_test_support::{HttpStub, MotoServer, StubAnswer};
use tokio::net::TcpListener;

use super::*;

const REGION: &str = "eu-central-1";

/// An operation may take its whole time-out, and the machine that tests run on some more.
const IN_TIME: Duration = Duration::from_secs(8);

fn sdk_with(credentials: impl ProvideCredentials + 'static) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn sdk() -> SdkConfig {
    let token = Some("token-4be1".to_owned());
    sdk_with(Credentials::new("AKIDTEST", "key-4be1", token, None, "tests"))
}

async fn try_build(sdk: &SdkConfig, config: Value) -> Result<AwsSecretsManagerProvider, BuildError> {
    let config = serde_json::from_value(config).unwrap();
    AwsSecretsManagerProvider::with_sdk_config(sdk, config, &BuildContext::for_tests(Registry::new())).await
}

async fn build(endpoint_url: &str) -> AwsSecretsManagerProvider {
    try_build(&sdk(), json!({"endpoint_url": endpoint_url})).await.unwrap()
}

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn name_of(tenant: &str) -> String {
    format!("/tenantry/test/{tenant}/database")
}

async fn create(moto: &MotoServer, name: &str, text: &str) -> Value {
    let body = json!({"Name": name, "SecretString": text});
    moto.secrets_manager(REGION, "CreateSecret", &body).await.unwrap()
}

struct Fixture {
    moto: MotoServer,
    provider: Arc<AwsSecretsManagerProvider>,
}

impl Fixture {
    async fn new() -> Self {
        let moto = MotoServer::start().await.unwrap();
        let provider = Arc::new(build(&moto.endpoint_url()).await);
        Self { moto, provider }
    }
}

#[async_trait]
impl ProviderFixture for Fixture {
    async fn provider(&self) -> Arc<dyn SecretProvider> {
        Arc::clone(&self.provider) as _
    }

    async fn put(&self, tenant: &TenantId, secret: &Value) {
        self.put_text(tenant, &secret.to_string()).await;
    }

    async fn remove(&self, tenant: &TenantId) {
        let body = json!({"SecretId": name_of(tenant.as_str()), "ForceDeleteWithoutRecovery": true});
        self.moto.secrets_manager(REGION, "DeleteSecret", &body).await.unwrap();
    }

    async fn put_text(&self, tenant: &TenantId, text: &str) -> bool {
        let name = name_of(tenant.as_str());
        let body = json!({"SecretId": name, "SecretString": text});
        if self
            .moto
            .secrets_manager(REGION, "PutSecretValue", &body)
            .await
            .is_err()
        {
            create(&self.moto, &name, text).await;
        }
        true
    }

    async fn put_strays(&self) -> bool {
        for name in [
            "/tenantry/test/UPPER/database",
            "/tenantry/test/a/b/database",
            "/tenantry/test/x/other",
            "/tenantry/test//database",
            "/tenantry/test2/y/database",
            "tenantry/test/z/database",
        ] {
            create(&self.moto, name, "{}").await;
        }
        true
    }

    async fn break_it(&self) -> bool {
        self.moto.stop().await.unwrap();
        true
    }

    async fn misbehaving(&self, how: Misbehaviour) -> Option<Arc<dyn SecretProvider>> {
        let stub = HttpStub::start(move |request| match how {
            Misbehaviour::Throttles => {
                let answer = StubAnswer::json("400 Bad Request", r#"{"__type": "ThrottlingException"}"#);
                answer.with_headers("Retry-After: 7\r\n")
            }
            Misbehaviour::CutsPages if !request.contains("NextToken") => {
                let name = name_of("tenant1");
                StubAnswer::json(
                    "200 OK",
                    json!({"SecretList": [{"Name": name}], "NextToken": "2"}).to_string(),
                )
            }
            _ => StubAnswer::json("200 OK", json!({"SecretString": CANARY, "SecretList": []}).to_string()).cut(),
        });
        let stub = Box::leak(Box::new(stub.await.unwrap()));
        Some(Arc::new(build(&stub.url()).await))
    }
}

#[tokio::test]
async fn it_is_a_provider() {
    check(&Fixture::new().await).await;
}

#[tokio::test]
async fn the_example_builds() {
    let mut registry = Registry::new();
    registry.provider::<AwsSecretsManagerProvider>();
    let mapping = serde_saphyr::from_str(AwsSecretsManagerProvider::EXAMPLE).unwrap();
    let context = BuildContext::for_tests(Registry::new());
    assert!(registry.build_provider(mapping, &context).await.is_ok());
}

#[tokio::test]
async fn a_secret_that_waits_for_its_deletion_is_not_found() {
    let Fixture { moto, provider } = Fixture::new().await;
    create(&moto, &name_of("tenant1"), "{}").await;
    provider.fetch(&id("tenant1")).await.unwrap();
    let body = json!({"SecretId": name_of("tenant1"), "RecoveryWindowInDays": 7});
    moto.secrets_manager(REGION, "DeleteSecret", &body).await.unwrap();
    let error = provider.fetch(&id("tenant1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::NotFound), "{error:?}");
    assert_eq!(provider.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_binary_secret_is_read() {
    let Fixture { moto, provider } = Fixture::new().await;
    // The bytes of `{"password": "p"}`, and of 0xFF 0xFE.
    for (tenant, base64) in [("tenant1", "eyJwYXNzd29yZCI6ICJwIn0="), ("tenant2", "//4=")] {
        let body = json!({"Name": name_of(tenant), "SecretBinary": base64});
        moto.secrets_manager(REGION, "CreateSecret", &body).await.unwrap();
    }
    let document = provider.fetch(&id("tenant1")).await.unwrap();
    assert_eq!(*document.value.expose(), json!({"password": "p"}));
    let error = provider.fetch(&id("tenant2")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn what_rds_manages_is_completed_from_the_defaults() {
    let moto = MotoServer::start().await.unwrap();
    let defaults = json!({"engine": "aurora-postgresql", "host": "db.example", "port": 5432, "dbname": "app"});
    let config = json!({"endpoint_url": moto.endpoint_url(), "defaults": defaults});
    let provider = try_build(&sdk(), config).await.unwrap();
    create(&moto, &name_of("tenant1"), r#"{"username": "u", "password": "p"}"#).await;
    let document = provider.fetch(&id("tenant1")).await.unwrap();
    let config = DatabaseConfig::parse(&document.value).unwrap();
    assert_eq!(
        (config.host.as_deref(), config.database.as_deref()),
        (Some("db.example"), Some("app"))
    );
    assert_eq!(config.username.as_deref(), Some("u"));
}

#[tokio::test]
async fn the_version_is_that_of_aws() {
    let Fixture { moto, provider } = Fixture::new().await;
    let mut answers = vec![create(&moto, &name_of("tenant1"), "postgres://u:one@h/d").await];
    let first = provider.fetch(&id("tenant1")).await.unwrap();
    let body = json!({"SecretId": name_of("tenant1"), "SecretString": "postgres://u:two@h/d"});
    answers.push(moto.secrets_manager(REGION, "PutSecretValue", &body).await.unwrap());
    let second = provider.fetch(&id("tenant1")).await.unwrap();
    assert_eq!(*second.value.expose(), json!({"url": "postgres://u:two@h/d"}));
    assert_eq!(answers[0]["VersionId"], first.version.as_str());
    assert_eq!(answers[1]["VersionId"], second.version.as_str());
    assert_ne!(first.version, second.version);
}

#[tokio::test]
async fn the_list_goes_over_all_pages() {
    let Fixture { moto, provider } = Fixture::new().await;
    for number in 0..230 {
        create(&moto, &name_of(&format!("tenant{number:03}")), "{}").await;
    }
    let listed: Vec<String> = provider.list().await.unwrap().iter().map(ToString::to_string).collect();
    let expected: Vec<String> = (0..230).map(|number| format!("tenant{number:03}")).collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_in_time() {
    // It takes connections, and nobody ever reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = build(&format!("http://{}", listener.local_addr().unwrap())).await;
    let begun = Instant::now();
    let error = provider.fetch(&id("tenant1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    let error = provider.list().await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
    assert!(begun.elapsed() < IN_TIME * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_role_is_assumed_where_sts_is() {
    let moto = MotoServer::start().await.unwrap();
    create(&moto, &name_of("tenant1"), "{}").await;
    let config = json!({"endpoint_url": moto.endpoint_url(), "role_arn": "arn:aws:iam::123456789012:role/tenantry"});
    let error = try_build(&sdk(), config.clone()).await.unwrap_err();
    assert_eq!(error.path, ["role_arn"]);
    let loaded = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .load()
        .await;
    let sts_at = |endpoint: String| {
        let sdk = sdk().to_builder().endpoint_url(endpoint);
        sdk.time_source(loaded.time_source().unwrap()).build()
    };
    let sts_here = sts_at(moto.endpoint_url());
    let provider = try_build(&sts_here, config.clone()).await.unwrap();
    provider.fetch(&id("tenant1")).await.unwrap();
    let nowhere = format!("http://127.0.0.1:{}", tenantry_test_support::free_port().unwrap());
    let sts_gone = sts_at(nowhere);
    let provider = try_build(&sts_gone, config).await.unwrap();
    let error = provider.fetch(&id("tenant1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
}

async fn fails_with(status: &str, headers: &str, body: &str) -> ProviderError {
    let (status, headers, body) = (status.to_owned(), headers.to_owned(), body.to_owned());
    let stub = HttpStub::start(move |_| StubAnswer::json(&status, body.as_str()).with_headers(&headers));
    let stub = stub.await.unwrap();
    let provider = build(&stub.url()).await;
    let error = provider.fetch(&id("tenant1")).await.unwrap_err();
    let listed = provider.list().await;
    let told = format!("{error} {error:?} {listed:?}");
    assert!(!told.contains(CANARY), "{told}");
    error
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    let body = |code: &str| json!({"__type": code, "Message": "why"}).to_string();
    let cases = [
        ("400 Bad Request", body("AccessDeniedException"), "denied"),
        ("400 Bad Request", body("UnrecognizedClientException"), "denied"),
        ("400 Bad Request", body("ExpiredTokenException"), "denied"),
        ("400 Bad Request", body("DecryptionFailure"), "denied"),
        ("400 Bad Request", body("InvalidParameterException"), "denied"),
        ("400 Bad Request", body("InvalidRequestException"), "denied"),
        ("403 Forbidden", "<html>".to_owned(), "denied"),
        ("400 Bad Request", body("ResourceNotFoundException"), "not_found"),
        ("400 Bad Request", body("ThrottlingException"), "throttled"),
        ("429 Too Many Requests", "{}".to_owned(), "throttled"),
        ("400 Bad Request", body("RequestTimeout"), "unavailable"),
        ("400 Bad Request", body("RequestTimeoutException"), "unavailable"),
        ("408 Request Timeout", body("Whatever"), "unavailable"),
        ("500 Internal Server Error", body("InternalServiceError"), "unavailable"),
        ("503 Service Unavailable", "<html>".to_owned(), "unavailable"),
        ("404 Not Found", "<html>no such host</html>".to_owned(), "unavailable"),
    ];
    // All at once: those that are tried again wait in between.
    let tasks = cases.into_iter().map(|(status, body, kind)| {
        tokio::spawn(async move {
            let error = fails_with(status, "", &body).await;
            assert_eq!(error.kind(), kind, "{status} {body}: {error:?}");
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn how_long_to_wait_is_told() {
    let body = r#"{"__type": "ThrottlingException"}"#;
    let error = fails_with("400 Bad Request", "Retry-After: 7\r\n", body).await;
    let expected = Some(Duration::from_secs(7));
    assert!(
        matches!(error, ProviderError::Throttled { retry_after, .. } if retry_after == expected),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_repeated() {
    for body in [
        format!(r#"{{"Name": "n", "SecretString": "{CANARY}"#),
        format!(r#"{{"SecretString": {CANARY}}}"#),
        format!(r#"{{"SecretString": ["{CANARY}"]}}"#),
        CANARY.to_owned(),
    ] {
        let error = fails_with("200 OK", "", &body).await;
        assert_eq!(error.kind(), "unavailable", "{error:?}");
    }
}

#[derive(Debug)]
struct NoCredentials(fn() -> CredentialsError);

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let result: provider::Result = Err((self.0)());
        future::ProvideCredentials::ready(result)
    }
}

#[tokio::test]
async fn missing_credentials_are_denied_and_an_outage_is_not() {
    type Fail = fn() -> CredentialsError;
    let cases: [(Fail, &str); 5] = [
        (|| CredentialsError::not_loaded("none in the chain"), "denied"),
        (|| CredentialsError::invalid_configuration("no such profile"), "denied"),
        (
            || CredentialsError::provider_error("AccessDenied: not authorized to assume"),
            "denied",
        ),
        (|| CredentialsError::provider_error("connection refused"), "unavailable"),
        (
            || CredentialsError::provider_timed_out(Duration::from_secs(5)),
            "unavailable",
        ),
    ];
    for (error, kind) in cases {
        let provider = try_build(&sdk_with(NoCredentials(error)), json!({})).await.unwrap();
        let fetched = provider.fetch(&id("tenant1")).await.unwrap_err();
        assert_eq!(fetched.kind(), kind, "{fetched:?}");
    }
}

#[tokio::test]
async fn a_key_that_can_never_work_stops_the_start() {
    let cases = [
        (json!({"region": ""}), "region"),
        (json!({"endpoint_url": "localhost:5000"}), "endpoint_url"),
        (json!({"endpoint_url": "ftp://h"}), "endpoint_url"),
        (json!({"endpoint_url": "http://user:canary@h"}), "endpoint_url"),
        (json!({"prefix": "/"}), "prefix"),
        (json!({"prefix": "/a b"}), "prefix"),
        (json!({"prefix": format!("/{}", "a".repeat(500))}), "prefix"),
        (json!({"role_arn": "tenantry"}), "role_arn"),
        (
            json!({"role_arn": "arn:aws:iam::123456789012:user/tenantry"}),
            "role_arn",
        ),
    ];
    for (config, key) in cases {
        let error = try_build(&sdk(), config.clone()).await.unwrap_err();
        assert_eq!(error.path, [key], "{config}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    let nowhere = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    assert_eq!(try_build(&nowhere, json!({})).await.unwrap_err().path, ["region"]);
}

#[tokio::test]
async fn defaults_that_are_no_mapping_are_not_repeated() {
    let mut registry = Registry::new();
    registry.provider::<AwsSecretsManagerProvider>();
    let mapping = json!({"type": "aws-secrets-manager", "region": REGION, "defaults": [CANARY]});
    let context = BuildContext::for_tests(Registry::new());
    let error = registry.build_provider(mapping, &context).await.err().unwrap();
    assert_eq!(error.path, ["defaults"]);
    assert!(!format!("{error} {error:?}").contains(CANARY));
    let config: Config = serde_json::from_value(json!({"defaults": {"password": CANARY}})).unwrap();
    assert!(!format!("{config:?}").contains(CANARY));
}
