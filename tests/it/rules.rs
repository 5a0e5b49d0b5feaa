use std::time::Duration;

use serde_json::{Value, json};
use support::{ADMIN_TOKEN, Answer, App, Eye, events, time};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

fn set(eye: &Eye, target: &str, mode: &str, schema: &Value) -> Answer {
    eye.request("PUT", &format!("/schemas/{target}"))
        .token(ADMIN_TOKEN)
        .json(&json!({"mode": mode, "schema": schema}))
        .send()
}

fn event(name: &str, data: &Value) -> Value {
    let mut event = events::plain(SESSION);
    (event["category"], event["name"]) = (json!("shop"), json!(name));
    event["data"] = data.clone();
    event
}

fn send(eye: &Eye, app: &App, body: &Value) -> Answer {
    eye.post("/events").token(&app.token).json(body).send()
}

fn priced() -> Value {
    json!({"required": ["price"], "properties": {"price": {"type": "number", "minimum": 0}}})
}

#[test]
fn what_breaks_an_enforced_rule_is_refused_by_path_and_sent_again_once_it_is_mended() {
    let mut eye = Eye::start();
    let app = eye.application("web");
    let rule = set(&eye, "shop/buy", "enforce", &priced())
        .expect(201)
        .json();
    assert_eq!(
        (&rule["version"], &rule["application"], &rule["schema"]),
        (&json!(1), &Value::Null, &priced())
    );

    send(&eye, &app, &event("buy", &json!({"price": 2}))).expect(201);
    let problem =
        send(&eye, &app, &event("buy", &json!({"price": -1}))).problem(400, "rule_violation");
    assert_eq!(
        problem["errors"],
        json!({"/data/price": ["-1 is less than the minimum of 0"]})
    );
    // Another type is not judged by it.
    send(&eye, &app, &event("look", &json!({"price": -1}))).expect(201);
    let many = json!([
        event("buy", &json!({})),
        event("buy", &json!({"price": 3})),
        event("buy", &json!({"price": "x"})),
    ]);
    let answer = send(&eye, &app, &many).expect(207).json();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(1), &json!(2))
    );
    let codes: Vec<&Value> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["code"])
        .collect();
    assert_eq!(codes, ["rule_violation"; 2]);
    assert!(
        answer["errors"][0]["errors"]["/data"][0]
            .as_str()
            .unwrap()
            .contains("\"price\" is a required property")
    );

    // What was acknowledged stands after the power went, the rule too.
    eye.kill();
    eye.restart();
    let path = format!("/rejections/{}", problem["rejection"].as_str().unwrap());
    let kept = eye.get(&path).token(&app.token).send().expect(200).json();
    assert_eq!(kept["paths"], json!(["/data/price"]));
    send(&eye, &app, &event("buy", &json!({"price": -1}))).problem(400, "rule_violation");

    // Mended: negative prices are refunds.
    let mended = json!({"properties": {"price": {"type": "number"}}});
    let rule = set(&eye, "shop/buy", "enforce", &mended).expect(200).json();
    assert_eq!(rule["version"], 2);
    eye.post(&format!("{path}/retry"))
        .token(&app.token)
        .send()
        .expect(201);
    let task = eye
        .post("/rejections/retry?reason=rule_violation")
        .token(ADMIN_TOKEN)
        .send()
        .expect(202)
        .json();
    let path = format!("/admin/tasks/{}", task["id"].as_str().unwrap());
    let task = || eye.get(&path).token(ADMIN_TOKEN).send().expect(200).json();
    time::wait_until("the task is done", Duration::from_secs(10), || {
        task()["state"] == "done"
    });
    // {} and -1 keep to it now, "x" does not.
    assert_eq!(
        task()["result"],
        json!({"stored": 2, "duplicates": 0, "rejected": 1})
    );

    eye.request("DELETE", "/schemas/shop/buy")
        .token(ADMIN_TOKEN)
        .send()
        .expect(204);
    send(&eye, &app, &event("buy", &json!({"price": "x"}))).expect(201);
    eye.request("DELETE", "/schemas/shop/buy")
        .token(ADMIN_TOKEN)
        .send()
        .problem(404, "not_found");
    let audit = eye
        .get("/admin/audit?limit=3")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .text();
    assert!(
        audit.contains("\"kind\":\"schema\"") && audit.contains("\"change\":\"removed\""),
        "{audit}"
    );
}

