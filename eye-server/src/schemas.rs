//! Rules for the data of events: which one is for an event, and what it says of it.
//!
//! What must stay true: a schema is read here and nowhere else. It refers to nothing outside itself, its patterns are
//! matched in time that grows with the text alone, and what one event is told is bounded.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use eye_log::{ApplicationId, Event, Registry, Rule, RuleMode, Rules};
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Value, json};

use crate::error::{FieldErrors, plain};

/// The longest schema, bytes of its JSON text.
pub(crate) const SCHEMA_MAX_BYTES: usize = 64 << 10;
/// What its patterns may take when they are prepared, and while they are matched; bytes, each.
const PATTERN_MAX_BYTES: usize = 1 << 20;
/// So much of what one event breaks is told.
const TOLD_MAX: usize = 20;
/// So much of each; it may hold a piece of the data.
const TOLD_MAX_CHARS: usize = 300;
/// What a schema says that it is written in, if it says.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A schema, ready to judge.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

impl Schema {
    /// Reads a JSON Schema of 2020-12, or says what is wrong with it.
    pub(crate) fn read(schema: &Value) -> Result<Self, String> {
        if !schema.is_object() && !schema.is_boolean() {
            return Err("A JSON Schema is an object, or true or false.".to_owned());
        }
        if let Some(other) = schema.get("$schema").filter(|dialect| {
            let named = dialect.as_str().map(|name| name.trim_end_matches('#'));
            named != Some(DIALECT)
        }) {
            return Err(format!(
                "$schema is {other}; schemas are read as {DIALECT}."
            ));
        }
        if let Some(found) = loops(schema) {
            return Err(format!(
                "{found} leads back to itself without going into the data."
            ));
        }
        let patterns = PatternOptions::regex()
            .size_limit(PATTERN_MAX_BYTES)
            .dfa_size_limit(PATTERN_MAX_BYTES);
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .offline()
            .build(schema)
            .map(Self)
            .map_err(|error| {
                let place = error.instance_path().as_str();
                cut(&format!(
                    "At {}: {error}.",
                    if place.is_empty() { "its top" } else { place }
                ))
            })
    }

    /// Says by JSON Pointer into the event what the data of an event breaks; nothing where it keeps to the schema.
    pub(crate) fn judge(&self, data: &str) -> FieldErrors {
        let mut told = FieldErrors::new();
        let data: Value = match serde_json::from_str(data) {
            Ok(data) => data,
            Err(error) => {
                let message = format!("A rule cannot be asked about it: {}.", plain(&error));
                told.insert("/data".to_owned(), vec![message]);
                return told;
            }
        };
        for error in self.0.iter_errors(&data).take(TOLD_MAX) {
            let place = cut(&format!("/data{}", error.instance_path().as_str()));
            told.entry(place).or_default().push(cut(&error.to_string()));
        }
        told
    }
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(TOLD_MAX_CHARS) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}…", &message[..end]),
    }
}

