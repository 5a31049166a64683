//! A certificate that is renewed while the server runs.

use std::{path::Path, time::Duration};

use serde_json::json;
use tenantry_test_support::{Certificates, TenantryProcess};
use tokio::{
    fs,
    time::{Instant, sleep},
};

use crate::databases::{config, program};

/// How long a renewed certificate may take to be shown, and half as long again for a busy machine.
const A_MINUTE: Duration = Duration::from_secs(90);

/// Whether both listeners show a certificate of this authority; a new client, for a new connection.
async fn shows(server: &TenantryProcess, certificates: &Certificates) -> bool {
    let operator = server.admin_url().replace("http://127.0.0.1", "https://localhost");
    for base in [server.base_url(), operator] {
        let ca = reqwest::Certificate::from_pem(certificates.ca_pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([ca])
            .build()
            .unwrap();
        if client.get(format!("{base}/health/live")).send().await.is_err() {
            return false;
        }
    }
    true
}

async fn until_shown(server: &TenantryProcess, certificates: &Certificates, within: Duration) {
    let began = Instant::now();
    while !shows(server, certificates).await {
        assert!(
            began.elapsed() < within,
            "it is not shown: {}",
            server.logs().await.unwrap()
        );
        sleep(Duration::from_millis(100)).await;
    }
}

async fn write(folder: &Path, certificates: &Certificates) {
    fs::create_dir_all(folder).await.unwrap();
    fs::write(folder.join("server.pem"), &certificates.server_cert_pem)
        .await
        .unwrap();
    fs::write(folder.join("server.key"), &certificates.server_key_pem)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
    let [first, second, third] = [(); 3].map(|()| Certificates::make().unwrap());
    let secrets = json!({"acme": {"type": "sqlite", "path": "acme.db"}});
    let config = format!(
        "{}server: {{ tls: {{ cert: tls/server.pem, key: tls/server.key }} }}\n",
        config(&secrets)
    );
    let server = program()
        .config(config)
        .file("tls/server.pem", &first.server_cert_pem)
        .file("tls/server.key", &first.server_key_pem)
        .tls()
        .admin_listener()
        .start()
        .await
        .unwrap();
    let tls = server.folder().join("tls");
    assert!(shows(&server, &first).await && !shows(&server, &second).await);

    // The key is written first, as by a script; within a minute, without a signal.
    fs::write(tls.join("server.key"), &second.server_key_pem).await.unwrap();
    assert!(shows(&server, &first).await);
    fs::write(tls.join("server.pem"), &second.server_cert_pem)
        .await
        .unwrap();
    until_shown(&server, &second, A_MINUTE).await;

    // What cannot be used changes nothing, and is reported.
    let broken = [
        ("server.key", &third.server_key_pem, "is not the certificate's key"),
        (
            "server.pem",
            &String::from("nonsense"),
            "contains no certificate in PEM",
        ),
    ];
    for (name, text, reason) in broken {
        fs::write(tls.join(name), text).await.unwrap();
        server.signal("HUP").await.unwrap();
        server.logs_with(reason, Duration::from_secs(30)).await.unwrap();
        assert!(shows(&server, &second).await);
    }
    fs::remove_file(tls.join("server.pem")).await.unwrap();
    server.signal("HUP").await.unwrap();
    server
        .logs_with("cannot be read", Duration::from_secs(30))
        .await
        .unwrap();
    assert!(shows(&server, &second).await);

    // As Kubernetes mounts a secret, and swaps it: the files are links through a link to a folder.
    write(&tls.join("..2026_1"), &third).await;
    fs::symlink("..2026_1", tls.join("..data")).await.unwrap();
    for name in ["server.pem", "server.key"] {
        fs::symlink(format!("..data/{name}"), tls.join("new")).await.unwrap();
        fs::rename(tls.join("new"), tls.join(name)).await.unwrap();
    }
    server.signal("HUP").await.unwrap();
    until_shown(&server, &third, Duration::from_secs(30)).await;
    write(&tls.join("..2026_2"), &first).await;
    fs::symlink("..2026_2", tls.join("..data_tmp")).await.unwrap();
    fs::rename(tls.join("..data_tmp"), tls.join("..data")).await.unwrap();
    server.signal("HUP").await.unwrap();
    until_shown(&server, &first, Duration::from_secs(30)).await;

    server.terminate().await.unwrap();
    assert_eq!(server.wait().await.unwrap(), 0);
    let logs = server.logs().await.unwrap();
    assert!(!logs.contains("PRIVATE KEY"), "{logs}");
}

#[tokio::test]
async fn a_hangup_does_not_end_a_server_without_a_certificate() {
    let secrets = json!({"acme": {"type": "sqlite", "path": "acme.db"}});
    let server = program().config(config(&secrets)).start().await.unwrap();
    for _ in 0..3 {
        server.signal("HUP").await.unwrap();
        sleep(Duration::from_millis(50)).await;
        let answer = reqwest::get(format!("{}/health/live", server.base_url()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }
}
