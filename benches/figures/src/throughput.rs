//! Loads on the program and on its baselines in turn.

use anyhow::Result;

use crate::{
    Effort,
    load::{Load, Outcome},
    report::{Figure, Report, Section, Spread, Unit},
    server::Server,
    world::{Baseline, DATABASES, Settings, World},
};

pub(crate) const USER: &str = "/api/v1/tenant/users/500";
pub(crate) const PAGE: &str = "/api/v1/tenant/users?limit=50";
const LIVE: &str = "/health/live";

/// As many as there are requests at once where the program is compared with a baseline.
pub(crate) const CLIENTS: usize = 16;

/// Puts the same load on all servers, one after the other, so often; every other time in the opposite order. What the machine does besides
/// for longer than a round is in all of a round.
pub(crate) fn in_turn(rounds: usize, load: Load, servers: &[&Server]) -> Result<Vec<Vec<Outcome>>> {
    let loads: Vec<(Load, &Server)> = servers.iter().map(|server| (load, *server)).collect();
    each_in_turn(rounds, &loads)
}

/// As [`in_turn`], with a load of its own for each server.
pub(crate) fn each_in_turn(rounds: usize, loads: &[(Load, &Server)]) -> Result<Vec<Vec<Outcome>>> {
    for (load, server) in loads {
        load.warm_up(server)?;
    }
    let mut outcomes = vec![Vec::new(); loads.len()];
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..loads.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let (load, server) = loads[at];
            outcomes[at].push(load.run(server)?);
        }
    }
    Ok(outcomes)
}

/// The quotients of what was measured in the same rounds.
pub(crate) fn ratio(one: &[Outcome], other: &[Outcome], of: impl Fn(&Outcome) -> f64) -> Spread {
    Spread::of(one.iter().zip(other).map(|(one, other)| of(one) / of(other)).collect())
}

fn median(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    Spread::of(outcomes.iter().map(of).collect()).median
}

pub(crate) fn row(what: &str, server: &str, outcomes: &[Outcome], against: &[Outcome]) -> Vec<String> {
    let [rate, cpu] = [
        ratio(outcomes, against, |o| o.rate),
        ratio(outcomes, against, |o| o.cpu_us),
    ];
    vec![
        what.to_owned(),
        server.to_owned(),
        format!("{:.0}", median(outcomes, |o| o.rate)),
        format!("{:.2}", rate.median),
        format!("{:.1}", median(outcomes, |o| o.cpu_us)),
        format!("{:.2}", cpu.median),
        format!("{:.2}", median(outcomes, |o| o.p50_ms)),
        format!("{:.2}", median(outcomes, |o| o.p99_ms)),
    ]
}

pub(crate) const HEAD: [&str; 8] = [
    "Request",
    "Server",
    "a second",
    "ratio",
    "µs of processor",
    "ratio",
    "p50 ms",
    "p99 ms",
];

/// Adds what was measured of the same servers after another launch.
pub(crate) fn add(all: &mut Vec<Vec<Outcome>>, more: Vec<Vec<Outcome>>) {
    all.resize(more.len(), Vec::new());
    for (all, more) in all.iter_mut().zip(more) {
        all.extend(more);
    }
}

/// The same requests to the program and to its baselines.
pub(crate) fn against_baselines(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    let load = |path| Load {
        path,
        clients: CLIENTS,
        tenants: 1,
        seconds: effort.seconds,
    };
    let (mut user, mut page, mut live) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.launches {
        let tenantry = world.tenantry(Settings::default())?;
        let logging = world.tenantry(Settings {
            level: "info",
            ..Settings::default()
        })?;
        let bare = world.baseline(Baseline::Deadpool)?;
        let pool = world.baseline(Baseline::Sqlx)?;
        world.answer_alike(&tenantry, &bare)?;
        world.answer_alike(&tenantry, &pool)?;
        let rounds = effort.rounds;
        add(
            &mut user,
            in_turn(rounds, load(USER), &[&tenantry, &bare, &pool, &logging])?,
        );
        add(&mut page, in_turn(rounds, load(PAGE), &[&tenantry, &bare, &pool])?);
        add(&mut live, in_turn(rounds, load(LIVE), &[&tenantry, &bare])?);
    }
    let mut rows = Vec::new();
    let names = ["Tenantry", "bare", "sqlx's own pool", "Tenantry, a log line a request"];
    for (what, outcomes) in [
        ("`GET /users/{id}`", &user),
        ("`GET /users?limit=50`", &page),
        ("`GET /health/live`", &live),
    ] {
        for (name, measured) in names.iter().zip(outcomes) {
            rows.push(row(what, name, measured, &outcomes[1]));
        }
    }
    let mut figure = |name, spread, must, aim| {
        report.figures.push(Figure {
            name,
            unit: Unit::Ratio,
            spread,
            must,
            aim,
            at_least: true,
        });
    };
    let rate = |o: &Outcome| o.rate;
    figure(
        "`GET /users/{id}` throughput over the bare baseline",
        ratio(&user[0], &user[1], rate),
        0.90,
        0.98,
    );
    figure(
        "the same over the line on sqlx's own pool",
        ratio(&user[0], &user[2], rate),
        1.10,
        1.25,
    );
    figure(
        "`GET /users?limit=50` over the bare baseline",
        ratio(&page[0], &page[1], rate),
        0.85,
        0.95,
    );
    figure(
        "`GET /health/live` over a bare poem handler",
        ratio(&live[0], &live[1], rate),
        0.85,
        0.95,
    );
    report.sections.push(Section {
        title: "Throughput beside the baselines",
        text: format!(
            "{CLIENTS} clients of one tenant, each with one request at a time; {} rounds of {} s for each server, in turn, and all servers \
             started anew after every {}. Ratios are to the bare baseline, whose database connections are pooled as Tenantry's are; a ratio \
             of processor time below 1 is cheaper. \
             `logging.level` is `warn`, as the baselines log nothing; the last line of the first request has the shipped level `info`, \
             which writes a line for each request.",
            effort.pairs(),
            effort.seconds,
            effort.rounds
        ),
        head: HEAD.map(str::to_owned).into(),
        rows,
    });
    Ok(())
}

