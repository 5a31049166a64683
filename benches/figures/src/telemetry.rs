//! What telemetry costs, with a collector that takes it and with one that is away.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::Result;
use serde_json::{Value, json};
use tenantry_test_support::free_port;

use crate::{
    Effort,
    load::{Load, SHORT},
    report::{Figure, Report, Section, Unit},
    throughput::{CLIENTS, HEAD, USER, add, in_turn, rates, ratio, row},
    world::{Settings, World},
};

/// The share of requests that are traced.
const RATE: f64 = 0.1;

/// Takes whatever is sent to it over HTTP, until the program ends.
pub(crate) fn sink() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || take(stream));
        }
    });
    Ok(url)
}

fn take(stream: TcpStream) -> Result<()> {
    let mut answers = stream.try_clone()?;
    let mut requests = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        requests.read_exact(&mut vec![0; length])?;
        answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// Traces of a tenth of the requests, and metrics, sent to `endpoint`.
pub(crate) fn sending(endpoint: &str) -> Value {
    json!({
        "enabled": true,
        "trace": {"endpoint": endpoint, "protocol": "http", "sample": {"rate": RATE}},
        "metrics": {"endpoint": endpoint, "protocol": "http", "interval": "1s"},
    })
}

/// The same load on the program without telemetry, with it, and with a collector that is away.
pub(crate) fn cost(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    let sending = |endpoint: &str| Settings {
        observability: Some(sending(endpoint)),
        ..Settings::default()
    };
    let load = Load {
        path: USER,
        clients: CLIENTS,
        tenants: 1,
        seconds: SHORT,
    };
    let (collector, nobody) = (sink()?, format!("http://127.0.0.1:{}", free_port()?));
    let mut outcomes = Vec::new();
    for _ in 0..effort.launches {
        let on = world.tenantry(sending(&collector))?;
        let off = world.tenantry(Settings::default())?;
        let away = world.tenantry(sending(&nobody))?;
        add(&mut outcomes, in_turn(effort.rounds, load, &[&on, &off, &away])?);
    }
    let away = world.tenantry(sending(&nobody))?;
    let loads = || (0..effort.few * effort.rounds).try_for_each(|_| load.run(&away).map(drop));
    loads()?;
    // Whatever had to grow has grown by now; what grows on from here would do so for ever.
    let before = away.memory()?.anonymous;
    loads()?;
    let grown = away.memory()?.anonymous as f64 / before as f64;
    report.figures.push(Figure::at_least(
        "requests a second with metrics and a tenth of them traced, over without",
        rates(&outcomes[0], &outcomes[1]),
        0.93,
        0.97,
    ));
    report.figures.push(Figure::at_most(
        "median latency with a collector that is away, over without telemetry",
        Unit::Ratio,
        ratio(&outcomes[2], &outcomes[1], |o| o.p50_ms),
        1.05,
        1.02,
    ));
    report.sections.push(Section {
        title: "Telemetry",
        text: format!(
            "{CLIENTS} clients of one tenant. Traces of a tenth of the requests, and metrics every second, to a collector on the same machine and \
             to one that is away. Under {} more loads the memory of the server whose collector is away became {grown:.2} times what it was.",
            effort.few * effort.rounds
        ),
        head: HEAD.map(str::to_owned).into(),
        rows: vec![
            row("`GET /users/{id}`", "to a collector", &outcomes[0], &outcomes[1]),
            row("`GET /users/{id}`", "to a collector that is away", &outcomes[2], &outcomes[1]),
            row("`GET /users/{id}`", "no telemetry", &outcomes[1], &outcomes[1]),
        ],
    });
    Ok(())
}
