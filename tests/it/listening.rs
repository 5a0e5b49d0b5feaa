use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;
use support::{ADMIN_TOKEN, Elsewhere, Eye, Launch, run_eye_with, time};
use tempfile::TempDir;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a certificate for `localhost` and its key.
struct Certificate {
    folder: TempDir,
}

impl Certificate {
    fn new() -> Certificate {
        let folder = TempDir::with_prefix("eye-test-").unwrap();
        let certificate = Certificate { folder };
        certificate.renew();
        certificate
    }

    /// Replaces both files by a new pair.
    fn renew(&self) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        // As tools that renew do it: never a file that is half written.
        for (name, text) in [
            ("tls.key", signing_key.serialize_pem()),
            ("tls.crt", cert.pem()),
        ] {
            fs::write(self.file("next"), text).unwrap();
            fs::rename(self.file("next"), self.file(name)).unwrap();
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Asks a server for its applications, trusting the certificate in this file only.
    fn ask(&self, server: &Elsewhere, trusted: &str) -> Output {
        let url = server.place().replace("127.0.0.1", "localhost");
        let trusted = self.file(trusted);
        run_eye_with(
            &[("SSL_CERT_FILE", trusted.to_str().unwrap())],
            [
                "app",
                "list",
                "--json",
                "--server",
                &url,
                "--token",
                ADMIN_TOKEN,
            ],
        )
    }

    fn serve(&self) -> Elsewhere {
        Launch::new()
            .data(&self.file("data"))
            .argument(&format!(
                "--tls-certificate={}",
                self.file("tls.crt").display()
            ))
            .argument(&format!("--tls-key={}", self.file("tls.key").display()))
            .start_elsewhere()
    }
}

#[test]
fn tls_is_spoken_with_a_certificate_that_the_client_trusts() {
    let certificate = Certificate::new();
    let server = certificate.serve();
    assert!(
        server.place().starts_with("https://127.0.0.1:"),
        "{}",
        server.place()
    );
    let listed = certificate.ask(&server, "tls.crt");
    assert!(listed.status.success(), "{}", said(&listed));
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["applications"], serde_json::json!([]));

    // Whoever trusts another certificate does not talk to this server.
    let refused = Certificate::new().ask(&server, "tls.crt");
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));

    // And nothing is said to whoever does not speak TLS.
    let address = server.place().strip_prefix("https://").unwrap().to_owned();
    let mut plain = TcpStream::connect(address).unwrap();
    plain
        .write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut came = Vec::new();
    let _ = plain.read_to_end(&mut came);
    assert!(
        !came.starts_with(b"HTTP"),
        "{}",
        String::from_utf8_lossy(&came)
    );
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let certificate = Certificate::new();
    let server = certificate.serve();
    fs::copy(certificate.file("tls.crt"), certificate.file("old.crt")).unwrap();

    let key = fs::read(certificate.file("tls.key")).unwrap();
    fs::write(certificate.file("tls.key"), "no key").unwrap();
    server.signal("HUP");
    time::wait_until(
        "the broken pair is reported",
        Duration::from_secs(20),
        || server.complaints().contains("the old one stays in use"),
    );
    let complaints = server.complaints();
    assert!(complaints.contains("tls.key"), "{complaints}");
    let listed = certificate.ask(&server, "old.crt");
    assert!(listed.status.success(), "{}", said(&listed));
    fs::write(certificate.file("tls.key"), key).unwrap();

    certificate.renew();
    server.signal("HUP");
    time::wait_until("the new pair is used", Duration::from_secs(20), || {
        certificate.ask(&server, "tls.crt").status.success()
    });
    assert_eq!(certificate.ask(&server, "old.crt").status.code(), Some(3));

    // Without a signal, too: it looks now and then.
    certificate.renew();
    time::wait_until("the next pair is used", Duration::from_secs(30), || {
        certificate.ask(&server, "tls.crt").status.success()
    });
}

#[test]
fn a_certificate_without_its_key_is_refused_at_the_start() {
    let (one, other) = (Certificate::new(), Certificate::new());
    let start = |key: &str| {
        Launch::new()
            .data(&one.file("data"))
            .argument(&format!(
                "--tls-certificate={}",
                one.file("tls.crt").display()
            ))
            .argument(&format!("--tls-key={key}"))
            .refused()
    };
    for (key, why) in [
        ("", "belong together"),
        (
            other.file("tls.key").to_str().unwrap(),
            "does not go with the certificate",
        ),
        (one.file("tls.crt").to_str().unwrap(), "tls.crt"),
        ("/nowhere/tls.key", "/nowhere/tls.key"),
    ] {
        let refused = start(key);
        assert_eq!(refused.status.code(), Some(3), "{key}");
        assert!(said(&refused).contains(why), "{key}: {}", said(&refused));
    }
}

