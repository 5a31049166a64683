//! What one answer may cost.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    case::Case,
    shop::{Role, Shop},
};

/// Each order of one customer is written for each order of each level, and would soon fill the memory.
const AROUND: &str = "orders(customer(orders(customer(orders(id)))))";

/// A column under 900 names.
fn aliases(column: &str) -> String {
    let names: Vec<String> = (0..900).map(|number| format!("a{number}:{column}")).collect();
    names.join(",")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_repeat_themselves_are_bounded() {
    let shop = Shop::open().await;
    let note = "x".repeat(100);
    let order = json!({"customer_id": 5, "remark": note});
    let orders = Value::Array(vec![order; 400]);
    let post = Case::new(Role::Clerk, Method::POST, "orders").body(&orders);
    post.send(&shop, 201).await;
    let path = format!("customers?id=eq.5&select={AROUND}");
    let problem = Case::get(Role::Clerk, &path).refused(&shop, 400, "54000").await;
    assert_eq!(
        problem["message"],
        "more than 32 MiB would be repeated in the answer, at 'customer'"
    );
    Case::get(Role::Clerk, &path)
        .header("Accept", "text/csv")
        .refused(&shop, 400, "54000")
        .await;
    let path = format!("orders?select={}", aliases("remark"));
    for form in ["application/json", "text/csv"] {
        let problem = Case::get(Role::Clerk, &path)
            .header("Accept", form)
            .refused(&shop, 400, "54000")
            .await;
        let message = problem["message"].as_str().unwrap();
        assert!(
            message.starts_with("more than 32 MiB would be repeated in the answer, at 'a"),
            "{form}: {message}"
        );
    }

    // Such a change is not made either.
    Case::new(
        Role::Clerk,
        Method::PATCH,
        &format!("customers?id=eq.5&select={AROUND}"),
    )
    .body(&json!({"name": "changed"}))
    .prefer("return=representation")
    .refused(&shop, 400, "54000")
    .await;
    Case::get(
        Role::Clerk,
        "customers?id=eq.5&select=name,orders(customer(id))&orders.limit=1",
    )
    .gives(
        &shop,
        200,
        json!([{"name": "Zoë 50%_*", "orders": [{"customer": {"id": 5}}]}]),
    )
    .await;
}

/// SQLite compares a long pattern with a long text for seconds, and cannot be stopped meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_a_pattern_is_bounded() {
    let shop = Shop::open().await;
    let path = |operator: &str, length: usize| format!("customers?select=id&name={operator}{}", "a".repeat(length));
    for operator in ["like.", "ilike.", "not.like."] {
        Case::get(Role::Clerk, &path(operator, 256)).send(&shop, 200).await;
        let problem = Case::get(Role::Clerk, &path(operator, 257))
            .refused(&shop, 400, "54000")
            .await;
        assert_eq!(problem["message"], "a pattern has more than 256 bytes", "{operator}");
        assert_eq!(problem["errors"][0]["parameter"], "name", "{problem}");
    }
    let listed = format!("customers?select=id&name=like(any).{{a,{}}}", "a".repeat(257));
    Case::get(Role::Clerk, &listed).refused(&shop, 400, "54000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_not_made_if_its_answer_is_too_large_only_as_csv() {
    let shop = Shop::open().await;
    // Each of its texts is 3 bytes as JSON, and 5 as CSV.
    let body = json!({"name": "changed", "info": vec![""; 8000]}).to_string();
    let path = format!("products?id=eq.1&select={}", aliases("info"));
    let before = shop.get("sqlite", Role::Clerk, "products?id=eq.1").await.json();
    for (form, status) in [("text/csv", 400), ("application/json", 200)] {
        let headers = [("Accept", form), ("Prefer", "return=representation")];
        let answer = shop
            .send(
                "sqlite",
                Role::Clerk,
                Method::PATCH,
                &path,
                &headers,
                Some(body.clone()),
            )
            .await;
        assert_eq!(
            answer.status,
            status,
            "{form}: {}",
            &answer.body[..answer.body.len().min(500)]
        );
        let after = shop.get("sqlite", Role::Clerk, "products?id=eq.1").await.json();
        assert_eq!(after == before, status == 400, "{form}: {}", after[0]["name"]);
    }
}
