use std::sync::atomic::AtomicUsize;

use poem::{EndpointExt as _, endpoint::make};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::timeout,
};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n";

/// What `endpoint` is asked through.
struct Served {
    client: DuplexStream,
    task: JoinHandle<bool>,
    stopping: CancellationToken,
    last_call: CancellationToken,
    cut: CancellationToken,
    began: Instant,
}

impl Served {
    fn by(endpoint: impl Endpoint + 'static) -> Self {
        let (client, server) = duplex(16 * 1024);
        let stop = Stop::default();
        let Stop {
            stopping,
            last_call,
            cut,
        } = stop.clone();
        let service = Service::new(endpoint, &ServerLimits::default(), Duration::from_secs(15));
        let ends = Ends {
            local: LocalAddr::default(),
            remote: RemoteAddr::default(),
            scheme: Scheme::HTTP,
        };
        let task = tokio::spawn(async move { service.serve(server, ends, &stop).await });
        Self {
            client,
            task,
            stopping,
            last_call,
            cut,
            began: Instant::now(),
        }
    }

    /// With a small answer that needs no body.
    fn small() -> Self {
        Self::by(make(|_| async { Ok::<_, poem::Error>("small") }))
    }

    /// Whose answer never comes; the count of requests that run.
    fn hanging() -> (Self, Arc<AtomicUsize>) {
        let running = Arc::new(AtomicUsize::new(0));
        let counted = running.clone();
        let endpoint = make(move |_| {
            let running = Counted::new(&counted);
            async move {
                std::future::pending::<()>().await;
                drop(running);
                Ok::<_, poem::Error>("never")
            }
        });
        (Self::by(endpoint), running)
    }

    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one small answer.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"small") {
            assert!(self.client.read_buf(&mut answer).await.unwrap() > 0);
        }
        String::from_utf8(answer).unwrap()
    }

    /// How many seconds after its beginning the connection ends by itself.
    async fn seconds(self) -> u64 {
        let _client = self.client;
        assert!(!self.task.await.unwrap());
        self.began.elapsed().as_secs()
    }
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_arrives_too_slowly_ends_its_connection() {
    assert_eq!(Served::small().seconds().await, 10);
    let mut served = Served::small();
    for _ in 0..3 {
        served.send(GET).await;
        served.answer().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    for byte in ["G", "E", "T"] {
        served.send(byte).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(served.seconds().await, 190);
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_ends_and_each_use_begins_its_time_anew() {
    let mut served = Served::small();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(9)).await;
        served.send(GET).await;
        assert!(!served.answer().await.contains("connection: close"));
    }
    assert_eq!(served.seconds().await, 5 * 9 + 75);
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_begins_at_the_answer() {
    let slow = make(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, poem::Error>("small")
    });
    let mut served = Served::by(slow);
    served.send(GET).await;
    served.answer().await;
    assert_eq!(served.seconds().await, 60 + 75);
}

#[tokio::test(start_paused = true)]
async fn a_request_outlives_every_limit_of_its_connection() {
    let (mut served, running) = Served::hanging();
    served.send(GET).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(running.load(Relaxed), 1);
    served.cut.cancel();
    assert!(served.task.await.unwrap(), "it was cut off");
    assert_eq!(running.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side_has_gone() {
    let (mut served, running) = Served::hanging();
    served.send(GET).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running.load(Relaxed), 1);
    served.client.shutdown().await.unwrap();
    assert_eq!(served.seconds().await, 1);
    assert_eq!(running.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_none_of_its_answer_is_let_go() {
    let large = || make(|_| async { Ok::<_, poem::Error>("a".repeat(1_000_000)) });
    let mut served = Served::by(large());
    served.send(GET).await;
    assert_eq!(served.seconds().await, 60);
    let mut served = Served::by(large());
    served.send(GET).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        served.client.read_exact(&mut [0; 16 * 1024]).await.unwrap();
    }
    assert_eq!(served.seconds().await, 3 * 50 + 60);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_being_read_at_the_last_call_is_not_cut_off() {
    let mut served = Served::by(make(|_| async { Ok::<_, poem::Error>("a".repeat(1_000_000)) }));
    served.send(GET).await;
    served.client.read_exact(&mut [0; 16 * 1024]).await.unwrap();
    served.stopping.cancel();
    served.last_call.cancel();
    tokio::time::sleep(Duration::from_millis(500)).await;
    served.client.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(!served.task.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_answered_by_the_last_call_was_cut_off() {
    let hangs = make(|_| std::future::pending::<Result<(), poem::Error>>());
    let mut served = Served::by(hangs.with(tenantry_openapi::Problems::default()));
    served.send(GET).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    served.stopping.cancel();
    served.last_call.cancel();
    let mut answer = String::new();
    served.client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(served.task.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nothing_reads_is_discarded_behind_the_answer() {
    let mut served = Served::small();
    served.send(POST).await;
    // As an ordinary client does, it sends all of its body before it looks for an answer.
    served.send(&"a".repeat(1_000_000)).await;
    assert!(served.answer().await.contains("connection: close"));
    assert_eq!(served.client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_upgrade_is_closed_like_any_other_request() {
    let mut served = Served::small();
    served
        .send(&POST.replace("\r\n\r\n", "\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"))
        .await;
    served.send(&"a".repeat(1_000_000)).await;
    served.answer().await;
    assert_eq!(served.client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_connection_after_a_refused_upgrade_is_closed() {
    let mut served = Served::small();
    served
        .send(&GET.replace(
            "\r\n\r\n",
            "\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nhalf-of-a-head",
        ))
        .await;
    served.client.shutdown().await.unwrap();
    assert_eq!(served.seconds().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_discarded_is_bounded_in_time() {
    let mut silent = Served::small();
    silent.send(POST).await;
    silent.answer().await;
    assert_eq!(silent.seconds().await, 5);
    let mut slow = Served::small();
    slow.send(POST).await;
    slow.answer().await;
    while slow.client.write_all(b"a").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    assert!((29..=33).contains(&slow.seconds().await));
}

#[tokio::test(start_paused = true)]
async fn a_small_body_that_nothing_reads_leaves_its_connection_open() {
    let mut served = Served::small();
    for _ in 0..3 {
        served
            .send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello")
            .await;
        assert!(!served.answer().await.contains("connection: close"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_body_is_not_asked_for() {
    let mut served = Served::small();
    let head = "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
    served.send(head).await;
    let answer = served.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let reads = make(|request: Request| async move {
        request.into_body().into_vec().await?;
        Ok::<_, poem::Error>("small")
    });
    let mut served = Served::by(reads);
    served.send(&head.replace("1000000", "5")).await;
    let mut asked = [0; 25];
    served.client.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    served.send("hello").await;
    assert!(served.answer().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_head_is_answered_though_more_of_it_arrives() {
    let mut served = Served::small();
    let head = format!("GET / HTTP/1.1\r\nhost: h\r\nx: {}", "a".repeat(500_000));
    served.send(&head).await;
    let mut answer = String::new();
    served.client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_that_does_not_answer_is_cut_off_at_once() {
    let mut served = Served::small();
    // The preface of HTTP/2, settings, and `GET /` as the stream 1 (RFC 9113 §3.4, §6.5, §6.2).
    served.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    served.send("\0\0\0\x04\0\0\0\0\0").await;
    let head = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'h'];
    served.client.write_all(&head).await.unwrap();
    // From 75 s on it is asked to end.
    tokio::time::sleep(Duration::from_secs(77)).await;
    served.cut.cancel();
    assert_eq!(served.seconds().await, 77);
}

#[tokio::test(start_paused = true)]
async fn connections_without_a_request_end_soon_when_the_server_stops() {
    for requests in 0..2 {
        let mut served = Served::small();
        for _ in 0..requests {
            served.send(GET).await;
            served.answer().await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        served.stopping.cancel();
        assert!(served.seconds().await <= 3);
    }
}

mod http2 {
    use super::*;

    const LARGE: usize = 1_000_000;

    async fn connect(served: Served, window: u32) -> (h2::client::SendRequest<Bytes>, JoinHandle<bool>) {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (requests, connection) = builder.handshake(served.client).await.unwrap();
        tokio::spawn(connection);
        (requests, served.task)
    }

    fn get() -> HyperRequest<()> {
        HyperRequest::get("http://h/").body(()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_nothing_is_reset() {
        let large = make(|_| async { Ok::<_, poem::Error>("a".repeat(LARGE)) });
        let (mut requests, _task) = connect(Served::by(large), 0).await;
        let began = Instant::now();
        let (answer, _) = requests.send_request(get(), true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let error = body.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        assert_eq!(began.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_its_whole_answer() {
        let large = make(|_| async { Ok::<_, poem::Error>("a".repeat(LARGE)) });
        let (mut requests, _task) = connect(Served::by(large), 16 * 1024).await;
        let (answer, _) = requests.send_request(get(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["content-length"], LARGE.to_string());
        let (mut body, mut size) = (answer.into_body(), 0);
        while let Some(data) = body.data().await {
            size += data.as_ref().unwrap().len();
            tokio::time::sleep(Duration::from_secs(20)).await;
            body.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        assert_eq!(size, LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_does_not_wait_for_its_request_s_body() {
        let (requests, _task) = connect(Served::small(), 65_535).await;
        let mut requests = requests.ready().await.unwrap();
        let (answer, mut body) = requests.send_request(get(), false).unwrap();
        let answer = answer.await.unwrap();
        let text = answer.into_body().data().await.unwrap().unwrap();
        assert_eq!(text, "small");
        // It may go on sending, and is asked to stop if it takes too long.
        body.send_data(vec![0; 50_000].into(), false).unwrap();
        let began = Instant::now();
        let reason = poll_fn(|context| body.poll_reset(context)).await.unwrap();
        assert_eq!(reason, h2::Reason::NO_ERROR);
        assert_eq!(began.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_streams_run_at_once() {
        let (served, running) = Served::hanging();
        let (mut requests, task) = connect(served, 0).await;
        let mut answers = Vec::new();
        for _ in 0..150 {
            match timeout(Duration::from_secs(1), requests.clone().ready()).await {
                Ok(ready) => requests = ready.unwrap(),
                Err(_) => break,
            }
            answers.push(requests.send_request(get(), true).unwrap());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(running.load(Relaxed), 100);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_told_to_go() {
        let (mut requests, task) = connect(Served::small(), 65_535).await;
        requests.send_request(get(), true).unwrap().0.await.unwrap();
        let began = Instant::now();
        assert!(!task.await.unwrap());
        assert!((75..=80).contains(&began.elapsed().as_secs()));
        let refused = requests.ready().await.err().unwrap();
        assert!(refused.is_go_away() || refused.is_io(), "{refused:?}");
    }
}
