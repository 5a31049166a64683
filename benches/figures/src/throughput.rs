//! Loads on the program and on its baselines in turn.

use anyhow::Result;

use crate::{
    Effort,
    load::{Load, Outcome, Run, SHORT},
    report::{Figure, Report, Section, Spread},
    server::Server,
    world::{Baseline, Settings, World},
};

pub(crate) const USER: &str = "/api/v1/tenant/users/500";
pub(crate) const PAGE: &str = "/api/v1/tenant/users?limit=50";

/// As many as there are requests at once where the program is compared with a baseline.
pub(crate) const CLIENTS: usize = 16;

/// Puts the same load on all servers, one after the other, so often.
pub(crate) fn in_turn(rounds: usize, load: Load, servers: &[&Server]) -> Result<Vec<Vec<Outcome>>> {
    let runs = servers.iter().map(|server| load.on(server));
    each_in_turn(rounds, &runs.collect::<Result<Vec<_>>>()?)
}

/// Measures each of them in turn, so often; every other time in the opposite order. What else the
/// machine does for longer than a round is in all of a round.
pub(crate) fn each_in_turn(rounds: usize, runs: &[Run<'_>]) -> Result<Vec<Vec<Outcome>>> {
    let mut outcomes = vec![Vec::new(); runs.len()];
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..runs.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            outcomes[at].push(runs[at]()?);
        }
    }
    Ok(outcomes)
}

/// The quotients of what was measured in the same rounds.
pub(crate) fn ratio(one: &[Outcome], other: &[Outcome], of: impl Fn(&Outcome) -> f64) -> Spread {
    Spread::of(one.iter().zip(other).map(|(one, other)| of(one) / of(other)).collect())
}

/// The quotients of the requests that were answered.
pub(crate) fn rates(one: &[Outcome], other: &[Outcome]) -> Spread {
    ratio(one, other, |outcome| outcome.rate)
}

pub(crate) fn median(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    Spread::of(outcomes.iter().map(of).collect()).median
}

pub(crate) fn row(what: &str, server: &str, outcomes: &[Outcome], against: &[Outcome]) -> Vec<String> {
    let number = |value: f64, digits: usize| match value.is_nan() {
        true => "–".to_owned(),
        false => format!("{value:.digits$}"),
    };
    vec![
        what.to_owned(),
        server.to_owned(),
        number(median(outcomes, |o| o.rate), 0),
        number(rates(outcomes, against).median, 2),
        number(median(outcomes, |o| o.cpu_us), 1),
        number(ratio(outcomes, against, |o| o.cpu_us).median, 2),
        number(median(outcomes, |o| o.p50_ms), 2),
        number(median(outcomes, |o| o.p99_ms), 2),
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
        seconds: SHORT,
    };
    let (mut user, mut page) = (Vec::new(), Vec::new());
    for _ in 0..effort.launches {
        let tenantry = world.tenantry(Settings::default())?;
        let logging = world.tenantry(Settings {
            level: "info",
            ..Settings::default()
        })?;
        let bare = world.baseline(Baseline::Deadpool)?;
        let pool = world.baseline(Baseline::Sqlx)?;
        for (path, other) in [(USER, &bare), (PAGE, &bare), (USER, &pool), (PAGE, &pool)] {
            world.answer_alike(&tenantry, other, path, "t0")?;
        }
        let runs = [
            load(USER).on(&tenantry)?,
            load(USER).on(&bare)?,
            load(USER).on(&pool)?,
            load(USER).on(&logging)?,
            world.pgbench(CLIENTS),
        ];
        add(&mut user, each_in_turn(effort.rounds, &runs)?);
        let servers = [&tenantry, &bare, &pool];
        add(&mut page, in_turn(effort.rounds, load(PAGE), &servers)?);
    }
    let names = [
        "Tenantry",
        "bare",
        "sqlx's own pool",
        "Tenantry, a log line a request",
        "pgbench, no HTTP",
    ];
    let mut rows = Vec::new();
    for (what, outcomes) in [("`GET /users/{id}`", &user), ("`GET /users?limit=50`", &page)] {
        for (name, measured) in names.iter().zip(outcomes) {
            rows.push(row(what, name, measured, &outcomes[1]));
        }
    }
    let mut figure = |name, spread, must, aim| report.figures.push(Figure::at_least(name, spread, must, aim));
    let of_user = "`GET /users/{id}`: requests a second over sqlx's own pool";
    figure(of_user, rates(&user[0], &user[2]), 1.25, 1.5);
    figure("the same over the bare baseline", rates(&user[0], &user[1]), 0.85, 0.95);
    let of_pgbench = "the same over pgbench, prepared";
    figure(of_pgbench, rates(&user[0], &user[4]), 0.5, 0.75);
    let of_log = "the same with a log line for each request, over level `warn`";
    figure(of_log, rates(&user[3], &user[0]), 0.88, 0.96);
    let of_page = "`GET /users?limit=50` over the bare baseline";
    figure(of_page, rates(&page[0], &page[1]), 0.85, 0.95);
    report.sections.push(Section {
        title: "Beside the baselines",
        text: format!(
            "{CLIENTS} clients of one tenant, each with one request at a time; {} rounds of {} s for each server, in turn, \
             and all servers started anew after every {}. Ratios are to the bare baseline; a ratio of processor time below 1 \
             is cheaper. `logging.level` is `warn`, as the baselines log nothing; one line has the shipped level `info`, \
             which writes a line for each request.",
            effort.launches * effort.rounds,
            SHORT,
            effort.rounds
        ),
        head: HEAD.map(str::to_owned).into(),
        rows,
    });
    Ok(())
}
