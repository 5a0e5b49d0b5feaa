//! Applications: a name is given once, its token is shown once, and disabling one locks it out without losing an event.

use serde_json::json;
use std::sync::Barrier;
use std::thread;
use support::{ADMIN_TOKEN, Answer, Eye, events};

fn create(eye: &Eye, name: &str) -> Answer {
    eye.post("/applications")
        .token(ADMIN_TOKEN)
        .json(&json!({"name": name}))
        .send()
}

#[test]
fn a_new_application_gets_a_token_that_works() {
    let eye = Eye::start();
    let made = create(&eye, "iOS app").expect(201).json();
    assert_eq!(
        (&made["name"], &made["active"]),
        (&json!("iOS app"), &json!(true))
    );
    let token = made["token"].as_str().unwrap();
    let secret = token
        .strip_prefix("eye_s_")
        .expect("an application's token starts with eye_s_");
    assert!(
        secret.len() >= 32 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{token}"
    );
    let sent = eye
        .post("/events")
        .token(token)
        .json(&events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423"))
        .send();
    sent.expect(201);
}

#[test]
fn a_name_is_given_once_and_stays_given_after_a_restart() {
    let mut eye = Eye::start();
    create(&eye, "website").expect(201);
    create(&eye, "website").problem(409, "conflict");
    eye.restart();
    create(&eye, "website").problem(409, "conflict");
    // Names are compared as they are written.
    create(&eye, "Website").expect(201);
}

#[test]
fn two_admins_at_the_same_instant_register_one_application() {
    let eye = Eye::start();
    for round in 0..20 {
        let barrier = Barrier::new(4);
        let name = format!("raced {round}");
        let register = || {
            barrier.wait();
            create(&eye, &name).status
        };
        let mut statuses: Vec<u16> = thread::scope(|scope| {
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(register)).collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409], "round {round}");
    }
}

#[test]
fn a_name_has_1_to_100_characters() {
    let eye = Eye::start();
    for name in ["", "   ", &"x".repeat(101), &"é".repeat(101)] {
        let problem = create(&eye, name).expect(400).json();
        assert!(problem["errors"]["name"][0].is_string(), "{problem}");
    }
    let missing = eye
        .post("/applications")
        .token(ADMIN_TOKEN)
        .json(&json!({}))
        .send()
        .expect(400)
        .json();
    assert_eq!(
        missing["errors"]["name"],
        json!(["This field is required."])
    );
    // A hundred characters, four bytes each.
    create(&eye, &"😀".repeat(100)).expect(201);
}

#[test]
fn the_list_shows_every_application_and_no_secret() {
    let mut eye = Eye::start();
    let app = eye.application("first");
    eye.application("zweite Anwendung");
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        let answer = eye
            .get("/applications")
            .token(ADMIN_TOKEN)
            .send()
            .expect(200);
        assert!(
            !answer.text().contains(&app.token),
            "the list holds a token"
        );
        let list = answer.json();
        let mut names: Vec<&str> = list["applications"]
            .as_array()
            .unwrap()
            .iter()
            .map(|app| app["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["first", "zweite Anwendung"]);
        assert!(
            list["applications"]
                .as_array()
                .unwrap()
                .iter()
                .all(|app| app["active"] == true),
            "{list}"
        );
        assert!(
            list["applications"][0]["created_at"]
                .as_str()
                .unwrap()
                .ends_with('Z'),
            "{list}"
        );
    }
}

#[test]
fn only_an_admin_manages_applications() {
    let eye = Eye::start();
    let app = eye.application("website");
    let analyst = eye.analyst();
    for token in [&app.token, &analyst] {
        eye.post("/applications")
            .token(token)
            .json(&json!({"name": "mine"}))
            .send()
            .problem(403, "forbidden");
        eye.get("/applications")
            .token(token)
            .send()
            .problem(403, "forbidden");
        let patch = eye
            .request("PATCH", "/applications/website")
            .token(token)
            .json(&json!({"active": false}));
        patch.send().problem(403, "forbidden");
    }
    eye.post("/applications")
        .json(&json!({"name": "mine"}))
        .send()
        .problem(401, "unauthorized");
}

#[test]
fn a_disabled_application_is_locked_out_and_its_events_stay() {
    let mut eye = Eye::start();
    let app = eye.application("old app");
    let event = events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423");
    eye.post("/events")
        .token(&app.token)
        .json(&event)
        .send()
        .expect(201);

    let set_active = |eye: &Eye, active: bool| {
        let patch = eye
            .request("PATCH", "/applications/old%20app")
            .token(ADMIN_TOKEN);
        let changed = patch
            .json(&json!({"active": active}))
            .send()
            .expect(200)
            .json();
        assert_eq!(changed["active"], active);
    };
    set_active(&eye, false);
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        eye.post("/events")
            .token(&app.token)
            .json(&event)
            .send()
            .problem(401, "unauthorized");
        eye.get("/events")
            .token(&app.token)
            .send()
            .problem(401, "unauthorized");
        assert_eq!(
            eye.get("/events")
                .token(ADMIN_TOKEN)
                .send()
                .expect(200)
                .events()
                .len(),
            1
        );
    }
    set_active(&eye, true);
    eye.post("/events")
        .token(&app.token)
        .json(&event)
        .send()
        .expect(201);
    eye.request("PATCH", "/applications/none")
        .token(ADMIN_TOKEN)
        .json(&json!({"active": false}))
        .send()
        .problem(404, "not_found");
}

#[test]
fn an_admin_sends_for_an_application_by_name() {
    let eye = Eye::start();
    let app = eye.application("iOS app");
    let event = events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423");
    eye.post("/events")
        .token(ADMIN_TOKEN)
        .query("application", "iOS app")
        .json(&event)
        .send()
        .expect(201);
    let mine = eye
        .get("/events")
        .token(&app.token)
        .send()
        .expect(200)
        .events();
    assert_eq!(mine[0]["application"], "iOS app");
    eye.post("/events")
        .token(ADMIN_TOKEN)
        .json(&event)
        .send()
        .problem(400, "bad_parameter");
    let unknown = eye
        .post("/events")
        .token(ADMIN_TOKEN)
        .query("application", "nobody")
        .json(&event)
        .send();
    assert!(matches!(unknown.status, 400 | 404), "{unknown:?}");
}
