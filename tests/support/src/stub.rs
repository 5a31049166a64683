//! An HTTP server that answers as a test says.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The longest request that is read, in bytes.
const MAX_REQUEST: usize = 1 << 20;

/// What a stub answers.
pub struct StubAnswer {
    /// The status, such as `200 OK`.
    pub status: String,
    /// Header lines, each with `\r\n` at its end.
    pub headers: String,
    /// The body.
    pub body: String,
    /// Whether the connection ends in the middle of the body.
    pub is_cut: bool,
}

impl StubAnswer {
    /// A whole answer in JSON.
    pub fn json(status: &str, body: impl Into<String>) -> Self {
        Self {
            status: status.to_owned(),
            headers: "Content-Type: application/json\r\n".to_owned(),
            body: body.into(),
            is_cut: false,
        }
    }

    /// With these header lines as well.
    #[must_use]
    pub fn with_headers(mut self, headers: &str) -> Self {
        self.headers.push_str(headers);
        self
    }

    /// The same, cut in the middle.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.is_cut = true;
        self
    }
}

/// An HTTP/1.1 server on 127.0.0.1 that asks a closure for each answer. Dropping it ends it.
pub struct HttpStub {
    port: u16,
    accepting: JoinHandle<()>,
}

impl HttpStub {
    /// Starts one. The closure is given the whole request: its line, headers and body.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(answer: impl Fn(&str) -> StubAnswer + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port is free")?;
        let port = listener.local_addr().context("it has no address")?.port();
        let answer = Arc::new(answer);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    // A client may go away at any time.
                    drop(serve(stream, &*answer).await);
                });
            }
        });
        Ok(Self { port, accepting })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for HttpStub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, answer: &(dyn Fn(&str) -> StubAnswer + Send + Sync)) -> Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !is_whole(&request) && request.len() < MAX_REQUEST {
        let read = stream.read(&mut part).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&part[..read]);
    }
    let answer = answer(&String::from_utf8_lossy(&request));
    let length = answer.body.len();
    let sent = if answer.is_cut { length / 2 } else { length };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Length: {length}\r\n{}Connection: close\r\n\r\n",
        answer.status, answer.headers
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&answer.body.as_bytes()[..sent]).await?;
    stream.shutdown().await?;
    Ok(())
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().unwrap_or_default())
    });
    body.len() >= length.unwrap_or_default()
}