fn ask_socket(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_socket_to_listen_on_asks_for_tokens_and_the_owners_does_not() {
    let folder = TempDir::with_prefix("eye-test-").unwrap();
    let (path, data) = (
        folder.path().join("public.sock"),
        folder.path().join("data"),
    );
    // Left behind by a process that is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{}", path.display());
    let server = Launch::new().data(&data).listen(&listen).start_elsewhere();
    assert_eq!(server.place(), listen);
    let facts = fs::metadata(&path).unwrap();
    assert!(facts.file_type().is_socket());
    assert_eq!(facts.permissions().mode() & 0o777, 0o666);
    let ask = "GET /applications HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    assert!(ask_socket(&path, &format!("{ask}\r\n")).starts_with("HTTP/1.1 401"));
    let with_token = format!("{ask}Authorization: Token {ADMIN_TOKEN}\r\n\r\n");
    assert!(ask_socket(&path, &with_token).starts_with("HTTP/1.1 200"));
    assert!(ask_socket(&data.join("eye.sock"), &format!("{ask}\r\n")).starts_with("HTTP/1.1 200"));
    server.signal("TERM");
    time::wait_until(
        "the socket goes with the server",
        Duration::from_secs(20),
        || !path.exists(),
    );
}

#[test]
fn a_file_that_is_no_socket_or_is_in_use_is_left_alone() {
    let folder = TempDir::with_prefix("eye-test-").unwrap();
    let path = folder.path().join("public.sock");
    let refused = || {
        Launch::new()
            .data(&folder.path().join("data"))
            .listen(&format!("unix:{}", path.display()))
            .refused()
    };
    fs::write(&path, "precious").unwrap();
    assert_eq!(refused().status.code(), Some(3));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let refused = refused();
    assert!(
        said(&refused).contains("another process listens there"),
        "{}",
        said(&refused)
    );
    assert!(path.exists());
}

#[test]
fn only_a_trusted_proxy_says_who_the_client_is() {
    let client_of = |trusted: &str| {
        let folder = tempfile::tempdir().unwrap();
        let eye = Launch::new()
            .data(folder.path())
            .argument("--access-log=all")
            .argument(&format!("--trusted-proxies={trusted}"))
            .start();
        eye.get("/me")
            .header("X-Forwarded-For", "6.6.6.6, 203.0.113.7")
            .send()
            .expect(401);
        time::wait_until("the line is there", Duration::from_secs(20), || {
            eye.complaints().contains("route=\"/me\"")
        });
        let complaints = eye.complaints();
        let line = complaints
            .lines()
            .find(|line| line.contains("route=\"/me\""))
            .unwrap();
        line.split("client=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(client_of("10.0.0.0/8"), "127.0.0.1");
    assert_eq!(client_of("127.0.0.0/8"), "203.0.113.7");
}

#[test]
fn every_request_can_have_a_line_of_json_that_holds_nothing_of_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let eye: Eye = Launch::new()
        .data(folder.path())
        .argument("--access-log=all")
        .argument("--log-format=json")
        .argument("--log=trace")
        .start();
    let app = eye.application("website");
    let write_only = eye.token_of(&app, &serde_json::json!({"scopes": ["write"]}));
    let mut event = support::events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423");
    event["data"] = serde_json::json!({"peculiar": "peculiar"});
    let sent = eye
        .post(&format!("/events?token={write_only}"))
        .header("X-Request-Id", "this-very-request")
        .json(&event)
        .send()
        .expect(201);
    let found = eye
        .get("/search?q=peculiar")
        .token(&app.token)
        .send()
        .expect(200);
    assert_eq!(found.events().len(), 1);
    eye.get("/search?q=peculiar%20OR")
        .token(&app.token)
        .send()
        .expect(400);
    eye.post("/events")
        .token(&app.token)
        .body("{\"peculiar\": ", "")
        .send()
        .expect(400);
    eye.get("/peculiar").send().expect(404);
    let lines = || -> Vec<Value> {
        let complaints = eye.complaints();
        complaints
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    };
    let answered = || {
        lines()
            .into_iter()
            .filter(|line| line["target"] == "eye::access")
            .collect::<Vec<_>>()
    };
    time::wait_until("all lines are there", Duration::from_secs(20), || {
        answered().iter().any(|line| line["route"] == "none")
    });
    let line = answered()
        .into_iter()
        .find(|line| line["request"] == "this-very-request")
        .unwrap();
    assert_eq!(
        (
            &line["method"],
            &line["route"],
            &line["status"],
            &line["client"]
        ),
        (
            &"POST".into(),
            &"/events".into(),
            &201.into(),
            &"127.0.0.1".into()
        )
    );
    assert_eq!(line["bytes"], sent.body.len());
    assert!(line["ms"].as_f64().unwrap() > 0.0);
    let complaints = eye.complaints();
    for secret in ["peculiar", &write_only[..], &app.token, ADMIN_TOKEN] {
        assert!(
            !complaints.contains(secret),
            "{secret} is in the log:\n{complaints}"
        );
    }
}

#[test]
fn by_default_only_refusals_get_a_line() {
    let eye = Eye::start();
    eye.get("/health/live").send().expect(200);
    eye.get("/me").send().expect(401);
    time::wait_until("the line is there", Duration::from_secs(20), || {
        eye.complaints().contains("status=401")
    });
    assert!(!eye.complaints().contains("status=200"));
}
