//! A session id belongs to the first application that used it. The service this one replaces checked and then stored,
//! so two applications at the same instant could both win; here they meet on purpose, many times.

use serde_json::json;
use std::sync::Barrier;
use std::thread;
use support::{App, Eye, Random, events};

const ROUNDS: usize = 200;
const CONNECTIONS_PER_APPLICATION: usize = 2;

#[test]
fn of_two_applications_at_the_same_instant_exactly_one_owns_the_session() {
    let mut eye = Eye::start();
    let apps = [eye.application("iOS app"), eye.application("website")];
    let mut random = Random::announced(20_210_101);
    let sessions: Vec<String> = (0..ROUNDS).map(|_| random.uuid()).collect();

    let barrier = Barrier::new(apps.len() * CONNECTIONS_PER_APPLICATION);
    let race = |app: &App| -> Vec<u16> {
        let mut statuses = Vec::new();
        for session in &sessions {
            barrier.wait();
            let answer = eye
                .post("/events")
                .token(&app.token)
                .json(&events::plain(session))
                .send();
            if answer.status == 409 {
                let problem = answer.problem(409, "session_conflict");
                assert_eq!(
                    problem["errors"]["session_id"],
                    json!(["Session belongs to another application."])
                );
            }
            statuses.push(answer.status);
        }
        statuses
    };
    let race = &race;
    let statuses: Vec<Vec<u16>> = thread::scope(|scope| {
        let racers: Vec<_> = (0..apps.len() * CONNECTIONS_PER_APPLICATION)
            .map(|racer| {
                scope.spawn({
                    let app = &apps[racer % apps.len()];
                    move || race(app)
                })
            })
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().expect("a racer panicked"))
            .collect()
    });

    let mut winners = Vec::new();
    for round in 0..ROUNDS {
        let of = |app: usize| -> Vec<u16> {
            statuses
                .iter()
                .skip(app)
                .step_by(apps.len())
                .map(|racer| racer[round])
                .collect()
        };
        let winner = match (of(0).as_slice(), of(1).as_slice()) {
            ([201, 201], [409, 409]) => 0,
            ([409, 409], [201, 201]) => 1,
            other => panic!("round {round}: {other:?}"),
        };
        winners.push(winner);
    }
    eprintln!(
        "won: {} and {}",
        winners.iter().filter(|&&won| won == 0).count(),
        winners.iter().filter(|&&won| won == 1).count()
    );

    eye.restart();
    for (session, &winner) in sessions.iter().zip(&winners).step_by(10) {
        let event = events::plain(session);
        eye.post("/events")
            .token(&apps[1 - winner].token)
            .json(&event)
            .send()
            .problem(409, "session_conflict");
        eye.post("/events")
            .token(&apps[winner].token)
            .json(&event)
            .send()
            .expect(201);
        let summary = eye
            .get(&format!("/sessions/{session}"))
            .token(&apps[winner].token)
            .send()
            .expect(200)
            .json();
        assert_eq!(
            (&summary["application"], &summary["count"]),
            (&json!(apps[winner].name), &json!(3))
        );
    }
    let stored = ROUNDS * CONNECTIONS_PER_APPLICATION + ROUNDS.div_ceil(10);
    assert_eq!(
        eye.count(&apps[0].token, "*") + eye.count(&apps[1].token, "*"),
        stored as u64
    );
}

#[test]
fn in_a_batch_only_the_events_of_foreign_sessions_are_refused() {
    let eye = Eye::start();
    let (owner, other) = (eye.application("owner"), eye.application("other"));
    let mut random = Random::announced(7);
    let (owned, free) = (random.uuid(), random.uuid());
    eye.post("/events")
        .token(&owner.token)
        .json(&events::plain(&owned))
        .send()
        .expect(201);

    // The same session in capitals is the same session.
    let batch = json!([
        events::plain(&free),
        events::plain(&owned),
        events::plain(&owned.to_uppercase()),
        events::plain(&free)
    ]);
    let answer = eye
        .post("/events")
        .token(&other.token)
        .json(&batch)
        .send()
        .expect(207)
        .json();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(2), &json!(2))
    );
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(
        errors
            .iter()
            .map(|error| error["index"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [1, 2]
    );
    for error in errors {
        assert_eq!(error["code"], "session_conflict");
        assert_eq!(
            error["errors"]["session_id"],
            json!(["Session belongs to another application."])
        );
    }
    assert_eq!(eye.count(&other.token, "*"), 2);
}

#[test]
fn a_refused_event_claims_no_session() {
    let eye = Eye::start();
    let (first, second) = (eye.application("first"), eye.application("second"));
    let session = "6d5b1f6e-0b43-4f0c-8a6e-3f3d2c1b0a99";
    let mut event = events::plain(session);
    event["timestamp"] = json!("2999-01-01T00:00:00Z");
    eye.post("/events")
        .token(&first.token)
        .json(&event)
        .send()
        .problem(400, "future_timestamp");
    let rejected = json!([events::plain(session), {"session_id": session}]);
    let batch = eye
        .post("/events?on_error=reject_all")
        .token(&first.token)
        .json(&rejected);
    batch.send().expect(400);
    eye.post("/events")
        .token(&second.token)
        .json(&events::plain(session))
        .send()
        .expect(201);
}
