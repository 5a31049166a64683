//! Requests made at random: from the grammar that docs/tables.md shows, and from such ones with
//! bytes changed. `TENANTRY_QUERIES=1000000` makes more of them than an ordinary run.

use std::time::{Duration, Instant};

use sea_orm::Statement;
use serde_json::json;

use crate::{
    caller::Caller,
    declaration::Tables,
    model::{Model, Table},
    plan::{Page, condition::rule, planner::Planner, write::Reader},
    request::{body, query::query},
    sql::{self, Change, Conflict, Dialect, Target},
};

const DIALECTS: [Dialect; 4] = [Dialect::Postgresql, Dialect::Mysql, Dialect::Sqlite, Dialect::Oracle];

fn model() -> Model {
    let tables: Tables = serde_json::from_value(json!({
        "orders": {
            "key": ["id"],
            "columns": {
                "id": {"type": "int8"}, "customer_id": {"type": "int8"}, "total": {"type": "numeric"},
                "remark": {"type": "text", "nullable": true}, "placed_at": {"type": "timestamptz"},
                "paid": {"type": "bool"}, "state": {"type": {"enum": ["new", "paid"]}}
            },
            "relations": {
                "customer": {"to": "customers", "on": {"customer_id": "id"}},
                "items": {"to": "items", "on": {"id": "order_id"}, "many": true}
            },
            "allow": {
                "anon": {"read": {"rows": "remark=neq.{claims.zzsecretzz}"}},
                "clerk": {"read": {}, "create": {}, "update": {"rows": "remark=neq.{claims.zzsecretzz}"}}
            }
        },
        "customers": {
            "key": ["id"],
            "columns": {"id": {"type": "int8"}, "name": {"type": "text"}},
            "relations": {"orders": {"to": "orders", "on": {"id": "customer_id"}, "many": true}},
            "allow": {"clerk": {"read": {}}}
        },
        "items": {
            "key": ["order_id", "line"],
            "columns": {"order_id": {"type": "int8"}, "line": {"type": "int2"}, "text": {"type": "text"}},
            "relations": {"order": {"to": "orders", "on": {"order_id": "id"}}},
            "allow": {"clerk": {"read": {}}}
        }
    }))
    .unwrap();
    let faults = crate::TableDeclaration::check_all(&tables);
    assert!(faults.is_empty(), "{faults:?}");
    Model::new(&tables)
}

/// A small generator of numbers (xorshift), so that a failure is found again by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Every text that a client gives holds this word, which no statement may hold.
const MARK: &str = "zq7";

const EVIL: [&str; 8] = [
    "zq7'; DROP TABLE orders; --",
    "zq7\" OR 1=1",
    "zq7) OR (SELECT 1)=1",
    "zq7\\' UNION SELECT 2",
    "zq7$$x$$",
    "zq7`x`/*!50000 x*/",
    "zq7{claims.zzsecretzz}",
    "zq7%00%27",
];

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn text_test(random: &mut Random) -> String {
    let value = random.one(&EVIL);
    match random.below(5) {
        0 => format!("eq.{value}"),
        1 => format!("not.ilike.*{value}*"),
        2 => format!("in.(\"{}\",zq7b)", value.replace(['\\', '"'], "")),
        3 => format!("like(any).{{zq7*,\"{}\"}}", value.replace(['\\', '"'], "")),
        _ => format!("isdistinct.{value}"),
    }
}

fn test(random: &mut Random) -> (&'static str, String) {
    match random.below(6) {
        0 => (
            "id",
            format!("{}.{}", random.one(&["eq", "neq", "gt", "lte"]), random.below(1000)),
        ),
        1 => ("total", format!("not.gte.{}.5", random.below(1000))),
        2 => ("placed_at", "lt.2026-01-02T03:04:05Z".to_owned()),
        3 => ("paid", random.one(&["is.true", "is.not_null", "eq.false"]).to_owned()),
        4 => ("state", random.one(&["eq.new", "in.(new,paid)", "is.null"]).to_owned()),
        _ => ("remark", text_test(random)),
    }
}

fn group(random: &mut Random, depth: usize) -> String {
    let members: Vec<String> = (0..1 + random.below(3))
        .map(|_| match depth < 4 && random.below(3) == 0 {
            true => format!(
                "{}{}",
                random.one(&["and", "or", "not.and", "not.or"]),
                group(random, depth + 1)
            ),
            false => {
                let (name, test) = test(random);
                match name {
                    "remark" => "remark.eq.\"zq7, ) (\"".to_owned(),
                    _ => format!("{name}.{test}"),
                }
            }
        })
        .collect();
    format!("({})", members.join(","))
}

