use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tenantry_core::{
    DatabaseConfig, Registry,
    conformance::provider::{CANARY, LeaseFixture, Misbehaviour, ProviderFixture, check, check_leases},
};
use tenantry_test_support::{HttpStub, OpenBaoServer, PostgresServer, StubAnswer};
use tokio::{
    net::TcpListener,
    sync::OnceCell,
    time::{sleep, timeout},
};

use super::*;

/// A call may take its whole time-out, and the machine that tests run on some more.
const IN_TIME: Duration = Duration::from_secs(8);

/// The one OpenBao of these tests. Each has its own names in it.
async fn bao() -> &'static OpenBaoServer {
    static SHARED: OnceCell<OpenBaoServer> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async { OpenBaoServer::start().await.unwrap() })
        .await
}

async fn try_build(config: Value) -> Result<VaultProvider, BuildError> {
    let config = serde_json::from_value(config).unwrap();
    VaultProvider::build(config, &BuildContext::for_tests(Registry::new())).await
}

async fn build(config: Value) -> VaultProvider {
    try_build(config).await.unwrap()
}

/// With the root token.
fn rooted(bao: &OpenBaoServer, more: Value) -> Value {
    let mut config = json!({
        "address": bao.address(),
        "auth": {"method": "token", "token": bao.root_token()},
    });
    let more = more.as_object().cloned().unwrap_or_default();
    config.as_object_mut().unwrap().extend(more);
    config
}

/// An AppRole with this policy, whose tokens last so long, and the provider's `auth` for it.
async fn approle(bao: &OpenBaoServer, name: &str, policy: &str, ttl: &str, max_ttl: &str) -> Value {
    // It may be there already.
    drop(bao.post("sys/auth/approle", &json!({"type": "approle"})).await);
    bao.add_policy(name, policy).await.unwrap();
    let role = format!("auth/approle/role/{name}");
    let body = json!({"token_policies": [name], "token_ttl": ttl, "token_max_ttl": max_ttl});
    bao.post(&role, &body).await.unwrap();
    let id = bao.call("GET", &format!("{role}/role-id"), &Value::Null).await.unwrap();
    let secret = bao.post(&format!("{role}/secret-id"), &json!({})).await.unwrap();
    json!({
        "method": "approle", "role_id": id["data"]["role_id"], "secret_id": secret["data"]["secret_id"],
    })
}

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// The policy of this provider's documentation, with these names in place of its own.
fn documented_policy(kv: &str, role: &str) -> String {
    let source = include_str!("mod.rs");
    let policy = source
        .split("//! ```hcl\n")
        .nth(1)
        .unwrap()
        .split("//! ```")
        .next()
        .unwrap();
    let policy = policy.replace("//! ", "").replace("tenantry/production", kv);
    policy.replace("tenantry-*", &format!("{role}-*"))
}

struct KvFixture {
    bao: OpenBaoServer,
    provider: Arc<VaultProvider>,
    leaf: &'static str,
}

impl KvFixture {
    async fn new(leaf: &'static str) -> Self {
        let bao = OpenBaoServer::start().await.unwrap();
        let path = format!("tenantry/{{environment}}/{{tenant}}{leaf}");
        let provider = build(rooted(&bao, json!({"kv": {"path": path}}))).await;
        Self {
            bao,
            provider: Arc::new(provider),
            leaf,
        }
    }
}

#[async_trait]
impl ProviderFixture for KvFixture {
    async fn provider(&self) -> Arc<dyn SecretProvider> {
        self.provider.clone()
    }

    async fn put(&self, tenant: &TenantId, secret: &Value) {
        let path = format!("tenantry/test/{tenant}{}", self.leaf);
        self.bao.put_secret(&path, secret).await.unwrap();
    }

    async fn remove(&self, tenant: &TenantId) {
        let path = format!("secret/metadata/tenantry/test/{tenant}{}", self.leaf);
        self.bao.call("DELETE", &path, &Value::Null).await.unwrap();
    }

    async fn put_strays(&self) -> bool {
        for path in ["UPPER", "x.y", "folder/x", "..data", "a/b/database", "stray/other"] {
            let path = format!("tenantry/test/{path}");
            self.bao.put_secret(&path, &json!({"a": "b"})).await.unwrap();
        }
        true
    }

    async fn break_it(&self) -> bool {
        self.bao.stop().await.unwrap();
        true
    }

