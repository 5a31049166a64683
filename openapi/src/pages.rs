//! The documentation pages. poem-openapi carries the scripts of Swagger UI, Redoc and Scalar and
//! writes them into its pages together with a document; here its document is taken out and ours put
//! in, and so is everything that would be fetched from elsewhere.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write as _,
    sync::Arc,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{
    Endpoint, Request, Response, Result,
    endpoint::{make, make_sync},
};
use poem_openapi::OpenApiService;
use tenantry_core::TenantLocation;
use tokio::sync::OnceCell;

use crate::{
    Problem,
    api_set::RouteTable,
    document::{ApiConflict, ApiDocument, connect_sources},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    SwaggerUi,
    Redoc,
    Scalar,
}

/// Adds the document in JSON at this path, except if an API already has it.
pub(crate) fn add_document(table: &mut RouteTable, path: &str, document: &ApiDocument) {
    add_file(table, path, "application/json", document.json().clone());
}

fn add_file(table: &mut RouteTable, path: &str, media_type: &'static str, content: Bytes) {
    let content = Arc::new(OnceCell::new_with(Some(Some(Content::new(content, media_type)))));
    table.add_new(path, Method::GET, serve(content, || None, HeaderMap::new()));
}

/// Adds the documents and the pages, except on paths that an API already has.
pub(crate) fn add_routes(table: &mut RouteTable, document: &ApiDocument, location: &TenantLocation) {
    add_document(table, "/openapi.json", document);
    add_file(table, "/openapi.yaml", "application/yaml", document.yaml().clone());
    let headers = page_headers(location);
    for (path, page) in [
        ("/docs", Page::SwaggerUi),
        ("/docs/redoc", Page::Redoc),
        ("/docs/scalar", Page::Scalar),
    ] {
        let json = document.json().clone();
        // Made at the first request: together they are some megabytes.
        let make = move || match page.html(&json) {
            Ok(html) => Some(Content::new(html.into(), "text/html; charset=utf-8")),
            Err(error) => {
                tracing::error!(error = %error, "a documentation page cannot be made");
                None
            }
        };
        table.add_new(path, Method::GET, serve(Arc::default(), make, headers.clone()));
    }
    let redirect = make_sync(|_| {
        Response::builder()
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header(header::LOCATION, "/docs")
            .finish()
    });
    table.add_new("/", Method::GET, redirect);
}

/// A compressed copy of an answer's body. The layer that compresses answers sends it instead of
/// compressing the body again.
#[derive(Debug, Clone)]
pub struct Gzipped(pub Bytes);

/// These bytes in gzip.
pub fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory cannot fail.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}

/// Content that is sent unchanged, with its entity tag.
pub(crate) struct Content {
    bytes: Bytes,
    gzipped: Gzipped,
    media_type: &'static str,
    etag: HeaderValue,
}

impl Content {
    pub(crate) fn new(bytes: Bytes, media_type: &'static str) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        // Weak (RFC 9110 §8.8.1): on its way out it may be compressed.
        let etag = HeaderValue::from_str(&format!("W/\"{:016x}\"", hasher.finish()));
        Self {
            gzipped: Gzipped(gzip(&bytes)),
            bytes,
            media_type,
            etag: etag.unwrap_or_else(|_| HeaderValue::from_static("W/\"0\"")),
        }
    }

    fn answer(&self, condition: Option<&HeaderValue>) -> Response {
        let response = Response::builder()
            .header(header::ETAG, self.etag.clone())
            .header(header::CACHE_CONTROL, "no-cache");
        let matches = condition
            .and_then(|condition| condition.to_str().ok())
            .is_some_and(|condition| {
                condition
                    .split(',')
                    .any(|etag| etag.trim().as_bytes() == self.etag.as_bytes())
            });
        if matches {
            return response.status(StatusCode::NOT_MODIFIED).finish();
        }
        let mut response = response.content_type(self.media_type).body(self.bytes.clone());
        response.set_data(self.gzipped.clone());
        response
    }
}

pub(crate) fn serve(
    content: Arc<OnceCell<Option<Content>>>,
    content_of: impl Fn() -> Option<Content> + Clone + Send + Sync + 'static,
    headers: HeaderMap,
) -> impl Endpoint<Output = Response> + 'static {
    make(move |request: Request| {
        let (content, content_of, headers) = (content.clone(), content_of.clone(), headers.clone());
        async move {
            // Building the page takes a tenth of a second, and happens once.
            let made = content.get_or_init(|| async {
                let made = tokio::task::spawn_blocking(content_of).await;
                made.ok().flatten()
            });
            let Some(content) = made.await else {
                return Err(poem::Error::from(Problem::internal()));
            };
            let mut response = content.answer(request.headers().get(header::IF_NONE_MATCH));
            response.headers_mut().extend(headers);
            Ok(response)
        }
    })
}

/// A page's Content-Security-Policy: it may run its own scripts, and send requests to this server
/// or to the tenants' subdomains.
fn page_headers(location: &TenantLocation) -> HeaderMap {
    let policy = format!(
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: blob:; font-src data:; \
         worker-src blob:; connect-src 'self' data: blob:{}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        connect_sources(location)
    );
    let mut headers = HeaderMap::new();
    // Host names come from the configuration. One that no header may have leaves the page without
    // requests to it, not without a policy.
    let policy = HeaderValue::from_str(&policy).unwrap_or_else(|_| {
        HeaderValue::from_static(
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        )
    });
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
}

