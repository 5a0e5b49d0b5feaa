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
/// So many schemas one value is held against at most; far more than anybody writes by hand.
const SCHEMAS_OF_A_VALUE_MAX: u64 = 10_000;
/// So deep they lead into each other at most: judging takes a piece of the stack for each, at every depth of the data.
const HEIGHT_MAX: usize = 32;
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
        check_references(schema)?;
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

/// Fails where judging by a schema could go on for ever or for very long, or where that cannot be seen: every reference
/// is a JSON Pointer into the schema itself, none leads back to itself through schemas for the same value alone, and
/// the schemas for one value are not too many.
fn check_references(root: &Value) -> Result<(), String> {
    let mut seen = HashMap::new();
    every_schema(root, &mut |schema| {
        cost(root, schema, 0, &mut seen).map(|_| ())
    })
}

/// Visits every object of a schema; those that are data, as in `const`, as well.
fn every_schema<'s>(
    value: &'s Value,
    visit: &mut dyn FnMut(&'s Value) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Value::Object(members) => {
            visit(value)?;
            members
                .values()
                .try_for_each(|member| every_schema(member, visit))
        }
        Value::Array(items) => items.iter().try_for_each(|item| every_schema(item, visit)),
        _ => Ok(()),
    }
}

/// What holding one value against a schema takes.
#[derive(Clone, Copy)]
struct Cost {
    /// How many schemas it is held against.
    schemas: u64,
    /// How deep they lead into each other.
    height: usize,
}

/// Returns what a schema costs that is reached after `depth` others; `seen` has nothing for those that are looked at now.
fn cost<'s>(
    root: &'s Value,
    schema: &'s Value,
    depth: usize,
    seen: &mut HashMap<*const Value, Option<Cost>>,
) -> Result<Cost, String> {
    let mut all = Cost {
        schemas: 1,
        height: 1,
    };
    let Value::Object(members) = schema else {
        return Ok(all);
    };
    let too_deep =
        || format!("Schemas for one value lead into each other more than {HEIGHT_MAX} deep.");
    if depth >= HEIGHT_MAX {
        return Err(too_deep());
    }
    match seen.insert(schema, None) {
        Some(Some(known)) => {
            seen.insert(schema, Some(known));
            return match depth + known.height {
                0..=HEIGHT_MAX => Ok(known),
                _ => Err(too_deep()),
            };
        }
        Some(None) => {
            let at = members.get("$ref").unwrap_or(&Value::Null);
            return Err(format!(
                "A reference ({at}) leads back to itself without going into the data."
            ));
        }
        None => {}
    }
    for (keyword, member) in members {
        let inner: Vec<&Value> = match (keyword.as_str(), member) {
            ("$ref", Value::String(reference)) => vec![target(root, reference)?],
            ("$anchor" | "$dynamicRef" | "$dynamicAnchor" | "$recursiveRef", Value::String(_)) => {
                return Err(format!(
                    "{keyword} is not supported; refer by a JSON Pointer, such as #/$defs/name."
                ));
            }
            ("$id", Value::String(_)) if !std::ptr::eq(schema, root) => {
                return Err("$id may stand at the top alone.".to_owned());
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => all.iter().collect(),
            ("not" | "if" | "then" | "else", one) => vec![one],
            ("dependentSchemas" | "dependencies", Value::Object(all)) => all.values().collect(),
            _ => continue,
        };
        for schema in inner {
            let inner = cost(root, schema, depth + 1, seen)?;
            all.schemas = all.schemas.saturating_add(inner.schemas);
            all.height = all.height.max(inner.height + 1);
        }
    }
    if all.schemas > SCHEMAS_OF_A_VALUE_MAX {
        return Err(format!(
            "One value would be held against more than {SCHEMAS_OF_A_VALUE_MAX} schemas."
        ));
    }
    seen.insert(schema, Some(all));
    Ok(all)
}

fn target<'s>(root: &'s Value, reference: &str) -> Result<&'s Value, String> {
    let found = match reference.strip_prefix('#') {
        Some("") => Some(root),
        Some(pointer) => root.pointer(pointer),
        None => None,
    };
    found.ok_or_else(|| {
        format!(
            "$ref {} is no JSON Pointer to something in this schema, such as #/$defs/name.",
            json!(cut(reference))
        )
    })
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
            json!({"if": true, "else": {"dependentSchemas": {"a": {"not": {"$ref": "#"}}}}}),
            json!({"properties": {"a": {"$ref": "#/$defs/x"}},
                   "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/y"}]}, "y": {"$ref": "#/$defs/x"}}}),
        ] {
            let told = refused(&looping);
            assert!(told.contains("leads back"), "{told}");
        }
        // What cannot be followed here could lead anywhere.
        for named in [
            json!({"$anchor": "a", "$ref": "#a"}),
            json!({"$dynamicAnchor": "a", "allOf": [{"$dynamicRef": "#a"}]}),
            json!({"$id": "urn:a", "allOf": [{"$ref": "urn:a"}]}),
            json!({"$defs": {"a b": {"$ref": "#/$defs/a%20b"}}, "$ref": "#/$defs/a%20b"}),
            json!({"$defs": {"a": {"$id": "urn:a"}}}),
        ] {
            refused(&named);
        }
        let tree = json!({"$id": "urn:tree", "properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}, "$ref": {"type": "null"}}});
        let tree = Schema::read(&tree).unwrap();
        assert!(tree.judge(r#"{"next":{"next":{"n":1}}}"#).is_empty());
        assert_eq!(
            tree.judge(r#"{"next":{"next":{"n":"1"},"$ref":1}}"#)
                .keys()
                .collect::<Vec<_>>(),
            ["/data/next/$ref", "/data/next/next/n"]
        );
    }

    #[test]
    fn a_schema_that_takes_too_long_or_too_much_stack_is_refused() {
        let mut steps = serde_json::Map::new();
        for step in 0..14 {
            let next = json!({"$ref": format!("#/$defs/{}", step + 1)});
            steps.insert(step.to_string(), json!({"allOf": [next, next]}));
        }
        steps.insert("14".to_owned(), json!({"type": "object"}));
        let told = refused(&json!({"$defs": steps, "$ref": "#/$defs/0"}));
        assert!(told.contains("more than 10000"), "{told}");

        let mut chain = serde_json::Map::new();
        for step in 0..2000 {
            let next = format!("#/$defs/{}", step + 1);
            chain.insert(step.to_string(), json!({ "$ref": next }));
        }
        chain.insert("2000".to_owned(), json!(true));
        let told = refused(&json!({ "$defs": chain }));
        assert!(told.contains("more than 32 deep"), "{told}");
    }
}
