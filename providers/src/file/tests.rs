use std::{collections::BTreeMap, sync::Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry_core::{
    Registry,
    conformance::provider::{PATIENCE, ProviderFixture, check},
};

use super::{text::parse, *};

async fn build(base_dir: &Path, mapping: Value) -> Result<Arc<dyn SecretProvider>, BuildError> {
    let mut registry = Registry::new();
    registry.provider::<FileProvider>();
    let mut context = BuildContext::for_tests(Registry::new());
    context.base_dir = base_dir.to_owned();
    registry.build_provider(mapping, &context).await
}

fn example() -> Value {
    serde_saphyr::from_str(FileProvider::EXAMPLE).unwrap()
}

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

struct Fixture {
    base: TempDir,
    tenants: Mutex<BTreeMap<TenantId, Value>>,
    provider: Arc<dyn SecretProvider>,
    unseen: tokio::sync::Mutex<watch::Receiver<u64>>,
}

impl Fixture {
    async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("tenants.yaml"), "{}").unwrap();
        let provider = build(base.path(), example()).await.unwrap();
        let unseen = provider.changes().unwrap().into();
        Self {
            base,
            tenants: Mutex::default(),
            provider,
            unseen,
        }
    }

    async fn write(&self) {
        let tenants = self.tenants.lock().unwrap();
        let text = serde_json::to_string_pretty(&*tenants).unwrap();
        replace(&self.base.path().join("tenants.yaml"), &text);
    }
}

#[async_trait]
impl ProviderFixture for Fixture {
    async fn provider(&self) -> Arc<dyn SecretProvider> {
        Arc::clone(&self.provider)
    }

    async fn put(&self, tenant: &TenantId, secret: &Value) {
        self.unseen.lock().await.mark_unchanged();
        self.tenants.lock().unwrap().insert(*tenant, secret.clone());
        self.write().await;
    }

    async fn remove(&self, tenant: &TenantId) {
        self.unseen.lock().await.mark_unchanged();
        self.tenants.lock().unwrap().remove(tenant);
        self.write().await;
    }

