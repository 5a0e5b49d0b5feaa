#![allow(clippy::unwrap_used)]
use super::families::Kind;
use super::*;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

#[test]
fn the_document_lists_every_metric_and_no_other() {
    let mut table = vec![
        "| metric | kind | labels | what it tells |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    table.extend(FAMILIES.iter().map(|family| {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let row = format!(
            "| `{}` | {kind} | {} | {} |",
            family.name,
            labels.join(", "),
            family.help
        );
        row.replace("|  |", "| |")
    }));
    let table = table.join("\n");
    assert!(
        OPERATIONS.contains(&format!("\n{table}\n\n")),
        "the table of metrics in docs/operations.md should be\n\n{table}\n"
    );
}

#[test]
fn names_are_ours_and_used_once() {
    let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
    for family in FAMILIES {
        assert!(family.name.starts_with("eye_"), "{}", family.name);
        assert_eq!(
            family.kind == Kind::Counter,
            family.name.ends_with("_total"),
            "{}",
            family.name
        );
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FAMILIES.len());
}

#[test]
fn what_a_client_makes_up_becomes_no_label() {
    let metrics = Metrics::new(["/", "/events/{id}"]);
    assert_eq!(metrics.route(Some("/events/{id}/")), "/events/{id}");
    assert_eq!(metrics.route(Some("/")), "/");
    assert_eq!(metrics.route(Some("/made/up")), NO_ROUTE);
    assert_eq!(metrics.route(None), NO_ROUTE);
    let method = Method::from_bytes(b"MADEUP").unwrap();
    metrics.answered(NO_ROUTE, &method, StatusCode::IM_A_TEAPOT, Duration::ZERO);
    let requests = metrics.routes[NO_ROUTE][METHODS.len() - 1].get().unwrap();
    assert_eq!(
        requests.by_status[STATUSES.len() - 1].load(Ordering::Relaxed),
        1
    );
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() {
    let dashboard = include_str!("../../../docs/monitoring/dashboard.json");
    let alerts = include_str!("../../../docs/monitoring/alerts.yml");
    serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
    let mut asked = 0;
    for text in [dashboard, alerts] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("eye_")) {
            let known = FAMILIES.iter().any(|family| {
                let suffix = word.strip_prefix(family.name);
                suffix.is_some_and(|suffix| match family.kind {
                    Kind::Histogram => ["_bucket", "_sum", "_count"].contains(&suffix),
                    Kind::Counter | Kind::Gauge => suffix.is_empty(),
                })
            });
            assert!(known, "{word} is no metric");
            asked += 1;
        }
    }
    assert!(asked > 50, "{asked}");
}
