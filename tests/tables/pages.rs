//! Pages, counts and the forms of answers.

use reqwest::Method;
use serde_json::json;

use crate::{
    case::Case,
    shop::{KINDS, Role, Shop},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_which_rows_it_has_and_of_how_many() {
    let shop = Shop::open_with(4).await;
    let get = |path: &str| Case::get(Role::Clerk, path);
    let all = get("customers?select=id").send(&shop, 200).await;
    assert_eq!(all.header("content-range"), "0-3/*");
    for (path, status, range) in [
        ("customers?select=id&limit=2", 206, "0-1/5"),
        ("customers?select=id&limit=2&offset=3", 206, "3-4/5"),
        ("customers?select=id", 206, "0-3/5"),
        ("customers?select=id&id=gt.3", 200, "0-1/2"),
        ("customers?select=id&id=gt.9", 200, "*/0"),
        ("customers?select=id&limit=0", 206, "*/5"),
        ("customers?select=id&offset=5", 206, "*/5"),
        ("orders?select=id,items!inner(line)&limit=1", 206, "0-0/3"),
    ] {
        let page = get(path).prefer("count=exact").send(&shop, status).await;
        assert_eq!(page.header("content-range"), range, "{path}");
        assert_eq!(page.header("preference-applied"), "count=exact");
        let head = Case::new(Role::Clerk, Method::HEAD, path)
            .prefer("count=exact")
            .send(&shop, status)
            .await;
        assert_eq!(
            (head.header("content-range"), head.body.as_str()),
            (range, ""),
            "{path}"
        );
    }
    let beyond = get("customers?offset=6")
        .prefer("count=exact")
        .refused(&shop, 416, "PGRST103")
        .await;
    assert_eq!(
        beyond["details"],
        "An offset of 6 was requested, but there are only 5 rows."
    );
    for (range, content_range, ids) in [
        ("0-1", "0-1/*", json!([{"id": 1}, {"id": 2}])),
        ("3-", "3-4/*", json!([{"id": 4}, {"id": 5}])),
        ("items=1-1", "1-1/*", json!([{"id": 2}])),
    ] {
        let page = get("customers?select=id&order=id")
            .header("Range-Unit", "items")
            .header("Range", range);
        let page = page.gives(&shop, 200, ids).await;
        assert_eq!(page.header("content-range"), content_range);
    }
    // No sum of these numbers overflows.
    let (most, beyond) = (u64::MAX, u64::MAX - 1);
    for (path, range) in [("", format!("0-{most}")), ("&offset=0", format!("0-{beyond}"))] {
        get(&format!("customers?select=id&order=id&limit=3{path}"))
            .header("Range", &range)
            .gives(&shop, 200, json!([{"id": 1}, {"id": 2}, {"id": 3}]))
            .await;
    }
    for range in [format!("{most}-{most}"), format!("{beyond}-")] {
        get("customers")
            .header("Range", &range)
            .refused(&shop, 416, "PGRST103")
            .await;
    }
    get("customers")
        .header("Range", "5-1")
        .refused(&shop, 416, "PGRST103")
        .await;
    get("customers?limit=-1").refused(&shop, 416, "PGRST103").await;
}

/// The ids of the rows on all pages, by the links from one to the next.
async fn ids_of_pages(shop: &Shop, kind: &str, path: &str) -> Vec<i64> {
    let mut path = path.to_owned();
    let mut found = Vec::new();
    for _ in 0..4 {
        let page = shop.get(kind, Role::Clerk, &path).await;
        assert_eq!(page.status, 200, "{kind}: {path}: {page:?}");
        let rows = page.json();
        found.extend(rows.as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()));
        let Some(link) = page.headers.get("link") else { break };
        let link = link.to_str().unwrap().strip_prefix("</rest/v1/").unwrap();
        path = link.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert!(path.contains("after="), "{path}");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_repeats_a_column_has_pages() {
    let shop = Shop::open().await;
    let often = vec!["id"; 400].join(",");
    for kind in KINDS {
        let path = format!("customers?order=rating,{often}&limit=2&select=id");
        assert_eq!(ids_of_pages(&shop, kind, &path).await, [3, 5, 1, 4, 2], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_one_another_by_their_links() {
    let shop = Shop::open().await;
    for (order, expected) in [
        ("", vec![1, 2, 3, 4, 5]),
        ("order=rating&", vec![3, 5, 1, 4, 2]),
        ("order=rating.desc.nullsfirst&", vec![2, 4, 1, 5, 3]),
        ("order=rating.desc.nullslast,name&", vec![4, 1, 5, 3, 2]),
        ("order=vip.desc,name.desc,id.desc&", vec![4, 1, 5, 2, 3]),
        ("order=joined.nullsfirst&", vec![3, 5, 4, 1, 2]),
    ] {
        // MariaDB sorts `bob` before `Zoë`, as people do, and others after it.
        let by_name = order.contains("name");
        for kind in KINDS {
            let mut found = ids_of_pages(&shop, kind, &format!("customers?{order}limit=2&select=id")).await;
            if by_name {
                found.sort_unstable();
                assert_eq!(found, [1, 2, 3, 4, 5], "{kind}: {order}");
            } else {
                assert_eq!(found, expected, "{kind}: {order}");
            }
        }
    }
    let other = "customers?order=name&after=WyJpZGFsIiwiMSJd";
    Case::get(Role::Clerk, other).refused(&shop, 400, "PGRST100").await;
    Case::get(Role::Clerk, "customers?after=x")
        .refused(&shop, 400, "PGRST100")
        .await;
    // A role that may not know the key goes on by offsets.
    let page = shop
        .get(
            "postgresql",
            Role::Clerk,
            "orders?select=id,customer(name)&order=customer(name)&limit=1",
        )
        .await;
    assert!(page.header("link").contains("offset=1"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_the_form_that_is_accepted() {
    let shop = Shop::open().await;
    let object = "application/vnd.pgrst.object+json";
    let one = Case::get(Role::Clerk, "customers?select=id,email&id=eq.3").header("Accept", object);
    let one = one.gives(&shop, 200, json!({"id": 3, "email": null})).await;
    assert_eq!(
        one.header("content-type"),
        "application/vnd.pgrst.object+json; charset=utf-8"
    );
    let stripped = Case::get(Role::Clerk, "customers?select=id,email&id=eq.3");
    let stripped = stripped.header("Accept", "application/vnd.pgrst.object+json;nulls=stripped");
    stripped.gives(&shop, 200, json!({"id": 3})).await;
    for (path, rows) in [("customers?id=eq.99", 0), ("customers?id=lt.4", 3)] {
        let refused = Case::get(Role::Clerk, path)
            .header("Accept", object)
            .refused(&shop, 406, "PGRST116")
            .await;
        assert_eq!(refused["details"], format!("The result contains {rows} rows"));
    }
    let csv = Case::get(Role::Clerk, "customers?select=id,name,email,vip&id=in.(2,3)").header("Accept", "text/csv");
    let csv = csv.send(&shop, 200).await;
    assert_eq!(
        csv.body,
        "id,name,email,vip\n2,bob,bob@x.org,false\n3,\"Cid, \"\"the\"\" O'Neil\",,false"
    );
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    for (path, body) in [
        (
            "orders?select=id,...customer(name,vip),total&order=id&limit=2",
            "id,name,vip,total\n1,Ann,true,10.5\n2,Ann,true,20",
        ),
        (
            "order_items?select=line,...order(id,...customer(at:id)),qty&order_id=eq.3&limit=1&line=eq.1",
            "line,id,at,qty\n1,3,2,1",
        ),
        // A spread row may have no members.
        (
            "orders?select=id,...customer(orders()),total&order=id&limit=2",
            "id,total\n1,10.5\n2,20",
        ),
        (
            "order_items?select=...order(...customer(orders())),line,qty&order_id=eq.3&limit=1&line=eq.1",
            "line,qty\n1,1",
        ),
        (
            "orders?select=id,%22a:b%22:customer(id)&id=eq.3",
            "id,a:b\n3,\"{\"\"id\"\":2}\"",
        ),
    ] {
        let csv = Case::get(Role::Clerk, path).header("Accept", "text/csv");
        assert_eq!(csv.send(&shop, 200).await.body, body, "{path}");
    }
    Case::get(Role::Clerk, "orders?select=...customer(name),name:remark")
        .refused(&shop, 400, "PGRST100")
        .await;
    let other = Case::get(Role::Clerk, "customers").header("Accept", "image/png");
    other.refused(&shop, 406, "PGRST107").await;
}
