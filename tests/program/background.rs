//! Work that an application does beside its requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tenantry::{App, core::TenantId};

use crate::counting::Counting;

#[tokio::test]
async fn work_in_the_background_has_the_tenants_and_is_told_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let config = "server: { listen: \"127.0.0.1:0\" }\n\
         tenancy:\n  resolver: { type: header }\n  provider: { type: counting, name: background }\n";
    tokio::fs::write(&file, config).await.unwrap();
    let (answered, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let app = App::new().plugins(|registry| {
        registry.provider::<Counting>();
    });
    let app = {
        let (answered, stopped) = (answered.clone(), stopped.clone());
        app.background(|background| async move {
            let tenant: TenantId = "tenant1".parse().unwrap();
            let database = background.tenants().acquire(&tenant).await.unwrap();
            database.ping().await.unwrap();
            drop(database);
            answered.fetch_add(1, Ordering::SeqCst);
            background.stopping().await;
            stopped.fetch_add(1, Ordering::SeqCst);
        })
    };
    let app = app.background(|_| async { panic!("what one piece of work does is its own") });
    let server = app.start(&file).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while answered.load(Ordering::SeqCst) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "it did not run");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let tenant: TenantId = "tenant1".parse().unwrap();
    assert!(server.tenants().acquire(&tenant).await.is_ok());
    assert_eq!(stopped.load(Ordering::SeqCst), 0);
    server.stop().await.unwrap();
    assert_eq!(stopped.load(Ordering::SeqCst), 1);
}
