//! One HTTP request without a client library, for asking whether a server is ready and for filling
//! it.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends `body` to 127.0.0.1, or a GET if there is none, and returns the body of an answer of 2xx.
///
/// # Errors
/// There is no answer in ten seconds, or one with another status; the error then contains its body.
pub(crate) async fn request(port: u16, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Result<String> {
    let method = if body.is_some() { "POST" } else { "GET" };
    request_as(method, port, path, headers, body.unwrap_or_default()).await
}

/// As [`request`], by any method. The answer is read until the server closes; in HTTP/1.0 it is not
/// chunked.
pub(crate) async fn request_as(
    method: &str,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<String> {
    timeout(LIMIT, exchange(method, port, path, headers, body))
        .await
        .with_context(|| format!("no answer from port {port} within {LIMIT:?}"))?
}

async fn exchange(method: &str, port: u16, path: &str, headers: &[(&str, &str)], body: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .context("can't connect")?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes()).await.context("can't send")?;

    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("can't read the answer")?;
    let answer = String::from_utf8(answer).context("the answer is not UTF-8")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of its head")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("status {status}: {body}");
    }
    Ok(body.to_owned())
}