    async fn settle(&self) {
        let wanted = self.tenants.lock().unwrap().clone();
        let mut unseen = self.unseen.lock().await;
        let seen = async {
            loop {
                let mut seen = BTreeMap::new();
                for tenant in self.provider.list().await.unwrap() {
                    let document = self.provider.fetch(&tenant).await.unwrap();
                    seen.insert(tenant, document.value.expose().clone());
                }
                if seen == wanted {
                    return;
                }
                unseen.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    }
}

#[tokio::test]
async fn it_is_a_provider() {
    check(&Fixture::new().await).await;
}

fn parsed(text: &str, is_json: bool) -> Result<BTreeMap<String, Value>, String> {
    parse(text, is_json, &TenantIdPattern::default())
        .map(|tenants| {
            let plain = |(id, entry): (&TenantId, &Entry)| {
                let value = entry.as_ref().map(|secret| secret.value.expose().clone());
                (id.to_string(), value.unwrap_or_else(|reason| json!(*reason)))
            };
            tenants.iter().map(plain).collect()
        })
        .map_err(|problem| problem.reason)
}

#[test]
fn yaml_and_json_are_read() {
    let expected = BTreeMap::from([
        (
            "007".to_owned(),
            json!({"host": "h", "port": 5432, "password": "yes", "ssl": true}),
        ),
        ("b".to_owned(), json!({"url": "postgres://u:p@h/d"})),
    ]);
    let yaml = "# tenants\n007:\n  host: h\n  port: 5432\n  password: yes\n  ssl: true\nb: postgres://u:p@h/d\n";
    assert_eq!(parsed(yaml, false).unwrap(), expected);
    let json = "\u{feff}{\n\t\"007\": {\"host\": \"h\", \"port\": 5432, \"password\": \"yes\", \"ssl\": true},\n\t\"b\": \"postgres://u:p@h/d\"}\n";
    assert_eq!(parsed(json, true).unwrap(), expected);
    assert_eq!(parsed("{}", false).unwrap(), BTreeMap::new());
}

#[test]
fn a_bad_file_names_the_line_and_never_the_value() {
    let cases = [
        ("a: {password: canary}\na: {password: canary}\n", false, "line 2"),
        ("a: {}\nB canary: {}\n", false, "line 2"),
        ("a:\n  password: \"canary\n", false, "is not valid YAML"),
        ("a:\n  x: *canary\n", false, "line 2"),
        ("a: {password: canary, password: canary}\n", false, "line 1"),
        ("- canary\n", false, "is not valid YAML"),
        ("canary", false, "is not valid YAML"),
        ("", false, "is not valid YAML"),
        ("a: {}\n---\nb: {password: canary}\n", false, "is not valid YAML"),
        ("{\n\"a\": {},\n\"a\": {\"password\": \"canary\"}}", true, "line 3"),
        ("{\n\"a\": {\"password\": canary}}", true, "line 2"),
        ("{\"a\": {}} canary", true, "line 1"),
        ("[\"canary\"]", true, "line 1"),
    ];
    for (text, is_json, place) in cases {
        let problem = parse(text, is_json, &TenantIdPattern::default()).unwrap_err();
        assert!(problem.reason.contains(place), "{text:?}: {}", problem.reason);
        let printed = format!("{problem:?}");
        assert!(!printed.contains("canary") && !printed.contains("4711"), "{printed}");
    }
}

#[test]
fn a_yaml_file_may_hold_as_many_tenants_as_a_json_file() {
    let yaml: String = (0..20_000)
        .map(|n| {
            format!("t{n}: {{type: sqlite, path: t{n}.db, schema: a, host: h, port: 1, username: u, password: p}}\n")
        })
        .collect();
    assert_eq!(parsed(&yaml, false).unwrap().len(), 20_000);
    let deep = format!("a: {{x: {}1{}}}\n", "[".repeat(100), "]".repeat(100));
    let problem = parsed(&deep, false).unwrap_err();
    assert!(problem.starts_with("holds too many values, or some"), "{problem}");
}

#[test]
fn an_entry_of_another_form_is_its_tenant_s_fault_alone() {
    let no_mapping = json!("is neither a mapping nor a URL");
    let expected = BTreeMap::from([
        ("list".to_owned(), no_mapping.clone()),
        ("null".to_owned(), no_mapping.clone()),
        ("number".to_owned(), no_mapping),
        ("text".to_owned(), json!("is a text and no URL")),
        ("good".to_owned(), json!({"url": "postgres://h/d"})),
    ]);
    let yaml = "list: [canary]\n\"null\":\nnumber: 4711\ntext: canary\ngood: postgres://h/d\n";
    assert_eq!(parsed(yaml, false).unwrap(), expected);
    let json = r#"{"list": ["canary"], "null": null, "number": 1, "text": "canary", "good": "postgres://h/d"}"#;
    assert_eq!(parsed(json, true).unwrap(), expected);
}

#[tokio::test]
async fn a_tenant_with_a_bad_entry_is_invalid_and_the_others_are_served() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("tenants.yaml");
    std::fs::write(&file, "tenant1: {password: one}\ntenant2: {password: one}").unwrap();
    let provider = build(base.path(), example()).await.unwrap();
    replace(&file, "tenant1: canary\ntenant2: {password: two}\ntenant3: {}");
    let error = provider.fetch(&id("tenant1")).await.unwrap_err();
    assert_eq!(error.to_string(), "the secret is a text and no URL");
    assert!(matches!(error, ProviderError::Invalid { .. }) && !format!("{error:?}").contains("canary"));
    let changed = provider.fetch(&id("tenant2")).await.unwrap();
    assert_eq!(changed.value.expose(), &json!({"password": "two"}));
    assert_eq!(provider.list().await.unwrap().len(), 3);
}

#[test]
fn a_tenant_that_is_named_twice_is_refused() {
    let pattern = TenantIdPattern::default();
    let yaml = parse("a: {}\na: {}\n", false, &pattern).unwrap_err();
    assert_eq!(yaml.reason, "holds a key twice (line 2)");
    let json = parse("{\"a\": {},\n\"a\": {}}", true, &pattern).unwrap_err();
    assert_eq!(json.reason, "names the tenant `a` twice (line 2)");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_stops_the_start() {
    let base = tempfile::tempdir().unwrap();
    let missing = build(base.path(), example()).await.err().unwrap();
    assert_eq!(missing.path, ["path"]);
    assert!(missing.source.is_some());
    let file = base.path().join("tenants.yaml");
    std::fs::write(&file, "tenant1: {password: canary").unwrap();
    let broken = build(base.path(), example()).await.err().unwrap();
    assert!(broken.reason.contains("is not valid YAML (line 1)"), "{broken}");
    assert!(!format!("{broken:?}").contains("canary"));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let folder = build(base.path(), example()).await.err().unwrap();
    assert!(folder.reason.contains("not a regular file"), "{folder}");
}

#[tokio::test]
async fn a_change_that_does_not_parse_keeps_the_last_good_content() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("tenants.yaml");
    std::fs::write(&file, "tenant1: {password: one}").unwrap();
    let provider = build(base.path(), example()).await.unwrap();
    let mut changes = provider.changes().unwrap();
    let first = provider.fetch(&id("tenant1")).await.unwrap();
    replace(&file, "tenant1: {password: ");
    assert!(tokio::time::timeout(POLL * 2, changes.changed()).await.is_err());
    assert_eq!(provider.fetch(&id("tenant1")).await.unwrap().version, first.version);
    std::fs::remove_file(&file).unwrap();
    assert!(tokio::time::timeout(POLL * 2, changes.changed()).await.is_err());
    assert_eq!(provider.list().await.unwrap(), [id("tenant1")]);
    std::fs::write(&file, "tenant1: {password: two}\ntenant2: {}").unwrap();
    tokio::time::timeout(PATIENCE, changes.changed())
        .await
        .unwrap()
        .unwrap();
    assert_ne!(provider.fetch(&id("tenant1")).await.unwrap().version, first.version);
    assert_eq!(provider.list().await.unwrap(), [id("tenant1"), id("tenant2")]);
}

#[tokio::test]
async fn a_name_is_not_unknown_while_the_file_is_unusable() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("tenants.yaml");
    std::fs::write(&file, "tenant1: {}").unwrap();
    let provider = build(base.path(), example()).await.unwrap();
    let fetch = async |name: &str| provider.fetch(&id(name)).await.map(drop);
    assert!(matches!(fetch("tenant2").await, Err(ProviderError::NotFound)));
    let broken = || replace(&file, "tenant1: {}\ntenant2: {");
    let removed = || std::fs::remove_file(&file).unwrap();
    let folder = || std::fs::create_dir(&file).unwrap();
    for make_unusable in [&broken as &dyn Fn(), &removed, &folder] {
        make_unusable();
        for _ in 0..2 {
            let unknown = fetch("tenant2").await;
            assert!(matches!(unknown, Err(ProviderError::Unavailable(_))), "{unknown:?}");
            fetch("tenant1").await.unwrap();
        }
    }
    std::fs::remove_dir(&file).unwrap();
    replace(&file, "tenant1: {}\ntenant2: {}");
    fetch("tenant2").await.unwrap();
    assert!(matches!(fetch("tenant3").await, Err(ProviderError::NotFound)));
}

