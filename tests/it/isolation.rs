use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{ADMIN_TOKEN, Answer, App, Eye, events};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";
/// In the data of the one event, so that it is known wherever it turns up.
const MARK: &str = "b1e5seal";

/// Who asks. The first four are let in nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Caller {
    Nobody,
    Revoked,
    Expired,
    Disabled,
    WriteOnly,
    Other,
    Own,
    Analyst,
    Admin,
}

use Caller::*;

const CALLERS: [Caller; 9] = [
    Nobody, Revoked, Expired, Disabled, WriteOnly, Other, Own, Analyst, Admin,
];

/// What a route gives to whom.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Everybody gets this, token or not.
    Everybody(u16),
    /// Whoever has a token that holds.
    Known,
    /// Applications send for themselves, an admin for one that it names.
    Sends,
    /// Readers begin something, and are told here that they asked for it wrongly.
    Begins,
    /// Readers get a list of what they may see.
    Lists,
    /// What belongs to one application: for others it is not there.
    OwnThing,
    /// The same, and an analyst, who changes nothing, may not.
    OwnDeed(u16),
    /// A list of such deeds: whoever may do them sees their own.
    OwnDeeds,
    /// Applications begin a piece of work on what is theirs, admins on everything.
    OwnTask,
    /// Admins alone.
    Admins(u16),
}

impl Rule {
    fn status(self, caller: Caller) -> u16 {
        match (self, caller) {
            (Self::Everybody(status), _) => status,
            (_, Nobody | Revoked | Expired | Disabled) => 401,
            (Self::Known, _) => 200,
            (Self::Sends, WriteOnly | Own | Other) => 201,
            (Self::Sends, Analyst) => 403,
            // It does not say for which application.
            (Self::Sends, Admin) => 400,
            (Self::Admins(status), Admin) => status,
            (Self::Admins(_), _) | (_, WriteOnly) => 403,
            (Self::Begins, _) => 400,
            (Self::OwnDeeds | Self::OwnTask, Analyst) => 403,
            (Self::OwnTask, _) => 202,
            (Self::Lists | Self::OwnDeeds, _) => 200,
            (Self::OwnThing | Self::OwnDeed(_), Other) => 404,
            (Self::OwnDeed(_), Analyst) => 403,
            (Self::OwnDeed(status), Own | Admin) => status,
            (Self::OwnThing, Own | Analyst | Admin) => 200,
        }
    }
}

/// A route as the service's document names it, how it is asked, and its rule. What takes something away comes last.
struct Row {
    route: &'static str,
    query: &'static str,
    body: Option<Value>,
    rule: Rule,
}

fn row(route: &'static str, rule: Rule) -> Row {
    Row {
        route,
        query: "",
        body: None,
        rule,
    }
}

fn with(route: &'static str, body: Value, rule: Rule) -> Row {
    Row {
        body: Some(body),
        ..row(route, rule)
    }
}

