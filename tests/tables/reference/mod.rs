//! Random declarations, rows, roles and requests, on each kind of database, beside a simple memory
//! that does what docs/tables.md says. It knows nothing of the program's own code.
//!
//! `TENANTRY_REFERENCE=100000` makes so many requests, `TENANTRY_REFERENCE_KINDS=sqlite` sends them
//! to these kinds of database alone, and `TENANTRY_REFERENCE_SEED` repeats a world that differed.

mod answer;
mod change;
mod declared;
mod done;
mod filter;
mod request;
mod value;
mod world;

use std::collections::BTreeMap;

use fastrand::Rng;
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::value::RawValue;

use crate::shop::{Answer, Shop};
use change::{Change, first_rows};
use done::denied;
use request::{Reader, encoded};
use world::{Asker, MAKER, ROLES, World};

/// The requests to each world.
const IN_A_WORLD: usize = 200;

/// So many worlds are there at once.
const AT_ONCE: usize = 6;

/// A request.
#[derive(Debug, Clone)]
struct Asked {
    method: Method,
    path: String,
    prefer: String,
    accept: &'static str,
    body: Option<String>,
}

/// What must be answered.
#[derive(Debug)]
enum Outcome {
    Rows {
        status: u16,
        /// The objects of the answer, as they are written; `None` if it has no body.
        rows: Option<Vec<String>>,
        is_ordered: bool,
        range: Option<String>,
    },
    One(u16, String),
    /// A unique value moves from one row of the body to an earlier one: some databases look at each
    /// row by itself, and others at all of them.
    Either,
    /// One of these statuses and codes.
    Refused(Vec<(u16, &'static str)>),
}

impl Outcome {
    fn refused(status: u16, code: &'static str) -> Self {
        Self::Refused(vec![(status, code)])
    }

    /// Another refusal is as right: the request is wrong in two ways.
    fn or(self, status: u16, code: &'static str) -> Self {
        match self {
            Self::Refused(mut any) => {
                any.push((status, code));
                Self::Refused(any)
            }
            other => other,
        }
    }

    /// As right as another refusal.
    fn or_as(self, other: Self) -> Self {
        match (self, other) {
            (Self::Refused(mut any), Self::Refused(more)) => {
                any.extend(more);
                Self::Refused(any)
            }
            (one, _) => one,
        }
    }

    fn compare(&self, answer: &Answer) -> Result<(), String> {
        match self {
            Self::Refused(any) => {
                let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
                let is_one = any
                    .iter()
                    .any(|(status, known)| *status == answer.status && *known == code);
                if is_one {
                    Ok(())
                } else {
                    Err(format!("is not refused by {any:?}"))
                }
            }
            Self::Either => Ok(()),
            Self::One(status, object) => match answer.status == *status && answer.body == *object {
                true => Ok(()),
                false => Err(format!("is not {object}")),
            },
            Self::Rows {
                status,
                rows,
                is_ordered,
                range,
            } => {
                if answer.status != *status {
                    return Err(format!("is not {status}"));
                }
                if let Some(range) = range.as_ref().filter(|range| answer.header("content-range") != **range) {
                    return Err(format!("`Content-Range` is not {range}"));
                }
                let Some(rows) = rows else { return Ok(()) };
                let (mut expected, mut found) = (rows.clone(), objects(&answer.body));
                if !is_ordered {
                    expected.sort_unstable();
                    found.sort_unstable();
                }
                match expected == found {
                    true => Ok(()),
                    false => Err(format!("is not [{}]", expected.join(","))),
                }
            }
        }
    }
}

/// The objects of an array, as they are written.
fn objects(body: &str) -> Vec<String> {
    let objects: Vec<Box<RawValue>> = serde_json::from_str(body).unwrap_or_default();
    objects.iter().map(|object| object.get().to_owned()).collect()
}

/// A read, and what must be answered.
fn read(random: &mut Rng, world: &World, asker: &Asker<'_>) -> (Asked, Outcome) {
    let table = random.usize(..world.tables.len());
    let mut asked = Asked {
        method: Method::GET,
        path: world.tables[table].name.clone(),
        prefer: String::new(),
        accept: "application/json",
        body: None,
    };
    if world.tables[table].readable(asker.role).is_empty() {
        return (asked, denied(asker));
    }
    let read = Reader {
        world,
        role: asker.role,
    }
    .read(random, table, 0);
    let mut query = read.query(world);
    let fault = (random.u8(..8) == 0)
        .then(|| fault(random, world, table, asker))
        .flatten();
    let (counts, single) = (random.u8(..3) == 0, random.u8(..8) == 0);
    if counts {
        asked.prefer = "count=exact".to_owned();
    }
    if single {
        asked.accept = "application/vnd.pgrst.object+json";
    }
    let outcome = match fault {
        Some((name, value, refused)) => {
            query.push((name, value));
            refused
        }
        None => answer(&read.answer(world, asker), read.first(), counts, single),
    };
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    asked.path = format!("{}?{}", asked.path, query.join("&"));
    (asked, outcome)
}

fn answer((rows, total): &(Vec<String>, usize), first: u64, counts: bool, single: bool) -> Outcome {
    let status = if counts && rows.len() < *total { 206 } else { 200 };
    if single {
        return match rows.as_slice() {
            [row] => Outcome::One(status, row.clone()),
            _ => Outcome::refused(406, "PGRST116"),
        };
    }
    if counts && first > *total as u64 {
        return Outcome::refused(416, "PGRST103");
    }
    let of_all = if counts { total.to_string() } else { "*".to_owned() };
    let range = match rows.len() as u64 {
        0 => format!("*/{of_all}"),
        count => format!("{first}-{}/{of_all}", first + count - 1),
    };
    Outcome::Rows {
        status,
        rows: Some(rows.clone()),
        is_ordered: true,
        range: Some(range),
    }
}

/// A parameter that makes a read wrong.
fn fault(random: &mut Rng, world: &World, table: usize, asker: &Asker<'_>) -> Option<(String, String, Outcome)> {
    let of = &world.tables[table];
    let readable = of.readable(asker.role);
    let unreadable = (0..of.columns.len()).find(|place| !readable.contains(place));
    let place = readable[random.usize(..readable.len())];
    let (name, kind) = (of.columns[place].parameter(), of.columns[place].kind);
    let with = |value: &str, status, code| Some((name.clone(), value.to_owned(), Outcome::refused(status, code)));
    match random.u8(..5) {
        // A column that may not be read is as one that is not there.
        0 => {
            let hidden = unreadable.map_or("nothing".to_owned(), |place| of.columns[place].parameter());
            Some((hidden, "not.is.null".to_owned(), Outcome::refused(400, "PGRST204")))
        }
        1 => kind
            .malformed()
            .and_then(|text| with(&format!("eq.{text}"), 400, "22P02")),
        2 if !kind.is_text() => with("like.a*", 404, "42883"),
        3 if kind != value::Kind::Bool => with("is.true", 400, "42804"),
        4 => with("equals.1", 400, "PGRST100"),
        _ => None,
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How many requests are sent, and to which kinds of database.
fn size() -> (usize, Vec<String>) {
    let requests = variable("TENANTRY_REFERENCE").map_or(600, |text| text.parse().unwrap());
    let kinds = variable("TENANTRY_REFERENCE_KINDS").unwrap_or_else(|| "sqlite,postgresql,mysql".to_owned());
    (requests, kinds.split(',').map(str::to_owned).collect())
}

/// Sends some requests to one world, and returns the differences, and how many answers of each kind
/// there were.
async fn live(seed: u64, kinds: Vec<String>, requests: usize) -> (Vec<String>, BTreeMap<String, u64>) {
    let kinds = kinds.as_slice();
    let mut seen = BTreeMap::new();
    let mut random = Rng::with_seed(seed);
    let mut world = World::new(&mut random);
    let sql: Vec<(&str, String)> = kinds.iter().map(|kind| (kind.as_str(), world.sql(kind))).collect();
    let migrations: Vec<(&str, &str)> = sql.iter().map(|(kind, sql)| (*kind, sql.as_str())).collect();
    let names: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let shop = Shop::of(&names, world.max_rows, &world.declared(), &migrations).await;
    for table in world.tables.iter().filter(|table| !table.rows.is_empty()) {
        let asked = Asked {
            method: Method::POST,
            path: table.name.clone(),
            prefer: String::new(),
            accept: "*/*",
            body: Some(first_rows(table)),
        };
        for kind in kinds {
            let answer = send(&shop, kind, MAKER, &asked).await;
            assert_eq!(answer.status, 201, "seed {seed}: {kind}: {asked:?}: {answer:?}");
        }
    }
    let mut differences = Vec::new();
    for _ in 0..requests {
        let role = ROLES[random.usize(..ROLES.len())];
        // Every tenant has the same rows, and rules that name the tenant have none of them.
        let asker = Asker {
            role,
            tenant: &kinds[0],
        };
        let is_change = random.u8(..3) == 0;
        let (asked, outcome) = if is_change {
            let table = random.usize(..world.tables.len());
            let change = Change::new(&mut random, &world, table, role);
            (change.asked(&world), change.make(&mut world, &asker))
        } else {
            read(&mut random, &world, &asker)
        };
        if matches!(outcome, Outcome::Either) {
            continue;
        }
        for kind in kinds {
            let answer = send(&shop, kind, role, &asked).await;
            *seen.entry(format!("{} {}", asked.method, answer.status)).or_default() += 1;
            if let Err(difference) = outcome.compare(&answer) {
                differences.push(format!(
                    "seed {seed}: {kind} as {role}: {} {} (Prefer: {}) {}\n    {} {}\n    {difference}",
                    asked.method,
                    asked.path,
                    asked.prefer,
                    asked.body.as_deref().unwrap_or(""),
                    answer.status,
                    answer.body,
                ));
            }
        }
        // A change that is lost shows at once if a world is repeated, and at its end otherwise.
        if is_change && differences.is_empty() && variable("TENANTRY_REFERENCE_SEED").is_some() {
            differences.extend(everything(&shop, seed, kinds, &world).await);
            if !differences.is_empty() {
                differences.push(format!("after {asked:?} as {role}"));
            }
        }
        if !differences.is_empty() {
            // What comes after the first one may follow from it.
            differences.push(world.declared());
            for table in &world.tables {
                differences.push(format!("{}: {:?}", table.name, table.rows));
            }
            return (differences, seen);
        }
    }
    differences.extend(everything(&shop, seed, kinds, &world).await);
    (differences, seen)
}

/// Compares all rows.
async fn everything(shop: &Shop, seed: u64, kinds: &[String], world: &World) -> Vec<String> {
    let mut differences = Vec::new();
    for table in 0..world.tables.len() {
        let read = request::Read {
            table,
            items: vec![request::Item::Star],
            ..request::Read::default()
        };
        let name = &world.tables[table].name;
        let mut found: BTreeMap<&String, Vec<String>> = BTreeMap::new();
        for kind in kinds {
            let mut path = format!("{name}?limit=1000");
            loop {
                let asked = Asked {
                    method: Method::GET,
                    path,
                    prefer: String::new(),
                    accept: "*/*",
                    body: None,
                };
                let page = send(shop, kind, MAKER, &asked).await;
                found.entry(kind).or_default().extend(objects(&page.body));
                let link = page.header("link").to_owned();
                let Some(next) = link.strip_prefix("</rest/v1/").and_then(|link| link.split('>').next()) else {
                    break;
                };
                path = next.to_owned();
            }
        }
        let asker = Asker {
            role: MAKER,
            tenant: "",
        };
        let all = World {
            max_rows: u64::MAX,
            ..world.clone()
        };
        let (expected, _) = read.answer(&all, &asker);
        let different = found.iter().filter(|(_, rows)| **rows != expected);
        differences.extend(
            different.map(|(kind, rows)| format!("seed {seed}: {kind}: {name} has {rows:?}\n and not {expected:?}")),
        );
    }
    differences
}

async fn send(shop: &Shop, kind: &str, role: &'static str, asked: &Asked) -> Answer {
    let claims = Asker { role, tenant: kind }.claims();
    let headers = [("Prefer", asked.prefer.as_str()), ("Accept", asked.accept)];
    shop.send_as(
        kind,
        claims,
        asked.method.clone(),
        &asked.path,
        &headers,
        asked.body.clone(),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_memory_answers_the_same() {
    let (requests, kinds) = size();
    let first =
        variable("TENANTRY_REFERENCE_SEED").map_or_else(|| fastrand::u64(..u64::MAX / 2), |seed| seed.parse().unwrap());
    println!("seed {first}, {requests} requests to {kinds:?}");
    let each = requests.div_ceil(kinds.len());
    let worlds = (0..each.div_ceil(IN_A_WORLD)).map(|number| {
        let some = IN_A_WORLD.min(each - number * IN_A_WORLD);
        tokio::spawn(live(first + number as u64, kinds.clone(), some))
    });
    let mut running = futures_util::stream::iter(worlds).buffer_unordered(AT_ONCE);
    let (mut wrong, mut seen, mut done) = (Vec::new(), BTreeMap::<String, u64>::new(), 0);
    while let Some(lived) = running.next().await {
        let (different, of_world) = lived.unwrap();
        for (answer, count) in of_world {
            *seen.entry(answer).or_default() += count;
        }
        done += 1;
        if done % 10 == 0 {
            println!("{done} worlds, and {} of them differ", wrong.len());
        }
        if !different.is_empty() {
            let text = different.join("\n");
            println!("{text}");
            wrong.push(text);
        }
        if wrong.len() >= 5 {
            break;
        }
    }
    println!("{seen:?}");
    assert!(wrong.is_empty(), "{} worlds differ", wrong.len());
}