/// Many tenants at once, beside a baseline that has one.
pub(crate) fn many_tenants(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    world.open_all_databases()?;
    let tenantry = world.tenantry(Settings {
        known: DATABASES,
        ..Settings::default()
    })?;
    let bare = world.baseline(Baseline::Deadpool)?;
    let load = Load {
        path: USER,
        clients: 64,
        tenants: DATABASES,
        seconds: effort.tail,
    };
    let outcomes = in_turn(effort.few, load, &[&tenantry, &bare])?;
    report.figures.push(Figure {
        name: "p99 with 64 clients over 100 tenants, over the baseline's with 1",
        unit: Unit::Ratio,
        spread: ratio(&outcomes[0], &outcomes[1], |o| o.p99_ms),
        must: 1.3,
        aim: 1.1,
        at_least: false,
    });
    report.sections.push(Section {
        title: "A hundred tenants at once",
        text: "64 clients of 100 tenants, each with a database of its own, in turn; the baseline answers the same requests from its one \
               database. A tenant's database has its own server processes and caches in PostgreSQL, so part of the difference is there."
            .to_owned(),
        head: HEAD.map(str::to_owned).into(),
        rows: vec![
            row("`GET /users/{id}`", "Tenantry, 100 tenants", &outcomes[0], &outcomes[1]),
            row("`GET /users/{id}`", "bare, 1 tenant", &outcomes[1], &outcomes[1]),
        ],
    });
    Ok(())
}

/// What it costs that many tenants are known.
pub(crate) fn many_known(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    world.open_all_databases()?;
    let start = |known| {
        world.tenantry(Settings {
            known,
            ..Settings::default()
        })
    };
    let load = Load {
        path: USER,
        clients: CLIENTS,
        tenants: 10,
        seconds: effort.seconds,
    };
    let mut outcomes = Vec::new();
    for _ in 0..effort.few {
        let (few, many) = (start(10)?, start(100_000)?);
        add(&mut outcomes, in_turn(effort.rounds, load, &[&many, &few])?);
    }
    report.figures.push(Figure {
        name: "cost per request with 100,000 known tenants over with 10",
        unit: Unit::Ratio,
        spread: ratio(&outcomes[0], &outcomes[1], |o| o.cpu_us),
        must: 1.05,
        aim: 1.00,
        at_least: false,
    });
    report.sections.push(Section {
        title: "Many known tenants",
        text: format!(
            "{CLIENTS} clients of 10 tenants, to a server that knows 100,000 and to one that knows 10. The cost is the server's processor time."
        ),
        head: HEAD.map(str::to_owned).into(),
        rows: vec![
            row("`GET /users/{id}`", "100,000 known", &outcomes[0], &outcomes[1]),
            row("`GET /users/{id}`", "10 known", &outcomes[1], &outcomes[1]),
        ],
    });
    Ok(())
}

/// One cell of the table of growth.
pub(crate) struct Point {
    pub(crate) known: usize,
    pub(crate) active: usize,
    pub(crate) clients: usize,
    pub(crate) outcome: Outcome,
}

/// How throughput and latency grow with tenants and clients.
pub(crate) fn growth(world: &World, effort: Effort, report: &mut Report) -> Result<Vec<Point>> {
    world.open_all_databases()?;
    let mut points = Vec::new();
    for known in [10, 1_000, 100_000] {
        let server = world.tenantry(Settings {
            known,
            ..Settings::default()
        })?;
        for active in [1, 10, 100] {
            if active > known {
                continue;
            }
            for clients in [1, 16, 256] {
                let load = Load {
                    path: USER,
                    clients,
                    tenants: active,
                    seconds: effort.once,
                };
                load.warm_up(&server)?;
                let outcome = load.run(&server)?;
                points.push(Point {
                    known,
                    active,
                    clients,
                    outcome,
                });
            }
        }
        server.stop()?;
    }
    let rows = points.iter().map(|point| {
        let outcome = point.outcome;
        vec![
            point.known.to_string(),
            point.active.to_string(),
            point.clients.to_string(),
            format!("{:.0}", outcome.rate),
            format!("{:.1}", outcome.cpu_us),
            format!("{:.2}", outcome.p50_ms),
            format!("{:.2}", outcome.p99_ms),
        ]
    });
    report.sections.push(Section {
        title: "Growth",
        text: "`GET /users/{id}`, once for each line.".to_owned(),
        head: [
            "Known tenants",
            "Active",
            "Clients",
            "a second",
            "µs of processor",
            "p50 ms",
            "p99 ms",
        ]
        .map(str::to_owned)
        .into(),
        rows: rows.collect(),
    });
    Ok(points)
}
