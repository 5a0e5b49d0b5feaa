//! Holds every answer that the tests get against the OpenAPI document that the server gives of itself: a status or a field that it
//! does not know is a mistake of one of them.

use crate::http::{Answer, Client};
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

/// The document of the binary that is tried, which every server of a run has alike.
static DOCUMENT: OnceLock<Document> = OnceLock::new();

/// What the layers below the routes may answer to anything: a request that is not HTTP, or that came too slowly.
const BELOW_ROUTES: [u16; 3] = [400, 408, 431];

struct Document {
    whole: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// Asks a server that is ready for its document, once.
pub(crate) fn learn(client: &Client) {
    if DOCUMENT.get().is_some() {
        return;
    }
    let whole = client
        .request("GET", "/api/schema")
        .send()
        .expect(200)
        .json();
    // Several may have asked at the same time; they heard the same.
    let _ = DOCUMENT.set(Document {
        whole,
        validators: Mutex::default(),
    });
}

/// Panics where the document does not know such an answer.
pub(crate) fn check(method: &str, target: &str, answer: &Answer) {
    let Some(document) = DOCUMENT.get() else {
        // Or nothing would ever be held against anything, and every test would pass.
        let first = ["/health/ready", "/api/schema"];
        assert!(
            first.contains(&target),
            "{method} {target:.200} before the document is known"
        );
        return;
    };
    if let Some(complaint) = document.complaint(method, target, answer) {
        panic!(
            "{method} {target:.200} answered {}: {complaint}",
            answer.status
        );
    }
}

impl Document {
    /// Says what of an answer the document does not know. Paths and methods that it does not name may answer anything.
    fn complaint(&self, method: &str, target: &str, answer: &Answer) -> Option<String> {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let method = if method == "HEAD" { "GET" } else { method };
        let operation = &self.whole["paths"][self.template(path)?][method.to_lowercase()];
        let told = &operation["responses"][answer.status.to_string()];
        if operation.is_null() || told.is_null() && BELOW_ROUTES.contains(&answer.status) {
            return None;
        }
        if told.is_null() {
            let body = String::from_utf8_lossy(&answer.body);
            return Some(format!(
                "a status that is not in its document, with {body:.500}"
            ));
        }
        if answer.body.is_empty() {
            return None;
        }
        let told = told["$ref"].as_str().map_or(told, |place| self.at(place));
        let content = answer.header("content-type").unwrap_or_default();
        let media_type = content.split(';').next().unwrap_or_default().trim();
        let schema = &told["content"][media_type]["schema"];
        if schema.is_null() {
            return Some(format!("{media_type:?} is not in its document"));
        }
        if !media_type.ends_with("/json") && !media_type.ends_with("+json") {
            return None;
        }
        // Numbers beyond those that this reads are the application's own, and stay what they are.
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        let validator = self.validator(schema);
        let error = validator.iter_errors(&body).next()?;
        Some(format!(
            "not as its document has it, at {:?}: {error:.500}",
            error.instance_path().as_str()
        ))
    }

    /// Returns the path in the document that a request's path is one of: the one with the most that is spelt out.
    fn template(&self, path: &str) -> Option<&str> {
        let path = match path.strip_suffix('/') {
            Some("") | None => path,
            Some(rest) => rest,
        };
        let is_one_of = |template: &str| {
            let (have, want) = (path.split('/'), template.split('/'));
            have.clone().count() == want.clone().count()
                && have
                    .zip(want)
                    .all(|(have, want)| want == have || want.starts_with('{') && !have.is_empty())
        };
        let paths = self.whole["paths"].as_object().unwrap().keys();
        let alike = paths.filter(|template| is_one_of(template));
        alike
            .min_by_key(|template| template.matches('{').count())
            .map(String::as_str)
    }

    fn at(&self, place: &str) -> &Value {
        let place = place.trim_start_matches('#');
        self.whole
            .pointer(place)
            .expect("the document has what it refers to")
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let text = schema.to_string();
        let mut validators = self.validators.lock().unwrap();
        let validator = validators.entry(text).or_insert_with(|| {
            let whole = json!({"allOf": [schema], "components": self.whole["components"]});
            let validator = jsonschema::options()
                .with_draft(Draft::Draft202012)
                .should_validate_formats(true)
                .offline()
                .build(&whole);
            Arc::new(validator.expect("the document's schemas are schemas"))
        });
        validator.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, media_type: &str, body: &str) -> Answer {
        Answer::of(status, &[("content-type", media_type)], body)
    }

    #[test]
    fn what_the_document_does_not_know_is_complained_of() {
        let shape = json!({"$ref": "#/components/schemas/Thing"});
        let told = json!({"200": {"content": {"application/json": {"schema": shape}}}, "204": {}});
        let document = Document {
            whole: json!({
                "paths": {
                    "/": {"get": {"responses": told}},
                    "/things/{id}": {"get": {"responses": told}, "put": {"responses": {}}},
                    "/things/all": {"get": {"responses": {"202": {}}}},
                },
                "components": {"schemas": {"Thing": {
                    "type": "object", "required": ["id"], "properties": {"id": {"type": "string", "format": "uuid"}},
                    "additionalProperties": false,
                }}},
            }),
            validators: Mutex::default(),
        };
        let (json, id) = (
            "application/json; charset=utf-8",
            "\"4d453679-715a-44e8-b809-0532491bab39\"",
        );
        let thing = answer(200, json, &format!("{{\"id\":{id}}}"));
        let complaint =
            |method, target, answer: &Answer| document.complaint(method, target, answer);
        for target in [
            "/",
            "/things/1",
            "/things/1/",
            "/things/1?as_of=2",
            "/elsewhere",
            "/things",
        ] {
            assert_eq!(complaint("GET", target, &thing), None, "{target}");
        }
        assert_eq!(complaint("HEAD", "/things/1", &answer(204, "", "")), None);
        assert_eq!(
            complaint("DELETE", "/things/1", &thing),
            None,
            "no such method"
        );
        assert_eq!(
            complaint("GET", "/things/1", &answer(431, json, "{}")),
            None
        );
        for (method, target, answer, about) in [
            ("GET", "/things/all", &thing, "status"),
            ("PUT", "/things/1", &thing, "status"),
            ("HEAD", "/things/1", &answer(201, "", ""), "status"),
            ("GET", "/things/1", &answer(500, json, "{}"), "status"),
            (
                "GET",
                "/things/1",
                &answer(200, "text/html", "x"),
                "text/html",
            ),
            ("GET", "/things/1", &answer(200, json, "{}"), "id"),
            (
                "GET",
                "/things/1",
                &answer(200, json, "{\"id\":\"x\"}"),
                "/id",
            ),
            (
                "GET",
                "/things/1",
                &answer(200, json, &format!("{{\"id\":{id},\"more\":1}}")),
                "more",
            ),
        ] {
            let complaint = complaint(method, target, answer).expect(about);
            assert!(complaint.contains(about), "{complaint}");
        }
    }
}
