//! Which functions a request runs, for the linker to put together: they are 400 kB of the program's 33 MB, and spread over all of it each is
//! on a page of its own, so that what a request costs is mostly that the processor finds them again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    client::Client,
    instructions::{Counted, ROUTES, wrapper},
    telemetry,
    world::{Settings, World},
};

/// How many requests are watched for each route.
const REQUESTS: u64 = 100;

/// A function of which a request runs fewer instructions than this is not on its way.
const FEWEST: u64 = 3;

/// A name that stands for this many times the code that requests run, since generic functions share it, would scatter what it is to gather.
const LARGEST: u64 = 3;

/// Writes the linker's script.
pub(crate) fn write(world: &World, file: &Path) -> Result<()> {
    let told = Settings {
        level: "info",
        observability: Some(telemetry::sending(&telemetry::sink()?, 1.0)),
        ..Settings::default()
    };
    let sizes = sizes(&world.programs.tenantry)?;
    let mut of_all: HashMap<String, u64> = HashMap::new();
    for (name, size) in &sizes {
        *of_all.entry(pattern(name)).or_default() += size;
    }
    let mut script = String::from(
        "/* Written by `./scripts/bench layout`: the functions that requests run, put together (see build.rs). */\n\
         SECTIONS\n{\n  .text.hot : {\n",
    );
    let mut written = BTreeSet::new();
    // What every request runs, and after it what those run that are traced and logged.
    for settings in [Settings::default(), told] {
        let mut of_requests: BTreeMap<String, u64> = BTreeMap::new();
        for name in run_by_requests(world, settings)? {
            if let Some(size) = sizes.get(&name) {
                *of_requests.entry(pattern(&name)).or_default() += size;
            }
        }
        for (pattern, size) in of_requests {
            if of_all[&pattern] <= size * LARGEST && !written.contains(&pattern) {
                writeln!(script, "    *(.text.{pattern})")?;
                written.insert(pattern);
            }
        }
    }
    ensure!(written.len() > 100, "only {} functions were seen", written.len());
    script.push_str("  }\n}\nINSERT BEFORE .text;\n");
    fs::write(file, script).with_context(|| file.display().to_string())?;
    eprintln!("bench: {} names written to {}", written.len(), file.display());
    Ok(())
}

/// How many names the script has, and how many of them the program: few where the compiler calls them otherwise since it was written.
pub(crate) fn found(program: &Path, script: &str) -> Result<(usize, usize)> {
    let here: BTreeSet<String> = sizes(program)?.keys().map(|name| pattern(name)).collect();
    let named: Vec<&str> = script
        .lines()
        .filter_map(|line| line.trim().strip_prefix("*(.text.")?.strip_suffix(')'))
        .collect();
    let found = named.iter().filter(|name| here.contains(**name)).count();
    Ok((named.len(), found))
}

/// The functions that requests run.
fn run_by_requests(world: &World, settings: Settings) -> Result<BTreeSet<String>> {
    let names_in_full = ["--demangle=no", "--compress-strings=no", "--compress-pos=no"].map(Into::into);
    let command = wrapper().into_iter().chain(names_in_full).collect();
    let mut counted = Counted::of(world.tenantry_under(command, settings)?);
    let mut client = Client::connect(counted.server.port)?;
    let mut run = BTreeSet::new();
    for (_, path) in ROUTES {
        let mut send = || (0..REQUESTS).try_for_each(|_| client.get_ok(path, "t0").map(drop));
        send()?;
        counted.dump()?;
        send()?;
        let of_route = instructions(&counted.dump()?).into_iter();
        run.extend(of_route.filter_map(|(name, count)| (count >= REQUESTS * FEWEST).then_some(name)));
    }
    Ok(run)
}

/// The instructions of each function itself, without those that it calls.
fn instructions(dump: &str) -> HashMap<String, u64> {
    let mut instructions: HashMap<String, u64> = HashMap::new();
    let (mut function, mut lines) = (String::new(), dump.lines());
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("fn=") {
            // The second of a recursive function is called `name'2`.
            function = name.split('\'').next().unwrap_or(name).to_owned();
        } else if line.starts_with("calls=") {
            // The next line is what the callee took.
            lines.next();
        } else if line.starts_with(|first: char| first.is_ascii_digit())
            && let Some(count) = line.split(' ').nth(1).and_then(|count| count.parse::<u64>().ok())
        {
            *instructions.entry(function.clone()).or_default() += count;
        }
    }
    instructions
}

/// The sizes of a program's functions, in bytes.
fn sizes(program: &Path) -> Result<HashMap<String, u64>> {
    let output = Command::new("nm")
        .arg("-S")
        .arg(program)
        .output()
        .context("can't run nm")?;
    ensure!(
        output.status.success(),
        "nm: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut sizes = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let [_, size, "t" | "T" | "w" | "W", name] = line.split(' ').collect::<Vec<_>>()[..] {
            *sizes.entry(name.to_owned()).or_default() += u64::from_str_radix(size, 16)?;
        }
    }
    Ok(sizes)
}

/// The function's name without what changes with the compiler and the versions of what it comes from, as a pattern of the linker's.
fn pattern(name: &str) -> String {
    let name = name.split(".llvm.").next().unwrap_or(name);
    if let Some((path, hash)) = name.rsplit_once("17h")
        && hash.len() == 17
    {
        return format!("{path}17h*");
    }
    if !name.starts_with("_R") {
        return name.to_owned();
    }
    // Of rustc's newer names, in which the standard library has its own: `Cs`, a hash, `_`, the crate.
    let mut parts = name.split("Cs");
    let mut pattern = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('_') {
            Some((_, rest)) => write!(pattern, "Cs*_{rest}"),
            None => write!(pattern, "Cs{part}"),
        }
        .unwrap_or_default();
    }
    pattern + "*"
}