/// A client that never saw the answer sends its event again, and meanwhile there is a rule that it breaks.
#[test]
fn what_was_stored_before_the_rule_is_a_repeat_and_not_refused() {
    let mut eye = Eye::start();
    let (app, other) = (eye.application("web"), eye.application("phone"));
    let with_id = |id: u8, price: i32| {
        let mut event = event("buy", &json!({"price": price}));
        event["id"] = json!(format!("0a9f4e5c-0000-4000-8000-0000000000{id:02}"));
        event
    };
    let first = send(&eye, &app, &with_id(1, -1)).expect(201).json();
    set(&eye, "shop/buy", "enforce", &priced()).expect(201);
    for restarted in [false, true] {
        if restarted {
            // Killed, it would lose the counts of a second.
            eye.stop();
            eye.restart();
        }
        let again = send(&eye, &app, &with_id(1, -1)).expect(200).json();
        assert_eq!(
            (&again["id"], &again["offset"], &again["duplicate"]),
            (&first["id"], &first["offset"], &json!(true))
        );
    }
    // Another content under the same id is another event.
    send(&eye, &app, &with_id(1, -2)).problem(409, "id_conflict");

    // One that was not stored is refused for what it breaks, alone and among others, and kept.
    let refused = send(&eye, &app, &with_id(2, -1)).problem(400, "rule_violation");
    let why = json!({"/data/price": ["-1 is less than the minimum of 0"]});
    assert_eq!(refused["errors"], why);
    let path = format!("/rejections/{}", refused["rejection"].as_str().unwrap());
    let kept = eye.get(&path).token(&app.token).send().expect(200).json();
    assert_eq!(kept["code"], "rule_violation");
    eye.post(&format!("{path}/retry"))
        .token(&app.token)
        .send()
        .problem(400, "rule_violation");
    let among = json!([with_id(3, 3), with_id(2, -1), with_id(1, -1)]);
    let answer = send(&eye, &app, &among).expect(207).json();
    let counts = ["accepted", "duplicates", "rejected"].map(|name| &answer[name]);
    assert_eq!(counts, [1, 1, 1]);
    let error = &answer["errors"][0];
    assert_eq!(
        (&error["index"], &error["code"], &error["errors"]),
        (&json!(1), &json!("rule_violation"), &why)
    );
    let all_or_nothing = |events: &Value| {
        eye.post("/events?on_error=reject_all")
            .token(&app.token)
            .json(events)
            .send()
    };
    all_or_nothing(&json!([with_id(4, 4), with_id(2, -1)])).problem(400, "rule_violation");
    let answer = all_or_nothing(&json!([with_id(4, 4), with_id(1, -1)]));
    assert_eq!(answer.expect(200).json()["duplicates"], 1);

    // What was refused takes no session.
    let free = "a2085be5-9137-4e4e-80b5-f1ffddc25424";
    let mut event = with_id(5, -1);
    event["session_id"] = json!(free);
    send(&eye, &app, &event).problem(400, "rule_violation");
    event["data"]["price"] = json!(1);
    send(&eye, &other, &event).expect(201);

    let ledger = eye
        .get("/ledger")
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    let total = &ledger["total"];
    let sums = ["stored", "duplicate", "rejected"].map(|name| &total[name]);
    assert_eq!(sums, [3, 4, 7], "{total}");
}

