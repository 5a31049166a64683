//! Lists: page after page, while users come and go.

use serde_json::Value;

use super::{USERS, on_every_database, path, user};
use crate::{client::Client, databases::Database};

on_every_database!(
    pages_follow_each_other_while_users_come_and_go,
    a_page_that_is_just_full_is_the_last,
    limits_and_cursors_outside_their_range_are_refused,
);

async fn fill(client: &Client, users: usize) -> Vec<Value> {
    let mut made = Vec::new();
    for n in 0..users {
        let body = user(&format!("User {n}"), &format!("user{n}@x.example"));
        made.push(client.post(USERS, &body).await.expect(201).json());
    }
    made
}

async fn page(client: &Client, query: &str) -> (Vec<Value>, Option<String>) {
    let page = client.get(&format!("{USERS}{query}")).await.expect(200).json();
    let fields: Vec<&String> = page.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["items", "next"]);
    (
        page["items"].as_array().unwrap().clone(),
        page["next"].as_str().map(str::to_owned),
    )
}

async fn pages_follow_each_other_while_users_come_and_go(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    let users = fill(&client, 12).await;

    let (first, next) = page(&client, "?limit=3").await;
    assert_eq!(first, users[..3]);
    // The user that the cursor stands at, and the one that would be next.
    for gone in [&users[2], &users[3]] {
        client.delete(&path(gone)).await.expect(204);
    }
    let (second, next) = page(&client, &format!("?limit=3&after={}", next.unwrap())).await;
    assert_eq!(second, users[4..7]);
    // One that was on a page already, one that is still to come, and a new one.
    client.delete(&path(&users[0])).await.expect(204);
    client.delete(&path(&users[9])).await.expect(204);
    let late = client
        .post(USERS, &user("Late", "late@x.example"))
        .await
        .expect(201)
        .json();
    let third_query = format!("?limit=3&after={}", next.unwrap());
    let (third, next) = page(&client, &third_query).await;
    assert_eq!(third, [users[7].clone(), users[8].clone(), users[10].clone()]);
    let (last, end) = page(&client, &format!("?limit=3&after={}", next.unwrap())).await;
    assert_eq!((last, end), (vec![users[11].clone(), late], None));
    // A page can be asked for again.
    assert_eq!(page(&client, &third_query).await.0, third);
}

async fn a_page_that_is_just_full_is_the_last(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    assert_eq!(page(&client, "").await, (Vec::new(), None));
    let users = fill(&client, 51).await;
    assert_eq!(page(&client, "?limit=51").await, (users.clone(), None));
    assert_eq!(page(&client, "?limit=200").await, (users.clone(), None));
    // Fifty by default.
    let (first, next) = page(&client, "").await;
    assert_eq!(first, users[..50]);
    assert_eq!(
        page(&client, &format!("?after={}", next.unwrap())).await,
        (users[50..].to_vec(), None)
    );
    // Nothing is after the last one.
    let (_, next) = page(&client, "?limit=50").await;
    client.delete(&path(&users[50])).await.expect(204);
    assert_eq!(
        page(&client, &format!("?after={}", next.unwrap())).await,
        (Vec::new(), None)
    );
    // One by one.
    let (mut walked, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let (items, next) = page(&client, &query).await;
        assert_eq!(items.len(), 1);
        walked.extend(items);
        match next {
            Some(next) => query = format!("?limit=1&after={next}"),
            None => break,
        }
    }
    assert_eq!(walked, users[..50]);
}

async fn limits_and_cursors_outside_their_range_are_refused(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    fill(&client, 2).await;
    let (_, cursor) = page(&client, "?limit=1").await;
    let cursor = cursor.unwrap();
    let long = "A".repeat(5000);
    for limit in [
        "0",
        "201",
        "-1",
        "abc",
        "",
        "1.5",
        "1e2",
        "99999999999999999999",
        "50%00",
        "%D9%A1",
    ] {
        let answer = client.get(&format!("{USERS}?limit={limit}")).await;
        assert_eq!(
            (answer.status, answer.faults("request_invalid")[0].0.as_str()),
            (400, "limit"),
            "{limit}"
        );
    }
    let changed = format!("{}!", &cursor[..cursor.len() - 1]);
    for after in ["abc", "1", "", "null", "%00", &changed, &cursor[1..], &long] {
        let answer = client.get(&format!("{USERS}?after={after}")).await;
        assert_eq!(
            (answer.status, answer.faults("request_invalid")[0].0.as_str()),
            (400, "after"),
            "{after}"
        );
        assert!(answer.text().len() < 1000);
    }
    let both = client.get(&format!("{USERS}?limit=0&after=abc")).await;
    let places: Vec<String> = both
        .faults("request_invalid")
        .into_iter()
        .map(|(place, _)| place)
        .collect();
    assert_eq!(
        (both.status, places),
        (400, vec!["limit".to_owned(), "after".to_owned()])
    );
    let twice = client.get(&format!("{USERS}?limit=1&limit=2")).await;
    assert_eq!(
        (twice.status, twice.faults("request_invalid")[0].0.as_str()),
        (400, "limit")
    );
    // Every good one.
    for limit in ["1", "2", "199", "200"] {
        client
            .get(&format!("{USERS}?limit={limit}&after={cursor}"))
            .await
            .expect(200);
    }
}
