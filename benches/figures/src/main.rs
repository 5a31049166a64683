//! Measures the program beside its baselines. `./scripts/bench` builds all of it and runs this.

mod client;
mod instructions;
mod load;
mod parts;
mod plot;
mod report;
mod rest;
mod server;
mod tables;
mod telemetry;
mod tenants;
mod throughput;
mod world;

use std::{fs, io, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use report::Report;
use tenants::Point;
use world::{Programs, World};

#[derive(Parser)]
struct Arguments {
    /// The built program.
    #[arg(long)]
    tenantry: PathBuf,
    /// The built baselines.
    #[arg(long)]
    baseline: PathBuf,
    /// The built micro-benchmarks.
    #[arg(long)]
    parts: PathBuf,
    /// The built postrust, which the part `tables` needs.
    #[arg(long)]
    postrust: Option<PathBuf>,
    /// The built peer in Go. It is not measured without this.
    #[arg(long)]
    go: Option<PathBuf>,
    /// Fewer rounds, and nothing is written.
    #[arg(long)]
    quick: bool,
    /// The folder for `benchmarks.md` and its plot, which are written when every part was measured.
    #[arg(long)]
    write: Option<PathBuf>,
    /// What to measure; everything if none is named.
    part: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Throughput beside the baselines.
    Throughput,
    /// A hundred tenants at once, beside one and beside a peer in Go.
    Tenants,
    /// A hundred thousand known tenants.
    Known,
    /// Throughput and latency with tenants and clients.
    Growth,
    /// Declared tables beside the users API, SQL by hand and a peer.
    Tables,
    /// What telemetry costs.
    Telemetry,
    /// Start-up time and memory.
    Rest,
    /// Instructions of one request.
    Instructions,
    /// Micro-benchmarks.
    Parts,
}

/// How long to measure.
#[derive(Clone, Copy)]
struct Effort {
    /// How often the servers that are compared are started. What memory and which processor a
    /// process is given makes it some percent faster or slower for as long as it lives.
    launches: usize,
    /// How often those that take longer to measure are started.
    few: usize,
    /// Rounds for each launch, in which all servers have their turn.
    rounds: usize,
    /// How often the program is started.
    starts: usize,
    /// Requests under callgrind.
    counted: u64,
}

const WHOLE: Effort = Effort {
    launches: 5,
    few: 3,
    rounds: 3,
    starts: 11,
    counted: 100,
};

const QUICK: Effort = Effort {
    launches: 2,
    few: 2,
    rounds: 2,
    starts: 5,
    counted: 50,
};

fn run(arguments: Arguments) -> Result<bool> {
    let began = Instant::now();
    let effort = if arguments.quick { QUICK } else { WHOLE };
    let world = World::start(Programs {
        tenantry: fs::canonicalize(&arguments.tenantry).context("`--tenantry`")?,
        baseline: fs::canonicalize(&arguments.baseline).context("`--baseline`")?,
        parts: fs::canonicalize(&arguments.parts).context("`--parts`")?,
        postrust: built(arguments.postrust).context("`--postrust`")?,
        go: built(arguments.go).context("`--go`")?,
    })?;
    let mut report = Report::default();
    let mut points = Vec::new();
    let all = Part::value_variants();
    let wanted = if arguments.part.is_empty() {
        all
    } else {
        &arguments.part
    };
    for part in all.iter().filter(|part| wanted.contains(part)) {
        let name = part
            .to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default();
        eprintln!("bench: {name}, after {} s", began.elapsed().as_secs());
        if let Err(error) = measure(*part, &world, effort, &mut report, &mut points) {
            report.failures.push(format!("{name}: {error:#}"));
        }
    }
    println!("{}", report.to_text());
    for failure in &report.failures {
        eprintln!("bench: could not be measured: {failure}");
    }
    let whole = report.failures.is_empty() && wanted.len() == all.len();
    if let Some(folder) = arguments.write.filter(|_| whole && !arguments.quick) {
        plot::draw(&folder.join("benchmarks.svg"), &report.figures, &points)?;
        let page = report.to_markdown(&machine(), "benchmarks.svg", began.elapsed());
        fs::write(folder.join("benchmarks.md"), page)?;
        eprintln!("bench: written to {}", folder.join("benchmarks.md").display());
    }
    Ok(report.failures.is_empty())
}

/// The path of a program that need not have been built.
fn built(path: Option<PathBuf>) -> io::Result<Option<PathBuf>> {
    path.map(fs::canonicalize).transpose()
}

fn measure(part: Part, world: &World, effort: Effort, report: &mut Report, points: &mut Vec<Point>) -> Result<()> {
    match part {
        Part::Throughput => throughput::against_baselines(world, effort, report),
        Part::Tenants => tenants::a_hundred(world, effort, report),
        Part::Known => tenants::many_known(world, effort, report),
        Part::Growth => tenants::growth(world, effort, report).map(|grown| *points = grown),
        Part::Tables => tables::beside_others(world, effort, report),
        Part::Telemetry => telemetry::cost(world, effort, report),
        Part::Rest => rest::start_and_memory(world, effort, report),
        Part::Instructions => instructions::count(world, effort, report),
        Part::Parts => parts::measure(world, report),
    }
}

/// A sentence on the machine and the day.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').nth(2).unwrap_or("unknown").to_owned();
    format!(
        "The machine has {cores} cores of {model}; the day was {}, and the load average of its last quarter of an hour was {load}.",
        chrono::Utc::now().format("%Y-%m-%d")
    )
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
