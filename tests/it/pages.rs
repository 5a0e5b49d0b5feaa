//! What browsers get needs no token, loads nothing from elsewhere and runs no script of its own.

use std::io::Write as _;

use support::{ADMIN_TOKEN, Eye, events};

/// Returns the values of an attribute in a page.
fn attributes<'p>(page: &'p str, name: &str) -> Vec<&'p str> {
    let begin = format!("{name}=\"");
    page.match_indices(&begin)
        .map(|(at, _)| page[at + begin.len()..].split('"').next().unwrap())
        .collect()
}

#[test]
fn the_page_that_tries_the_api_loads_only_what_is_here() {
    let eye = Eye::start();
    let page = eye.get("/api/docs").send().expect(200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'self'") && !policy.contains("unsafe-inline"),
        "{policy}"
    );
    let text = page.text();
    for script in text.split("<script").skip(1) {
        assert!(
            script.split("</script>").next().unwrap().ends_with('>'),
            "a script within the page"
        );
    }
    assert!(!text.contains("style=") && !text.contains("onclick"));
    let mut parts = attributes(&text, "src");
    parts.extend(attributes(&text, "href"));
    assert!(parts.len() >= 3);
    for part in parts {
        assert!(part.starts_with('/') && !part.starts_with("//"), "{part}");
        let answer = eye.get(part).send().expect(200);
        assert!(
            !answer.text().contains("https://") || part == "/api/schema",
            "{part}"
        );
    }
    // The door without a name: the page to browsers, facts to programs.
    let browser = eye
        .get("/")
        .header("Accept", "text/html,application/xhtml+xml")
        .send()
        .expect(200);
    assert_eq!(browser.text(), text);
    assert_eq!(eye.get("/").send().expect(200).json()["docs"], "/api/docs");
}

#[test]
fn the_client_for_pages_is_small_and_its_requests_are_taken() {
    let eye = Eye::start();
    let client = eye.get("/eye.js").send().expect(200);
    assert_eq!(
        client.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(client.text().as_bytes()).unwrap();
    assert!(packed.finish().unwrap().len() < 5 * 1024);
    // As it sends when a page is left: no header but the origin's, JSON as plain text, the token in the address.
    let app = eye.application("shop");
    let token = eye.token_of(
        &app,
        &serde_json::json!({"scopes": ["write"], "origins": ["https://shop.example"]}),
    );
    let batch = serde_json::json!([events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423")]);
    let beacon = eye
        .post(&format!("/events?token={token}"))
        .header("Origin", "https://shop.example")
        .body(batch.to_string(), "text/plain")
        .send()
        .expect(200);
    assert_eq!(
        beacon.header("access-control-allow-origin"),
        Some("https://shop.example")
    );
    assert_eq!(eye.count(ADMIN_TOKEN, "*"), 1);
}
