//! One user from the first day to the last.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry_test_support::{MariadbServer, PostgresServer};

use super::{USERS, on_every_database, path, user};
use crate::databases::{Database, config, serve};

on_every_database!(
    a_user_is_created_read_changed_and_deleted,
    an_email_address_is_unique_in_its_tenant_whatever_its_case,
    of_many_who_want_the_same_address_one_gets_it,
    a_user_who_is_not_there_is_not_found,
);

fn time(user: &Value, field: &str) -> DateTime<Utc> {
    let text = user[field].as_str().unwrap();
    assert!(text.ends_with('Z'), "{user}");
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

async fn a_user_is_created_read_changed_and_deleted(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");

    let before = Utc::now();
    let created = client.post(USERS, &user("John Doe", "John@acme.com")).await.expect(201);
    let location = created.header("location").to_owned();
    let created = created.json();
    let fields: Vec<&String> = created.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "name", "email", "created_at", "updated_at"]);
    assert_eq!(
        (&created["name"], &created["email"]),
        (&"John Doe".into(), &"John@acme.com".into())
    );
    assert_eq!(location, path(&created));
    assert_eq!(created["created_at"], created["updated_at"]);
    // The database servers' own clocks are in another zone.
    let made = time(&created, "created_at");
    assert!(
        made >= before - Duration::from_secs(2) && made <= Utc::now() + Duration::from_secs(2),
        "{created}"
    );
    assert_eq!(client.get(&location).await.expect(200).json(), created);

    tokio::time::sleep(Duration::from_millis(5)).await;
    let changed = client
        .put(&location, &user("Jane Doe", "jane@acme.com"))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&changed["id"], &changed["created_at"]),
        (&created["id"], &created["created_at"])
    );
    assert_eq!(
        (&changed["name"], &changed["email"]),
        (&"Jane Doe".into(), &"jane@acme.com".into())
    );
    assert!(time(&changed, "updated_at") > time(&created, "updated_at"), "{changed}");
    assert_eq!(client.get(&location).await.expect(200).json(), changed);

    // The same again changes nothing but the time.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let again = client
        .put(&location, &user("Jane Doe", "jane@acme.com"))
        .await
        .expect(200)
        .json();
    assert!(time(&again, "updated_at") > time(&changed, "updated_at"), "{again}");

    let page = client.get(USERS).await.expect(200).json();
    assert_eq!(page["items"], Value::Array(vec![again]));
    assert_eq!(page["next"], Value::Null);

    let deleted = client.delete(&location).await.expect(204);
    assert!(deleted.body.is_empty());
    client.get(&location).await.problem(404, "not_found");
    client
        .put(&location, &user("Jane", "jane@acme.com"))
        .await
        .problem(404, "not_found");
    client.delete(&location).await.problem(404, "not_found");
    assert_eq!(
        client.get(USERS).await.expect(200).json()["items"],
        Value::Array(Vec::new())
    );
}

async fn an_email_address_is_unique_in_its_tenant_whatever_its_case(database: Database) {
    let (_server, client) = database.serve(&["acme", "globex"]).await;
    let (acme, globex) = (client.tenant("acme"), client.tenant("globex"));
    let first = acme.post(USERS, &user("One", "one@x.example")).await.expect(201).json();
    let second = acme.post(USERS, &user("Two", "two@x.example")).await.expect(201).json();
    for email in ["one@x.example", "ONE@X.EXAMPLE", "One@x.Example"] {
        let taken = [
            acme.post(USERS, &user("Three", email)).await,
            acme.put(&path(&second), &user("Two", email)).await,
        ];
        for answer in taken {
            assert_eq!(answer.status, 409);
            assert_eq!(
                answer.faults("conflict"),
                [("/email".to_owned(), "is taken".to_owned())]
            );
            assert!(
                !answer.text().to_lowercase().contains("one@x.example"),
                "{}",
                answer.text()
            );
        }
    }
    // Nothing of what was refused stays.
    assert_eq!(acme.get(&path(&second)).await.expect(200).json(), second);
    assert_eq!(
        acme.get(USERS).await.expect(200).json()["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // One's own address is not taken, whatever its case; another tenant's is not either.
    let own = acme
        .put(&path(&first), &user("One", "ONE@x.example"))
        .await
        .expect(200)
        .json();
    assert_eq!(own["email"], "ONE@x.example");
    globex.post(USERS, &user("One", "one@x.example")).await.expect(201);

    // The address is free again after its user was deleted.
    acme.delete(&path(&first)).await.expect(204);
    acme.put(&path(&second), &user("Two", "one@x.example"))
        .await
        .expect(200);
}

async fn of_many_who_want_the_same_address_one_gets_it(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    let bodies: Vec<Value> = (0..24)
        .map(|n| user(&format!("Number {n}"), "same@x.example"))
        .collect();
    let answers = join_all(bodies.iter().map(|body| client.post(USERS, body))).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.problem(409, "conflict");
    }
    assert_eq!(
        client.get(USERS).await.expect(200).json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

async fn a_user_who_is_not_there_is_not_found(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    for id in ["1", "2147483648", "9223372036854775807"] {
        let path = format!("{USERS}/{id}");
        client.get(&path).await.problem(404, "not_found");
        client.delete(&path).await.problem(404, "not_found");
        client
            .put(&path, &user("Nobody", "nobody@x.example"))
            .await
            .problem(404, "not_found");
    }
    for id in ["0", "-1", "abc", "1.5", "9223372036854775808", "1%2F2", "%20", "0x1"] {
        let path = format!("{USERS}/{id}");
        for answer in [client.get(&path).await, client.delete(&path).await] {
            assert_eq!(
                (answer.status, answer.faults("request_invalid")[0].0.as_str()),
                (400, "id"),
                "{id}"
            );
        }
    }
    assert_eq!(
        client.get(USERS).await.expect(200).json()["items"],
        Value::Array(Vec::new())
    );
}

/// As after an import that kept the numbers and did not set the sequence.
#[tokio::test]
async fn a_sequence_that_lags_behind_is_not_a_taken_email_address() {
    let (postgres, mariadb) = (PostgresServer::shared().await, MariadbServer::shared().await);
    let on_postgres = postgres.create_tenant("lags").await.unwrap();
    let on_mariadb = mariadb.create_tenant("lags").await.unwrap();
    let secrets = json!({"acme": postgres.secret(&on_postgres), "maria": mariadb.secret(&on_mariadb)});
    let (_server, client) = serve(&config(&secrets)).await;
    for tenant in ["acme", "maria"] {
        let first = client.tenant(tenant).post(USERS, &user("One", "one@x.example")).await;
        assert_eq!(first.expect(201).json()["id"], 1);
    }
    let import = "UPDATE users SET id = 2";
    postgres.psql(&on_postgres.database, import).await.unwrap();
    // MariaDB's counter follows every number that is written.
    let again = "CREATE TRIGGER again BEFORE INSERT ON users FOR EACH ROW SET NEW.id = 1";
    mariadb.sql(&on_mariadb.database, again).await.unwrap();
    for tenant in ["acme", "maria"] {
        let answer = client.tenant(tenant).post(USERS, &user("Two", "two@x.example")).await;
        assert_eq!(answer.status, 409, "{tenant}");
        let faults = answer.faults("conflict");
        assert_eq!(faults, [("/id".to_owned(), "is taken".to_owned())], "{tenant}");
    }
}
