//! Notes: each tenant's in a database of its own.

mod notes;

use std::process::ExitCode;

use tenantry::App;

/// The files that make a tenant's database, inside the program.
const MIGRATIONS: [(&str, &str); 1] = [(
    "sqlite/0001_create_notes.sql",
    include_str!("../migrations/sqlite/0001_create_notes.sql"),
)];

fn app() -> App {
    App::new()
        .name("notes")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Keeps each tenant's notes.")
        .without_users()
        .migrations(MIGRATIONS)
        .api(notes::Notes)
}

fn main() -> ExitCode {
    app().main()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenantry::testing::TestApp;

    #[tokio::test]
    async fn a_tenant_finds_its_own_notes_and_no_others() {
        let server = TestApp::start(super::app(), ["acme", "globex"]).await;
        let (acme, globex) = (server.tenant("acme"), server.tenant("globex"));
        acme.post("/api/v1/notes", &json!({"text": "buy tea"}))
            .await
            .expect(201);
        let notes = acme.get("/api/v1/notes").await.expect(200).json();
        assert_eq!(notes, json!([{"id": 1, "text": "buy tea"}]));
        assert_eq!(globex.get("/api/v1/notes").await.expect(200).json(), json!([]));

        let refused = acme.post("/api/v1/notes", &json!({"text": ""})).await.expect(400);
        assert_eq!(
            refused.json()["errors"],
            json!([{"pointer": "/text", "detail": "is empty"}])
        );
        server.stop().await;
    }
}
