//! Everything that wears a service down, at once: 2,000 connections that stay open, senders that send a byte now and then, others
//! that fill the queue, and 10 GiB of zeros in 10 MB of gzip. Beside them some healthy clients send and ask.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use workload::process::{MemoryWatch, anonymous_bytes, open_files};
use workload::{Events, Load, Outcome, RealServer, Report, setting};

const NAME: &str = "overload";
const EVENTS: usize = 200_000;
const IDLE: usize = 1_600;
const SLOW: usize = 400;
const BOMB_BYTES: u64 = 10 << 30;
const HEALTHY_RATE: f64 = 200.0;
/// Enough for an answer to take its time without the next one being late.
const HEALTHY: usize = 32;

pub(crate) fn measure(report: &mut Report) {
    let length = Duration::from_secs(setting("EYE_BENCH_OVERLOAD_SECONDS", 30) as u64);
    let events = Arc::new(Events::of_the_environment(EVENTS));
    let bomb = bomb();
    let server = RealServer::start(&[]);
    let process = server.eye.process_id();
    let address = server.eye.client().address();
    let healthy = || Load {
        address,
        token: server.app.token.clone(),
        batch: 1,
        connections: HEALTHY,
        rate: Some(HEALTHY_RATE),
        duration: length,
        requests_max: usize::MAX,
        comes_back: false,
    };
    let alone = healthy().run(&events, &Arc::new(AtomicU64::new(0)));
    let calm = throw(address, &server.app.token, &bomb, &AtomicBool::new(true));
    assert_eq!(calm, [413]);
    let before = anonymous_bytes(process);
    let memory = MemoryWatch::begin(process);
    let over = AtomicBool::new(false);
    let (flood, beside, bombs, open) = thread::scope(|scope| {
        scope.spawn(|| wear_down(address, &server.app.token, &over));
        // The connections first, so that all are there when it gets busy.
        thread::sleep(Duration::from_secs(3));
        let open = open_files(process);
        let bombs = scope.spawn(|| throw(address, &server.app.token, &bomb, &over));
        let flood = scope.spawn(|| {
            let load = Load {
                batch: 5_000,
                connections: 64,
                rate: None,
                ..healthy()
            };
            load.run(&events, &Arc::new(AtomicU64::new(0)))
        });
        let beside = scope.spawn(|| healthy().run(&events, &Arc::new(AtomicU64::new(0))));
        let asked = ask(&server, length);
        report.figure(NAME, "asking beside, p50", asked.0, "ms");
        report.figure(NAME, "asking beside, p99", asked.1, "ms");
        let (flood, beside) = (flood.join().unwrap(), beside.join().unwrap());
        over.store(true, Ordering::Relaxed);
        (flood, beside, bombs.join().unwrap(), open)
    });
    let peak = memory.peak();
    report.figure(NAME, "files open", open as f64, "");
    report.figure(NAME, "RssAnon before", mebibytes(before), "MiB");
    report.figure(NAME, "peak RssAnon", mebibytes(peak), "MiB");
    report.text(
        NAME,
        "the bomb",
        format!(
            "{} bytes that unpack to {BOMB_BYTES}, thrown {} times; 413 {} times",
            bomb.len(),
            bombs.len(),
            bombs.iter().filter(|status| **status == 413).count()
        ),
    );
    report.text(NAME, "the flood's answers", format!("{:?}", flood.statuses));
    report.figure(NAME, "the flood, taken", flood.rate(), "events/s");
    let said = |outcome: &Outcome| {
        format!(
            "{:?}, p50 {:.1} / p99 {:.1} ms",
            outcome.statuses,
            outcome.latency_ms(0.5),
            outcome.latency_ms(0.99)
        )
    };
    report.text(NAME, "healthy senders, alone", said(&alone));
    report.text(NAME, "healthy senders, beside it", said(&beside));
    server.eye.wait_until_indexed();
    let acknowledged = alone.events + flood.events + beside.events;
    let there = server.eye.count(&server.app.token, "*");
    report.figure(NAME, "acknowledged", acknowledged as f64, "events");
    report.figure(NAME, "there", there as f64, "events");
    assert!(there >= acknowledged, "acknowledged events are not there");
    // While the memory for requests is taken, even the bomb is only told to come back.
    let refused = |status: &u16| matches!(status, 413 | 503);
    assert!(bombs.iter().all(refused), "{bombs:?}");
}

/// Makes 10 GiB of zeros as gzip.
fn bomb() -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..BOMB_BYTES >> 20 {
        packed.write_all(&zeros).unwrap();
    }
    packed.finish().unwrap()
}

/// Throws the bomb, again and again until `over` is set; returns the answers' statuses.
fn throw(address: SocketAddr, token: &str, bomb: &[u8], over: &AtomicBool) -> Vec<u16> {
    let mut request = format!(
        "POST /events HTTP/1.1\r\nHost: bench\r\nAuthorization: Token {token}\r\nContent-Type: application/x-ndjson\r\n\
         Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    )
    .into_bytes();
    request.extend_from_slice(bomb);
    let mut statuses = Vec::new();
    loop {
        let mut connection = Connection::open(address).unwrap();
        // Refused early and closed while we still send: there may be no answer to be read.
        if let Ok(answer) = connection.exchange(&request, false) {
            statuses.push(answer.status);
        }
        if over.load(Ordering::Relaxed) {
            return statuses;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Asks a question every 50 ms; returns p50 and p99 in milliseconds.
fn ask(server: &RealServer, length: Duration) -> (f64, f64) {
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        let asked = Instant::now();
        let request = server.eye.get("/search?q=name%3Asearch&limit=20&stale=ok");
        let answer = request.token(&server.app.token).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        took.push(asked.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(Duration::from_millis(50));
    }
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

/// Holds connections: most ask once and stay, the others send their body a byte a second.
fn wear_down(address: SocketAddr, token: &str, over: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let asked = b"GET /health/live HTTP/1.1\r\nHost: bench\r\n\r\n";
            stream.write_all(asked).await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            idle.push(stream);
        }
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /events HTTP/1.1\r\nHost: bench\r\nAuthorization: Token {token}\r\nContent-Type: application/json\r\n\
                 Content-Length: 200000\r\n\r\n{{"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for stream in &mut slow {
                // One that was given up on is not opened again.
                let _ = stream.write_all(b" ").await;
            }
        }
    });
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