/// Returns a reference that comes back to where it stands through schemas for the same value alone: judging by it would
/// never end. References by a name are followed only where they are JSON Pointers; `$dynamicRef` and the anchors it
/// needs are therefore taken for such a loop where they could be one.
fn loops(root: &Value) -> Option<String> {
    fn same_value<'s>(schema: &'s Value, next: &mut Vec<&'s Value>) {
        let Value::Object(members) = schema else {
            return;
        };
        for (keyword, member) in members {
            match (keyword.as_str(), member) {
                ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => next.extend(all),
                ("not" | "if" | "then" | "else", one) => next.push(one),
                ("dependentSchemas", Value::Object(all)) => next.extend(all.values()),
                _ => {}
            }
        }
    }
    fn target<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
        let pointer = reference.strip_prefix('#')?;
        match pointer {
            "" => Some(root),
            _ => root.pointer(pointer),
        }
    }
    // Every schema with a reference is asked whether it reaches itself; the bound on a schema's length bounds both.
    fn references<'s>(value: &'s Value, found: &mut Vec<&'s Value>) {
        match value {
            Value::Object(members) => {
                if members.contains_key("$ref") || members.contains_key("$dynamicRef") {
                    found.push(value);
                }
                members
                    .values()
                    .for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    references(root, &mut all);
    for start in all {
        let mut seen: Vec<*const Value> = Vec::new();
        let mut next = vec![start];
        while let Some(schema) = next.pop() {
            if seen.contains(&std::ptr::from_ref(schema)) {
                continue;
            }
            seen.push(std::ptr::from_ref(schema));
            let before = next.len();
            same_value(schema, &mut next);
            for keyword in ["$ref", "$dynamicRef"] {
                let Some(reference) = schema.get(keyword).and_then(Value::as_str) else {
                    continue;
                };
                next.extend(target(root, reference));
            }
            if next[before..]
                .iter()
                .any(|reached| std::ptr::eq(*reached, start))
            {
                let named = start.get("$ref").or_else(|| start.get("$dynamicRef"));
                return Some(format!("$ref {}", named.unwrap_or(&Value::Null)));
            }
        }
    }
    None
}

/// A rule and its schema.
#[derive(Debug)]
struct Checker {
    rule: Arc<Rule>,
    schema: Schema,
}

/// The rules of one moment, ready to judge.
#[derive(Debug, Default)]
pub(crate) struct RuleBook {
    rules: Rules,
    by_category: HashMap<String, HashMap<String, Vec<Arc<Checker>>>>,
}

impl RuleBook {
    /// Prepares `rules`; those that `before` has are taken over.
    fn of(rules: &Rules, before: &Self) -> Self {
        let mut by_category: HashMap<String, HashMap<String, Vec<Arc<Checker>>>> = HashMap::new();
        for (target, rule) in rules.iter() {
            let known = before.of_type(&target.category, &target.name);
            let known = known.iter().find(|known| Arc::ptr_eq(&known.rule, rule));
            let checker = match known {
                Some(known) => Arc::clone(known),
                None => match serde_json::from_str(&rule.schema)
                    .map_err(|error| error.to_string())
                    .and_then(|schema| Schema::read(&schema))
                {
                    Ok(schema) => Arc::new(Checker {
                        rule: Arc::clone(rule),
                        schema,
                    }),
                    // It was read when it was set; another release of the service may know better.
                    Err(error) => {
                        tracing::error!(category = target.category, name = target.name, %error, "a rule cannot be read and is left out");
                        continue;
                    }
                },
            };
            let names = by_category.entry(target.category.clone()).or_default();
            names.entry(target.name.clone()).or_default().push(checker);
        }
        Self {
            rules: Arc::clone(rules),
            by_category,
        }
    }

    fn of_type(&self, category: &str, name: &str) -> &[Arc<Checker>] {
        let names = self.by_category.get(category);
        names
            .and_then(|names| names.get(name))
            .map_or(&[], Vec::as_slice)
    }

    /// Judges an event by its rule, the application's own before the one for all. Fails with what it breaks where the rule is
    /// enforced; where it warns, the event says so in its `meta`.
    pub(crate) fn judge(
        &self,
        event: &mut Event<'_>,
        application: ApplicationId,
    ) -> Result<(), FieldErrors> {
        if self.by_category.is_empty() {
            return Ok(());
        }
        let rules = self.of_type(event.category(), event.name());
        let for_whom = |whom| {
            rules
                .iter()
                .find(|checker| checker.rule.target.application == whom)
        };
        let Some(checker) = for_whom(Some(application)).or_else(|| for_whom(None)) else {
            return Ok(());
        };
        let broken = checker.schema.judge(event.data());
        if broken.is_empty() {
            return Ok(());
        }
        match checker.rule.mode {
            RuleMode::Enforce => Err(broken),
            RuleMode::Warn => {
                let version = checker.rule.version;
                let warning =
                    json!({"code": "rule_violation", "rule_version": version, "errors": broken});
                event.set_meta(json!({ "warnings": [warning] }).to_string());
                Ok(())
            }
        }
    }
}

/// Keeps the rules of now ready.
#[derive(Debug, Default)]
pub(crate) struct Schemas(RwLock<Arc<RuleBook>>);

impl Schemas {
    /// Returns the rules of this registry, made ready where they were not.
    pub(crate) fn of(&self, registry: &Registry) -> Arc<RuleBook> {
        let ready = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        if Arc::ptr_eq(&ready.rules, registry.rules()) {
            return ready;
        }
        let book = Arc::new(RuleBook::of(registry.rules(), &ready));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&book);
        book
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(schema: &Value) -> String {
        Schema::read(schema).unwrap_err()
    }

    #[test]
    fn what_is_broken_is_told_by_its_path() {
        let schema = json!({
            "type": "object",
            "required": ["price"],
            "properties": {
                "price": {"type": "number", "minimum": 0},
                "items": {"items": {"properties": {"a b": {"type": "string"}, "0": {"pattern": "^x+$"}}}},
            },
        });
        let schema = Schema::read(&schema).unwrap();
        assert!(schema.judge(r#"{"price": 1.5, "more": []}"#).is_empty());
        let told = schema.judge(r#"{"price":-1,"items":[{},{"a b":1,"0":"y"}]}"#);
        let paths: Vec<_> = told.keys().collect();
        assert_eq!(
            paths,
            ["/data/items/1/0", "/data/items/1/a b", "/data/price"]
        );
        let told = schema.judge("{}");
        assert_eq!(told["/data"], [r#""price" is a required property"#]);
    }

    #[test]
    fn what_one_event_is_told_is_bounded() {
        let schema = Schema::read(&json!({"additionalProperties": {"maxLength": 1}})).unwrap();
        let long = "é".repeat(10_000);
        let fields: Vec<String> = (0..100)
            .map(|n| format!("\"{n}{long}\":\"{long}\""))
            .collect();
        let told = schema.judge(&format!("{{{}}}", fields.join(",")));
        let messages: Vec<&String> = told.values().flatten().collect();
        assert_eq!(messages.len(), TOLD_MAX);
        let texts = told.keys().chain(messages);
        assert!(
            texts
                .into_iter()
                .all(|text| text.chars().count() <= TOLD_MAX_CHARS + 1)
        );
    }

    #[test]
    fn data_that_no_schema_can_be_asked_about_does_not_pass() {
        let schema = Schema::read(&json!(true)).unwrap();
        for data in [r#"{"a":1e400}"#, r#"{"a":"\ud800"}"#] {
            assert_eq!(schema.judge(data).keys().collect::<Vec<_>>(), ["/data"]);
        }
    }

    #[test]
    fn what_is_no_schema_is_refused_and_says_where() {
        assert!(refused(&json!([])).contains("an object"));
        let told = refused(&json!({"properties": {"a": {"type": "nunber"}}}));
        assert!(told.starts_with("At /properties/a/type: "), "{told}");
        assert!(
            refused(&json!({"$schema": "http://json-schema.org/draft-07/schema#"}))
                .contains("2020-12")
        );
        for remote in [
            "https://example.com/a.json",
            "file:///etc/passwd",
            "other.json",
        ] {
            refused(&json!({ "$ref": remote }));
        }
        refused(&json!({"pattern": "("}));
        refused(&json!({"pattern": "(?=a)b"}));
        refused(&json!({"pattern": "(a{1000}){1000}"}));
    }

    #[test]
    fn references_that_never_go_into_the_data_are_refused_and_others_end() {
        for looping in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/y"}]}, "y": {"$ref": "#/$defs/x"}}}),
        ] {
            let told = refused(&looping);
            assert!(told.contains("leads back"), "{told}");
        }
        let tree =
            Schema::read(&json!({"properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}}))
                .unwrap();
        assert!(tree.judge(r#"{"next":{"next":{"n":1}}}"#).is_empty());
        assert_eq!(
            tree.judge(r#"{"next":{"next":{"n":"1"}}}"#)
                .keys()
                .collect::<Vec<_>>(),
            ["/data/next/next/n"]
        );
    }
}
