//! The state of a request that its log line and its operation share.

use std::{fmt, sync::Arc};

use poem::Request;
use tenantry_core::engine::RequestTally;

use crate::{Gates, RequestId};

/// The state of a request while it runs: its id, its tenant, and the statements that it sent. The
/// operation writes it and the access log reads it. It is one value in the request's extensions,
/// since each value there costs a map entry.
#[derive(Clone)]
pub struct RequestContext {
    id: RequestId,
    tally: Arc<RequestTally>,
    gates: Option<Arc<Gates>>,
}

impl RequestContext {
    /// Returns the state in the request's extensions. If there is none, adds it, with the client's
    /// id or a new one.
    pub fn of(request: &mut Request) -> Self {
        if let Some(context) = request.data::<Self>() {
            return context.clone();
        }
        let context = Self::new(request);
        request.set_data(context.clone());
        context
    }

    /// The request's id.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// The tenant and the counts of its statements so far.
    pub fn tally(&self) -> &Arc<RequestTally> {
        &self.tally
    }

    /// As [`of`](Self::of); also stores `gates`, which operations ask before they run. Returns the
    /// request's id.
    pub(crate) fn with_gates(request: &mut Request, gates: Option<&Arc<Gates>>) -> RequestId {
        if let Some(context) = request.extensions_mut().get_mut::<Self>() {
            context.gates = gates.cloned();
            return context.id.clone();
        }
        let context = Self {
            gates: gates.cloned(),
            ..Self::new(request)
        };
        let id = context.id.clone();
        request.set_data(context);
        id
    }

    fn new(request: &Request) -> Self {
        Self {
            id: RequestId::from_headers(request.headers()).unwrap_or_else(RequestId::generate),
            tally: Arc::new(match request.method().is_safe() {
                true => RequestTally::of_safe_request(),
                false => RequestTally::default(),
            }),
            gates: None,
        }
    }

    /// The checks that an operation asks before it runs; `None` if the routes are served without
    /// them.
    pub(crate) fn gates(&self) -> Option<&Gates> {
        self.gates.as_deref()
    }
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("id", &self.id)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}
