//! What one answer may cost.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    case::Case,
    shop::{Role, Shop},
};

/// Each order of one customer is written for each order of each level, and would soon fill the memory.
const AROUND: &str = "orders(customer(orders(customer(orders(id)))))";

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_repeat_themselves_are_bounded() {
    let shop = Shop::open().await;
    let note = "x".repeat(100);
    let order = json!({"customer_id": 5, "remark": note});
    let orders = Value::Array(vec![order; 300]);
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
    let names: Vec<String> = (0..1400).map(|number| format!("a{number}:remark")).collect();
    let path = format!("orders?select={}", names.join(","));
    Case::get(Role::Clerk, &path).refused(&shop, 400, "54000").await;

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
