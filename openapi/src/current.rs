//! The request that a task works on, for log lines and spans within it.

use std::fmt::Display;

use parking_lot::Mutex;
use tokio::task::futures::TaskLocalFuture;

use crate::RequestContext;

/// The most fields that a request's log line gets, and the most characters of one.
const MOST_FIELDS: usize = 16;
const LONGEST_FIELD: usize = 256;

tokio::task_local! {
    static CURRENT: CurrentRequest;
}

/// The request that a task works on. A task that it spawns works on none.
#[derive(Debug)]
pub struct CurrentRequest {
    context: RequestContext,
    fields: Mutex<Vec<(&'static str, String)>>,
}

impl CurrentRequest {
    /// Runs `future` for a request.
    pub fn scope<F: Future>(context: RequestContext, future: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(Self::of(context), future)
    }

    /// Reads the request that this task works on, if there is one.
    pub fn read<R>(read: impl FnOnce(&Self) -> R) -> Option<R> {
        CURRENT.try_with(read).ok()
    }

    /// Takes the request out of its [`scope`](Self::scope), to use it elsewhere.
    pub fn take() -> Option<Self> {
        Self::read(|current| Self {
            context: current.context.clone(),
            fields: Mutex::new(std::mem::take(&mut *current.fields.lock())),
        })
    }

    /// Runs `run` for the request in `slot`.
    pub fn within<R>(slot: &mut Option<Self>, run: impl FnOnce() -> R) -> R {
        let Some(current) = slot.take() else {
            return run();
        };
        CURRENT.sync_scope(current, || {
            let done = run();
            *slot = Self::take();
            done
        })
    }

    fn of(context: RequestContext) -> Self {
        let fields = Mutex::default();
        Self { context, fields }
    }

    /// The state of the request.
    pub fn context(&self) -> &RequestContext {
        &self.context
    }

    /// Calls `each` for each field that [`log_field`] added, in order.
    pub fn each_field(&self, mut each: impl FnMut(&'static str, &str)) {
        for (name, value) in &*self.fields.lock() {
            each(name, value);
        }
    }
}

/// Adds a field to the log line that is written when the request has been answered:
/// `log_field("invoice", invoice.id)`. An existing field gets the new value. A field that the line
/// has itself, such as `status` or `level`, is left as it is. A line has room for 16 fields of 256
/// characters. Outside of a request, and in a task that a request spawned, it does nothing.
pub fn log_field(name: &'static str, value: impl Display) {
    let mut value = value.to_string();
    if let Some((end, _)) = value.char_indices().nth(LONGEST_FIELD) {
        value.truncate(end);
    }
    CurrentRequest::read(|current| {
        let mut fields = current.fields.lock();
        let place = fields.iter().position(|(known, _)| *known == name);
        match place {
            Some(place) => fields[place].1 = value,
            None if fields.len() < MOST_FIELDS => fields.push((name, value)),
            None => {
                drop(fields);
                tracing::debug!(name, "the request's log line has no room for another field");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use poem::Request;

    use super::*;

    fn fields() -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        CurrentRequest::read(|current| current.each_field(|name, value| all.push((name, value.to_owned()))));
        all
    }

    #[tokio::test]
    async fn a_request_keeps_a_bounded_number_of_fields() {
        log_field("nowhere", 1);
        let context = RequestContext::of(&mut Request::default());
        let id = context.id().clone();
        let mut taken = CurrentRequest::scope(context, async {
            log_field("a", 1);
            log_field("a", "ä".repeat(1000));
            let names: [&'static str; 20] = [
                "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
            ];
            for name in names {
                log_field(name, name);
            }
            assert_eq!(fields().len(), MOST_FIELDS);
            assert_eq!(fields()[0], ("a", "ä".repeat(LONGEST_FIELD)));
            CurrentRequest::take()
        })
        .await;
        assert!(fields().is_empty());
        let within = CurrentRequest::within(&mut taken, || {
            CurrentRequest::read(|current| current.context().id().clone())
        });
        assert_eq!(within, Some(id));
        assert_eq!(CurrentRequest::within(&mut taken, fields).len(), MOST_FIELDS);
    }
}
