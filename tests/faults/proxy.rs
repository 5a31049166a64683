//! A TCP proxy that can misbehave.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Stands before a server on 127.0.0.1.
pub(crate) struct Proxy {
    port: u16,
    silence: watch::Sender<Silence>,
    turns_away: Arc<AtomicBool>,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

/// Which connections are silent.
#[derive(Clone, Copy, Default)]
struct Silence {
    /// Those that were opened in an earlier era.
    era: u64,
    /// What became of them.
    loss: Loss,
    everyone: bool,
}

/// How connections are lost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Loss {
    /// As by a NAT that forgot them: not a byte goes either way, and neither end is closed.
    #[default]
    Forgotten,
    /// As by a load balancer with an idle time-out: the client gets an RST.
    Reset,
    /// The server's side is closed, and what the client sends is taken and not answered.
    HalfClosed,
}

/// How often each word went by on its way to the server. A word that is cut in two by a read is
/// found all the same.
#[derive(Default)]
struct Counts {
    words: Vec<&'static str>,
    seen: Mutex<BTreeMap<&'static str, usize>>,
    spoke: AtomicBool,
}

impl Proxy {
    /// Before the server on this port; requests that hold one of the `words` are counted.
    pub(crate) async fn start(port: u16, words: &[&'static str]) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let (silence, silences) = watch::channel(Silence::default());
        let counts = Arc::new(Counts {
            words: words.to_vec(),
            ..Counts::default()
        });
        let counting = counts.clone();
        let turns_away = Arc::new(AtomicBool::new(false));
        let turned_away = turns_away.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if turned_away.load(Ordering::Relaxed) {
                    continue;
                }
                tokio::spawn(forward(client, port, silences.clone(), counting.clone()));
            }
        });
        Ok(Self {
            port: own_port,
            silence,
            turns_away,
            counts,
            accepting,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on not a byte goes either way; connections are accepted and kept.
    pub(crate) fn fall_silent(&self) {
        self.silence.send_modify(|silence| silence.everyone = true);
    }

    /// Loses the connections that are open. Later connections work.
    pub(crate) fn lose_open_connections(&self, loss: Loss) {
        self.silence.send_modify(|silence| {
            silence.era += 1;
            silence.loss = loss;
        });
    }

    /// Sets whether new connections are turned away.
    pub(crate) fn turn_away(&self, turn_away: bool) {
        self.turns_away.store(turn_away, Ordering::Relaxed);
    }

    /// How often the word was seen.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.counts
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(word)
            .copied()
            .unwrap_or(0)
    }

    /// Whether anything ever went through.
    pub(crate) fn spoke(&self) -> bool {
        self.counts.spoke.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(mut client: TcpStream, port: u16, mut silence: watch::Receiver<Silence>, counts: Arc<Counts>) {
    let Silence { era, everyone, .. } = *silence.borrow();
    if everyone {
        // Kept, so that the client waits.
        std::future::pending::<()>().await;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let loss = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let upward = async {
            let mut buffer = vec![0; 16 * 1024];
            let mut before = String::new();
            while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                counts.spoke.store(true, Ordering::Relaxed);
                before = counts.look(before, &buffer[..length]);
                if to_server.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        };
        let downward = tokio::io::copy(&mut from_server, &mut to_client);
        let fell_silent = async {
            let is_mine = |silence: &Silence| silence.everyone || silence.era > era;
            let loss = silence.wait_for(is_mine).await.map(|silence| silence.loss);
            match loss {
                Ok(loss) => loss,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            // The server's end, or the client's, is both ends' end.
            () = upward => return,
            _ = downward => return,
            loss = fell_silent => loss,
        }
    };
    match loss {
        Loss::Reset => drop(client.set_zero_linger()),
        Loss::HalfClosed => {
            client.shutdown().await.ok();
            std::future::pending().await
        }
        // Both sides stay open, and nothing is read.
        Loss::Forgotten => std::future::pending().await,
    }
}

impl Counts {
    /// Counts the words in what came, and gives back what may be the beginning of another.
    fn look(&self, before: String, came: &[u8]) -> String {
        if self.words.is_empty() {
            return before;
        }
        let text = before + &String::from_utf8_lossy(came);
        let mut rest = 0;
        for word in &self.words {
            for (at, _) in text.match_indices(word) {
                *self
                    .seen
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(word)
                    .or_default() += 1;
                rest = rest.max(at + word.len());
            }
        }
        let longest = self.words.iter().map(|word| word.len()).max().unwrap_or(1);
        let mut start = text.len().saturating_sub(longest - 1).max(rest);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text[start..].to_owned()
    }
}
