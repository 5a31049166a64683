//! The report of a run, as lines of JSON (`migrations.report`): one when it begins, one for each
//! tenant for which something was done, failed or was not reached, and one when it ends.

use std::{
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::{fs, io::AsyncWriteExt as _, sync::Mutex};

use super::outcome::{Outcome, Word};
use crate::{command_line::Stop, migrations::Done};

/// Appends to the report of one run.
pub(super) struct Journal {
    file: Option<Mutex<fs::File>>,
    /// Why a line could not be written.
    lost: OnceLock<String>,
    run: String,
    began: Instant,
}

impl Journal {
    /// Opens the report; without a path nothing is written.
    pub(super) async fn open(path: Option<&Path>) -> Result<Self, Stop> {
        let file = match path {
            None => None,
            Some(path) => {
                let opened = fs::OpenOptions::new().create(true).append(true).open(path).await;
                let wrong = |error| {
                    let path = path.display();
                    Stop::Failure(format!(
                        "the report `{path}` (`migrations.report`) cannot be written: {error}"
                    ))
                };
                Some(Mutex::new(opened.map_err(wrong)?))
            }
        };
        Ok(Self {
            file,
            lost: OnceLock::new(),
            run: format!("{}-{}", Utc::now().format("%Y%m%dT%H%M%S%.3fZ"), std::process::id()),
            began: Instant::now(),
        })
    }

    /// The run begins; `plan` says what it is about to do.
    pub(super) async fn begin(&self, plan: Value) {
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").await.ok();
        let host = host.map(|host| host.trim().to_owned());
        let began = json!({"event": "begun", "user": user, "host": host, "version": env!("CARGO_PKG_VERSION")});
        self.write(began, plan).await;
    }

    /// One tenant is done.
    pub(super) async fn tenant(&self, wave: usize, outcome: &Outcome, applied: &[Done], took: Duration) {
        if outcome.outcome == Word::Ok && applied.is_empty() {
            return;
        }
        let files: Vec<Value> = applied
            .iter()
            .map(|file| json!({"file": file.name, "ms": milliseconds(file.took)}))
            .collect();
        let error = outcome.error.as_ref().map(|fault| {
            json!({"file": fault.file, "line": fault.line, "statement": fault.statement, "detail": fault.detail})
        });
        let line = json!({
            "event": "tenant", "tenant": outcome.tenant, "driver": outcome.driver, "wave": wave,
            "outcome": outcome.outcome, "version": outcome.version, "applied": files,
            "ms": milliseconds(took), "error": error,
        });
        self.write(line, Value::Null).await;
    }

    /// The run ends.
    ///
    /// # Errors
    /// A line could not be written. The run went on.
    pub(super) async fn end(&self, ok: usize, failed: usize, not_reached: usize) -> Result<(), Stop> {
        let ms = milliseconds(self.began.elapsed());
        let line = json!({"event": "ended", "ok": ok, "failed": failed, "not_reached": not_reached, "ms": ms});
        self.write(line, Value::Null).await;
        match self.lost.get() {
            Some(reason) => Err(Stop::Failure(format!(
                "the report (`migrations.report`) is not complete: {reason}"
            ))),
            None => Ok(()),
        }
    }

    /// Writes one line at once, so that those of two runs do not mix.
    async fn write(&self, line: Value, more: Value) {
        let Some(file) = &self.file else {
            return;
        };
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut whole = json!({"run": self.run, "at": at});
        for part in [line, more] {
            if let (Some(whole), Value::Object(part)) = (whole.as_object_mut(), part) {
                whole.extend(part);
            }
        }
        let text = format!("{whole}\n");
        let mut file = file.lock().await;
        let written = match file.write_all(text.as_bytes()).await {
            Ok(()) => file.flush().await,
            failed => failed,
        };
        if let Err(error) = written {
            // The first reason stays.
            self.lost.get_or_init(|| error.to_string());
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
