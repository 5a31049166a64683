//! Mutated requests, byte by byte, to the whole request path of the built program: hyper, the
//! routes, the resolvers, the APIs, SQLite.
//!
//! `corpus/` holds requests that a person wrote; each round mutates some of them. The default run
//! is short; `TENANTRY_FUZZ_SECONDS` makes it longer and `TENANTRY_FUZZ_SEED` repeats one.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tenantry_test_support::TenantryProcess;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::raw::{program, send};

/// Words that mean something to one of the parsers.
const WORDS: [&str; 36] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "/",
    "//",
    "..",
    "%2e",
    "%00",
    "%",
    "?",
    "#",
    "@",
    "\"",
    "{",
    "[",
    "\u{feff}",
    "é",
    "\u{202e}",
    "18446744073709551616",
    "-1",
    "0",
    "1e999",
    "null",
    "acme",
    "zeta",
    "Host: zeta",
    "X-Tenant-ID: zeta",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
];
/// How long an answer may take, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/corpus");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort_unstable();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn mutated(corpus: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut bytes = random.choice(corpus).unwrap().clone();
    for _ in 0..random.usize(0..6) {
        let (at, to) = (random.usize(0..=bytes.len()), random.usize(0..=bytes.len()));
        let (from, to) = (at.min(to), at.max(to));
        match random.u8(0..9) {
            0 if from < bytes.len() => bytes[from] ^= 1 << random.u8(0..8),
            1 if from < bytes.len() => bytes[from] = random.u8(..),
            2 | 3 => drop(bytes.splice(from..from, random.choice(WORDS).unwrap().bytes())),
            4 => bytes.truncate(to),
            5 => drop(bytes.drain(from..to.min(from + 40))),
            6 => {
                // A part once more, as a second header line is.
                let part = bytes[from..to].to_vec();
                bytes.splice(to..to, part);
            }
            7 => {
                let other = random.choice(corpus).unwrap();
                let cut = random.usize(0..=other.len());
                bytes.splice(from.., other[cut..].iter().copied());
            }
            8 => bytes.extend(std::iter::repeat_n(random.u8(..), random.usize(0..3000))),
            _ => {}
        }
    }
    bytes
}

/// Sends the bytes in some pieces and returns everything that comes back.
async fn exchange(port: u16, bytes: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let cut = random.usize(0..=bytes.len());
    let (mut reader, mut writer) = stream.split();
    let write = async {
        // The server may close the connection at any moment.
        for piece in [&bytes[..cut], &bytes[cut..]] {
            if writer.write_all(piece).await.is_err() || writer.flush().await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        writer.shutdown().await.ok();
    };
    let mut answer = Vec::new();
    let read = async {
        // A reset ends the answer, too.
        reader.read_to_end(&mut answer).await.ok();
    };
    let ended = timeout(LIMIT, async { tokio::join!(write, read) }).await;
    assert!(
        ended.is_ok(),
        "the connection stays open after {:?}",
        String::from_utf8_lossy(bytes)
    );
    answer
}

async fn fuzz(server: &TenantryProcess, corpus: &[Vec<u8>], until: Instant, random: &mut Rng) -> u64 {
    let mut sent = 0;
    while Instant::now() < until {
        let seed = random.u64(..);
        let mut random = Rng::with_seed(seed);
        let bytes = mutated(corpus, &mut random);
        let answer = exchange(server.port(), &bytes, &mut random).await;
        let text = String::from_utf8_lossy(&answer);
        let context = || format!("{:?}\nis answered\n{text}", String::from_utf8_lossy(&bytes));
        assert!(!text.contains("HTTP/1.1 500"), "{}", context());
        assert!(!text.contains("\"code\":\"internal\""), "{}", context());
        sent += 1;
    }
    sent
}

#[tokio::test]
async fn no_bytes_make_the_server_panic_or_fail() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let length = Duration::from_secs(number("TENANTRY_FUZZ_SECONDS").unwrap_or(8));
    let seed = number("TENANTRY_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("TENANTRY_FUZZ_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let corpus = corpus();
    let jwt = "{ type: jwt, secret: a secret of more than thirty-two bytes }";
    let all = ["header", "path", "query", "cookie"].map(|resolver| format!("{{ type: {resolver} }}"));
    let chain = format!("{{ type: chain, resolvers: [{jwt}, {}] }}", all.join(", "));
    let subdomain = "{ type: subdomain, domain: example.com }";
    let resolvers = [chain.as_str(), "{ type: header }", "{ type: path }", subdomain];
    for resolver in resolvers {
        let more = "server: { trusted_proxies: [127.0.0.1], forwarded: forwarded, request_timeout: 5s }\nlogging: { level: warn }";
        let server = program(resolver, more).start().await.unwrap();
        let until = Instant::now() + length / resolvers.len() as u32;
        let sent = fuzz(&server, &corpus, until, &mut random).await;
        println!("{resolver}: {sent} connections");
        assert_eq!(
            send(&server, "GET /health/live", &["Host: localhost"]).await.status,
            200
        );
        let logs = server.logs().await.unwrap();
        assert!(!logs.contains("a panic"), "{logs}");
    }
}
