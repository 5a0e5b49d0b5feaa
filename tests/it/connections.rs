use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{Connection, Eye, Launch, events, time};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

/// Writes to a server and waits until it ends the connection; returns what came and how long that took.
fn until_closed(eye: &Eye, bytes: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(eye.client().address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let began = Instant::now();
    let mut came = Vec::new();
    // A reset is an end, too.
    let ended = stream.read_to_end(&mut came);
    assert!(
        !ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "the server still waits after {:?}",
        began.elapsed()
    );
    (String::from_utf8_lossy(&came).into_owned(), began.elapsed())
}

#[test]
fn a_head_that_does_not_end_and_a_connection_that_asks_nothing_are_closed() {
    let eye = Launch::new()
        .argument("--header-timeout=400ms")
        .argument("--keep-alive-timeout=1200ms")
        .start();
    let (came, after) = until_closed(&eye, b"POST /events HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    assert_eq!(came, "");
    assert!(after >= Duration::from_millis(380), "{after:?}");
    let (came, after) = until_closed(&eye, b"");
    assert_eq!(came, "");
    assert!(after >= Duration::from_millis(1100), "{after:?}");
    // The same after an answer.
    let (came, after) = until_closed(&eye, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(came.starts_with("HTTP/1.1 200"), "{came}");
    assert!(after >= Duration::from_millis(1100), "{after:?}");
}

#[test]
fn a_body_that_stops_or_takes_too_long_is_answered_with_408() {
    let eye = Launch::new()
        .argument("--body-idle-timeout=300ms")
        .argument("--body-timeout=1s")
        .start();
    let app = eye.application("website");
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Token {}\r\nContent-Length: 1000\r\n\r\n",
        app.token
    );
    let mut stopped = Connection::open(eye.client().address()).unwrap();
    stopped.write(format!("{head}{{").as_bytes()).unwrap();
    stopped.answer(false).unwrap().expect(408);

    let mut slow = TcpStream::connect(eye.client().address()).unwrap();
    slow.write_all(head.as_bytes()).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let began = Instant::now();
    let mut answer = [0; 12];
    // A byte now and then is not enough.
    while slow.read_exact(&mut answer).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "it still waits");
        let _ = slow.write_all(b" ");
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!(began.elapsed() >= Duration::from_millis(900));
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let eye = Launch::new()
        .argument("--answer-idle-timeout=500ms")
        .start();
    let app = eye.application("website");
    let long = "x".repeat(200_000);
    let mut event = events::plain(SESSION);
    event["data"]["long"] = long.into();
    let lines = vec![event.to_string(); 60];
    for lines in lines.chunks(20) {
        eye.post("/events")
            .token(&app.token)
            .ndjson(lines)
            .send()
            .expect(200);
    }
    let mut stream = TcpStream::connect(eye.client().address()).unwrap();
    let request = format!(
        "GET /events?limit=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Token {}\r\n\r\n",
        app.token
    );
    stream.write_all(request.as_bytes()).unwrap();
    // 12 MB do not fit into the buffers between the two; only a status line is read.
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let open = || eye.metric("eye_connections_open{door=\"public\"}");
    time::wait_until(
        "the connection is given up",
        Duration::from_secs(20),
        || open() == 1.0,
    );
}

#[test]
fn over_the_limit_of_connections_the_answer_is_503_and_the_owner_still_gets_in() {
    let eye = Launch::new().argument("--connections-max=3").start();
    let address = eye.client().address();
    let ask = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    eye.get("/health/live").send().expect(200);
    // The client of the test keeps one.
    let mut others = [(); 2].map(|()| Connection::open(address).unwrap());
    for other in &mut others {
        other.exchange(ask, false).unwrap().expect(200);
    }
    let mut one_more = Connection::open(address).unwrap();
    let refused = one_more.exchange(ask, false).unwrap();
    refused.problem(503, "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("connection"), Some("close"));
    let listed = eye.command(["app", "list", "--data", eye.data().to_str().unwrap()]);
    assert!(listed.status.success(), "through eye.sock");
    drop(others);
    time::wait_until("there is room again", Duration::from_secs(20), || {
        let mut connection = Connection::open(address).unwrap();
        connection
            .exchange(ask, false)
            .is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_client_that_is_told_to_come_back_gets_to_see_it_whatever_it_still_sends() {
    let eye = Launch::new()
        .variable("EYE_MEMORY_FOR_REQUESTS", "4MiB")
        .variable("EYE_REQUEST_MAX_BYTES", "4MiB")
        .start();
    let app = eye.application("website");
    let head = |length: usize| {
        format!(
            "POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Token {}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n",
            app.token
        )
    };
    // One holds three of the four, and is not through.
    let large = vec![b' '; 3 << 20];
    let mut holding = Connection::open(eye.client().address()).unwrap();
    holding.write(head(large.len() + 1).as_bytes()).unwrap();
    holding.write(&large).unwrap();
    let held = || eye.metric("eye_request_memory_bytes");
    time::wait_until("it is held", Duration::from_secs(20), || {
        held() == large.len() as f64
    });
    let mut refused = Connection::open(eye.client().address()).unwrap();
    let request = [head(large.len()).as_bytes(), &large].concat();
    for _ in 0..3 {
        let answer = refused.exchange(&request, false).unwrap();
        answer.problem(503, "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(
            held(),
            large.len() as f64,
            "a refused request holds nothing"
        );
    }
    // The same of answers that are given without a look at the body.
    let head_of = |what: &str| {
        request
            .windows(what.len())
            .position(|bytes| bytes == what.as_bytes())
    };
    let (token, form) = (head_of(&app.token).unwrap(), head_of("json").unwrap());
    for (place, status) in [(token, 401), (form, 415)] {
        let mut request = request.clone();
        request[place] = b'x';
        refused.exchange(&request, false).unwrap().expect(status);
    }
    // A small one is taken meanwhile, on the same connection.
    let event = events::plain(SESSION).to_string();
    let request = format!("{}{event}", head(event.len()));
    refused
        .exchange(request.as_bytes(), false)
        .unwrap()
        .expect(201);
}

#[test]
fn a_client_whose_body_is_not_read_to_its_end_is_told_that_the_connection_ends() {
    let eye = Launch::new()
        .variable("EYE_REQUEST_MAX_BYTES", "1MiB")
        .start();
    let app = eye.application("website");
    let post = |more: &str, token: &str, body: &[u8]| {
        let head = format!(
            "POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Token {token}\r\n\
             Content-Type: application/json\r\n{more}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let length = |bytes: usize| format!("Content-Length: {bytes}");
    let open = || Connection::open(eye.client().address()).unwrap();
    // Four times as much as may be sent: what is not read stays behind the answer. And
    // one that waits to be told.
    let large = vec![b' '; 4 << 20];
    let mut longer = open();
    let answer = longer
        .exchange(&post(&length(large.len()), &app.token, &large), false)
        .unwrap();
    answer.problem(413, "too_large");
    assert_eq!(answer.header("connection"), Some("close"));
    let expecting = format!("{}\r\nExpect: 100-continue", length(7));
    let mut waiting = open();
    let answer = waiting
        .exchange(&post(&expecting, "eye_w_nobody", b""), false)
        .unwrap();
    answer.problem(401, "unauthorized");
    assert_eq!(answer.header("connection"), Some("close"));
    // As much as may be sent, and a little, are read to their end; the connection goes on.
    let mut whole = open();
    for bytes in [1 << 20, 7, 0] {
        let body = &large[..bytes];
        let answer = whole
            .exchange(&post(&length(bytes), "eye_w_nobody", body), false)
            .unwrap();
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("connection"), None, "{bytes}");
    }
}

#[test]
fn a_connection_is_closed_after_so_many_requests() {
    let eye = Launch::new()
        .argument("--connection-requests-max=3")
        .start();
    let mut connection = Connection::open(eye.client().address()).unwrap();
    let ask = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let closes: Vec<bool> = (0..3)
        .map(|_| {
            let answer = connection.exchange(ask, false).unwrap().expect(200);
            answer.header("connection") == Some("close")
        })
        .collect();
    assert_eq!(closes, [false, false, true]);
    assert!(connection.exchange(ask, false).is_err());
}

#[test]
fn every_answer_tells_browsers_to_be_strict() {
    let eye = Eye::start();
    let app = eye.application("website");
    for request in [
        eye.get("/health/live"),
        eye.get("/nothing"),
        eye.get("/events"),
        eye.get("/events").token(&app.token),
        eye.request("OPTIONS", "/events"),
        eye.post("/events")
            .token(&app.token)
            .json(&events::plain(SESSION)),
    ] {
        let answer = request.send();
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[test]
fn an_idle_connection_costs_little() {
    const CONNECTIONS: usize = 500;
    let eye = Eye::start();
    let memory = || eye.metric("eye_memory_anonymous_bytes");
    memory();
    let before = memory();
    let connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| {
            let mut connection = Connection::open(eye.client().address()).unwrap();
            let ask = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
            connection.exchange(ask, false).unwrap().expect(200);
            connection
        })
        .collect();
    let each = (memory() - before) / CONNECTIONS as f64;
    drop(connections);
    println!("{:.1} KiB for each of {CONNECTIONS}", each / 1024.0);
    assert!(each < 65_536.0, "{each} bytes");
}
