//! Declared tables beside the users API, which is code, beside SQL by hand, and beside the nearest peer.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    Effort,
    client::Client,
    load::{Load, Outcome, SHORT},
    report::{Figure, Report, Section},
    server::Server,
    throughput::{CLIENTS, HEAD, PAGE as USERS_API_PAGE, USER as USERS_API_ROW, add, each_in_turn, rates, row},
    world::{Baseline, Settings, World},
};

const ROW: &str = "/rest/v1/users?id=eq.500";
const PAGE: &str = "/rest/v1/users?order=id&limit=50";
const EMBEDDED: &str = "/rest/v1/users?select=id,name,email,notes(id,body,created_at)&order=id&notes.order=id&limit=50";

const PEER_ROW: &str = "/api/users?id=eq.500";
const PEER_PAGE: &str = "/api/users?order=id&limit=50";
const PEER_EMBEDDED: &str =
    "/api/users?select=id,name,email,notes(id,body,created_at)&order=id&notes.order=id&limit=50";

const BY_HAND: &str = "/users-with-notes?limit=50";

/// The most connections of a tenant by default.
const CONNECTIONS: usize = 20;

/// The servers that are measured.
struct Servers {
    tenantry: Server,
    by_hand: Server,
    peer: Server,
}

/// The outcomes of each load: of Tenantry's declared tables first, of postrust last.
#[derive(Default)]
struct Outcomes {
    row: Vec<Vec<Outcome>>,
    page: Vec<Vec<Outcome>>,
    embedded: Vec<Vec<Outcome>>,
}

fn declared() -> Value {
    let time = json!({"type": "timestamptz", "default": true});
    json!({"tables": {
        "users": {
            "key": ["id"],
            "columns": {
                "id": {"type": "int8", "generated": true},
                "name": {"type": "text"},
                "email": {"type": "text"},
                "created_at": time,
                "updated_at": time,
            },
            "relations": {"notes": {"to": "notes", "on": {"id": "user_id"}, "many": true}},
            "allow": {"anon": {"read": {}}},
        },
        "notes": {
            "key": ["id"],
            "columns": {
                "id": {"type": "int8"},
                "user_id": {"type": "int8"},
                "body": {"type": "text"},
                "created_at": time,
            },
            "allow": {"anon": {"read": {}}},
        },
    }})
}

impl Servers {
    fn start(world: &World) -> Result<Self> {
        let tenantry = world.tenantry(Settings {
            rest: Some(declared()),
            ..Settings::default()
        })?;
        let servers = Self {
            tenantry,
            by_hand: world.baseline(Baseline::JsonAgg)?,
            peer: world.postrust(CONNECTIONS)?,
        };
        servers.check()?;
        Ok(servers)
    }

    /// Makes sure that all of them answer the same rows, so that they are measured at the same work.
    fn check(&self) -> Result<()> {
        let rows = |server: &Server, path: &str| -> Result<Value> {
            let answer = Client::connect(server.port)?.get_ok(path, "t0")?;
            // The users API ends its times in `Z`, and the others theirs in `+00:00`.
            Ok(serde_json::from_str(
                &String::from_utf8(answer)?.replace("+00:00\"", "Z\""),
            )?)
        };
        let same = |what: &str, one: &Value, other: &Value| {
            ensure!(one == other, "{what} is not answered alike: {one} and {other}");
            Ok(())
        };
        let row = rows(&self.tenantry, ROW)?;
        same("a row", &row[0], &rows(&self.tenantry, USERS_API_ROW)?)?;
        same("a row", &row, &rows(&self.peer, PEER_ROW)?)?;
        let page = rows(&self.tenantry, PAGE)?;
        same("a page", &page, &rows(&self.tenantry, USERS_API_PAGE)?["items"])?;
        same("a page", &page, &rows(&self.peer, PEER_PAGE)?)?;
        let embedded = rows(&self.tenantry, EMBEDDED)?;
        same("an embedding", &embedded, &rows(&self.by_hand, BY_HAND)?)?;
        same("an embedding", &embedded, &rows(&self.peer, PEER_EMBEDDED)?)?;
        let count = |value: &Value| value.as_array().map_or(0, Vec::len);
        ensure!(count(&row) == 1 && count(&page) == 50, "not one row, or no page of 50");
        ensure!(
            embedded
                .as_array()
                .is_some_and(|rows| rows.iter().all(|row| count(&row["notes"]) == 5)),
            "not every row has 5 embedded rows"
        );
        Ok(())
    }

