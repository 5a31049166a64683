//! What the program takes when nothing happens: time to start, and memory.

use anyhow::{Result, ensure};

use crate::{
    Effort,
    client::Client,
    report::{Figure, Report, Section, Spread, Unit},
    world::{Settings, World},
};

const MEGABYTE: f64 = 1e6;
const KILOBYTE: f64 = 1e3;

/// How many tenants are opened before memory is looked at for the first time, so that what grows in steps has grown, and how many more
/// between the two looks.
const FIRST: usize = 1_000;
const MORE: usize = 10_000;

/// Starts the program, as it is shipped, and looks at its memory.
pub(crate) fn start_and_memory(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    let (mut starts, mut resident, mut anonymous) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.starts {
        let server = world.shipped()?;
        starts.push(server.started_in.as_secs_f64() * 1e3);
        let memory = server.memory()?;
        resident.push(memory.resident as f64 / MEGABYTE);
        anonymous.push(memory.anonymous as f64 / MEGABYTE);
    }
    let server = world.shipped()?;
    Client::connect(server.port)?.get_ok("/api/v1/tenant/users", "tenant1")?;
    let used = server.memory()?;
    drop(server);
    let (start, resident) = (Spread::of(starts), Spread::of(resident));
    let per_tenant = per_open_tenant(world)?;
    let mut figure = |name, unit, spread, must, aim| {
        let figure = Figure::at_most(name, unit, spread, must, aim);
        report.figures.push(figure);
    };
    figure("memory at rest, SQLite default", Unit::Megabytes, resident, 30.0, 20.0);
    let of_tenant = "memory for one open tenant more, without a connection";
    figure(of_tenant, Unit::Kilobytes, per_tenant, 6.0, 4.0);
    let of_start = "start of the release program to its first answer";
    figure(of_start, Unit::Milliseconds, start, 50.0, 20.0);
    report.sections.push(Section {
        title: "Start and memory",
        text: format!(
            "The shipped configuration, from the start of the process to its first answer to `/health/live`, {} times. Memory is what is \
             resident, the program's own code included; anonymous is heap and stacks alone. For one tenant more it is the growth of the \
             anonymous memory over {MORE} tenants that were asked for something that needs no connection, each with its secret and its \
             pool kept.",
            effort.starts
        ),
        head: ["What", "Measured"].map(str::to_owned).into(),
        rows: vec![
            vec!["start to first answer".to_owned(), format!("{:.1} ms", start.median)],
            vec!["resident at rest".to_owned(), format!("{:.1} MB", resident.median)],
            vec!["of it anonymous".to_owned(), format!("{:.1} MB", Spread::of(anonymous).median)],
            vec![
                "resident after a first page of users from SQLite".to_owned(),
                format!("{:.1} MB", used.resident as f64 / MEGABYTE),
            ],
            vec!["anonymous for one open tenant more".to_owned(), format!("{:.1} kB", per_tenant.median)],
        ],
    });
    Ok(())
}

/// In kB.
fn per_open_tenant(world: &World) -> Result<Spread> {
    let mut measured = Vec::new();
    for _ in 0..3 {
        let server = world.tenantry(Settings {
            known: FIRST + MORE,
            open: Some(2 * (FIRST + MORE)),
            ..Settings::default()
        })?;
        let mut client = Client::connect(server.port)?;
        let mut open = |tenants: std::ops::Range<usize>| -> Result<u64> {
            for n in tenants {
                // Refused for its limit, which is looked at after the tenant's pool was had.
                let answer = client.get("/api/v1/tenant/users?limit=0", &format!("t{n}"))?;
                ensure!(answer.status == 400, "a limit of 0 is answered {}", answer.status);
            }
            Ok(server.memory()?.anonymous)
        };
        let before = open(0..FIRST)?;
        let after = open(FIRST..FIRST + MORE)?;
        let cache: serde_json::Value = serde_json::from_slice(&client.get_ok("/health/cache", "")?)?;
        let (secrets, pools) = (&cache["metrics"], &cache["pools"]);
        ensure!(
            secrets["entries"] == FIRST + MORE && pools["connections"] == 0,
            "not every tenant is open and idle: {cache}"
        );
        measured.push((after.saturating_sub(before)) as f64 / MORE as f64 / KILOBYTE);
    }
    Ok(Spread::of(measured))
}