    async fn misbehaving(&self, how: Misbehaviour) -> Option<Arc<dyn SecretProvider>> {
        let stub = stub(move |request| match how {
            _ if request.contains("lookup-self") => looked_up(),
            Misbehaviour::Throttles => {
                let answer = StubAnswer::json("429 Too Many Requests", r#"{"errors":["request path: rate limit"]}"#);
                answer.with_headers("Retry-After: 7\r\n")
            }
            _ => {
                let body = format!(r#"{{"data":{{"data":{{"password":"{CANARY}"}}, "keys":["tenant1","tenant2"]}}}}"#);
                StubAnswer::json("200 OK", body).cut()
            }
        });
        // Lists have no pages.
        (how != Misbehaviour::CutsPages).then_some(())?;
        Some(Arc::new(stub.await))
    }
}

fn looked_up() -> StubAnswer {
    StubAnswer::json("200 OK", r#"{"data":{"ttl":0,"renewable":false}}"#)
}

fn forbidden() -> StubAnswer {
    StubAnswer::json("403 Forbidden", r#"{"errors":["permission denied"]}"#)
}

/// A user of a dynamic role.
fn user() -> StubAnswer {
    let body = r#"{"lease_id":"database/creds/t1/x","lease_duration":60,"renewable":true,
        "data":{"username":"u","password":"p"}}"#;
    StubAnswer::json("200 OK", body)
}

/// A provider of KV 2 secrets over a stub that lives as long as the test process.
async fn stub(answer: impl Fn(&str) -> StubAnswer + Send + Sync + 'static) -> VaultProvider {
    let stub = Box::leak(Box::new(HttpStub::start(answer).await.unwrap()));
    build(json!({
        "address": stub.url(), "auth": {"method": "token", "token": format!("{CANARY}-token")},
        "kv": {"path": "{tenant}"},
    }))
    .await
}

#[tokio::test]
async fn its_stored_secrets_are_a_provider() {
    check(&KvFixture::new("").await).await;
}

#[tokio::test]
async fn its_stored_secrets_in_folders_are_a_provider() {
    check(&KvFixture::new("/database").await).await;
}

/// Users of a dynamic role, by a login that has no more than the documented policy.
struct UserFixture {
    provider: Arc<VaultProvider>,
    group: String,
}

impl UserFixture {
    async fn new(name: &str) -> Self {
        let (bao, postgres) = (bao().await, PostgresServer::shared().await);
        let group = postgres.create_tenant(name).await.unwrap().user;
        bao.add_postgres(name, postgres).await.unwrap();
        let auth = approle(bao, name, &documented_policy(name, name), "1h", "1h").await;
        let config = json!({
            "address": bao.address(), "auth": auth,
            "database": {"role": format!("{name}-{{tenant}}")},
            "defaults": {"type": "postgresql", "host": "db.example", "database": "{tenant}-{environment}"},
        });
        Self {
            provider: Arc::new(build(config).await),
            group,
        }
    }

    async fn add(&self, name: &str, tenant: &str, ttl: &str, max_ttl: &str) {
        let role = format!("{name}-{tenant}");
        bao()
            .await
            .add_role(&role, name, &self.group, ttl, max_ttl)
            .await
            .unwrap();
    }
}

#[async_trait]
impl LeaseFixture for UserFixture {
    async fn provider(&self) -> Arc<dyn SecretProvider> {
        self.provider.clone()
    }

    async fn put(&self, tenant: &TenantId) {
        self.add("leases", tenant.as_str(), "60s", "1h").await;
    }

    async fn is_there(&self, lease: &Lease) -> bool {
        let body = json!({"lease_id": &*lease.id});
        bao().await.post("sys/leases/lookup", &body).await.is_ok()
    }
}

/// Waits for what OpenBao does by itself.
async fn soon(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + IN_TIME;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn its_users_have_leases() {
    check_leases(&UserFixture::new("leases").await).await;
}

#[tokio::test]
async fn users_are_completed_and_listed() {
    let fixture = UserFixture::new("users").await;
    let provider = &fixture.provider;
    assert_eq!(provider.list().await.unwrap(), []);
    fixture.add("users", "t1", "1h", "2h").await;
    let document = provider.fetch(&id("t1")).await.unwrap();
    let config = DatabaseConfig::parse(&document.value).unwrap();
    assert_eq!(
        (config.host.as_deref(), config.database.as_deref()),
        (Some("db.example"), Some("t1-test"))
    );
    let user = config.username.unwrap();
    let sql = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{user}'");
    let postgres = PostgresServer::shared().await;
    assert_eq!(postgres.psql("postgres", &sql).await.unwrap().trim(), "1");
    provider.release(document.lease.unwrap()).await.unwrap();
    soon("the user is dropped", async || {
        postgres.psql("postgres", &sql).await.unwrap().trim() == "0"
    })
    .await;
    assert_eq!(provider.list().await.unwrap(), [id("t1")]);
    let error = provider.fetch(&id("t2")).await.unwrap_err();
    assert!(matches!(error, ProviderError::NotFound), "{error:?}");
}

#[tokio::test]
async fn a_static_role_s_password_is_read_after_its_rotation() {
    let fixture = UserFixture::new("static").await;
    let (bao, postgres) = (bao().await, PostgresServer::shared().await);
    let owner = postgres.create_tenant("rotated").await.unwrap();
    let body = json!({"db_name": "static", "username": owner.user, "rotation_period": "5s"});
    bao.post("database/static-roles/static-t1", &body).await.unwrap();
    let provider = &fixture.provider;
    assert_eq!(provider.list().await.unwrap(), [id("t1")]);
    let first = provider.fetch(&id("t1")).await.unwrap();
    assert!(first.lease.is_none());
    let changes_in = first.changes_in.unwrap();
    assert!(changes_in <= Duration::from_secs(6), "{changes_in:?}");
    let again = provider.fetch(&id("t1")).await.unwrap();
    assert_eq!(first.version, again.version);
    sleep(changes_in).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let second = loop {
        let second = provider.fetch(&id("t1")).await.unwrap();
        if second.version != first.version {
            break second;
        }
        assert!(Instant::now() < deadline, "it is not rotated");
        sleep(Duration::from_millis(500)).await;
    };
    let password = |document: &SecretDocument| document.value.expose()["password"].clone();
    assert_ne!(password(&first), password(&second));
}

#[tokio::test]
async fn a_stored_secret_completes_a_user() {
    let fixture = UserFixture::new("both").await;
    let bao = bao().await;
    for tenant in ["t1", "t2"] {
        fixture.add("both", tenant, "1h", "2h").await;
    }
    let stored = json!({"type": "postgresql", "host": "kv.example", "username": "other", "password": "other"});
    for tenant in ["t1", "t3"] {
        bao.put_secret(&format!("both/{tenant}"), &stored).await.unwrap();
    }
    let auth = approle(bao, "both", &documented_policy("both", "both"), "1h", "1h").await;
    let config = json!({
        "address": bao.address(), "auth": auth, "kv": {"path": "both/{tenant}"},
        "database": {"role": "both-{tenant}"}, "defaults": {"host": "other", "database": "{tenant}"},
    });
    let provider = build(config).await;
    assert_eq!(provider.list().await.unwrap(), [id("t1")]);
    let document = provider.fetch(&id("t1")).await.unwrap();
    let value = document.value.expose();
    assert_eq!(
        (&value["host"], &value["database"]),
        (&json!("kv.example"), &json!("t1"))
    );
    assert!(
        value["username"].as_str().unwrap().starts_with("v-approle-both-t1"),
        "{value}"
    );
    for tenant in ["t2", "t3"] {
        let error = provider.fetch(&id(tenant)).await.unwrap_err();
        assert!(matches!(error, ProviderError::NotFound), "{tenant}: {error:?}");
    }
}

#[tokio::test]
async fn the_token_is_renewed_first_and_replaced_at_its_maximum() {
    let fixture = UserFixture::new("renewal").await;
    fixture.add("renewal", "t1", "1h", "2h").await;
    let bao = bao().await;
    let auth = approle(bao, "renewal", &documented_policy("renewal", "renewal"), "6s", "14s").await;
    let config = json!({"address": bao.address(), "auth": auth, "database": {"role": "renewal-{tenant}"}});
    let provider = build(config).await;
    let lease = provider.fetch(&id("t1")).await.unwrap().lease.unwrap();
    // The lease ends with the token, whatever it says itself.
    let (short, long) = (Duration::from_secs(4), Duration::from_secs(6));
    assert!(lease.duration > short && lease.duration <= long, "{:?}", lease.duration);
    for pause in [3, 4] {
        sleep(Duration::from_secs(pause)).await;
        let granted = provider.renew(&lease).await.unwrap();
        assert!(granted > short && granted <= long, "{granted:?}");
    }
    sleep(Duration::from_secs(3)).await;
    let refused = provider.renew(&lease).await;
    assert!(matches!(refused, Err(ProviderError::Denied(_))), "{refused:?}");
    // The login before is as good as before to its end, and so is its user.
    let lookup = json!({"lease_id": &*lease.id});
    bao.post("sys/leases/lookup", &lookup).await.unwrap();
    let second = provider.fetch(&id("t1")).await.unwrap().lease.unwrap();
    assert_eq!((lease.series, second.series), (1, 2));
    provider.release(lease).await.unwrap();
    soon("the lease is gone", async || {
        bao.post("sys/leases/lookup", &lookup).await.is_err()
    })
    .await;
    assert_eq!(*provider.changes().unwrap().borrow(), 0);
}

#[tokio::test]
async fn after_its_token_was_revoked_it_logs_in_anew_and_says_so() {
    let fixture = UserFixture::new("revoked").await;
    fixture.add("revoked", "t1", "1h", "2h").await;
    let provider = &fixture.provider;
    let lease = provider.fetch(&id("t1")).await.unwrap().lease.unwrap();
    let mut changes = provider.changes().unwrap();
    changes.mark_unchanged();
    let revoke = async || {
        let bao = bao().await;
        let accessors = bao.call("LIST", "auth/token/accessors", &Value::Null).await.unwrap();
        for accessor in accessors["data"]["keys"].as_array().unwrap() {
            let accessor = json!({"accessor": accessor});
            let token = bao.post("auth/token/lookup-accessor", &accessor).await;
            // Other tests' tokens come and go.
            if token.is_ok_and(|token| token["data"]["meta"]["role_name"] == "revoked") {
                bao.post("auth/token/revoke-accessor", &accessor).await.unwrap();
            }
        }
    };
    revoke().await;
    let document = provider.fetch(&id("t1")).await.unwrap();
    assert!(changes.has_changed().unwrap());
    let refused = provider.renew(&lease).await;
    assert!(matches!(refused, Err(ProviderError::Denied(_))), "{refused:?}");
    changes.mark_unchanged();
    // It finds it out though nothing is asked.
    revoke().await;
    timeout(Duration::from_secs(30), changes.changed())
        .await
        .unwrap()
        .unwrap();
    let refused = provider.renew(&document.lease.unwrap()).await;
    assert!(matches!(refused, Err(ProviderError::Denied(_))), "{refused:?}");
}

#[tokio::test]
async fn a_pod_logs_in_by_its_service_account() {
    let bao = bao().await;
    let review = |request: &str| {
        assert!(
            request.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews"),
            "{request}"
        );
        let user = json!({"username": "system:serviceaccount:apps:tenantry", "uid": "uid-1",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:apps", "system:authenticated"]});
        let status = json!({"authenticated": true, "user": user, "audiences": ["vault"]});
        let body = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status});
        StubAnswer::json("201 Created", body.to_string())
    };
    let kubernetes = HttpStub::start(review).await.unwrap();
    bao.post("sys/auth/k8s", &json!({"type": "kubernetes"})).await.unwrap();
    let config = json!({
        "kubernetes_host": kubernetes.url(), "disable_local_ca_jwt": true, "token_reviewer_jwt": "reviewer",
        "kubernetes_ca_cert": bao.certificates().ca_pem,
    });
    bao.post("auth/k8s/config", &config).await.unwrap();
    bao.add_policy("pod", &documented_policy("pod", "pod")).await.unwrap();
    let role = json!({
        "bound_service_account_names": "tenantry", "bound_service_account_namespaces": "apps", "token_policies": ["pod"],
        "audience": "vault",
    });
    bao.post("auth/k8s/role/tenantry", &role).await.unwrap();
    bao.put_secret("pod/t1", &json!({"type": "sqlite"})).await.unwrap();

    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": ["vault"], "exp": 4_000_000_000_u64, "iat": 1, "nbf": 1,
        "sub": "system:serviceaccount:apps:tenantry",
        "kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "tenantry", "uid": "uid-1"}},
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({"alg": "RS256", "typ": "JWT"}));
    let token = format!("{head}.{}.c2lnbmF0dXJl\n", part(&claims));
    let folder = tempfile::tempdir().unwrap();
    let token_path = folder.path().join("token");
    let auth = json!({"method": "kubernetes", "mount": "k8s", "role": "tenantry", "token_path": token_path});
    let provider = build(json!({"address": bao.address(), "auth": auth, "kv": {"path": "pod/{tenant}"}})).await;
    let error = provider.fetch(&id("t1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
    std::fs::write(&token_path, token).unwrap();
    sleep(Duration::from_millis(1_100)).await;
    let document = provider.fetch(&id("t1")).await.unwrap();
    assert_eq!(*document.value.expose(), json!({"type": "sqlite"}));
    assert_eq!(provider.list().await.unwrap(), [id("t1")]);
}

#[tokio::test]
async fn a_namespace_is_asked_and_no_other() {
    let bao = bao().await;
    bao.post("sys/namespaces/team", &json!({})).await.unwrap();
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    bao.post("team/sys/mounts/secret", &kv).await.unwrap();
    bao.put_secret("spaces/t1", &json!({"host": "outside"})).await.unwrap();
    let config = json!({"namespace": "team", "kv": {"path": "spaces/{tenant}"}});
    let provider = build(rooted(bao, config)).await;
    // The mount is upgraded first, which takes a moment.
    let deadline = Instant::now() + IN_TIME;
    let inside = json!({"data": {"host": "inside"}});
    while bao.post("team/secret/data/spaces/t1", &inside).await.is_err() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    }
    let document = provider.fetch(&id("t1")).await.unwrap();
    assert_eq!(document.value.expose()["host"], "inside");
}

#[tokio::test]
async fn its_certificate_must_be_of_the_authority() {
    let bao = bao().await;
    bao.put_secret("tls/t1", &json!({"type": "sqlite"})).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &bao.certificates().ca_pem).unwrap();
    let cases = [
        (json!(bao.certificates().ca_pem), true),
        (json!(file), true),
        (json!(bao.certificates().other_ca_pem), false),
        (Value::Null, false),
    ];
    for (ca, is_good) in cases {
        let config = json!({"address": bao.tls_address(), "ca": ca, "kv": {"path": "tls/{tenant}"}});
        let fetched = build(rooted(bao, config)).await.fetch(&id("t1")).await;
        match fetched {
            Ok(_) => assert!(is_good),
            Err(error) => assert!(!is_good && matches!(error, ProviderError::Unavailable(_)), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_deleted_secret_and_one_of_kv_1_are_told_apart() {
    let bao = bao().await;
    bao.put_secret("deleted/t1", &json!({"type": "sqlite"})).await.unwrap();
    bao.call("DELETE", "secret/data/deleted/t1", &Value::Null)
        .await
        .unwrap();
    let provider = build(rooted(bao, json!({"kv": {"path": "deleted/{tenant}"}}))).await;
    let error = provider.fetch(&id("t1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::NotFound), "{error:?}");
    bao.post("sys/mounts/old", &json!({"type": "kv"})).await.unwrap();
    bao.post("old/data/t1", &json!({"type": "sqlite"})).await.unwrap();
    let provider = build(rooted(bao, json!({"kv": {"mount": "old", "path": "{tenant}"}}))).await;
    let error = provider.fetch(&id("t1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Invalid { .. }), "{error:?}");
    // Nothing of version 2 is at any path there.
    let absent = provider.fetch(&id("t2")).await.map(drop);
    for error in [absent.unwrap_err(), provider.list().await.unwrap_err()] {
        let cause = tenantry_core::Cause(&error).to_string();
        assert!(matches!(error, ProviderError::Denied(_)), "{error:?}");
        assert!(cause.contains("`kv.mount`") && cause.contains("version 1"), "{cause}");
    }
    let provider = build(rooted(bao, json!({"kv": {"mount": "nowhere", "path": "{tenant}"}}))).await;
    let error = provider.fetch(&id("t1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Denied(_)), "{error:?}");
    assert!(provider.list().await.is_err());
}

#[tokio::test]
async fn one_role_for_all_tenants_has_no_list() {
    let fixture = UserFixture::new("shared").await;
    fixture.add("shared", "all", "1h", "2h").await;
    let config = json!({"database": {"role": "shared-all"}, "defaults": {"database": "{tenant}"}});
    let provider = build(rooted(bao().await, config)).await;
    for tenant in ["t1", "t2"] {
        let document = provider.fetch(&id(tenant)).await.unwrap();
        assert_eq!(document.value.expose()["database"], tenant);
        provider.release(document.lease.unwrap()).await.unwrap();
    }
    let listed = provider.list().await;
    assert!(matches!(listed, Err(ProviderError::Denied(_))), "{listed:?}");
    let warnings = provider.warnings();
    assert!(
        warnings.len() == 1 && !warnings[0].contains("the same database"),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn tenants_that_do_not_differ_are_a_warning() {
    let token = json!({"method": "token", "token": "canary"});
    let cases = [
        (json!({"database": {"role": "all"}}), true),
        (
            json!({"database": {"role": "all"}, "defaults": {"database": "one", "tls": {"mode": "require"}}}),
            true,
        ),
        (json!({"database": {"role": "all"}, "kv": {"path": "one"}}), true),
        (json!({"database": {"role": "all"}, "kv": {"path": "{tenant}"}}), false),
        (json!({"database": {"role": "{tenant}"}}), false),
    ];
    for (more, warns) in cases {
        let mut config = json!({"address": "http://127.0.0.1:1", "auth": token});
        let more = more.as_object().cloned().unwrap_or_default();
        config.as_object_mut().unwrap().extend(more);
        let warnings = build(config).await.warnings();
        let is_told = warnings.iter().any(|warning| warning.contains("the same database"));
        assert_eq!(is_told, warns, "{warnings:?}");
    }
}

#[tokio::test]
async fn a_token_in_the_clear_is_a_warning() {
    for (address, expected) in [
        ("http://vault.example.com:8200", 1),
        ("http://10.0.0.7:8200", 1),
        ("https://vault.example.com:8200", 0),
        ("http://localhost:8200", 0),
        ("http://127.0.0.1:8200", 0),
        ("http://[::1]:8200", 0),
        ("http://[::ffff:127.0.0.1]:8200", 0),
        ("http://vault.localhost:8200", 0),
    ] {
        let auth = json!({"method": "token", "token": "t"});
        let provider = build(json!({"address": address, "auth": auth, "kv": {"path": "{tenant}"}})).await;
        assert_eq!(provider.warnings().len(), expected, "{address}");
    }
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    let cases = [
        ("403 Forbidden", r#"{"errors":["permission denied"]}"#, "denied"),
        ("400 Bad Request", r#"{"errors":["bad"]}"#, "denied"),
        ("404 Not Found", r#"{"errors":[]}"#, "not_found"),
        ("404 Not Found", r#"{"errors":["no handler for route"]}"#, "denied"),
        ("404 Not Found", "<html>no such host</html>", "unavailable"),
        ("403 Forbidden", "<html>a proxy</html>", "unavailable"),
        ("412 Precondition Failed", r#"{"errors":["behind"]}"#, "unavailable"),
        ("429 Too Many Requests", "{}", "throttled"),
        ("473 Standby", "{}", "unavailable"),
        ("500 Internal Server Error", r#"{"errors":["it broke"]}"#, "unavailable"),
        (
            "503 Service Unavailable",
            r#"{"errors":["Vault is sealed"]}"#,
            "unavailable",
        ),
        ("307 Temporary Redirect", "", "unavailable"),
        ("200 OK", CANARY, "unavailable"),
        (
            "200 OK",
            r#"{"data":{"data":"canary-6f1c2a9e","metadata":{"version":1,"created_time":"t"}}}"#,
            "invalid",
        ),
    ];
    for (status, body, kind) in cases {
        let provider = stub(move |request| match request.contains("lookup-self") {
            true => looked_up(),
            false => StubAnswer::json(status, body),
        });
        let error = provider.await.fetch(&id("t1")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {body}: {error:?}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
}

#[tokio::test]
async fn a_tenant_is_not_found_if_a_gateway_hides_the_mounts() {
    let statuses = [
        ("403 Forbidden", "not_found"),
        ("404 Not Found", "not_found"),
        ("405 Method Not Allowed", "not_found"),
        ("412 Precondition Failed", "unavailable"),
        ("429 Too Many Requests", "throttled"),
        ("502 Bad Gateway", "unavailable"),
    ];
    for (status, kind) in statuses {
        let provider = stub(move |request| match request {
            _ if request.contains("lookup-self") => looked_up(),
            _ if request.contains("internal/ui/mounts") => StubAnswer::json(status, "<html>no</html>"),
            _ => StubAnswer::json("404 Not Found", r#"{"errors":[]}"#),
        });
        let error = provider.await.fetch(&id("t1")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error:?}");
    }
}

#[tokio::test]
async fn no_mount_is_asked_for_after_a_secret_was_read() {
    let provider = stub(|request| match request {
        _ if request.contains("lookup-self") => looked_up(),
        _ if request.contains("secret/data/t1") => {
            let body = r#"{"data":{"data":{},"metadata":{"version":1,"created_time":"t"}}}"#;
            StubAnswer::json("200 OK", body)
        }
        _ if request.contains("internal/ui/mounts") => StubAnswer::json("502 Bad Gateway", "<html>no</html>"),
        _ => StubAnswer::json("404 Not Found", r#"{"errors":[]}"#),
    })
    .await;
    provider.fetch(&id("t1")).await.unwrap();
    let error = provider.fetch(&id("t2")).await.unwrap_err();
    assert!(matches!(error, ProviderError::NotFound), "{error:?}");
}

#[tokio::test]
async fn logins_that_are_refused_become_rare() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = logins.clone();
    let provider = stub(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        StubAnswer::json("403 Forbidden", r#"{"errors":["permission denied"]}"#)
    })
    .await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let error = provider.fetch(&id("t1")).await.unwrap_err();
        assert!(matches!(error, ProviderError::Denied(_)), "{error:?}");
        sleep(Duration::from_millis(10)).await;
    }
    // At once, after 1 s, and after 2 s more.
    let logins = logins.load(Ordering::SeqCst);
    assert!((1..=3).contains(&logins), "{logins}");
}

#[tokio::test]
async fn that_a_token_was_lost_is_said_after_the_next_login() {
    let is_up = Arc::new(AtomicBool::new(true));
    let up = is_up.clone();
    let answer = move |request: &str| match (up.load(Ordering::SeqCst), request.contains("lookup-self")) {
        (false, _) => StubAnswer::json("403 Forbidden", r#"{"errors":["permission denied"]}"#),
        (true, true) => looked_up(),
        (true, false) => {
            let body = r#"{"lease_id":"database/creds/t1/x","lease_duration":60,"renewable":true,
                "data":{"username":"u","password":"p"}}"#;
            StubAnswer::json("200 OK", body)
        }
    };
    let stub = HttpStub::start(answer).await.unwrap();
    let auth = json!({"method": "token", "token": "t"});
    let config = json!({"address": stub.url(), "auth": auth, "database": {"role": "{tenant}"}});
    let provider = build(config).await;
    let mut changes = provider.changes().unwrap();
    provider.fetch(&id("t1")).await.unwrap();
    changes.mark_unchanged();
    is_up.store(false, Ordering::SeqCst);
    // The token is lost, and the login that follows fails.
    provider.fetch(&id("t1")).await.unwrap_err();
    assert!(!changes.has_changed().unwrap());
    is_up.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(1_100)).await;
    provider.fetch(&id("t1")).await.unwrap();
    assert!(changes.has_changed().unwrap());
}

/// A Vault whose logins may read the role `t1`, and neither look themselves up nor anything else.
struct Narrow {
    _stub: HttpStub,
    provider: VaultProvider,
    logins: Arc<AtomicUsize>,
    /// Logins before this one are lost.
    first_good: Arc<AtomicUsize>,
    /// How many logins were revoked.
    revoked: Arc<AtomicUsize>,
}

impl Narrow {
    async fn new() -> Self {
        Self::lasting(0).await
    }

    /// One whose logins last so many seconds and may be renewed; 0 for ones that do not end.
    async fn lasting(seconds: u64) -> Self {
        let (logins, first_good) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
        let (counted, good) = (logins.clone(), first_good.clone());
        let revoked = Arc::new(AtomicUsize::new(0));
        let revoking = revoked.clone();
        let stub = HttpStub::start(move |request| {
            if request.contains("approle/login") {
                let token = format!("token-{}.", counted.fetch_add(1, Ordering::SeqCst) + 1);
                let auth = json!({"client_token": token, "lease_duration": seconds, "renewable": seconds > 0});
                return StubAnswer::json("200 OK", json!({"auth": auth}).to_string());
            }
            let mut good = good.load(Ordering::SeqCst)..10;
            let Some(number) = good.find(|number| request.contains(&format!("token-{number}."))) else {
                return forbidden();
            };
            if request.contains("revoke-self") {
                revoking.fetch_add(1, Ordering::SeqCst);
            }
            if request.contains("renew-self") {
                let token = format!("token-{number}.");
                let auth = json!({"client_token": token, "lease_duration": seconds, "renewable": true});
                return StubAnswer::json("200 OK", json!({"auth": auth}).to_string());
            }
            match request.contains("database/creds/t1 ") {
                true => user(),
                false => forbidden(),
            }
        });
        let stub = stub.await.unwrap();
        let auth = json!({"method": "approle", "role_id": "r"});
        let config = json!({"address": stub.url(), "auth": auth, "database": {"role": "{tenant}"}});
        Self {
            provider: build(config).await,
            _stub: stub,
            logins,
            first_good,
            revoked,
        }
    }

    async fn fetch(&self, tenant: &str) -> Result<(), ProviderError> {
        self.provider.fetch(&id(tenant)).await.map(drop)
    }

    fn lose_logins(&self) {
        let last = self.logins.load(Ordering::SeqCst);
        self.first_good.store(last + 1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_lost_login_is_noticed_though_it_cannot_be_looked_up() {
    let vault = Narrow::new().await;
    let mut changes = vault.provider.changes().unwrap();
    vault.fetch("t1").await.unwrap();
    for _ in 0..2 {
        changes.mark_unchanged();
        vault.lose_logins();
        vault.fetch("t1").await.unwrap();
        assert!(changes.has_changed().unwrap());
    }
    assert_eq!(vault.logins.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_lost_login_is_noticed_by_its_renewal() {
    let vault = Narrow::lasting(30).await;
    let mut changes = vault.provider.changes().unwrap();
    vault.fetch("t1").await.unwrap();
    for _ in 0..2 {
        changes.mark_unchanged();
        vault.lose_logins();
        // More than a twentieth of its time is over then, so it is renewed for the sake of a lease.
        sleep(Duration::from_millis(2_100)).await;
        vault.fetch("t1").await.unwrap();
        assert!(changes.has_changed().unwrap());
    }
}

#[tokio::test]
async fn a_forbidden_path_is_no_lost_login() {
    let vault = Narrow::new().await;
    let mut changes = vault.provider.changes().unwrap();
    vault.fetch("t1").await.unwrap();
    vault.lose_logins();
    vault.fetch("t1").await.unwrap();
    changes.mark_unchanged();
    for _ in 0..3 {
        let denied = vault.fetch("t2").await;
        assert!(matches!(denied, Err(ProviderError::Denied(_))), "{denied:?}");
    }
    assert!(!changes.has_changed().unwrap());
    // One more login was tried, and given back.
    assert_eq!(vault.logins.load(Ordering::SeqCst), 3);
    assert_eq!(vault.revoked.load(Ordering::SeqCst), 1);
    vault.fetch("t1").await.unwrap();
}

#[tokio::test]
async fn a_login_that_may_not_be_renewed_is_not_lost() {
    let granted = r#"{"auth":{"client_token":"token","lease_duration":30,"renewable":true}}"#;
    let found = r#"{"data":{"ttl":30,"renewable":true,"creation_ttl":30}}"#;
    let stub = HttpStub::start(move |request| match request {
        _ if request.contains("approle/login") => StubAnswer::json("200 OK", granted),
        _ if request.contains("lookup-self") => StubAnswer::json("200 OK", found),
        _ if request.contains("database/creds/t1") => user(),
        _ => forbidden(),
    });
    let stub = stub.await.unwrap();
    for auth in [
        json!({"method": "approle", "role_id": "r"}),
        json!({"method": "token", "token": "t"}),
    ] {
        let config = json!({"address": stub.url(), "auth": auth, "database": {"role": "{tenant}"}});
        let provider = build(config).await;
        let mut changes = provider.changes().unwrap();
        provider.fetch(&id("t1")).await.unwrap();
        changes.mark_unchanged();
        // More than a twentieth of its time is over then, so it is renewed for the sake of a lease.
        sleep(Duration::from_millis(2_100)).await;
        provider.fetch(&id("t1")).await.unwrap();
        assert!(!changes.has_changed().unwrap(), "{auth}");
    }
}

#[tokio::test]
async fn a_standby_that_is_behind_is_called_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let provider = stub(move |request| match request {
        _ if request.contains("lookup-self") => looked_up(),
        _ if counted.fetch_add(1, Ordering::SeqCst) < 2 => {
            StubAnswer::json("412 Precondition Failed", r#"{"errors":["behind"]}"#)
        }
        _ => {
            let body = r#"{"data":{"data":{},"metadata":{"version":1,"created_time":"t"}}}"#;
            StubAnswer::json("200 OK", body)
        }
    })
    .await;
    provider.fetch(&id("t1")).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_withdrawn_permission_is_no_unknown_tenant() {
    let fixture = UserFixture::new("withdrawn").await;
    fixture.add("withdrawn", "t1", "1h", "2h").await;
    let document = fixture.provider.fetch(&id("t1")).await.unwrap();
    fixture.provider.release(document.lease.unwrap()).await.unwrap();
    let policy = documented_policy("withdrawn", "withdrawn").replace("database/creds/", "database/none/");
    bao().await.add_policy("withdrawn", &policy).await.unwrap();
    let error = fixture.provider.fetch(&id("t1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn half_a_list_of_roles_is_denied_if_both_kinds_are_used() {
    let stub = HttpStub::start(|request| match request {
        _ if request.contains("lookup-self") => looked_up(),
        _ if request.contains("database/creds/t1") => user(),
        _ if request.contains("database/static-roles") => StubAnswer::json("200 OK", r#"{"data":{"keys":["t2"]}}"#),
        _ => forbidden(),
    });
    let stub = stub.await.unwrap();
    let auth = json!({"method": "token", "token": "t"});
    let provider = build(json!({"address": stub.url(), "auth": auth, "database": {"role": "{tenant}"}})).await;
    assert_eq!(provider.list().await.unwrap(), [id("t2")]);
    provider.fetch(&id("t1")).await.unwrap();
    let listed = provider.list().await;
    assert!(matches!(listed, Err(ProviderError::Denied(_))), "{listed:?}");
}

#[tokio::test]
async fn logins_that_are_left_become_rare() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = logins.clone();
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            taken.push(client);
        }
    });
    let auth = json!({"method": "token", "token": "t"});
    let provider = build(json!({"address": address, "auth": auth, "kv": {"path": "{tenant}"}})).await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        drop(timeout(Duration::from_millis(50), provider.fetch(&id("t1"))).await);
        sleep(Duration::from_millis(10)).await;
    }
    // At once, after 1 s, and after 2 s more.
    let logins = logins.load(Ordering::SeqCst);
    assert!((1..=3).contains(&logins), "{logins}");
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_in_time() {
    // It takes connections, and never reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let auth = json!({"method": "token", "token": "t"});
    let provider = build(json!({"address": address, "auth": auth, "kv": {"path": "{tenant}"}})).await;
    let begun = Instant::now();
    let error = provider.fetch(&id("t1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_user_that_comes_too_late_is_given_back() {
    let (cut_off, revoked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_cut_off, counted) = (cut_off.clone(), revoked.clone());
    let answer = move |request: &str| {
        if request.contains("lookup-self") {
            return looked_up();
        }
        if request.contains("leases/revoke") {
            assert!(request.contains("database/creds/t1/late"), "{request}");
            counted.fetch_add(1, Ordering::SeqCst);
            return StubAnswer::json("204 No Content", "");
        }
        // The thread's other tasks, the time-out of the test among them, go on meanwhile.
        tokio::task::block_in_place(|| {
            while !is_cut_off.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let body = r#"{"lease_id":"database/creds/t1/late","lease_duration":60,"renewable":true,
            "data":{"username":"u","password":"p"}}"#;
        StubAnswer::json("200 OK", body)
    };
    let stub = HttpStub::start(answer).await.unwrap();
    let auth = json!({"method": "token", "token": "t"});
    let config = json!({"address": stub.url(), "auth": auth, "database": {"role": "{tenant}"}});
    let provider = build(config).await;
    let fetched = timeout(Duration::from_millis(200), provider.fetch(&id("t1"))).await;
    assert!(fetched.is_err());
    cut_off.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + IN_TIME;
    while revoked.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "it is not given back");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_example_builds() {
    let mut registry = Registry::new();
    registry.provider::<VaultProvider>();
    let mapping = serde_saphyr::from_str(VaultProvider::EXAMPLE).unwrap();
    let context = BuildContext::for_tests(Registry::new());
    assert!(registry.build_provider(mapping, &context).await.is_ok());
}

#[tokio::test]
async fn a_key_that_can_never_work_stops_the_start() {
    let with = |key: &str, value: Value| {
        let mut config = json!({
            "address": "http://127.0.0.1:1", "auth": {"method": "token", "token": "canary"}, "kv": {"path": "{tenant}"},
        });
        config[key] = value;
        config
    };
    let cases = [
        (with("address", json!("127.0.0.1:8200")), vec!["address"]),
        (with("address", json!("ftp://h")), vec!["address"]),
        (with("address", json!("http://user:canary@h")), vec!["address"]),
        (with("namespace", json!("a\nb")), vec!["namespace"]),
        (with("ca", json!("/no/such/file")), vec!["ca"]),
        (with("ca", json!("-----BEGIN nothing")), vec!["ca"]),
        (with("kv", json!({"path": "fixed"})), vec!["kv", "path"]),
        (with("kv", json!({"path": "a//{tenant}"})), vec!["kv", "path"]),
        (with("kv", Value::Null), vec![]),
        (with("database", json!({"role": "{tenants}"})), vec!["database", "role"]),
        (with("auth", json!({"method": "token"})), vec!["auth", "token"]),
        (
            with("auth", json!({"method": "token", "token": "canary\n"})),
            vec!["auth", "token"],
        ),
        (
            with("auth", json!({"method": "token", "token": "canary", "role": "r"})),
            vec!["auth", "role"],
        ),
        (with("auth", json!({"method": "approle"})), vec!["auth", "role_id"]),
        (
            with("auth", json!({"method": "approle", "role_id": "r", "token": "canary"})),
            vec!["auth", "token"],
        ),
        (
            with("auth", json!({"method": "kubernetes", "mount": "k"})),
            vec!["auth", "role"],
        ),
    ];
    for (config, path) in cases {
        let error = try_build(config.clone()).await.unwrap_err();
        assert_eq!(error.path, path, "{config}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}
