#![allow(clippy::unwrap_used)]
use super::*;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

#[test]
fn the_document_lists_every_setting_with_its_default() {
    let defaults = Settings::new(DEFAULT_DATA);
    let row = |setting: &Setting| {
        let default = (setting.value)(&defaults).text(setting.unit);
        let default = if default.is_empty() {
            String::new()
        } else {
            format!("`{default}`")
        };
        format!(
            "| `{}` | {default} | {} |",
            setting.name,
            setting.about.trim()
        )
    };
    let mut table = vec![
        "| setting | default | what it sets |".to_owned(),
        "| --- | --- | --- |".to_owned(),
    ];
    table.extend(TABLE.iter().map(row));
    let table = table.join("\n").replace("|  |", "| |");
    assert!(
        OPERATIONS.contains(&format!("\n{table}\n\n")),
        "the table of settings in docs/operations.md should be\n\n{table}\n"
    );
}

#[test]
fn what_is_shown_can_be_written_again() {
    let mut settings = Settings::new("x");
    for setting in TABLE {
        let text = (setting.value)(&settings).text(setting.unit);
        if !text.is_empty() {
            (setting.slot)(&mut settings).read(&text).unwrap();
            assert_eq!((setting.value)(&settings).text(setting.unit), text);
        }
    }
    assert_eq!(settings.limits(), Settings::new("y").limits());
}

#[test]
fn secrets_are_not_shown() {
    let settings = Settings {
        admin_token: "verysecret".into(),
        ..Settings::new("x")
    };
    assert!(!format!("{settings:?}").contains("verysecret"));
    assert!(!settings.in_force().to_string().contains("verysecret"));
}

#[test]
fn every_limit_has_value_unit_and_setting() {
    for (name, limit) in Settings::new("x").limits().as_object().unwrap() {
        assert!(
            limit["value"].is_number()
                && limit["unit"].is_string()
                && limit.get("setting").is_some(),
            "{name}"
        );
    }
}