fn rows() -> Vec<Row> {
    use Rule::*;
    vec![
        row("GET /", Everybody(200)),
        row("GET /health/live", Everybody(200)),
        row("GET /health/ready", Everybody(200)),
        row("GET /api/schema", Everybody(200)),
        row("GET /api/docs", Everybody(200)),
        row("GET /api/docs/page.js", Everybody(200)),
        row("GET /api/docs/page.css", Everybody(200)),
        row("GET /eye.js", Everybody(200)),
        row("GET /me", Known),
        row("GET /limits", Known),
        with("POST /events", json!("an event"), Sends),
        row("GET /events", Lists),
        row("GET /events/{id}", OwnThing),
        row("GET /events/{id}/context", OwnThing),
        row("GET /sessions", Lists),
        with(
            "POST /funnel",
            json!({"steps": ["*", "x"], "within": "1h"}),
            Lists,
        ),
        with(
            "POST /funnel/sessions",
            json!({"steps": ["*", "x"], "within": "1h", "step": 0, "outcome": "reached"}),
            Lists,
        ),
        with(
            "POST /sequences",
            json!({"first": "*", "then": "*", "within": "1h"}),
            Lists,
        ),
        row("GET /sessions/{id}", OwnThing),
        row("GET /sessions/{id}/events", OwnThing),
        Row {
            query: "?q=b1e5seal",
            ..row("GET /search", Lists)
        },
        with("POST /search", json!({"q": MARK}), Lists),
        row("GET /histogram", Lists),
        row("GET /facets", Lists),
        row("GET /fields", Lists),
        row("GET /export", Lists),
        Row {
            // It goes on for ever; where it is refused for its parameters, it was let in.
            query: "?from=nowhere",
            ..row("GET /tail", Begins)
        },
        row("GET /erasures", OwnDeeds),
        row("GET /ledger", Lists),
        row("GET /rejections", Lists),
        row("GET /rejections/{id}", OwnThing),
        // With a body that says nothing it is judged as it was, and refused again.
        row("POST /rejections/{id}/retry", OwnDeed(400)),
        Row {
            query: "?reason=invalid_event",
            ..row("POST /rejections/retry", OwnTask)
        },
        row("GET /applications", Admins(200)),
        with(
            "POST /applications",
            json!({"name": "one more"}),
            Admins(201),
        ),
        row("GET /applications/{name}", Admins(200)),
        with(
            "PATCH /applications/{name}",
            json!({"active": true}),
            Admins(200),
        ),
        row("GET /applications/{name}/tokens", Admins(200)),
        with("POST /applications/{name}/tokens", json!({}), Admins(201)),
        row("GET /schemas", Admins(200)),
        with(
            "PUT /schemas/{category}/{name}",
            json!({"mode": "warn", "schema": {}}),
            Admins(201),
        ),
        row("GET /schemas/{category}/{name}", Admins(200)),
        with(
            "POST /schemas/{category}/{name}/check",
            json!({"schema": {}}),
            Admins(200),
        ),
        row("DELETE /schemas/{category}/{name}", Admins(204)),
        row("GET /tokens", Admins(200)),
        with("POST /tokens", json!({"kind": "analyst"}), Admins(201)),
        row("GET /admin/status", Admins(200)),
        row("GET /admin/settings", Admins(200)),
        row("GET /admin/audit", Admins(200)),
        with("POST /admin/tasks", json!({"kind": "verify"}), Admins(202)),
        row("GET /admin/tasks", Admins(200)),
        row("GET /admin/tasks/{id}", Admins(200)),
        row("DELETE /admin/tasks/{id}", Admins(202)),
        row("GET /metrics", Admins(200)),
        row("DELETE /tokens/{id}", Admins(204)),
        row("DELETE /sessions/{id}", OwnDeed(202)),
        row("GET /erasures/{id}", OwnDeed(200)),
        with(
            "POST /erasures",
            json!({"session_ids": [SESSION]}),
            OwnDeed(202),
        ),
    ]
}

/// A service with an application that has one event, and everybody who may ask.
struct Store {
    eye: Eye,
    tokens: Vec<(Caller, Option<String>)>,
    event: String,
    rejection: String,
    spare_token: String,
}

