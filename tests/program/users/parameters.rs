//! Query parameters that the operations do not have.

use serde_json::json;

use super::{USERS, on_every_database, user};
use crate::databases::Database;

on_every_database!(an_unknown_query_parameter_is_refused_by_name);

async fn an_unknown_query_parameter_is_refused_by_name(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    for path in ["users?limt=5", "users/1?limit=5", "info?x", "stats?tenant=acme"] {
        let answer = client.get(&format!("/api/v1/tenant/{path}")).await;
        let faults = answer.faults("request_invalid");
        assert_eq!((answer.status, faults.len()), (400, 1), "{path}: {faults:?}");
    }
    let answer = client.get("/api/v1/tenant/users?limt=5").await;
    let fault = (
        "limt".to_owned(),
        "is not known; this operation has `limit`, `after`".to_owned(),
    );
    assert_eq!(answer.faults("request_invalid"), [fault]);
    let answer = client
        .post(&format!("{USERS}?name=x"), &user("Ann", "a@x.example"))
        .await;
    assert_eq!(answer.faults("request_invalid")[0].0, "name");
    assert_eq!(client.get(USERS).await.expect(200).json()["items"], json!([]));
}
