//! A load by wrk, and one by pgbench.

use std::{io::Write, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{client::Client, server::Server};

/// How long a load lasts, in seconds. Many short ones, not few long ones: what else the machine does
/// lasts for seconds, and falls on all servers of a short round or on none.
pub(crate) const SHORT: u64 = 1;

/// Clients that send one request after the other.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) path: &'static str,
    pub(crate) clients: usize,
    /// Over how many tenants, in turn: `t0`, `t1` and so on.
    pub(crate) tenants: usize,
    pub(crate) seconds: u64,
}

/// What came of it. What was not measured is not a number.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    /// Answers in a second.
    pub(crate) rate: f64,
    /// Processor time of the server for one, in microseconds.
    pub(crate) cpu_us: f64,
    /// Time to the answer: half of all, and 99 of a hundred, in milliseconds.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Measures once.
pub(crate) type Run<'a> = Box<dyn Fn() -> Result<Outcome> + 'a>;

/// Prints the figures in one line. Any answer that is not 2xx or 3xx counts as failed.
const DONE: &str = r#"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("figures %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"#;

impl Load {
    fn script(&self) -> String {
        if self.tenants == 1 {
            // Without a function `request` wrk sends the same bytes again and again.
            return format!("wrk.headers['X-Tenant-ID'] = 't0'\n{DONE}");
        }
        format!(
            "local all, turn = {{}}, 0\n\
             function init(arguments)\n\
               for n = 1, {} do\n\
                 wrk.headers['X-Tenant-ID'] = 't' .. (n - 1)\n\
                 all[n] = wrk.format('GET')\n\
               end\n\
             end\n\
             function request() turn = turn % #all + 1 return all[turn] end\n{DONE}",
            self.tenants
        )
    }

    /// Opens every tenant, puts the load on a server for a second, so that what comes once has
    /// come, and returns what puts it on.
    pub(crate) fn on(self, server: &Server) -> Result<Run<'_>> {
        let mut client = Client::connect(server.port)?;
        for tenant in 0..self.tenants {
            client.get_ok(self.path, &format!("t{tenant}"))?;
        }
        Self { seconds: SHORT, ..self }.run(server)?;
        Ok(Box::new(move || self.run(server)))
    }

    /// Puts it on a server.
    pub(crate) fn run(&self, server: &Server) -> Result<Outcome> {
        let mut script = tempfile::Builder::new().suffix(".lua").tempfile()?;
        script.write_all(self.script().as_bytes())?;
        let before = server.cpu()?;
        let output = Command::new("wrk")
            .args(["-t1", &format!("-c{}", self.clients), &format!("-d{}s", self.seconds)])
            .arg("--timeout=20s")
            .arg("-s")
            .arg(script.path())
            .arg(format!("http://127.0.0.1:{}{}", server.port, self.path))
            .output()
            .context("can't run wrk")?;
        let cpu = server.cpu()? - before;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("figures "));
        let numbers = line.map(|line| line.split(' ').map(str::parse::<f64>).collect::<Result<Vec<_>, _>>());
        let Some(Ok(numbers)) = numbers else {
            anyhow::bail!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        };
        let [requests, microseconds, failed, p50, p99] = numbers[..] else {
            anyhow::bail!("wrk told {} numbers", numbers.len());
        };
        ensure!(
            failed == 0.0,
            "{failed} of {requests} requests for {} failed\n{}",
            self.path,
            server.log()
        );
        ensure!(requests > 0.0, "no request was answered");
        Ok(Outcome {
            rate: requests / Duration::from_micros(microseconds as u64).as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / requests,
            p50_ms: p50 / 1e3,
            p99_ms: p99 / 1e3,
        })
    }
}

/// How often each client of pgbench runs its query: about a second's work. Not a number of seconds,
/// since pgbench counts the time to connect among them.
const QUERIES: usize = 2_000;

/// Runs a query on a database again and again, prepared, by so many clients.
pub(crate) fn pgbench(url: &str, query: &str, clients: usize) -> Result<Outcome> {
    let mut script = tempfile::Builder::new().suffix(".sql").tempfile()?;
    script.write_all(query.as_bytes())?;
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
        .args([format!("--client={clients}"), format!("--transactions={QUERIES}")])
        .arg("--file")
        .arg(script.path())
        .arg(url)
        .output()
        .context("can't run pgbench, which comes with PostgreSQL")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rest| rest.split(' ').next()?.parse().ok());
    let rate = rate.with_context(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(Outcome {
        rate,
        cpu_us: f64::NAN,
        p50_ms: f64::NAN,
        p99_ms: f64::NAN,
    })
}