/// No script may send the header `Cookie` itself. Swagger UI sets cookies only if it also stores
/// every token in the browser.
const SET_COOKIES: &str = "request => { for (const cookie of (request.headers.Cookie ?? '').split('; ').filter(Boolean)) \
                           document.cookie = cookie + '; path=/; samesite=strict'; return request; }";

/// Swagger UI writes each parameter's example into its field, and would send those of all optional
/// filters together.
const WITHOUT_OPTIONAL_EXAMPLES: &str = "(() => { for (const path of Object.values(spec.paths ?? {})) \
    for (const operation of Object.values(path)) for (const parameter of operation.parameters ?? []) \
    if (!parameter.required) { delete parameter.example; delete parameter.schema?.example; } return spec; })()";

impl Page {
    fn name(self) -> &'static str {
        match self {
            Self::SwaggerUi => "Swagger UI",
            Self::Redoc => "Redoc",
            Self::Scalar => "Scalar",
        }
    }

    /// The page with the document in it.
    fn html(self, json: &[u8]) -> Result<String, ApiConflict> {
        let service = OpenApiService::new((), "document", "1");
        let template = match self {
            Self::SwaggerUi => service.swagger_ui_html(),
            Self::Redoc => service.redoc_html(),
            Self::Scalar => service.scalar_html(),
        };
        // Before anything else there is a doctype, or a browser falls back to how it drew pages
        // long ago.
        let template = template
            .trim_start()
            .trim_start_matches("<!DOCTYPE html>")
            .trim_start_matches("<!doctype html>");
        let mut html = format!("<!doctype html>\n{}", template.trim_start());
        // Keeps browsers from asking for a favicon, which this server does not have.
        self.put(&mut html, "<title>", "<link rel=\"icon\" href=\"data:,\">\n<title>")?;
        match self {
            Self::SwaggerUi => {
                self.put(
                    &mut html,
                    "oauth2RedirectUrl: oauth2RedirectUrl,",
                    &format!(
                        "validatorUrl: null, persistAuthorization: false, tryItOutEnabled: true, displayRequestDuration: true, \
                         requestInterceptor: {SET_COOKIES},"
                    ),
                )?;
                self.put(&mut html, "spec: spec,", &format!("spec: {WITHOUT_OPTIONAL_EXAMPLES},"))?;
            }
            Self::Redoc => {
                let link = between(&html, "<link href=\"https://fonts.googleapis.com", ">").map(str::to_owned);
                let link = link.ok_or_else(|| self.lacks("link to fonts"))?;
                self.put(&mut html, &link, "")?;
            }
            Self::Scalar => self.put(
                &mut html,
                "id=\"api-reference\"",
                "id=\"api-reference\" data-configuration='{\"withDefaultFonts\": false, \"hideClientButton\": true}'",
            )?,
        }
        // An end tag anywhere in a script would end it. In JSON, `<` occurs only inside texts, so
        // it can be escaped.
        let json = String::from_utf8_lossy(json).replace('<', "\\u003c");
        self.put(&mut html, &service.spec(), &json)?;
        Ok(html)
    }

    fn put(self, html: &mut String, old: &str, new: &str) -> Result<(), ApiConflict> {
        let at = html.find(old).ok_or_else(|| self.lacks(old))?;
        html.replace_range(at..at + old.len(), new);
        Ok(())
    }

    fn lacks(self, part: &str) -> ApiConflict {
        ApiConflict::Page {
            page: self.name(),
            part: part.chars().take(60).collect(),
        }
    }
}

/// From the first `start` to the `end` after it, both included.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let from = text.find(start)?;
    let length = text[from..].find(end)? + end.len();
    Some(&text[from..from + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: [Page; 3] = [Page::SwaggerUi, Page::Redoc, Page::Scalar];

    #[test]
    fn every_page_has_our_document_and_not_the_template_s() {
        for page in PAGES {
            let html = page.html(br#"{"info": {"title": "ours </script>"}}"#).unwrap();
            assert!(html.starts_with("<!doctype html>\n<html"), "{page:?}");
            assert_eq!(
                html.matches(r#"{"info": {"title": "ours \u003c/script>"}}"#).count(),
                1,
                "{page:?}"
            );
            assert!(!html.contains("\"title\": \"document\""), "{page:?}");
        }
    }

    #[test]
    fn no_page_loads_anything_from_elsewhere() {
        for page in PAGES {
            let html = page.html(b"{}").unwrap();
            for tag in ["<link ", "<script ", "<img ", "<iframe "] {
                for (at, _) in html.match_indices(tag) {
                    let element = &html[at..html.len().min(at + 300)];
                    let element = element.split('>').next().unwrap();
                    let outside = ["href=\"http", "src=\"http", "href='http", "src='http", "\"//", "'//"];
                    assert!(
                        !outside.iter().any(|outside| element.contains(outside)),
                        "{page:?}: {element}"
                    );
                }
            }
            assert!(!html.contains("fonts.googleapis.com"), "{page:?}");
        }
    }

    #[test]
    fn a_page_may_send_requests_to_tenants_subdomains() {
        let policy = |location| {
            page_headers(&location)[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .to_owned()
        };
        let domain = "example.com".to_owned();
        assert!(
            policy(TenantLocation::Subdomain { domain }).contains("http://*.example.com:* https://*.example.com:*;")
        );
        for location in [TenantLocation::Fixed, TenantLocation::Host] {
            assert!(policy(location).contains("connect-src 'self' data: blob:;"));
        }
    }
}
