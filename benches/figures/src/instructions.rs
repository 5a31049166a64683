//! How many instructions the servers execute for one request, counted by valgrind's callgrind: the one measure that a busy machine does not
//! change. What the kernel executes for them is not counted.

use std::{ffi::OsString, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    Effort,
    client::Client,
    report::{Report, Section},
    server::Server,
    telemetry,
    world::{Baseline, Settings, World},
};

pub(crate) const ROUTES: [(&str, &str); 3] = [
    ("`GET /users/{id}`", "/api/v1/tenant/users/500"),
    ("`GET /users?limit=50`", "/api/v1/tenant/users?limit=50"),
    ("`GET /health/live`", "/health/live"),
];

/// A server under callgrind.
pub(crate) struct Counted {
    pub(crate) server: Server,
    dumps: usize,
}

pub(crate) fn wrapper() -> Vec<OsString> {
    // The file is below the server's own working directory.
    [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=callgrind.out",
        "--quiet",
    ]
    .map(OsString::from)
    .into()
}

impl Counted {
    pub(crate) fn of(server: Server) -> Self {
        Self { server, dumps: 0 }
    }

    /// What was counted since the last look, as callgrind writes it.
    pub(crate) fn dump(&mut self) -> Result<String> {
        let output = Command::new("callgrind_control")
            .arg("--dump")
            .arg(self.server.pid().to_string())
            .output()
            .context("can't run callgrind_control")?;
        ensure!(
            output.status.success(),
            "callgrind_control: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        self.dumps += 1;
        let file: PathBuf = self.server.folder().join(format!("callgrind.out.{}", self.dumps));
        fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))
    }

    /// The instructions since the last look.
    fn take(&mut self) -> Result<u64> {
        let dump = self.dump()?;
        let total = dump.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(total.context("a dump without totals")?.trim().parse()?)
    }

    /// Instructions for one request: what `count` requests more cost, so that what comes by time or once is not in it. The median of three,
    /// since a connection that is opened meanwhile costs as much as hundreds of requests.
    fn per_request(&mut self, path: &str, count: u64) -> Result<f64> {
        let mut client = Client::connect(self.server.port)?;
        let mut send = |requests: u64| (0..requests).try_for_each(|_| client.get_ok(path, "t0").map(drop));
        send(count / 2)?;
        self.take()?;
        let mut differences = [0.0; 3];
        for difference in &mut differences {
            send(count)?;
            let once = self.take()?;
            send(2 * count)?;
            let twice = self.take()?;
            *difference = (twice as f64 - once as f64) / count as f64;
        }
        differences.sort_by(f64::total_cmp);
        Ok(differences[1])
    }
}

pub(crate) fn count(world: &World, effort: Effort, report: &mut Report) -> Result<()> {
    let info = Settings {
        level: "info",
        ..Settings::default()
    };
    let traced = Settings {
        observability: Some(telemetry::sending(&telemetry::sink()?)),
        ..Settings::default()
    };
    let starts: [(&str, &dyn Fn() -> Result<Server>); 6] = [
        ("Tenantry", &|| world.tenantry_under(wrapper(), Settings::default())),
        ("bare", &|| world.baseline_under(wrapper(), Baseline::Deadpool)),
        ("sqlx's own pool", &|| world.baseline_under(wrapper(), Baseline::Sqlx)),
        ("bare with SeaORM", &|| world.baseline_under(wrapper(), Baseline::Orm)),
        ("Tenantry, a log line a request", &|| {
            world.tenantry_under(wrapper(), info.clone())
        }),
        ("Tenantry, metrics sent, a tenth traced", &|| {
            world.tenantry_under(wrapper(), traced.clone())
        }),
    ];
    let mut counts: Vec<(&str, [f64; 3])> = Vec::new();
    for (name, start) in starts {
        let mut counted = Counted::of(start()?);
        let mut measured = [0.0; 3];
        for (instructions, (_, path)) in measured.iter_mut().zip(ROUTES) {
            *instructions = counted.per_request(path, effort.counted)?;
        }
        counts.push((name, measured));
    }
    let bare = counts[1].1;
    let rows = counts.iter().map(|(name, measured)| {
        let cells = measured.iter().zip(bare);
        let cells = cells.map(|(count, bare)| format!("{count:.0} ({:.2})", count / bare));
        std::iter::once((*name).to_owned()).chain(cells).collect()
    });
    let head = ["Server"].into_iter().chain(ROUTES.map(|(name, _)| name));
    report.sections.push(Section {
        title: "Instructions of one request",
        text:
            "Counted by callgrind, in the server and not in the kernel, with one client and one request at a time; in \
               parentheses the ratio to the bare baseline. `bare with SeaORM` differs from `bare` in nothing but \
               SeaORM's entities, so it is what SeaORM costs."
                .to_owned(),
        head: head.map(str::to_owned).collect(),
        rows: rows.collect(),
    });
    Ok(())
}
