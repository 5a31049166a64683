//! Declared tables, served: each table is a route of its own, so that logs and metrics name it.

mod on_connect;

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode};
use poem::{Body, Endpoint, EndpointExt as _, Request, Response, Result, error::ReadBodyError};
use tenantry_core::TenantLocation;
use tenantry_openapi::{ApiSet, DescribedRoute, Dialect, Fault, Problem, ProblemCode, Tenant, target_of};
use tenantry_tables::{Answer, Ask, At, Failure, Refusal, Rest, Settings};

use crate::config;
pub(crate) use on_connect::ComparedOnConnect;

/// The methods that a table answers.
const METHODS: [Method; 6] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PATCH,
    Method::PUT,
    Method::DELETE,
];

/// The tables of a configuration.
pub(crate) fn tables(config: &config::Rest, location: &TenantLocation) -> Arc<Rest> {
    let settings = Settings {
        max_rows: config.max_rows,
        role_claim: config.role_claim.clone(),
        other_parameters: location.query_parameters(),
    };
    Arc::new(Rest::new(&config.tables, settings))
}

/// When a tenant that lacks a table or a column may be asked again.
const BEHIND: Duration = Duration::from_secs(1);

/// Adds the routes of the declared tables to `apis`.
pub(crate) fn with_tables(apis: ApiSet, config: &config::Rest, served: &Arc<Rest>) -> ApiSet {
    let route = |path: String, table: Option<&str>, method: Method| DescribedRoute {
        path,
        method: method.clone(),
        endpoint: TableEndpoint {
            rest: served.clone(),
            table: table.map(str::to_owned),
        }
        .boxed(),
    };
    let mut routes = Vec::new();
    for method in METHODS {
        for table in served.table_names() {
            routes.push(route(format!("{}/{table}", config.path), Some(table), method.clone()));
        }
        routes.push(route(format!("{}/:table", config.path), None, method));
    }
    // PostgREST has its document there, and its clients look for it.
    apis.with_described(served.document(&config.path), routes)
        .with_document_at(&config.path)
        .with_document_at(format!("{}/", config.path))
}

/// What is wrong with roles that no request can have, in a sentence.
pub(crate) fn unreachable_roles(served: &Rest, location: &TenantLocation) -> Option<String> {
    let roles: Vec<String> = served
        .roles_of_tokens()
        .into_iter()
        .map(|role| format!("`{role}`"))
        .collect();
    (!roles.is_empty() && !has_claims(location)).then(|| {
        format!(
            "no request has a role of the declared tables other than `anon`, so {} may do nothing: a role is a claim of a \
             token, and `tenancy.resolver` reads none",
            roles.join(", ")
        )
    })
}

/// The parameter of the declared tables that no request can use, since the resolver reads the
/// tenant from a parameter of that name; in a sentence.
pub(crate) fn hidden_parameter(served: &Rest, location: &TenantLocation) -> Option<String> {
    let names = location.query_parameters();
    let name = names.iter().find(|name| served.has_parameter(name))?;
    Some(format!(
        "no request can use `{name}` of the declared tables, since `tenancy.resolver` reads the tenant from a query parameter \
         of that name: give it another one"
    ))
}

/// Whether a request may have verified claims.
fn has_claims(location: &TenantLocation) -> bool {
    match location {
        TenantLocation::Bearer { .. } | TenantLocation::ApiKey { .. } => true,
        TenantLocation::AnyOf(all) | TenantLocation::AllOf(all) => all.iter().any(has_claims),
        _ => false,
    }
}

/// Answers the requests for one table, or for those that are not declared.
struct TableEndpoint {
    rest: Arc<Rest>,
    table: Option<String>,
}

impl Endpoint for TableEndpoint {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let (request, mut body) = request.split();
        let tenant = Tenant::of_request(&request, &mut body).await?;
        let bytes = match body.take()? {
            body if body.is_empty() => Default::default(),
            body => read(body).await?,
        };
        let table: Cow<'_, str> = match &self.table {
            Some(table) => table.into(),
            None => request.path_params::<String>().unwrap_or_default().into(),
        };
        let target = target_of(&request);
        let ask = Ask {
            method: request.method(),
            table: &table,
            path: target.path(),
            query: target.query().unwrap_or_default(),
            headers: request.headers(),
            body: &bytes,
            claims: tenant.claims().map(tenantry_core::Claims::as_map),
        };
        let answered = self.rest.answer(&tenant, ask).await;
        match answered {
            Ok(answer) => Ok(response(answer)),
            Err(failure) => Err(problem(failure).into()),
        }
    }
}

async fn read(body: Body) -> Result<bytes::Bytes> {
    let read: std::result::Result<bytes::Bytes, ReadBodyError> = body.into_bytes().await;
    Ok(read?)
}

fn response(answer: Answer) -> Response {
    let mut response = Response::builder().status(answer.status).body(answer.body);
    *response.headers_mut() = answer.headers;
    response
}

fn problem(failure: Failure) -> Problem {
    match failure {
        Failure::Refused(refusal) => refused(*refusal),
        Failure::Beyond { refusal, rows } => refused(*refusal).with_content_range(rows),
        // A problem that is not this dialect's keeps its own code.
        Failure::Database(error) => Problem::from(&error),
        Failure::Behind { missing } => Problem::new(
            ProblemCode::TenantSchemaBehind,
            format!("The tenant's database does not have the {missing} yet."),
        )
        .with_retry_after(BEHIND),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let Refusal {
        status,
        code,
        message,
        details,
        hint,
        places,
        challenges,
    } = refusal;
    let faults = places.into_iter().map(|place| match place.at {
        At::Body(pointer) => Fault::pointer(pointer, place.detail),
        At::Parameter(name) => Fault::parameter(name, place.detail),
        At::Header(name) => Fault::parameter(name, place.detail),
    });
    let mut problem = Problem::new(ProblemCode::of_status(status), message.clone()).with_faults(faults.collect());
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let methods: Vec<&str> = METHODS.iter().map(Method::as_str).collect();
        // Names of methods are tokens, so they are valid in a header.
        if let Ok(methods) = HeaderValue::from_str(&methods.join(", ")) {
            problem = problem.with_allow(methods);
        }
    }
    if challenges {
        problem = problem.with_challenge();
    }
    problem.with_dialect(Dialect {
        code: Some(code),
        message,
        details,
        hint,
    })
}
