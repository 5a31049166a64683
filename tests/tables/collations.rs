//! Texts that a database finds equal and that are not the same: they are kept apart everywhere, and
//! only its constraints find them equal.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::shop::{Answer, Role, Shop, secret};

const KINDS: [&str; 2] = ["sqlite", "mysql"];

const SQLITE: &str = "\
CREATE TABLE codes (code varchar(20) COLLATE NOCASE NOT NULL PRIMARY KEY, name varchar(20) NOT NULL);
CREATE TABLE labels (code varchar(20) COLLATE NOCASE NOT NULL PRIMARY KEY, note varchar(20));
INSERT INTO labels (code, note) VALUES ('A', 'kept');
CREATE TABLE items (id integer NOT NULL PRIMARY KEY, code varchar(20) NOT NULL REFERENCES codes (code));
CREATE TABLE things (id varchar(36) NOT NULL PRIMARY KEY, n integer NOT NULL);
INSERT INTO codes (code, name) VALUES ('A', 'first'), ('b', 'second');
INSERT INTO items (id, code) VALUES (1, 'a'), (2, 'b'), (3, 'A');
INSERT INTO things (id, n) VALUES ('0F8FAD5B-D9CB-469F-A165-70867728950E', 1), ('0f8fad5b-d9cb-469f-a165-70867728950d', 2),
    ('AF8FAD5B-D9CB-469F-A165-70867728950E', 3), ('bf8fad5b-d9cb-469f-a165-70867728950e', 4);
";

const TABLES: &str = "\
tables:
  codes:
    key: [code]
    columns: { code: { type: text }, name: { type: text } }
    allow: { clerk: { read: {}, create: {}, update: {} } }
  labels:
    key: [code]
    columns: { code: { type: text }, note: { type: text, nullable: true } }
    allow: { clerk: { read: {}, create: {}, update: { columns: [note] } } }
  items:
    key: [id]
    columns: { id: { type: int8 }, code: { type: text } }
    relations: { of: { to: codes, on: { code: code } } }
    allow: { clerk: { read: {} } }
  things:
    key: [id]
    columns: { id: { type: uuid }, n: { type: int4 } }
    allow: { clerk: { read: {}, create: {}, update: {}, delete: {} } }
";

async fn collated() -> Shop {
    let mysql = SQLITE
        .replace(" COLLATE NOCASE", "")
        .replace("varchar(36)", "char(36) CHARACTER SET ascii COLLATE ascii_bin");
    Shop::of(&KINDS, 1000, TABLES, &[("sqlite", SQLITE), ("mysql", &mysql)]).await
}

async fn send(shop: &Shop, kind: &str, method: Method, path: &str, prefer: &str, body: Value) -> Answer {
    let prefer = [("Prefer", prefer)];
    shop.send(kind, Role::Clerk, method, path, &prefer, Some(body.to_string()))
        .await
}