/// The link's target lies in a folder that is not watched, so the change is found only by looking
/// at the file from time to time.
#[cfg(unix)]
#[tokio::test]
async fn a_change_that_the_system_does_not_tell_is_found_by_looking() {
    let base = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target.yaml");
    std::fs::write(&target, "tenant1: {}").unwrap();
    std::os::unix::fs::symlink(&target, base.path().join("tenants.yaml")).unwrap();
    let provider = build(base.path(), example()).await.unwrap();
    let mut changes = provider.changes().unwrap();
    std::fs::write(&target, "tenant1: {}\ntenant2: {}").unwrap();
    tokio::time::timeout(PATIENCE, changes.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(provider.list().await.unwrap().len(), 2);
}

/// A file of many tenants takes a second to read, and a log beside it changes all the time.
#[cfg(unix)]
#[tokio::test]
async fn another_file_in_the_folder_does_not_have_a_settled_file_read_again() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("tenants.yaml");
    std::fs::write(&path, "tenant1: {}").unwrap();
    let stamp = Stamp::of(&path).await;
    let changed = stamp.unwrap().changed.unwrap();
    let fresh = LastRead::begin(stamp, changed + Duration::from_millis(1));
    assert!(fresh.is_of(stamp, false));
    assert!(!fresh.is_of(stamp, true));
    let settled = LastRead::begin(stamp, changed + SETTLED_AFTER * 2);
    assert!(settled.is_of(stamp, true));
    // A clock that was set back.
    assert!(!LastRead::begin(stamp, changed - SETTLED_AFTER * 2).is_of(stamp, true));
    assert!(!LastRead::begin(None, changed).is_of(None, true));

    // A copy that keeps the length and the time of the last change.
    let copy = base.path().join("copy.yaml");
    std::fs::write(&copy, "tenant2: {}").unwrap();
    let times = std::fs::FileTimes::new().set_modified(stamp.unwrap().modified.unwrap());
    std::fs::File::options()
        .write(true)
        .open(&copy)
        .unwrap()
        .set_times(times)
        .unwrap();
    std::fs::rename(&copy, &path).unwrap();
    let other = Stamp::of(&path).await;
    assert!(other.unwrap().modified == stamp.unwrap().modified && other.unwrap().len == stamp.unwrap().len);
    assert!(!settled.is_of(other, false));
}