#[test]
fn the_rule_of_the_application_itself_comes_first() {
    let eye = Eye::start();
    let (web, phone) = (eye.application("web"), eye.application("phone"));
    set(&eye, "shop/a%2Fb", "enforce", &json!({"required": ["all"]})).expect(201);
    set(
        &eye,
        "shop/a%2Fb?application=phone",
        "enforce",
        &json!({"required": ["own"]}),
    )
    .expect(201);
    let (all, own) = (json!({"all": 1}), json!({"own": 1}));
    send(&eye, &web, &event("a/b", &all)).expect(201);
    send(&eye, &web, &event("a/b", &own)).problem(400, "rule_violation");
    let of_phone = |data| {
        let mut event = event("a/b", data);
        event["session_id"] = json!("e2085be5-9137-4e4e-80b5-f1ffddc25424");
        event
    };
    send(&eye, &phone, &of_phone(&own)).expect(201);
    send(&eye, &phone, &of_phone(&all)).problem(400, "rule_violation");
    let list = eye
        .get("/schemas")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .json();
    let whose: Vec<&Value> = list["schemas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["application"])
        .collect();
    assert_eq!(whose, [&Value::Null, &json!("phone")]);
    let mut pages = eye.pages(|eye| eye.get("/schemas?limit=1").token(ADMIN_TOKEN));
    assert_eq!(pages.len(), 2);
    assert_eq!(
        pages.pop().unwrap().json()["schemas"][0]["application"],
        "phone"
    );
    eye.request("DELETE", "/schemas/shop/a%2Fb?application=phone")
        .token(ADMIN_TOKEN)
        .send()
        .expect(204);
    send(&eye, &phone, &of_phone(&all)).expect(201);
}

#[test]
fn a_warning_is_kept_with_the_event_and_changes_nothing_of_it() {
    let eye = Eye::start();
    let app = eye.application("web");
    set(&eye, "shop/buy", "warn", &priced()).expect(201);
    let mut broken = event("buy", &json!({"price": "2"}));
    broken["id"] = json!("0d5e9f56-4c06-4ab6-8000-0123456789ab");
    let id = send(&eye, &app, &broken).expect(201).json()["id"].clone();
    let path = format!("/events/{}", id.as_str().unwrap());
    let stored = eye.get(&path).token(&app.token).send().expect(200).json();
    assert_eq!(stored["data"], broken["data"]);
    assert_eq!(
        stored["meta"]["warnings"],
        json!([{"code": "rule_violation", "rule_version": 1, "errors": {"/data/price": ["\"2\" is not of type \"number\""]}}])
    );
    // The same event is the same event, whatever is thought of it by now.
    set(&eye, "shop/buy", "warn", &json!(true)).expect(200);
    let again = send(&eye, &app, &broken).expect(200).json();
    assert_eq!(again["duplicate"], true);
    let good = send(&eye, &app, &event("buy", &json!({"price": 2})))
        .expect(201)
        .json();
    let path = format!("/events/{}", good["id"].as_str().unwrap());
    let good = eye.get(&path).token(&app.token).send().expect(200).json();
    assert_eq!(good.get("meta"), None);
}

#[test]
fn a_schema_is_tried_on_what_is_there_before_it_is_set() {
    let eye = Eye::start();
    let (web, phone) = (eye.application("web"), eye.application("phone"));
    let many: Vec<Value> = (0..1200)
        .map(|n| event("buy", &json!({"price": n % 3 - 1})))
        .collect();
    send(&eye, &web, &json!(many)).expect(200);
    let mut other = event("buy", &json!({"price": -5}));
    other["session_id"] = json!("e2085be5-9137-4e4e-80b5-f1ffddc25424");
    send(&eye, &phone, &other).expect(201);
    let check = |target: &str, body: Value| {
        let path = format!("/schemas/shop/{target}");
        eye.post(&path).token(ADMIN_TOKEN).json(&body).send()
    };
    let told = check("buy/check", json!({"schema": priced(), "last": 10_000}))
        .expect(200)
        .json();
    assert_eq!(
        (&told["checked"], &told["valid"], &told["invalid"]),
        (&json!(1201), &json!(800), &json!(401))
    );
    let examples = told["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 10);
    let id = examples[0]["id"].as_str().unwrap();
    let event = eye
        .get(&format!("/events/{id}"))
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .json();
    assert!(event["data"]["price"].as_i64().unwrap() < 0, "{event}");
    let told = check("buy/check", json!({"schema": priced()}))
        .expect(200)
        .json();
    assert_eq!(told["checked"], 1000);
    let told = check(
        "buy/check?application=phone",
        json!({"schema": priced(), "last": 7}),
    )
    .expect(200)
    .json();
    assert_eq!((&told["checked"], &told["invalid"]), (&json!(1), &json!(1)));
    let told = check("nothing/check", json!({"schema": priced()}))
        .expect(200)
        .json();
    assert_eq!(
        told,
        json!({"checked": 0, "valid": 0, "invalid": 0, "examples": []})
    );
    check("buy/check", json!({"schema": priced(), "last": 10_001})).problem(400, "bad_parameter");
    check("buy/check", json!({"last": 1})).problem(400, "bad_parameter");
    // Trying sets nothing.
    assert_eq!(
        eye.get("/schemas").token(ADMIN_TOKEN).send().json()["schemas"],
        json!([])
    );
}

#[test]
fn what_is_no_schema_is_refused_and_says_where() {
    let eye = Eye::start();
    for (schema, says) in [
        (json!([]), "an object"),
        (
            json!({"properties": {"a": {"type": "nunber"}}}),
            "/properties/a/type",
        ),
        (
            json!({"$ref": "https://example.com/schema.json"}),
            "example.com",
        ),
        (json!({"$ref": "#/$defs/missing"}), "missing"),
        (json!({"allOf": [{"$ref": "#"}]}), "leads back to itself"),
        (
            json!({"title": "x".repeat(70_000)}),
            "longer than 65536 bytes",
        ),
    ] {
        let problem = set(&eye, "a/b", "enforce", &schema).problem(400, "bad_parameter");
        let told = problem["errors"]["schema"][0].as_str().unwrap();
        assert!(told.contains(says), "{schema:.100}: {told}");
    }
    set(&eye, "a/b", "maybe", &json!({})).problem(400, "bad_parameter");
    set(&eye, "a/%20", "warn", &json!({})).problem(400, "bad_parameter");
    set(&eye, &format!("a/{}", "n".repeat(101)), "warn", &json!({})).problem(400, "bad_parameter");
    set(&eye, "a/b?application=nobody", "warn", &json!({})).problem(404, "not_found");
    eye.get("/schemas/a/b")
        .token(ADMIN_TOKEN)
        .send()
        .problem(404, "not_found");
}

#[test]
fn there_are_a_thousand_rules_at_most_and_one_of_them_can_still_be_mended() {
    let eye = Eye::start();
    let app = eye.application("web");
    for number in 0..1000 {
        set(&eye, &format!("shop/n{number}"), "enforce", &priced()).expect(201);
    }
    let problem = set(&eye, "shop/one-more", "enforce", &priced()).problem(409, "conflict");
    assert_eq!(problem["limit"], 1000);
    set(&eye, "shop/n7", "warn", &priced()).expect(200);
    send(&eye, &app, &event("n7", &json!({}))).expect(201);
    send(&eye, &app, &event("n999", &json!({}))).problem(400, "rule_violation");
    send(&eye, &app, &event("one-more", &json!({}))).expect(201);
}

#[test]
fn rules_are_set_tried_and_removed_from_the_command_line() {
    let mut eye = Eye::start();
    let app = eye.application("web");
    send(&eye, &app, &event("buy", &json!({"price": -1}))).expect(201);
    let file = eye.data().join("schema.json");
    std::fs::write(&file, priced().to_string()).unwrap();
    let (data, file) = (eye.data().display().to_string(), file.display().to_string());
    let run = |eye: &Eye, arguments: &[&str]| {
        let all = [&["schema"], arguments, &["--data", &data]].concat();
        let output = eye.command(all);
        let text = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code().unwrap(),
            text + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (status, told) = run(&eye, &["check", "shop", "buy", &file]);
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("1 checked: 0 keep to it, 1 do not"), "{told}");
    assert!(told.contains("/data/price: -1 is less than"), "{told}");
    let (status, told) = run(&eye, &["set", "shop", "buy", &file, "--mode", "enforce"]);
    assert_eq!(status, 0, "{told}");
    send(&eye, &app, &event("buy", &json!({"price": -1}))).problem(400, "rule_violation");
    // Without a server, on the folder itself.
    eye.stop();
    let (_, told) = run(&eye, &["list"]);
    assert!(
        told.contains("shop") && told.contains("enforce") && told.contains("every"),
        "{told}"
    );
    let (_, told) = run(&eye, &["get", "shop", "buy", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&told).unwrap()["schema"],
        priced()
    );
    let dump = eye.command(["log", "dump", "--data", &data]);
    let dump = String::from_utf8(dump.stdout).unwrap();
    assert!(dump.contains("\"kind\":\"schema\""), "{dump}");
    let (status, _) = run(&eye, &["delete", "shop", "buy"]);
    assert_eq!(status, 0);
    let (status, told) = run(&eye, &["get", "shop", "buy"]);
    assert_eq!(status, 3, "{told}");
    assert!(
        told.contains("A rule for these events was not found"),
        "{told}"
    );
    let verified = eye.command(["log", "verify", "--data", &data]);
    assert!(verified.status.success());
}