    fn measure(&self, effort: Effort, outcomes: &mut Outcomes) -> Result<()> {
        let Self {
            tenantry,
            by_hand,
            peer,
        } = self;
        let in_turn = |loads: [(&'static str, &Server); 3]| {
            let runs = loads.map(|(path, server)| {
                let load = Load {
                    path,
                    clients: CLIENTS,
                    tenants: 1,
                    seconds: SHORT,
                };
                load.on(server)
            });
            each_in_turn(effort.rounds, &runs.into_iter().collect::<Result<Vec<_>>>()?)
        };
        add(
            &mut outcomes.row,
            in_turn([(ROW, tenantry), (USERS_API_ROW, tenantry), (PEER_ROW, peer)])?,
        );
        add(
            &mut outcomes.page,
            in_turn([(PAGE, tenantry), (USERS_API_PAGE, tenantry), (PEER_PAGE, peer)])?,
        );
        add(
            &mut outcomes.embedded,
            in_turn([(EMBEDDED, tenantry), (BY_HAND, by_hand), (PEER_EMBEDDED, peer)])?,
        );
        Ok(())
    }
}

/// The same requests to all of them.
pub(crate) fn beside_others(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    world.add_notes()?;
    let mut outcomes = Outcomes::default();
    for _ in 0..effort.few {
        Servers::start(world)?.measure(effort, &mut outcomes)?;
    }
    let Outcomes {
        row: one,
        page,
        embedded,
    } = &outcomes;
    let mut figure = |name, outcomes: &[Vec<Outcome>], other: usize, must, aim| {
        let spread = rates(&outcomes[0], &outcomes[other]);
        report.figures.push(Figure::at_least(name, spread, must, aim));
    };
    figure("declared tables: a row by its id, over postrust", one, 2, 1.5, 3.0);
    figure("50 rows, over postrust", page, 2, 1.5, 3.0);
    figure("50 rows with 5 embedded in each, over postrust", embedded, 2, 1.5, 3.0);
    figure("a row by its id, over the users API", one, 1, 0.95, 1.0);
    figure("50 rows, over the users API", page, 1, 1.0, 1.1);
    let by_hand = "50 rows with 5 embedded in each, over `json_agg` by hand";
    figure(by_hand, embedded, 1, 1.5, 2.0);
    let mut rows = Vec::new();
    for (outcomes, names) in [
        (one, [ROW, USERS_API_ROW, PEER_ROW]),
        (page, [PAGE, USERS_API_PAGE, PEER_PAGE]),
        (embedded, [EMBEDDED, BY_HAND, PEER_EMBEDDED]),
    ] {
        let of = match names[1] {
            BY_HAND => ["declared tables", "`json_agg` by hand", "postrust"],
            _ => ["declared tables", "users API", "postrust"],
        };
        for ((measured, path), server) in outcomes.iter().zip(names).zip(of) {
            rows.push(row(&format!("`{path}`"), server, measured, &outcomes[0]));
        }
    }
    report.sections.push(Section {
        title: "Declared tables",
        text: format!(
            "{CLIENTS} clients of one tenant, each with one request at a time; {} rounds of {} s for each server, in turn, and all \
             servers started anew after every {}. The ratios are to the declared tables.\n\n\
             - The users API is the program's own, in code, served by the same process.\n\
             - `json_agg` by hand is [a bare server](../benches/baseline/src/json_agg.rs) that sends on the text that PostgreSQL \
             makes with LATERAL and `json_agg`. Its pool is as large as a tenant's in Tenantry.\n\
             - postrust has a pool of the same size. It sets a role in a transaction for each request, as PostgREST does; \
             Tenantry checks roles itself.",
            effort.few * effort.rounds,
            SHORT,
            effort.rounds
        ),
        head: HEAD.map(str::to_owned).into(),
        rows,
    });
    Ok(())
}
