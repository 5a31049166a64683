use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use serde_json::{Value, json};
use tenantry_core::{
    Registry,
    conformance::provider::{CANARY, Misbehaviour, ProviderFixture, check},
};
use tenantry_test_support::{HttpStub, MotoServer, StubAnswer};
use tokio::net::TcpListener;

use super::*;

const REGION: &str = "eu-central-1";
/// An operation may take its whole time-out, and the machine that tests run on some more.
const IN_TIME: Duration = Duration::from_secs(8);

fn sdk() -> SdkConfig {
    let credentials = Credentials::new("AKIDTEST", "key-4be1", Some("token-4be1".to_owned()), None, "tests");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

async fn try_build(config: Value) -> Result<AwsSsmProvider, BuildError> {
    let config = serde_json::from_value(config).unwrap();
    AwsSsmProvider::with_sdk_config(&sdk(), config, &BuildContext::for_tests(Registry::new())).await
}

async fn build(endpoint_url: &str) -> AwsSsmProvider {
    try_build(json!({"endpoint_url": endpoint_url})).await.unwrap()
}

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn name_of(tenant: &str) -> String {
    format!("/tenantry/test/{tenant}/database")
}

async fn put(moto: &MotoServer, name: &str, kind: &str, text: &str) {
    let body = json!({"Name": name, "Type": kind, "Value": text, "Overwrite": true});
    moto.systems_manager(REGION, "PutParameter", &body).await.unwrap();
}

struct Fixture {
    moto: MotoServer,
    provider: Arc<AwsSsmProvider>,
}

impl Fixture {
    async fn new() -> Self {
        let moto = MotoServer::start().await.unwrap();
        // Its first answer of this service takes it some seconds.
        put(&moto, "/first", "String", "answer").await;
        let provider = Arc::new(build(&moto.endpoint_url()).await);
        Self { moto, provider }
    }
}

#[async_trait]
impl ProviderFixture for Fixture {
    async fn provider(&self) -> Arc<dyn SecretProvider> {
        self.provider.clone()
    }

    async fn put(&self, tenant: &TenantId, secret: &Value) {
        self.put_text(tenant, &secret.to_string()).await;
    }

    async fn remove(&self, tenant: &TenantId) {
        let body = json!({"Name": name_of(tenant.as_str())});
        self.moto
            .systems_manager(REGION, "DeleteParameter", &body)
            .await
            .unwrap();
    }

    async fn put_text(&self, tenant: &TenantId, text: &str) -> bool {
        put(&self.moto, &name_of(tenant.as_str()), "SecureString", text).await;
        true
    }

    async fn put_strays(&self) -> bool {
        for name in [
            "/tenantry/test/UPPER/database",
            "/tenantry/test/a/b/database",
            "/tenantry/test/x/other",
            "/tenantry/test2/y/database",
        ] {
            put(&self.moto, name, "SecureString", "{}").await;
        }
        put(&self.moto, "/tenantry/test/plain/database", "String", "{}").await;
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
                    json!({"Parameters": [{"Name": name}], "NextToken": "2"}).to_string(),
                )
            }
            _ => {
                let parameter = json!({"Type": "SecureString", "Value": CANARY, "Version": 1});
                StubAnswer::json("200 OK", json!({"Parameter": parameter, "Parameters": []}).to_string()).cut()
            }
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
    registry.provider::<AwsSsmProvider>();
    let mapping = serde_saphyr::from_str(AwsSsmProvider::EXAMPLE).unwrap();
    let context = BuildContext::for_tests(Registry::new());
    assert!(registry.build_provider(mapping, &context).await.is_ok());
}

#[tokio::test]
async fn a_parameter_that_is_not_encrypted_is_no_secret() {
    let Fixture { moto, provider } = Fixture::new().await;
    put(&moto, &name_of("tenant1"), "String", r#"{"password": "canary"}"#).await;
    let error = provider.fetch(&id("tenant1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Invalid { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn the_version_is_that_of_aws_and_of_its_time() {
    let Fixture { moto, provider } = Fixture::new().await;
    for (number, url) in [(1, "postgres://u:one@h/d"), (2, "postgres://u:two@h/d")] {
        put(&moto, &name_of("tenant1"), "SecureString", url).await;
        let document = provider.fetch(&id("tenant1")).await.unwrap();
        assert_eq!(*document.value.expose(), json!({"url": url}));
        assert!(
            document.version.as_str().starts_with(&format!("{number} of ")),
            "{}",
            document.version
        );
    }
}

#[tokio::test]
async fn the_list_goes_over_all_pages() {
    let Fixture { moto, provider } = Fixture::new().await;
    let expected: Vec<String> = (0..120).map(|number| format!("tenant{number:03}")).collect();
    for tenant in &expected {
        put(&moto, &name_of(tenant), "SecureString", "{}").await;
    }
    let listed: Vec<String> = provider.list().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_in_time() {
    // It takes connections, and never reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = build(&format!("http://{}", listener.local_addr().unwrap())).await;
    let begun = Instant::now();
    let error = provider.fetch(&id("tenant1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    let cases = [
        ("400 Bad Request", "AccessDeniedException", "denied"),
        ("400 Bad Request", "UnrecognizedClientException", "denied"),
        ("400 Bad Request", "InvalidKeyId", "denied"),
        ("400 Bad Request", "ParameterNotFound", "not_found"),
        ("400 Bad Request", "ThrottlingException", "throttled"),
        ("500 Internal Server Error", "InternalServerError", "unavailable"),
        ("503 Service Unavailable", "", "unavailable"),
    ];
    for (status, code, kind) in cases {
        let body = json!({"__type": code, "Message": "why"}).to_string();
        let stub = HttpStub::start(move |_| StubAnswer::json(status, body.as_str()))
            .await
            .unwrap();
        let error = build(&stub.url()).await.fetch(&id("tenant1")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {code}: {error:?}");
    }
}

#[tokio::test]
async fn a_key_that_can_never_work_stops_the_start() {
    let cases = [
        (json!({"region": ""}), "region"),
        (json!({"endpoint_url": "localhost:5000"}), "endpoint_url"),
        (json!({"prefix": "tenantry"}), "prefix"),
        (json!({"prefix": "/a+b"}), "prefix"),
        (json!({"prefix": format!("/{}", "a".repeat(900))}), "prefix"),
        (json!({"role_arn": "tenantry"}), "role_arn"),
    ];
    for (config, key) in cases {
        let error = try_build(config.clone()).await.unwrap_err();
        assert_eq!(error.path, [key], "{config}");
    }
}
