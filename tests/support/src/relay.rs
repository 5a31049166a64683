//! Counts what a client reads of a server, and falls silent.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A port that leads to a server's, and counts the bytes that the server sends.
pub struct Relay {
    port: u16,
    sent: Arc<AtomicU64>,
    silent: Arc<AtomicBool>,
}

impl Relay {
    /// Leads to this port of 127.0.0.1.
    pub async fn to(server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let sent = Arc::<AtomicU64>::default();
        let silent = Arc::<AtomicBool>::default();
        let (count, falls_silent) = (sent.clone(), silent.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server, count.clone(), falls_silent.clone()));
            }
        });
        Ok(Self { port, sent, silent })
    }

    /// Passes nothing more on to clients, as a server that hangs.
    pub fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many bytes were passed on to clients.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn relay(client: TcpStream, server: u16, sent: Arc<AtomicU64>, silent: Arc<AtomicBool>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from_server.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if silent.load(Ordering::SeqCst) {
            continue;
        }
        to_client.write_all(&buffer[..read]).await?;
        sent.fetch_add(read as u64, Ordering::SeqCst);
    }
}