async fn get(shop: &Shop, kind: &str, path: &str) -> Value {
    let answer = shop.get(kind, Role::Clerk, path).await;
    assert_eq!(answer.status, 200, "{kind}: {path}: {}", answer.body);
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_compared_exactly_but_by_constraints() {
    let shop = collated().await;
    for kind in KINDS {
        for (path, expected) in [
            ("codes?select=name&code=eq.a", json!([])),
            ("codes?select=name&code=eq.A", json!([{"name": "first"}])),
            ("codes?select=name&code=in.(a,B,b)", json!([{"name": "second"}])),
            (
                "codes?select=name&code=neq.a&order=name",
                json!([{"name": "first"}, {"name": "second"}]),
            ),
            ("codes?select=name&code=isdistinct.A", json!([{"name": "second"}])),
            // A row is embedded, and kept by `!inner`, if the texts are the same.
            (
                "items?select=id,of(name)&order=id",
                json!([{"id": 1, "of": null}, {"id": 2, "of": {"name": "second"}}, {"id": 3, "of": {"name": "first"}}]),
            ),
            (
                "items?select=id,of!inner(name)&order=id",
                json!([{"id": 2, "of": {"name": "second"}}, {"id": 3, "of": {"name": "first"}}]),
            ),
            ("items?select=id,of(name)&of=is.null", json!([{"id": 1, "of": null}])),
            (
                "items?select=id,of()&or=(id.eq.9,of.not.is.null)&order=id",
                json!([{"id": 2}, {"id": 3}]),
            ),
            (
                "items?select=id,of(name)&order=of(name).desc.nullslast",
                json!([{"id": 2, "of": {"name": "second"}}, {"id": 3, "of": {"name": "first"}}, {"id": 1, "of": null}]),
            ),
        ] {
            assert_eq!(get(&shop, kind, path).await, expected, "{kind}: {path}");
        }
        let merge = "resolution=merge-duplicates, return=representation";
        let one = json!({"code": "a", "name": "merged"});
        let answer = send(&shop, kind, Method::POST, "codes", merge, one).await;
        let expected = json!([{"code": "A", "name": "merged"}]);
        assert_eq!((answer.status, answer.json()), (200, expected), "{kind}");
        let several = json!([{"code": "B", "name": "again"}, {"code": "c", "name": "new"}]);
        let answer = send(&shop, kind, Method::POST, "codes", merge, several).await;
        let expected = json!([{"code": "b", "name": "again"}, {"code": "c", "name": "new"}]);
        assert_eq!((answer.status, answer.json()), (201, expected), "{kind}");
        let ignore = "resolution=ignore-duplicates, count=exact";
        let answer = send(
            &shop,
            kind,
            Method::POST,
            "codes",
            ignore,
            json!({"code": "C", "name": "no"}),
        )
        .await;
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (201, "*/0"),
            "{kind}: {answer:?}"
        );
        // A text is like itself, also if a database knows no small letter of one of its own.
        let row = json!({"code": "Édith", "name": "other"});
        let answer = send(&shop, kind, Method::POST, "codes", "return=minimal", row).await;
        assert_eq!(answer.status, 201, "{kind}: {answer:?}");
        let found = get(&shop, kind, "codes?select=code&code=ilike.Éd*").await;
        assert_eq!(found, json!([{"code": "Édith"}]), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_there_twice_by_its_collation_is_refused() {
    let shop = collated().await;
    let merge = "resolution=merge-duplicates, return=representation";
    let ignore = "resolution=ignore-duplicates, return=representation";
    for kind in KINDS {
        for (one, other) in [("x", "X"), ("A", "a")] {
            let twice = json!([{"code": one, "name": "one"}, {"code": other, "name": "other"}]);
            let answer = send(&shop, kind, Method::POST, "codes", merge, twice).await;
            assert_eq!(
                (answer.status, &answer.json()["code"]),
                (400, &"21000".into()),
                "{kind}: {answer:?}"
            );
        }
        let unchanged = json!([{"name": "first"}, {"name": "second"}]);
        assert_eq!(
            get(&shop, kind, "codes?select=name&order=name").await,
            unchanged,
            "{kind}"
        );
        let twice = json!([{"code": "x", "name": "one"}, {"code": "X", "name": "other"}]);
        let answer = send(&shop, kind, Method::POST, "codes", ignore, twice).await;
        assert_eq!(answer.json(), json!([{"code": "x", "name": "one"}]), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_given_alone_stays_as_it_is_spelled() {
    let sql = "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE labels (code varchar(20) COLLATE any_case PRIMARY KEY, note varchar(20));
        INSERT INTO labels (code, note) VALUES ('A', 'kept');";
    let postgresql = Shop::of(&["postgresql"], 1000, TABLES, &[("postgresql", sql)]).await;
    let others = collated().await;
    let merge = "resolution=merge-duplicates, return=representation";
    let kept = json!([{"code": "A", "note": "kept"}]);
    for (shop, kind) in [(&others, "sqlite"), (&others, "mysql"), (&postgresql, "postgresql")] {
        for (method, path) in [(Method::POST, "labels"), (Method::PUT, "labels?code=eq.a")] {
            let answer = send(shop, kind, method, path, merge, json!({"code": "a"})).await;
            assert_eq!((answer.status, answer.json()), (200, kept.clone()), "{kind}: {path}");
        }
        for (one, other) in [("A", "a"), ("a", "A")] {
            let twice = json!([{"code": one}, {"code": other}]);
            let answer = send(shop, kind, Method::POST, "labels", merge, twice).await;
            let code = answer.json()["code"].clone();
            assert_eq!((answer.status, code), (400, "21000".into()), "{kind}: {answer:?}");
        }
        assert_eq!(get(shop, kind, "labels").await, kept, "{kind}");
    }
}

const POSTGRESQL_MIXED: &str = "\
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE codes (code varchar(20) COLLATE \"C\" PRIMARY KEY, other varchar(20) COLLATE any_case NOT NULL UNIQUE, n integer NOT NULL);
CREATE TABLE items (id integer PRIMARY KEY, code varchar(20) COLLATE \"POSIX\" NOT NULL, other varchar(20) COLLATE any_case NOT NULL);
CREATE TABLE marks (id integer PRIMARY KEY, code varchar(20) COLLATE any_case NOT NULL, other varchar(20) NOT NULL);
";

const MYSQL_MIXED: &str = "\
CREATE TABLE codes (code varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, other varchar(20) COLLATE utf8mb4_unicode_ci NOT NULL UNIQUE, n integer NOT NULL);
CREATE TABLE items (id integer PRIMARY KEY, code varchar(20) COLLATE utf8mb4_unicode_ci NOT NULL, other varchar(20) COLLATE utf8mb4_general_ci NOT NULL);
CREATE TABLE marks (id integer PRIMARY KEY, code varchar(20) COLLATE utf8mb4_bin NOT NULL, other varchar(20) CHARACTER SET latin1 NOT NULL);
";

const SQLITE_MIXED: &str = "\
CREATE TABLE codes (code varchar(20) COLLATE NOCASE PRIMARY KEY NOT NULL, other varchar(20) NOT NULL UNIQUE, n integer NOT NULL);
CREATE TABLE items (id integer PRIMARY KEY, code varchar(20) NOT NULL, other varchar(20) COLLATE NOCASE NOT NULL);
CREATE TABLE marks (id integer PRIMARY KEY, code varchar(20) COLLATE RTRIM NOT NULL, other varchar(20) NOT NULL);
";

const MIXED_ROWS: &str = "\
INSERT INTO codes (code, other, n) VALUES ('A', 'A', 1), ('b', 'b', 2);
INSERT INTO items (id, code, other) VALUES (1, 'a', 'a'), (2, 'A', 'A'), (3, 'b', 'B'), (4, 'b', 'b');
INSERT INTO marks (id, code, other) VALUES (1, 'a', 'a'), (2, 'A', 'A'), (3, 'b', 'B'), (4, 'b', 'b');
";

const MIXED_TABLES: &str = "\
tables:
  codes:
    key: [code]
    columns: { code: { type: text }, other: { type: text }, n: { type: int4 } }
    relations:
      items: { to: items, on: { code: code }, many: true }
      others: { to: items, on: { other: other }, many: true }
      both: { to: items, on: { code: code, other: other }, many: true }
      marks: { to: marks, on: { code: code }, many: true }
    allow: { clerk: { read: {}, create: {}, update: {} } }
  items:
    key: [id]
    columns: { id: { type: int8 }, code: { type: text }, other: { type: text } }
    relations:
      of: { to: codes, on: { code: code } }
      of_other: { to: codes, on: { other: other } }
    allow: { clerk: { read: {}, update: {} } }
  marks:
    key: [id]
    columns: { id: { type: int8 }, code: { type: text }, other: { type: text } }
    relations:
      of: { to: codes, on: { code: code } }
      of_other: { to: codes, on: { other: other } }
    allow: { clerk: { read: {} } }
";

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_different_collations_are_a_relation() {
    let kinds = ["sqlite", "postgresql", "mysql"];
    let scripts = [
        ("sqlite", format!("{SQLITE_MIXED}{MIXED_ROWS}")),
        ("postgresql", format!("{POSTGRESQL_MIXED}{MIXED_ROWS}")),
        ("mysql", format!("{MYSQL_MIXED}{MIXED_ROWS}")),
    ];
    let scripts: Vec<(&str, &str)> = scripts.iter().map(|(kind, sql)| (*kind, sql.as_str())).collect();
    let shop = Shop::of(&kinds, 1000, MIXED_TABLES, &scripts).await;
    for kind in kinds {
        for (path, expected) in [
            (
                "codes?select=n,items(id)&order=n&items.order=id",
                json!([{"n": 1, "items": [{"id": 2}]}, {"n": 2, "items": [{"id": 3}, {"id": 4}]}]),
            ),
            (
                "codes?select=n,others(id)&order=n&others.order=id&others.limit=1",
                json!([{"n": 1, "others": [{"id": 2}]}, {"n": 2, "others": [{"id": 4}]}]),
            ),
            (
                "codes?select=n,both(id)&order=n",
                json!([{"n": 1, "both": [{"id": 2}]}, {"n": 2, "both": [{"id": 4}]}]),
            ),
            (
                "codes?select=n,marks(id,of(n))&order=n&marks.id=gt.3",
                json!([{"n": 1, "marks": []}, {"n": 2, "marks": [{"id": 4, "of": {"n": 2}}]}]),
            ),
            (
                "items?select=id,of!inner(n)&order=id.desc",
                json!([{"id": 4, "of": {"n": 2}}, {"id": 3, "of": {"n": 2}}, {"id": 2, "of": {"n": 1}}]),
            ),
            (
                "items?select=id,of_other(n)&of_other=not.is.null&order=id",
                json!([{"id": 2, "of_other": {"n": 1}}, {"id": 4, "of_other": {"n": 2}}]),
            ),
            (
                "marks?select=id,of_other(n)&order=of_other(n).desc.nullslast,id&id=in.(1,2,3)",
                json!([{"id": 2, "of_other": {"n": 1}}, {"id": 1, "of_other": null}, {"id": 3, "of_other": null}]),
            ),
            (
                "marks?select=id,of(n)&of=is.null&order=id",
                json!([{"id": 1, "of": null}]),
            ),
        ] {
            assert_eq!(get(&shop, kind, path).await, expected, "{kind}: {path}");
        }
        let changed = send(
            &shop,
            kind,
            Method::PATCH,
            "codes?select=n,items(id)&items.order=id&n=eq.2",
            "return=representation",
            json!({"n": 3}),
        )
        .await;
        let expected = json!([{"n": 3, "items": [{"id": 3}, {"id": 4}]}]);
        assert_eq!((changed.status, changed.json()), (200, expected), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn such_a_relation_is_known_from_the_first_request_on() {
    let mut tenants = Map::new();
    for (tenant, kind) in [("reads", "mysql"), ("changes", "mysql"), ("lax", "postgresql")] {
        tenants.insert(tenant.to_owned(), secret(kind, tenant).await);
    }
    let config = json!({
        "tenancy": {"pools": {"acquire_timeout": "60s", "connect_timeout": "60s"}},
        "server": {"request_timeout": "120s"},
    });
    let (mysql, postgresql) = (
        format!("{MYSQL_MIXED}{MIXED_ROWS}"),
        format!("{POSTGRESQL_MIXED}{MIXED_ROWS}"),
    );
    let scripts = [("mysql", mysql.as_str()), ("postgresql", postgresql.as_str())];
    let shop = Shop::over(tenants, config, MIXED_TABLES, &scripts).await;
    for tenant in ["reads", "lax"] {
        let kept = get(&shop, tenant, "items?select=id,of_other!inner(n)&order=id").await;
        let expected = json!([{"id": 2, "of_other": {"n": 1}}, {"id": 4, "of_other": {"n": 2}}]);
        assert_eq!(kept, expected, "{tenant}");
    }
    let changed = send(
        &shop,
        "changes",
        Method::PATCH,
        "items?select=id,of_other!inner(n)&id=lt.3",
        "return=representation",
        json!({"code": "b"}),
    )
    .await;
    let expected = json!([{"id": 2, "of_other": {"n": 1}}]);
    assert_eq!((changed.status, changed.json()), (200, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_equal_to_keys_of_two_statements_is_embedded_once() {
    // One statement takes 8,192 keys.
    let rows = "\
INSERT INTO codes (code, other, n) WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 8200)
    SELECT 'c' || n, CASE n WHEN 1 THEN 'A' WHEN 8200 THEN 'a' ELSE 'x' || n END, n FROM numbers;
INSERT INTO items (id, code, other) VALUES (1, 'c1', 'a'), (2, 'c1', 'A');
";
    let script = format!("{SQLITE_MIXED}{rows}");
    let shop = Shop::of(&["sqlite"], 10_000, MIXED_TABLES, &[("sqlite", &script)]).await;
    let found = get(&shop, "sqlite", "codes?select=n,others(id)&order=n").await;
    assert_eq!(found.as_array().map(Vec::len), Some(8200));
    assert_eq!(found[0], json!({"n": 1, "others": [{"id": 2}]}));
    assert_eq!(found[8199], json!({"n": 8200, "others": [{"id": 1}]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uuid_in_capitals_is_found_by_either_spelling() {
    let shop = collated().await;
    let capitals = "0F8FAD5B-D9CB-469F-A165-70867728950E";
    for kind in KINDS {
        for test in [
            format!("eq.{capitals}"),
            format!("eq.{}", capitals.to_lowercase()),
            format!("in.({})", capitals.to_lowercase()),
        ] {
            let found = get(&shop, kind, &format!("things?id={test}")).await;
            assert_eq!(found, json!([{"id": capitals, "n": 1}]), "{kind}: {test}");
        }
        let others = get(&shop, kind, &format!("things?select=n&id=neq.{capitals}&order=n")).await;
        assert_eq!(others, json!([{"n": 2}, {"n": 3}, {"n": 4}]), "{kind}");
        let mut seen = Vec::new();
        let mut path = "things?limit=1".to_owned();
        for _ in 0..6 {
            let page = shop.get(kind, Role::Clerk, &path).await;
            seen.extend(
                page.json()
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|row| row["n"].as_i64().unwrap()),
            );
            match page
                .header("link")
                .strip_prefix("</rest/v1/")
                .and_then(|next| next.split_once('>'))
            {
                Some((next, _)) => path = next.to_owned(),
                None => break,
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4], "{kind}");
        let path = format!("things?id=eq.{}", capitals.to_lowercase());
        let answer = send(
            &shop,
            kind,
            Method::PATCH,
            &path,
            "return=representation",
            json!({"n": 9}),
        )
        .await;
        let expected = json!([{"id": capitals, "n": 9}]);
        assert_eq!((answer.status, answer.json()), (200, expected), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uuid_in_capitals_is_replaced_by_either_spelling() {
    let shop = collated().await;
    let capitals = "0F8FAD5B-D9CB-469F-A165-70867728950E";
    let (small, other) = (capitals.to_lowercase(), "0f8fad5b-d9cb-469f-a165-70867728950d");
    for kind in KINDS {
        let path = format!("things?id=eq.{small}");
        let answer = send(
            &shop,
            kind,
            Method::PUT,
            &path,
            "return=representation",
            json!({"n": 5}),
        )
        .await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
        let merge = "resolution=merge-duplicates,return=representation";
        let rows = json!([{"id": other, "n": 7}, {"id": small, "n": 6}]);
        let answer = send(&shop, kind, Method::POST, "things", merge, rows).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
        let values: Vec<Value> = answer
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["n"].clone())
            .collect();
        assert_eq!(values, [7, 6], "{kind}: in the order of the body");
        let found = get(&shop, kind, &format!("things?id=eq.{capitals}&select=n")).await;
        assert_eq!(found, json!([{"n": 6}]), "{kind}");
        let all = get(&shop, kind, "things?select=n&order=n").await;
        assert_eq!(all, json!([{"n": 3}, {"n": 4}, {"n": 6}, {"n": 7}]), "{kind}");
    }
}
