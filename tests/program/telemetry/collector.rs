//! A collector in the test's own process: a real receiver of OTLP, over gRPC and over HTTP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use poem::{EndpointExt as _, Route, Server, handler, http::StatusCode, listener::TcpAcceptor, post, web::Data};
use prost::Message as _;
use tokio::{net::TcpListener, sync::watch};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// How long telemetry may take to arrive.
const LIMIT: Duration = Duration::from_secs(30);

/// Everything that arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) resources: Vec<Resource>,
    pub(crate) spans: Vec<Span>,
    pub(crate) metrics: Vec<Metric>,
}

impl Received {
    /// All of it as text, for a search.
    pub(crate) fn text(&self) -> String {
        format!("{self:?}")
    }

    pub(crate) fn span(&self, name: &str) -> &Span {
        let names: Vec<&str> = self.spans.iter().map(|span| &*span.name).collect();
        let found = self.spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span `{name}` among {names:?}"))
    }
}

/// The value of the attribute of that name; the empty text if there is none.
pub(crate) fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()) {
        Some(AnyValue {
            value: Some(any_value::Value::StringValue(text)),
        }) => text.clone(),
        Some(AnyValue {
            value: Some(any_value::Value::IntValue(number)),
        }) => number.to_string(),
        other => other.map(|other| format!("{other:?}")).unwrap_or_default(),
    }
}

#[derive(Clone)]
struct Receiver(Arc<watch::Sender<Received>>);

impl Receiver {
    fn traces(&self, request: ExportTraceServiceRequest) {
        self.0.send_modify(|received| {
            for of_resource in request.resource_spans {
                received.resources.extend(of_resource.resource);
                for of_scope in of_resource.scope_spans {
                    received.spans.extend(of_scope.spans);
                }
            }
        });
    }

    fn metrics(&self, request: ExportMetricsServiceRequest) {
        self.0.send_modify(|received| {
            for of_resource in request.resource_metrics {
                received.resources.extend(of_resource.resource);
                for of_scope in of_resource.scope_metrics {
                    received.metrics.extend(of_scope.metrics);
                }
            }
        });
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[handler]
fn traces_over_http(Data(receiver): Data<&Receiver>, body: Vec<u8>) -> StatusCode {
    match ExportTraceServiceRequest::decode(&*body) {
        Ok(request) => receiver.traces(request),
        Err(_) => return StatusCode::BAD_REQUEST,
    }
    StatusCode::OK
}

#[handler]
fn metrics_over_http(Data(receiver): Data<&Receiver>, body: Vec<u8>) -> StatusCode {
    match ExportMetricsServiceRequest::decode(&*body) {
        Ok(request) => receiver.metrics(request),
        Err(_) => return StatusCode::BAD_REQUEST,
    }
    StatusCode::OK
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// A collector that runs until the test ends.
pub(crate) struct Collector {
    received: watch::Receiver<Received>,
    address: SocketAddr,
}

impl Collector {
    pub(crate) async fn start(protocol: Protocol) -> Self {
        let (sender, received) = watch::channel(Received::default());
        let receiver = Receiver(Arc::new(sender));
        let address = match protocol {
            Protocol::Grpc => {
                let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
                let address = incoming.local_addr().unwrap();
                let serving = tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(receiver.clone()))
                    .add_service(MetricsServiceServer::new(receiver))
                    .serve_with_incoming(incoming);
                tokio::spawn(serving);
                address
            }
            Protocol::Http => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let routes = Route::new()
                    .at("/v1/traces", post(traces_over_http))
                    .at("/v1/metrics", post(metrics_over_http))
                    .data(receiver);
                let acceptor = TcpAcceptor::from_tokio(listener).unwrap();
                tokio::spawn(Server::new_with_acceptor(acceptor).run(routes));
                address
            }
        };
        Self { received, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that arrived, once it is enough.
    pub(crate) async fn wait_for(&self, enough: impl FnMut(&Received) -> bool) -> Received {
        let mut received = self.received.clone();
        let waiting = received.wait_for(enough);
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(received) => received.unwrap().clone(),
            Err(_) => panic!("not within {LIMIT:?}; there is {:#?}", self.so_far()),
        }
    }

    pub(crate) fn so_far(&self) -> Received {
        self.received.borrow().clone()
    }
}
