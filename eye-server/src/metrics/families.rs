//! Every metric: its name, kind, labels, what it tells, and where its figures come from.
//!
//! What must stay true: `docs/operations.md` lists these and no others; a test compares.

use std::sync::atomic::Ordering::Relaxed;

use super::seen::Seen;
use super::text::Samples;
use super::{DOORS, METHODS, QUERY_ENDS, STATUSES};
use crate::routes::health::CONDITIONS;

/// What is counted upwards, measured, or sorted into ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
    pub(super) samples: fn(&Seen<'_>, &mut Samples<'_>),
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Seen<'_>, &mut Samples<'_>),
) -> Family {
    Family {
        name,
        kind,
        labels,
        help,
        samples,
    }
}

const MICROS_PER_SECOND: f64 = 1e6;

/// All of them, in the order of the page.
#[rustfmt::skip]
pub(crate) const FAMILIES: &[Family] = &[
    family("eye_build_info", Kind::Gauge, &["version"], "1, with the version that runs.",
        |_, samples| samples.add(&[env!("CARGO_PKG_VERSION")], true)),
    family("eye_start_time_seconds", Kind::Gauge, &[], "When the process began to serve, unix seconds.",
        |seen, samples| samples.add(&[], seen.state.started_at() as f64 / MICROS_PER_SECOND)),
    family("eye_ready", Kind::Gauge, &[], "1 while /health/ready answers 200.",
        |seen, samples| samples.add(&[], seen.ready)),
    family("eye_condition", Kind::Gauge, &["state"], "1 for the state that /health/ready tells, 0 for the others.",
        |seen, samples| for state in CONDITIONS {
            samples.add(&[state], seen.condition == state);
        }),

    family("eye_http_requests_total", Kind::Counter, &["method", "route", "status"], "Answers, by the pattern of the path; `none` where there is no such path.",
        |seen, samples| requests(seen, &mut |method, route, requests| {
            for (status, count) in STATUSES.iter().zip(&requests.by_status) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let status = if *status == 0 { "other".to_owned() } else { status.to_string() };
                    samples.add(&[method, route, &status], count);
                }
            }
        })),
    family("eye_http_request_duration_seconds", Kind::Histogram, &["method", "route"], "From a request's head to the beginning of its answer.",
        |seen, samples| requests(seen, &mut |method, route, requests| {
            samples.histogram(&[method, route], &requests.micros.counts(), MICROS_PER_SECOND);
        })),
    family("eye_http_requests_in_flight", Kind::Gauge, &[], "Requests whose answer has not begun.",
        |seen, samples| samples.add(&[], seen.metrics.in_flight.load(Relaxed))),
    family("eye_http_sent_bytes_total", Kind::Counter, &[], "Bytes of bodies of answers.",
        |seen, samples| samples.add(&[], seen.metrics.sent_bytes.load(Relaxed))),
    family("eye_connections_open", Kind::Gauge, &["door"], "Open connections: `public` for `listen`, `owner` for eye.sock, `metrics` for `metrics_listen`.",
        |seen, samples| for (door, counts) in DOORS.iter().zip(&seen.metrics.connections) {
            samples.add(&[door], counts.open.load(Relaxed));
        }),
    family("eye_connections_accepted_total", Kind::Counter, &["door"], "Connections since the start.",
        |seen, samples| for (door, counts) in DOORS.iter().zip(&seen.metrics.connections) {
            samples.add(&[door], counts.accepted.load(Relaxed));
        }),
    family("eye_connections_refused_total", Kind::Counter, &[], "Connections answered with 503 because `connections_max` were open.",
        |seen, samples| samples.add(&[], seen.metrics.connections_refused.load(Relaxed))),
    family("eye_tls_reloads_total", Kind::Counter, &["outcome"], "How often the certificate was read again: `done`, or `failed` and the old one stayed.",
        |seen, samples| for (outcome, count) in ["failed", "done"].iter().zip(&seen.metrics.certificates_read) {
            samples.add(&[outcome], count.load(Relaxed));
        }),

    family("eye_events_total", Kind::Counter, &["outcome"], "What became of events that were sent: `stored`, `duplicate`, `rejected`.",
        |seen, samples| {
            let metrics = seen.metrics;
            for (outcome, count) in [("stored", &metrics.stored), ("duplicate", &metrics.duplicates), ("rejected", &metrics.rejected)] {
                samples.add(&[outcome], count.load(Relaxed));
            }
        }),
    family("eye_request_memory_bytes", Kind::Gauge, &[], "Bodies being read, unpacked and queued.",
        |seen, samples| samples.add(&[], seen.state.memory().used())),
    family("eye_request_memory_limit_bytes", Kind::Gauge, &[], "`memory_for_requests`.",
        |seen, samples| samples.add(&[], seen.state.settings().memory_for_requests)),

    family("eye_log_durable_end", Kind::Gauge, &[], "One past the last synced record.",
        |seen, samples| samples.add(&[], seen.durable_end)),
    family("eye_log_bytes", Kind::Gauge, &[], "What the log's files take, filled ahead included.",
        |seen, samples| samples.add(&[], seen.log.bytes)),
    family("eye_log_segments", Kind::Gauge, &["kind"], "Files of the log, `raw` or `sealed`.",
        |seen, samples| {
            samples.add(&["raw"], seen.log.raw_segments);
            samples.add(&["sealed"], seen.log.sealed_files);
        }),
    family("eye_log_queue_requests", Kind::Gauge, &[], "Requests that wait for the writer.",
        |seen, samples| samples.add(&[], seen.log.queue_requests)),
    family("eye_log_queue_bytes", Kind::Gauge, &[], "Bytes of their records.",
        |seen, samples| samples.add(&[], seen.log.queue_bytes)),
    family("eye_log_sync_seconds", Kind::Histogram, &[], "How long syncs of the log took.",
        |seen, samples| samples.histogram(&[], &seen.log.sync_micros, MICROS_PER_SECOND)),
    family("eye_log_group_records", Kind::Histogram, &[], "Records that were synced at once.",
        |seen, samples| samples.histogram(&[], &seen.log.group_records, 1.0)),
    family("eye_log_group_bytes", Kind::Histogram, &[], "Bytes that were written and synced at once.",
        |seen, samples| samples.histogram(&[], &seen.log.group_bytes, 1.0)),
    family("eye_log_damaged_places", Kind::Gauge, &[], "Places of the log that are known to be damaged.",
        |seen, samples| samples.add(&[], seen.state.log().damage().len())),

    family("eye_index_through", Kind::Gauge, &["index"], "One past the last record that `search` or the `catalog` has.",
        |seen, samples| {
            samples.add(&["search"], seen.index.search_through);
            samples.add(&["catalog"], seen.index.catalog_through);
        }),
    family("eye_index_lag_records", Kind::Gauge, &[], "Records between the durable end and what can be found.",
        |seen, samples| samples.add(&[], seen.durable_end.saturating_sub(seen.index.indexed_through))),
    family("eye_index_lag_seconds", Kind::Gauge, &[], "How long the oldest of them has been there.",
        |seen, samples| samples.add(&[], seen.lag_seconds)),
    family("eye_index_events", Kind::Gauge, &[], "Events that can be found.",
        |seen, samples| samples.add(&[], seen.index.events)),
    family("eye_index_parts", Kind::Gauge, &[], "Search segments open for reading.",
        |seen, samples| samples.add(&[], seen.index.parts)),
    family("eye_index_sealing", Kind::Gauge, &[], "Shards that wait to be merged and synced.",
        |seen, samples| samples.add(&[], seen.index.sealing)),
    family("eye_index_trouble", Kind::Gauge, &[], "1 while something keeps the index from going on.",
        |seen, samples| samples.add(&[], seen.index.trouble.is_some())),

    family("eye_queries_total", Kind::Counter, &["end"], "Reads that ran on the threads for queries: `done`, `refused`, `timeout`, `overloaded`, `failed`.",
        |seen, samples| for (end, count) in QUERY_ENDS.iter().zip(&seen.metrics.queries) {
            samples.add(&[end], count.load(Relaxed));
        }),
    family("eye_query_duration_seconds", Kind::Histogram, &[], "How long they took, waiting for a turn and for the index included.",
        |seen, samples| samples.histogram(&[], &seen.metrics.query_micros.counts(), MICROS_PER_SECOND)),
    family("eye_queries_running", Kind::Gauge, &[], "Queries that run now.",
        |seen, samples| samples.add(&[], seen.state.queries_running())),
    family("eye_queries_limit", Kind::Gauge, &[], "`queries_max`.",
        |seen, samples| samples.add(&[], seen.state.settings().queries_max)),

    family("eye_disk_free_bytes", Kind::Gauge, &[], "What the log's file system has left.",
        |seen, samples| if let Some(bytes) = seen.log.free_bytes {
            samples.add(&[], bytes);
        }),
    family("eye_disk_reserve_bytes", Kind::Gauge, &[], "`disk_reserve`: below it sending gets 507.",
        |seen, samples| samples.add(&[], seen.state.settings().disk_reserve)),
    family("eye_erasures_open", Kind::Gauge, &[], "Erasures whose bytes are not gone yet.",
        |seen, samples| samples.add(&[], seen.erasures_open)),
    family("eye_erasure_age_seconds", Kind::Gauge, &[], "How long the oldest of them has been open.",
        |seen, samples| samples.add(&[], seen.erasure_age_seconds)),
    family("eye_erasure_deadline_seconds", Kind::Gauge, &[], "`erasure_deadline`.",
        |seen, samples| samples.add(&[], seen.state.settings().erasure_deadline.as_secs_f64())),
    family("eye_scrub_files_total", Kind::Counter, &[], "Sealed files that were read from the disk and checked.",
        |seen, samples| samples.add(&[], seen.metrics.scrub.files.load(Relaxed))),
    family("eye_scrub_bytes_total", Kind::Counter, &[], "Their bytes.",
        |seen, samples| samples.add(&[], seen.metrics.scrub.bytes.load(Relaxed))),
    family("eye_scrub_end_time_seconds", Kind::Gauge, &[], "When the last pass over all of them ended, unix seconds; 0 for none since the start.",
        |seen, samples| samples.add(&[], seen.metrics.scrub.ended_at.load(Relaxed) as f64 / MICROS_PER_SECOND)),

    family("eye_memory_anonymous_bytes", Kind::Gauge, &[], "Memory of the process itself (RssAnon).",
        |seen, samples| samples.add(&[], seen.process.anonymous_bytes)),
    family("eye_memory_resident_bytes", Kind::Gauge, &[], "All memory of the process, pages of files included (VmRSS).",
        |seen, samples| samples.add(&[], seen.process.resident_bytes)),
    family("eye_cpu_seconds_total", Kind::Counter, &[], "CPU time of the process.",
        |seen, samples| samples.add(&[], seen.process.cpu_seconds)),
    family("eye_threads", Kind::Gauge, &[], "Threads of the process.",
        |seen, samples| samples.add(&[], seen.process.threads)),
    family("eye_open_files", Kind::Gauge, &[], "Files and sockets that are open.",
        |seen, samples| samples.add(&[], seen.process.open_files)),
];

/// Visits what was counted of each method of each path, in the order of the paths.
fn requests(seen: &Seen<'_>, see: &mut dyn FnMut(&str, &str, &super::Requests)) {
    let mut routes: Vec<_> = seen.metrics.routes.iter().collect();
    routes.sort_by_key(|(path, _)| **path);
    for (path, route) in routes {
        for (method, requests) in METHODS.iter().zip(route) {
            if let Some(requests) = requests.get() {
                see(method, path, requests);
            }
        }
    }
}
