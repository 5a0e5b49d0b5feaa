//! Records that are no events, as JSON: for `eye log dump` and `GET /admin/audit`.

use eye_log::record::{ErasureState, Reason, Record, RegistryRecord};
use eye_log::registry::RegistryChange;
use eye_log::{ApplicationId, Offset, Registry, TokenKind, format_timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::operation::{Component, Field, Shape};
use crate::routes::schemas::JSON_SCHEMA;

/// A record that is no event.
pub(crate) static CHANGE: Component = Component::new(
    "Change",
    "A record that is no event. `by` is the id of the token that acted, null for the owner of the folder.",
    Shape::Object(&[
        Field::whole("offset"),
        Field::one_of(
            "kind",
            &["application", "token", "schema", "erasure", "maintenance"],
        ),
        Field::time("received_at"),
        Field::uuid("by").or_null(),
        Field::uuid("request"),
        Field::one_of(
            "change",
            &[
                "registered",
                "enabled",
                "disabled",
                "limits",
                "issued",
                "revoked",
                "set",
                "removed",
            ],
        )
        .optional(),
        Field::text("application").optional().or_null(),
        Field::whole("number").optional(),
        Field::whole("retention_days").optional().or_null(),
        Field::whole("max_bytes").optional().or_null(),
        Field::whole("rate").optional().or_null(),
        Field::uuid("token").optional(),
        Field::one_of("token_kind", &["application", "analyst", "admin"]).optional(),
        Field::list("scopes", &Shape::OneOf(&["read", "write"])).optional(),
        Field::time("expires_at").optional().or_null(),
        Field::list("origins", &Shape::Text).optional(),
        Field::one_of("reason", &["erased", "expired", "lost"]).optional(),
        Field::uuid("erasure").optional().or_null(),
        Field::whole("events").optional(),
        Field::whole("blocks").optional(),
        Field::uuid("id").optional(),
        Field::boolean("done").optional(),
        Field::whole("sessions").optional(),
        Field::list("ranges", &Shape::List(&Shape::Whole)).optional(),
        Field::text("category")
            .optional()
            .about("Of the events that a rule is for."),
        Field::text("name")
            .optional()
            .about("Of the events that a rule is for."),
        Field::one_of("mode", &["enforce", "warn"]).optional(),
        Field::of("schema", &JSON_SCHEMA).optional(),
    ]),
);

/// Returns `{"offset", "kind", …}` of a record that is no event; `None` of an event. Where somebody acted, `by` is the id of the
/// token, null for the owner of the folder.
pub fn control_line(offset: Offset, record: &Record<'_>, registry: &Registry) -> Option<Value> {
    let name = |id| application_name(registry, id);
    Some(match record {
        Record::Event(_) => return None,
        Record::Registry(record) => registry_line(offset, record, registry),
        Record::Maintenance(record) => json!({
            "offset": offset, "kind": "maintenance", "received_at": format_timestamp(record.at), "by": actor(record.by),
            "request": record.request, "reason": reason_name(record.reason), "erasure": record.erasure,
            "events": record.records, "blocks": record.blocks.len(),
        }),
        Record::Erasure(record) => json!({
            "offset": offset, "kind": "erasure", "received_at": format_timestamp(record.at), "by": actor(record.by),
            "request": record.request, "id": record.id, "done": record.state == ErasureState::Done,
            "sessions": record.sessions.len(), "events": record.events, "ranges": record.ranges,
        }),
        Record::Tally(record) => json!({
            "offset": offset, "kind": "tally", "received_at": format_timestamp(record.at),
            "application": record.application.map(name), "duplicates": record.duplicates, "rejected": record.rejected,
            "unauthenticated": record.unauthenticated,
        }),
        // Its place is kept, so that whoever counts offsets finds none missing.
        Record::Gone(reason) => json!({"offset": offset, "kind": reason_name(*reason)}),
    })
}

/// Returns who acted; where nobody is named it was the owner of the folder.
fn actor(by: Uuid) -> Option<Uuid> {
    (!by.is_nil()).then_some(by)
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Erased => "erased",
        Reason::Expired => "expired",
        Reason::Lost => "lost",
    }
}

fn application_name(registry: &Registry, id: ApplicationId) -> String {
    registry.application(id).map_or_else(
        || format!("#{}", id.0),
        |application| application.name.clone(),
    )
}

fn registry_line(offset: Offset, record: &RegistryRecord, registry: &Registry) -> Value {
    let name = |id| application_name(registry, id);
    let (kind, change) = match &record.change {
        RegistryChange::Registered { application, name } => (
            "application",
            json!({"change": "registered", "application": name, "number": application.0}),
        ),
        RegistryChange::SetActive {
            application,
            active,
        } => {
            let change = if *active { "enabled" } else { "disabled" };
            (
                "application",
                json!({"change": change, "application": name(*application)}),
            )
        }
        RegistryChange::SetLimits {
            application,
            limits,
        } => (
            "application",
            json!({"change": "limits", "application": name(*application), "retention_days": limits.retention_days,
                   "max_bytes": limits.max_bytes, "rate": limits.rate}),
        ),
        RegistryChange::Issued(token) => {
            let (token_kind, scopes) = match token.kind {
                TokenKind::Application { read, write } => {
                    let scopes = [("write", write), ("read", read)];
                    let scopes = scopes.into_iter().filter(|(_, may)| *may);
                    ("application", scopes.map(|(scope, _)| scope).collect())
                }
                TokenKind::Analyst => ("analyst", vec!["read"]),
                TokenKind::Admin => ("admin", vec!["read", "write"]),
            };
            (
                "token",
                json!({"change": "issued", "token": token.token, "token_kind": token_kind, "scopes": scopes,
                       "application": token.application.map(name),
                       "expires_at": token.terms.expires_at.map(format_timestamp), "origins": token.terms.origins}),
            )
        }
        RegistryChange::RuleSet {
            target,
            mode,
            schema,
        } => {
            let schema: Value = serde_json::from_str(schema).unwrap_or(Value::Null);
            (
                "schema",
                json!({"change": "set", "category": target.category, "name": target.name,
                       "application": target.application.map(name), "mode": mode.name(), "schema": schema}),
            )
        }
        RegistryChange::RuleRemoved { target } => (
            "schema",
            json!({"change": "removed", "category": target.category, "name": target.name,
                   "application": target.application.map(name)}),
        ),
        RegistryChange::Revoked { token } => {
            ("token", json!({"change": "revoked", "token": token}))
        }
    };
    let mut line = json!({
        "offset": offset, "kind": kind, "received_at": format_timestamp(record.at), "by": actor(record.by), "request": record.request,
    });
    if let (Value::Object(line), Value::Object(change)) = (&mut line, change) {
        line.extend(change);
    }
    line
}
