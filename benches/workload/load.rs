//! A lean load client: N connections, requests put together from prepared bytes, answers looked at just enough to count
//! them. It must cost little beside the server, because both share the machine.

use crate::Events;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What to send, over how many connections, how fast and how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub address: SocketAddr,
    /// The token of the application that sends.
    pub token: String,
    /// Events per request; 1 sends single objects as `application/json`, more send NDJSON.
    pub batch: usize,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Events per second over all connections; without it as fast as the answers come.
    pub rate: Option<f64>,
    /// No request begins after this.
    pub duration: Duration,
    /// No more requests than this.
    pub requests_max: usize,
    /// Whether a request that is told to come back (503) is sent again until it is taken, as `eye send` does.
    pub comes_back: bool,
}

/// After so long a request that was told to come back is sent again.
const COMING_BACK: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Answers by status; 0 counts connections that broke.
    pub statuses: BTreeMap<u16, u64>,
    /// Events of the answers with status 200, 201 and 204.
    pub events: u64,
    latencies_us: Vec<u32>,
}

impl Outcome {
    /// Returns the events per second that were acknowledged.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// Returns the latency, in milliseconds, that `share` of the requests did not exceed. At a rate it counts from the moment
    /// at which the request was due, so that a server that stalls cannot hide it.
    pub fn latency_ms(&self, share: f64) -> f64 {
        let place = ((self.latencies_us.len() as f64 * share) as usize)
            .min(self.latencies_us.len().saturating_sub(1));
        self.latencies_us
            .get(place)
            .map_or(f64::NAN, |&latency| f64::from(latency) / 1000.0)
    }

    /// Returns how many requests were answered otherwise than with 200, 201 or 204, or not at all.
    pub fn failures(&self) -> u64 {
        self.statuses
            .iter()
            .filter(|(status, _)| !matches!(status, 200 | 201 | 204))
            .map(|(_, count)| count)
            .sum()
    }

    fn add(&mut self, other: Outcome) {
        self.events += other.events;
        self.latencies_us.extend(other.latencies_us);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
    }
}

impl Load {
    /// Runs the load to its end. `acknowledged` is counted up while it goes on.
    pub fn run(&self, events: &Arc<Events>, acknowledged: &Arc<AtomicU64>) -> Outcome {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(0));
            let began = Instant::now();
            let connections: Vec<_> = (0..self.connections)
                .map(|_| {
                    tokio::spawn(connection(
                        self.clone(),
                        events.clone(),
                        next.clone(),
                        acknowledged.clone(),
                        began,
                    ))
                })
                .collect();
            let mut total = Outcome::default();
            for connection in connections {
                total.add(
                    connection
                        .await
                        .expect("a connection's task does not panic"),
                );
            }
            total.seconds = began.elapsed().as_secs_f64();
            total.latencies_us.sort_unstable();
            total
        })
    }

    fn head(&self) -> String {
        let content_type = if self.batch == 1 {
            "application/json"
        } else {
            "application/x-ndjson"
        };
        format!(
            "POST /events HTTP/1.1\r\nHost: {}\r\nAuthorization: Token {}\r\nContent-Type: {content_type}\r\nContent-Length: ",
            self.address, self.token
        )
    }
}

async fn connection(
    load: Load,
    events: Arc<Events>,
    next: Arc<AtomicUsize>,
    acknowledged: Arc<AtomicU64>,
    began: Instant,
) -> Outcome {
    let mut outcome = Outcome::default();
    let broken = |outcome: &mut Outcome| *outcome.statuses.entry(0).or_default() += 1;
    let Ok(mut wire) = Wire::open(load.address).await else {
        broken(&mut outcome);
        return outcome;
    };
    let head = load.head();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let mut due = Instant::now();
        if let Some(rate) = load.rate {
            due = began + Duration::from_secs_f64(number as f64 * load.batch as f64 / rate);
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
        }
        if number >= load.requests_max
            || due.duration_since(began) >= load.duration
            || began.elapsed() >= load.duration
        {
            return outcome;
        }
        let body = events.batch(number, load.batch);
        let mut answer = wire.exchange(&head, body).await;
        while load.comes_back && matches!(answer, Ok(503)) {
            tokio::time::sleep(COMING_BACK).await;
            answer = wire.exchange(&head, body).await;
        }
        match answer {
            Ok(status) => {
                *outcome.statuses.entry(status).or_default() += 1;
                outcome
                    .latencies_us
                    .push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
                if matches!(status, 200 | 201 | 204) {
                    let stored = body.iter().filter(|&&byte| byte == b'\n').count() as u64;
                    outcome.events += stored;
                    acknowledged.fetch_add(stored, Ordering::Relaxed);
                }
            }
            Err(_) => {
                broken(&mut outcome);
                match Wire::open(load.address).await {
                    Ok(again) => wire = again,
                    Err(_) => return outcome,
                }
            }
        }
    }
}

/// A connection with the bytes going out and coming in.
struct Wire {
    stream: TcpStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

impl Wire {
    async fn open(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Wire {
            stream,
            outgoing: Vec::new(),
            incoming: Vec::new(),
        })
    }

    async fn exchange(&mut self, head: &str, body: &[u8]) -> io::Result<u16> {
        self.outgoing.clear();
        self.outgoing.extend_from_slice(head.as_bytes());
        self.outgoing
            .extend_from_slice(body.len().to_string().as_bytes());
        self.outgoing.extend_from_slice(b"\r\n\r\n");
        self.outgoing.extend_from_slice(body);
        self.stream.write_all(&self.outgoing).await?;
        self.incoming.clear();
        loop {
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some((status, length)) = answer_head(&self.incoming)? {
                while self.incoming.len() < length {
                    if self.stream.read_buf(&mut self.incoming).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                return Ok(status);
            }
        }
    }
}

/// The status, and how long head and body are together, once the head is whole.
fn answer_head(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let status = head
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    match length {
        Some(length) => Ok(Some((status, end + 4 + length))),
        None if status == 204 => Ok(Some((status, end + 4))),
        // The answers to sending are short and come with their length.
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
