//! Names and addresses come back as they went in.

use super::{USERS, on_every_database, path, user};
use crate::databases::Database;

on_every_database!(
    every_character_of_a_name_is_kept,
    white_space_around_a_name_is_taken_off,
    the_longest_name_and_address_fit,
    addresses_are_kept_as_they_are_written,
);

async fn every_character_of_a_name_is_kept(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    let names = [
        "Zoë Ångström",
        // The same letter in two forms, which no database may take for each other's.
        "e\u{301}",
        "\u{e9}",
        "李小龍",
        "محمد علي",
        "👩‍👩‍👧‍👦 Family 🏳️‍🌈",
        "𝒜𝓃𝓃",
        "O'Brien\"; DROP TABLE users; --",
        "back\\slash \\n \\u0041 %s %_ {{tenant}} ${HOME} $1 ? :name",
        "<script>alert(1)</script> & &amp;",
        "a",
        "Two  spaces\u{a0}inside",
        "NULL",
        "\u{feff}mark",
    ];
    for (n, name) in names.into_iter().enumerate() {
        let made = client
            .post(USERS, &user(name, &format!("n{n}@x.example")))
            .await
            .expect(201)
            .json();
        assert_eq!(made["name"], name);
        assert_eq!(client.get(&path(&made)).await.expect(200).json(), made);
        let changed = client
            .put(
                &path(&made),
                &user(&format!("{name}{name}"), &format!("n{n}@x.example")),
            )
            .await;
        assert_eq!(changed.expect(200).json()["name"], format!("{name}{name}"));
    }
    let page = client.get(USERS).await.expect(200).json();
    let listed: Vec<&str> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["name"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = names.iter().map(|name| format!("{name}{name}")).collect();
    assert_eq!(listed, expected);
}

async fn white_space_around_a_name_is_taken_off(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    let padded = format!("{}Ann{}", " ".repeat(300), "\u{3000}\u{a0} ".repeat(100));
    for (n, name) in ["  Ann ", "\u{3000}Ann\u{2003}", &padded].into_iter().enumerate() {
        let made = client
            .post(USERS, &user(name, &format!("n{n}@x.example")))
            .await
            .expect(201)
            .json();
        assert_eq!(made["name"], "Ann");
        assert_eq!(client.get(&path(&made)).await.expect(200).json()["name"], "Ann");
        let changed = client
            .put(
                &path(&made),
                &user(&name.replace("Ann", "Bob"), &format!("n{n}@x.example")),
            )
            .await;
        assert_eq!(changed.expect(200).json()["name"], "Bob");
    }
}

async fn the_longest_name_and_address_fit(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    // 254 characters: 64 before the `@`, labels of at most 63 after it.
    let label = "d".repeat(61);
    let email = format!("{}@{label}.{label}.{label}.example", "l".repeat(64 - 8));
    let email = format!("{}{email}", "l".repeat(254 - email.len()));
    assert_eq!(email.len(), 254);
    for (n, character) in ["x", "é", "李", "🦀"].into_iter().enumerate() {
        let name = character.repeat(200);
        let email = if n == 0 {
            email.clone()
        } else {
            format!("n{n}@x.example")
        };
        let made = client.post(USERS, &user(&name, &email)).await.expect(201).json();
        assert_eq!(
            (made["name"].as_str(), made["email"].as_str()),
            (Some(name.as_str()), Some(email.as_str()))
        );
        assert_eq!(client.get(&path(&made)).await.expect(200).json(), made);
        let longer = client
            .post(USERS, &user(&character.repeat(201), "longer@x.example"))
            .await;
        assert_eq!(
            (longer.status, longer.faults("request_invalid")[0].0.as_str()),
            (400, "/name")
        );
    }
}

async fn addresses_are_kept_as_they_are_written(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    for email in [
        "First.Last+tag@Sub.Example.COM",
        "o'brien@x.example",
        "a@b.co",
        "!#$%&'*+/=?^_`{|}~-@x.example",
        "1@2.example",
    ] {
        let made = client.post(USERS, &user("Ann", email)).await.expect(201).json();
        assert_eq!(client.get(&path(&made)).await.expect(200).json()["email"], email);
    }
}