impl Store {
    fn new() -> Self {
        let eye = Eye::start();
        let (own, other) = (eye.application("own"), eye.application("other"));
        let mut event = events::plain(SESSION);
        event["data"] = json!({ "mark": MARK });
        let sent = eye.post("/events").token(&own.token).json(&event).send();
        let event = text(&sent.expect(201).json()["id"]);
        let refused = json!({"category": MARK});
        let refused = eye.post("/events").token(&own.token).json(&refused).send();
        let rejection = text(&refused.expect(400).json()["rejection"]);
        let made = |app: &App, body: Value| {
            let path = format!("/applications/{}/tokens", app.name);
            let made = eye.post(&path).token(ADMIN_TOKEN).json(&body).send();
            let made = made.expect(201).json();
            (text(&made["id"]), text(&made["token"]))
        };
        let (spare_token, _) = made(&own, json!({}));
        let (revoked, of_revoked) = made(&own, json!({}));
        let revoke = eye.request("DELETE", &format!("/tokens/{revoked}"));
        revoke.token(ADMIN_TOKEN).send().expect(204);
        let (_, expired) = made(&own, json!({"expires_at": "now+1s"}));
        let disabled = eye.application("disabled");
        let disable = eye.request("PATCH", "/applications/disabled");
        let disable = disable.token(ADMIN_TOKEN).json(&json!({"active": false}));
        disable.send().expect(200);
        let (_, write_only) = made(&own, json!({"scopes": ["write"]}));
        let tokens = vec![
            (Nobody, None),
            (Revoked, Some(of_revoked)),
            (Expired, Some(expired)),
            (Disabled, Some(disabled.token)),
            (WriteOnly, Some(write_only)),
            (Other, Some(other.token)),
            (Own, Some(own.token)),
            (Analyst, Some(eye.analyst())),
            (Admin, Some(ADMIN_TOKEN.to_owned())),
        ];
        std::thread::sleep(std::time::Duration::from_millis(1100));
        Self {
            eye,
            tokens,
            event,
            rejection,
            spare_token,
        }
    }

    /// Asks as one caller for the thing of the row.
    fn ask(&self, row: &Row, caller: Caller, task: &str, erasure: &str) -> Answer {
        let (method, path) = row.route.split_once(' ').unwrap();
        let id = match path.split('/').nth(1) {
            Some("events") => &self.event,
            Some("sessions") => SESSION,
            Some("rejections") => &self.rejection,
            Some("erasures") => erasure,
            Some("tokens") => &self.spare_token,
            _ => task,
        };
        let path = path
            .replace("{id}", id)
            .replace("{name}", "own")
            .replace("{category}", "page");
        let mut request = self.eye.request(method, &format!("{path}{}", row.query));
        if let Some(token) = &self.tokens[caller as usize].1 {
            request = request.token(token);
        }
        match &row.body {
            // A session of its own for each, or it would be another application's.
            Some(Value::String(_)) => {
                let session = format!("00000000-0000-4000-8000-00000000000{}", caller as usize);
                request.json(&events::plain(&session)).send()
            }
            Some(body) => request.json(body).send(),
            None => request.send(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn every_route_gives_every_kind_of_token_what_it_may_have() {
    let store = Store::new();
    let schema = store.eye.get("/api/schema").send().expect(200).json();
    let documented: BTreeSet<String> = schema["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let known: BTreeSet<String> = rows().iter().map(|row| row.route.to_owned()).collect();
    // The document is made of the router: a route that is missing here is found.
    assert_eq!(
        documented, known,
        "a route without a rule, or a rule without a route"
    );
    for (place, (caller, _)) in store.tokens.iter().enumerate() {
        assert_eq!(*caller, CALLERS[place]);
    }

    let (mut task, mut erasure) = (String::new(), String::new());
    let mut wrong = Vec::new();
    for row in rows() {
        // Those who are refused first: what they ask for is there.
        let mut callers = CALLERS;
        callers.sort_by_key(|caller| row.rule.status(*caller) < 400);
        for caller in callers {
            let answer = store.ask(&row, caller, &task, &erasure);
            let expected = row.rule.status(caller);
            if answer.status != expected {
                wrong.push(format!(
                    "{} as {caller:?}: {} instead of {expected}: {:.200}",
                    row.route,
                    answer.status,
                    answer.text()
                ));
                continue;
            }
            if caller < Own {
                let told = answer.text();
                assert!(
                    !told.contains(MARK),
                    "{} tells {caller:?} {told}",
                    row.route
                );
                assert!(
                    !told.contains(&store.event),
                    "{} tells {caller:?} {told}",
                    row.route
                );
            }
            match (row.route, answer.status) {
                ("POST /admin/tasks", 202) => task = text(&answer.json()["id"]),
                ("DELETE /sessions/{id}", 202) => erasure = text(&answer.json()["id"]),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
