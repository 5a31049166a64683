//! The credentials of a profile.

use aws_config::{
    SdkConfig,
    meta::credentials::CredentialsProviderChain,
    profile::{self, ProfileFileCredentialsProvider},
    provider_config::ProviderConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};

/// `sdk` with the credentials of a profile first. By itself the SDK takes the environment's
/// credentials before those of a profile. The usual sources count for a profile that has none, and
/// not for one that does not exist: its name may be misspelt.
pub(super) async fn prefer(sdk: SdkConfig, profile: &str) -> SdkConfig {
    let usual = sdk.credentials_provider();
    let usual = if exists(profile).await { usual } else { None };
    // The region is that of STS, which a profile with a role needs.
    let settings = ProviderConfig::without_region()
        .with_region(sdk.region().cloned())
        .with_use_fips(sdk.use_fips())
        .with_use_dual_stack(sdk.use_dual_stack());
    let profile = ProfileFileCredentialsProvider::builder()
        .profile_name(profile)
        .configure(&settings)
        .build();
    let mut credentials = CredentialsProviderChain::first_try("Profile", profile);
    if let Some(usual) = usual {
        credentials = credentials.or_else("Default", usual);
    }
    let credentials = SharedCredentialsProvider::new(credentials);
    sdk.into_builder().credentials_provider(credentials).build()
}

async fn exists(profile: &str) -> bool {
    let (files, name) = (EnvConfigFiles::default(), profile.to_owned().into());
    let found = profile::load(&Fs::real(), &Env::real(), &files, Some(name)).await;
    found.is_ok_and(|found| found.get_profile(profile).is_some())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use aws_config::SdkConfig;
    use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
    use tenantry_test_support::MotoServer;

    use super::super::{Settings, load};

    /// Says which profile the test is to load in its own process.
    const PROFILE: &str = "TENANTRY_TEST_AWS_PROFILE";

    const FILE: &str = "\
[profile keys]
region = eu-central-1
aws_access_key_id = AKIDPROFILE
aws_secret_access_key = key

[profile role]
region = eu-central-1
role_arn = arn:aws:iam::123456789012:role/tenantry
source_profile = keys

[profile web]
region = eu-central-1
role_arn = arn:aws:iam::123456789012:role/tenantry
web_identity_token_file = {token}

[profile region]
region = eu-west-3
";

    async fn loaded(profile: String) -> (SdkConfig, Credentials) {
        let mut settings = Settings {
            profile: Some(profile),
            ..Settings::default()
        };
        let sdk = load(&mut settings, "AWS_ENDPOINT_URL_SSM").await.unwrap();
        let credentials = sdk.credentials_provider().unwrap();
        let credentials = credentials.provide_credentials().await.unwrap();
        (sdk, credentials)
    }

    #[tokio::test]
    async fn a_profile_s_credentials_go_before_those_of_the_environment() {
        if let Ok(profile) = std::env::var(PROFILE) {
            let (sdk, credentials) = loaded(profile.clone()).await;
            let key = credentials.access_key_id();
            match profile.as_str() {
                "keys" => assert_eq!(key, "AKIDPROFILE"),
                "region" => assert_eq!(key, "AKIDENVIRONMENT"),
                // From STS.
                _ => assert!(key.starts_with("ASIA"), "{key}"),
            }
            let region = if profile == "region" {
                "eu-west-3"
            } else {
                "eu-central-1"
            };
            assert_eq!(sdk.region().unwrap().as_ref(), region);
            return;
        }
        let moto = MotoServer::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("config"), folder.path().join("token"));
        std::fs::write(&file, FILE.replace("{token}", token.to_str().unwrap())).unwrap();
        std::fs::write(&token, "token").unwrap();
        for profile in ["keys", "role", "web", "region"] {
            let mut again = Command::new(std::env::current_exe().unwrap());
            again
                .args([
                    "--exact",
                    "aws::profile::tests::a_profile_s_credentials_go_before_those_of_the_environment",
                ])
                .env(PROFILE, profile)
                .env("AWS_CONFIG_FILE", &file)
                .env("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("none"))
                .env("AWS_EC2_METADATA_DISABLED", "true")
                .env("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT")
                .env("AWS_SECRET_ACCESS_KEY", "key")
                .env("AWS_ENDPOINT_URL_STS", moto.endpoint_url());
            for name in ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"] {
                again.env_remove(name);
            }
            // A process cannot set its own environment safely, so the test runs itself again.
            let ran = tokio::task::spawn_blocking(move || again.output())
                .await
                .unwrap()
                .unwrap();
            let told = String::from_utf8_lossy(&ran.stdout);
            assert!(ran.status.success() && told.contains("1 passed"), "{profile}: {told}");
        }
    }
}
