//! Many tenants: beside one, beside the peer in Go, and as they and their clients become more.

use anyhow::Result;

use crate::{
    Effort,
    load::{Load, Outcome, SHORT},
    report::{Figure, Report, Section, Spread, Unit},
    server::Server,
    throughput::{CLIENTS, HEAD, USER, add, each_in_turn, in_turn, median, rates, ratio, row},
    world::{DATABASES, Settings, World},
};

/// As many clients as make a tenant wait for the others.
const MANY_CLIENTS: usize = 64;

/// The seconds of a load of which the slowest hundredth counts: so long that what comes with its
/// start is no hundredth of it.
const LONG: u64 = 2;

fn load(clients: usize, tenants: usize, seconds: u64) -> Load {
    Load {
        path: USER,
        clients,
        tenants,
        seconds,
    }
}

fn start(world: &World, known: usize) -> Result<Server> {
    world.tenantry(Settings {
        known,
        ..Settings::default()
    })
}

/// A hundred tenants, each with a database of its own, beside one tenant and beside the peer in Go.
pub(crate) fn a_hundred(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    world.open_all_databases()?;
    // Of Tenantry first and then of the peer.
    let (mut some, mut many, mut memory) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..effort.few {
        let tenantry = start(world, DATABASES)?;
        let go = world.go_service()?;
        let mut servers = vec![&tenantry];
        if let Some(go) = &go {
            world.answer_alike(&tenantry, go, USER, "t0")?;
            world.answer_alike(&tenantry, go, USER, "t57")?;
            servers.push(go);
        }
        let of_some = load(CLIENTS, DATABASES, SHORT);
        add(&mut some, in_turn(effort.rounds, of_some, &servers)?);
        let mut runs = vec![load(MANY_CLIENTS, 1, LONG).on(&tenantry)?];
        for server in &servers {
            runs.push(load(MANY_CLIENTS, DATABASES, LONG).on(server)?);
        }
        add(&mut many, each_in_turn(effort.rounds, &runs)?);
        for (server, memory) in servers.iter().zip(&mut memory) {
            memory.push(server.memory()?.resident as f64 / 1e6);
        }
    }
    let (one, many) = many.split_at(1);
    let mut rows = vec![row("64 clients", "Tenantry, 1 tenant", &one[0], &many[0])];
    for (what, outcomes) in [("16 clients", &some[..]), ("64 clients", many)] {
        for (server, measured) in ["Tenantry", "Go by hand"].iter().zip(outcomes) {
            rows.push(row(what, server, measured, &outcomes[0]));
        }
    }
    report.figures.push(Figure {
        never_above: Some(3.0),
        ..Figure::at_most(
            "p99 with 64 clients over 100 tenants, over one tenant's",
            Unit::Ratio,
            ratio(&many[0], &one[0], |o| o.p99_ms),
            1.3,
            1.1,
        )
    });
    let [of_tenantry, of_go] = memory;
    let megabytes = |of: &[f64]| Spread::of(of.to_vec()).median;
    let peer = if of_go.is_empty() {
        "The peer in Go was not measured, as it could not be built, which needs Go 1.25 or later.".to_owned()
    } else {
        beside_go(report, &some, many, &of_tenantry, &of_go);
        format!(
            "After these loads {:.1} MB of Tenantry were resident, and {:.1} MB of the peer in Go.",
            megabytes(&of_tenantry),
            megabytes(&of_go)
        )
    };
    report.sections.push(Section {
        title: "A hundred tenants at once",
        text: format!(
            "`GET /users/{{id}}` of 100 tenants in turn, each with a database of its own; ratios are to Tenantry with as many clients. \
             A tenant's database has its own server processes and caches in PostgreSQL, so part of the difference between one tenant \
             and a hundred is there. {peer}"
        ),
        head: HEAD.map(str::to_owned).into(),
        rows,
    });
    Ok(())
}

/// Without bounds: those of the project are over go-bricks, which does more for each request.
fn beside_go(report: &mut Report, some: &[Vec<Outcome>], many: &[Vec<Outcome>], of_tenantry: &[f64], of_go: &[f64]) {
    let cpu = |outcomes: &[Vec<Outcome>]| ratio(&outcomes[0], &outcomes[1], |o| o.cpu_us);
    let memory = Spread::of(of_tenantry.iter().zip(of_go).map(|(one, other)| one / other).collect());
    let more = |name, spread| Figure::at_least(name, spread, f64::NAN, f64::NAN);
    let less = |name, spread| Figure::at_most(name, Unit::Ratio, spread, f64::NAN, f64::NAN);
    let rate = "requests a second over Go by hand, 100 tenants and 16 clients";
    let processor = "processor time for a request over Go by hand, 16 clients";
    report.figures.extend([
        more(rate, rates(&some[0], &some[1])),
        more("the same with 64 clients", rates(&many[0], &many[1])),
        less(processor, cpu(some)),
        less("the same with 64 clients", cpu(many)),
        less("memory after load on 100 tenants, over Go by hand", memory),
    ]);
}

/// What it costs that many tenants are known.
pub(crate) fn many_known(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    world.open_all_databases()?;
    let mut outcomes = Vec::new();
    for _ in 0..effort.launches {
        let (few, many) = (start(world, 10)?, start(world, 100_000)?);
        let load = load(CLIENTS, 10, SHORT);
        add(&mut outcomes, in_turn(effort.rounds, load, &[&many, &few])?);
    }
    report.figures.push(Figure::at_most(
        "processor time for a request with 100,000 known tenants, over 10",
        Unit::Ratio,
        ratio(&outcomes[0], &outcomes[1], |o| o.cpu_us),
        1.03,
        1.00,
    ));
    report.sections.push(Section {
        title: "Many known tenants",
        text: format!("{CLIENTS} clients of 10 tenants, to a server that knows 100,000 and to one that knows 10."),
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
    pub(crate) active: usize,
    pub(crate) clients: usize,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Point {
    pub(crate) fn rate(&self) -> f64 {
        median(&self.outcomes, |o| o.rate)
    }
}

/// How throughput and latency grow with active tenants and clients.
pub(crate) fn growth(world: &World, effort: Effort, report: &mut Report) -> Result<Vec<Point>> {
    world.open_all_databases()?;
    let mut points: Vec<Point> = [1, 10, DATABASES]
        .into_iter()
        .flat_map(|active| {
            [1, 16, 256].map(|clients| Point {
                active,
                clients,
                outcomes: Vec::new(),
            })
        })
        .collect();
    for _ in 0..effort.few {
        let server = start(world, DATABASES)?;
        for point in &mut points {
            let run = load(point.clients, point.active, LONG).on(&server)?;
            point.outcomes.push(run()?);
        }
        server.stop()?;
    }
    let rows = points.iter().map(|point| {
        let median = |of: fn(&Outcome) -> f64| median(&point.outcomes, of);
        vec![
            point.active.to_string(),
            point.clients.to_string(),
            format!("{:.0}", median(|o| o.rate)),
            format!("{:.1}", median(|o| o.cpu_us)),
            format!("{:.2}", median(|o| o.p50_ms)),
            format!("{:.2}", median(|o| o.p99_ms)),
        ]
    });
    let head = [
        "Active tenants",
        "Clients",
        "a second",
        "µs of processor",
        "p50 ms",
        "p99 ms",
    ];
    report.sections.push(Section {
        title: "Growth",
        text: format!(
            "`GET /users/{{id}}`, the medians of {} launches of the server.",
            effort.few
        ),
        head: head.map(str::to_owned).into(),
        rows: rows.collect(),
    });
    Ok(points)
}