/// A query of the grammar.
fn valid(random: &mut Random) -> String {
    let selects = [
        "*",
        "id,sum:total",
        "id,customer(name)",
        "id,customer!inner(name),items(line,text)",
        "...customer(who:name),id",
        "id,c:customers(id,orders(id,items(*)))",
    ];
    let select = random.one(&selects);
    let mut parameters = vec![format!("select={select}")];
    for _ in 0..random.below(3) {
        let (name, test) = test(random);
        parameters.push(format!("{name}={}", encoded(&test)));
    }
    if random.below(2) == 0 {
        parameters.push(format!(
            "{}={}",
            random.one(&["and", "or", "not.or"]),
            encoded(&group(random, 0))
        ));
    }
    if random.below(2) == 0 {
        parameters.push(format!(
            "order={}",
            random.one(&["id.desc", "total.desc.nullslast,id", "remark.nullsfirst"])
        ));
    }
    if select.contains("items(line") {
        parameters.push(format!("items.text={}", encoded(&text_test(random))));
        parameters.push(format!("items.limit={}", random.below(9)));
    }
    parameters.push(format!("limit={}", random.below(99)));
    parameters.join("&")
}

/// Changes some bytes of a query.
fn mutated(random: &mut Random, query: &str) -> String {
    let mut bytes = query.as_bytes().to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len().max(1));
        let with = b"()=&.,*:!\"\\'{}%+<>-;$\x80 0azA"[random.below(26)];
        match random.below(3) {
            0 if !bytes.is_empty() => drop(bytes.remove(at)),
            1 => bytes.insert(at.min(bytes.len()), with),
            _ if !bytes.is_empty() => bytes[at] = with,
            _ => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a query, plans it and writes its statements, none of which may hold what the client wrote.
fn run(model: &Model, text: &str, role: &str) -> bool {
    let claims = json!({"role": role, "zzsecretzz": "zq7claim"});
    let claims = claims.as_object();
    let Ok(read) = query(text, &[]) else { return false };
    let table = model.table("orders").unwrap();
    for dialect in DIALECTS {
        let caller = Caller::new("tenant1", claims, "role", dialect);
        let planner = Planner::new(model, caller, &read, None);
        let Ok(mut plan) = planner.read(table) else {
            return false;
        };
        plan.page = Page {
            offset: 0,
            limit: Some(25),
        };
        let target = target(dialect, model, table);
        for statement in [
            sql::page(dialect, model, &plan, None, true),
            sql::delete(&target, &plan.condition, None),
            sql::locked(&target, &table.key, &plan.condition),
        ] {
            holds_no_mark(&statement, text);
        }
        for child in &plan.children {
            let keys = [vec![crate::value::Datum::Int(1)], vec![crate::value::Datum::Int(2)]];
            let joined = sql::Joined {
                keys: &keys,
                is_part: false,
                most: 10,
            };
            holds_no_mark(&sql::related(dialect, model, child, &joined), text);
        }
        if dialect == Dialect::Postgresql && !plan.is_flat() {
            plan.lay_out();
            holds_no_mark(&sql::tree(model, &plan, None, true, 10), text);
        }
    }
    true
}

fn target<'m>(dialect: Dialect, model: &'m Model, table: &'m Table) -> Target<'m> {
    Target {
        dialect,
        model,
        table,
        facts: None,
    }
}

fn holds_no_mark(statement: &Statement, text: &str) {
    let sql = &statement.sql;
    assert!(!sql.to_lowercase().contains(MARK), "{text}: {sql}");
}

/// Rows for a change.
fn rows(random: &mut Random) -> String {
    let row = |random: &mut Random, id: usize| {
        json!({
            "id": id, "customer_id": random.below(9), "total": "1.5", "remark": random.one(&EVIL),
            "placed_at": "2026-01-02T03:04:05Z", "paid": random.below(2) == 0, "state": random.one(&["new", "paid"]),
        })
    };
    let rows: Vec<_> = (0..1 + random.below(3)).map(|id| row(random, id)).collect();
    json!(rows).to_string()
}

/// Reads a body, and writes the statements that insert and change its rows.
fn change(model: &Model, text: &str) -> bool {
    let claims = json!({"role": "clerk", "zzsecretzz": "zq7claim"});
    let table = model.table("orders").unwrap();
    let grant = &table.roles["clerk"];
    let (create, update) = (grant.create.as_ref().unwrap(), grant.update.as_ref().unwrap());
    let Ok(body) = body::json(text.as_bytes()) else {
        return false;
    };
    for dialect in DIALECTS {
        let caller = Caller::new("tenant1", claims.as_object(), "role", dialect);
        let reader = Reader {
            table,
            table_place: model.place(table),
            facts: None,
            access: create,
            caller,
            columns: None,
            missing: None,
            given: None,
        };
        let Ok(rows) = reader.new_rows(&body) else { return false };
        let target = target(dialect, model, table);
        let allowed = rule(table, update, caller);
        let conflict = Conflict {
            target: &table.key,
            update: &rows.columns,
            allowed: &allowed,
        };
        let changes = rows.rows.iter().map(|row| Change {
            target: vec![crate::value::Datum::Int(1)],
            values: rows.columns.iter().copied().zip(row.iter().cloned()).collect(),
        });
        let changes: Vec<Change> = changes.collect();
        for statement in [
            sql::insert(&target, &rows.columns, &rows.rows, None),
            sql::insert_or(&target, &rows.columns, &rows.rows, Some(&conflict), None),
            sql::update_each(&target, &table.key, &changes, None),
            sql::update(&target, &changes[0].values, &allowed, None),
        ] {
            holds_no_mark(&statement, text);
        }
    }
    true
}

fn count() -> u64 {
    let count = std::env::var("TENANTRY_QUERIES").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(5_000)
}

#[test]
fn no_statement_holds_what_a_client_wrote() {
    let model = model();
    let mut understood = 0;
    for seed in 1..=count() {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let text = valid(&mut random);
        assert!(
            run(&model, &text, "clerk"),
            "seed {seed}: {text} is refused: {:?}",
            query(&text, &[])
        );
        understood += u64::from(run(&model, &mutated(&mut random, &text), "clerk"));
        run(&model, &text, "anon");
    }
    // Not every change of a byte breaks a query.
    assert!(understood > 0);
}

#[test]
fn no_statement_holds_what_a_body_says() {
    let model = model();
    let mut understood = 0;
    for seed in 1..=count() {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let text = rows(&mut random);
        assert!(change(&model, &text), "seed {seed}: {text} is refused");
        understood += u64::from(change(&model, &mutated(&mut random, &text)));
    }
    assert!(understood > 0);
}

/// How long it takes to read a query, at best.
fn fastest(text: &str, mut read: impl FnMut()) -> Duration {
    let each = (0..100).map(|_| {
        let began = Instant::now();
        read();
        began.elapsed()
    });
    let fastest = each.min().unwrap_or_default();
    println!("{} bytes in {fastest:?}: {}", text.len(), &text[..30]);
    fastest
}

/// 1 ms, or what that is in a build without optimization.
const SOON: Duration = match cfg!(debug_assertions) {
    true => Duration::from_millis(50),
    false => Duration::from_millis(1),
};

#[test]
fn a_long_query_is_read_in_less_than_1_ms() {
    let filters = |count: usize| -> String {
        let each = (0..count).map(|n| format!("remark.eq.\"zq7{n:09}\""));
        each.collect::<Vec<_>>().join(",")
    };
    for text in [
        format!("select=id&or=({})", filters(350)),
        format!("select=id&id=in.({})", vec!["123456"; 1200].join(",")),
        format!("select=id&remark=in.({}", "\"a,".repeat(2700)),
        format!("select=id&remark=in.(\"{}\")", "\\\"".repeat(4000)),
        format!("select=id&remark=like(any).{{{}}}", vec!["a*"; 2700].join(",")),
        format!("select=id&or=({})", vec!["remark.eq.{a"; 640].join(",")),
        format!("select=id&order={}", vec!["id"; 2700].join(",")),
        format!("select=id&{}", "%2".repeat(4000)),
        format!("select={}", vec!["item(a"; 1200].join(",")),
    ] {
        assert!(text.len() > 7900, "{}", text.len());
        let took = fastest(&text, || drop(query(&text, &[])));
        assert!(took < SOON, "{took:?}: {}", &text[..30]);
    }
}

#[test]
fn a_long_query_is_planned_in_less_than_10_ms() {
    let model = model();
    let claims = json!({"role": "clerk"});
    let caller = Caller::new("tenant1", claims.as_object(), "role", Dialect::Postgresql);
    let many = |item: fn(usize) -> String| (0..990).map(item).collect::<Vec<_>>().join(",");
    for text in [
        format!("select={}", many(|n| format!("a{n:03}:id"))),
        format!("select=id&id=in.({})", many(|n| format!("{n:07}"))),
        format!(
            "select=id&order={}",
            many(|_| "total.d".to_owned()).replace(".d", ".desc")
        ),
    ] {
        let read = query(&text, &[]).unwrap();
        let took = fastest(&text, || {
            let planned = Planner::new(&model, caller, &read, None).read(model.table("orders").unwrap());
            assert!(planned.is_ok());
        });
        assert!(took < SOON * 10, "{took:?}: {}", &text[..30]);
    }
}
