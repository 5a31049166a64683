//! The provider `aws-secrets-manager` under a log that takes everything, with the switch on by
//! which the SDK logs secrets. A program of its own: what is logged is decided once for a process,
//! and other tests would decide it first.

#![cfg(feature = "aws")]
#![allow(
    clippy::unwrap_used,
    reason = "clippy takes only functions marked as tests for tests"
)]

use std::{
    io::{Result, Write},
    process::Command,
    sync::{Arc, Mutex},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};
use serde_json::json;
use tenantry_core::{BuildContext, Registry, SecretProvider, conformance::provider::CANARY};
use tenantry_providers::{AwsSecretsManagerProvider, aws_secrets_manager::Config};
use tenantry_test_support::MotoServer;
use tracing_subscriber::fmt::format::FmtSpan;

const KEY: &str = "key-4be1";
const TOKEN: &str = "token-4be1";

/// What was logged, whole.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// Makes the SDK log the bodies that it otherwise redacts.
const SWITCH: &str = "LOG_SENSITIVE_BODIES";

#[test]
fn nothing_secret_is_logged_at_trace() {
    if std::env::var_os(SWITCH).is_some_and(|value| value == "true") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.unwrap().block_on(fetch_under_a_log());
    }
    // A process cannot set its own environment safely, so the test runs itself again.
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_secret_is_logged_at_trace", "--nocapture"])
        .env(SWITCH, "true")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success(), "{told}");
    assert!(String::from_utf8_lossy(&again.stdout).contains("1 passed"), "{told}");
}

async fn fetch_under_a_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let moto = MotoServer::start().await.unwrap();
    let credentials = Credentials::new("AKIDTEST", KEY, Some(TOKEN.to_owned()), None, "tests");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(moto.endpoint_url())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let secrets = [
        ("tenant1", json!({"username": "u", "password": CANARY}).to_string()),
        ("tenant2", format!("{CANARY} is no secret")),
    ];
    for (tenant, text) in secrets {
        let body = json!({"Name": format!("/tenantry/test/{tenant}/database"), "SecretString": text});
        moto.secrets_manager("eu-central-1", "CreateSecret", &body)
            .await
            .unwrap();
    }

    // The SDK left to itself: the log is on, and there is something to silence.
    log.take();
    let unsilenced = aws_sdk_secretsmanager::Client::new(&sdk);
    unsilenced
        .get_secret_value()
        .secret_id("/tenantry/test/tenant1/database")
        .send()
        .await
        .unwrap();
    let logged = log.take();
    assert!(logged.contains(CANARY), "{logged}");

    let context = BuildContext::for_tests(Registry::new());
    let provider = AwsSecretsManagerProvider::with_sdk_config(&sdk, Config::default(), &context)
        .await
        .unwrap();
    let fetch = async |tenant: &str| provider.fetch(&tenant.parse().unwrap()).await;
    fetch("tenant1").await.unwrap();
    fetch("tenant2").await.unwrap_err();
    fetch("tenant3").await.unwrap_err();
    provider.list().await.unwrap();
    moto.stop().await.unwrap();
    fetch("tenant1").await.unwrap_err();
    let logged = log.take();
    for canary in [CANARY, KEY, TOKEN] {
        assert!(!logged.contains(canary), "{logged}");
    }
}
