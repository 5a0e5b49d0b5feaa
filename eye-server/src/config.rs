//! Every setting of the service, in one table: its name, default, unit and what it is for.
//!
//! What must stay true: the table is the only place where a setting is described. From it come the fields and defaults
//! of [`Settings`], the flags of `eye serve`, the variables `EYE_…`, the keys of `eye.toml`, what `eye config` and
//! `GET /limits` answer, and, by a test, the table in `docs/operations.md`.

mod file;
mod given;
mod proxies;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use eye_log::format::{
    FRAME_BODY_MAX_BYTES, FRAME_RECORDS_MAX, SEGMENT_MAX_BYTES, SEGMENT_MIN_BYTES,
};
use serde_json::{Map, Value as Json, json};

pub use given::{Given, Origin, data_folder};
pub use proxies::Proxies;
use value::Value;
pub(crate) use value::origin;
pub use value::{AccessLog, LogFilter, LogFormat, Origins, Secret, Zone};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const HOUR: Duration = Duration::from_secs(3600);
/// Where the data is if nobody says.
pub const DEFAULT_DATA: &str = "./eye-data";
/// How deep `data` may be allowed to nest at most: what follows an event's structure does so on a thread's stack.
const DEPTH_MAX: usize = 128;

/// One row of the table.
pub struct Setting {
    /// Its key in `eye.toml`; upper case behind `EYE_` in the environment, with `-` for `_` as a flag.
    pub name: &'static str,
    /// What it is for, a sentence or two of Markdown.
    about: &'static str,
    /// What its number counts; empty for what is no number.
    unit: &'static str,
    slot: fn(&mut Settings) -> &mut dyn Value,
    value: fn(&Settings) -> &dyn Value,
}

impl Setting {
    /// Returns the variable that sets it.
    pub fn variable(&self) -> String {
        format!("EYE_{}", self.name.to_uppercase())
    }

    /// Returns its flag, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Returns what it is for and its default, as plain text.
    pub fn help(&self) -> String {
        let default = (self.value)(&Settings::new(DEFAULT_DATA)).text(self.unit);
        let about = self.about.trim().replace('`', "");
        if default.is_empty() {
            about
        } else {
            format!("{about} [default: {default}]")
        }
    }

    /// Returns what its number counts; empty for what is no number.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// Returns whether it is to be kept out of sight, and so is no flag: everybody on a machine sees command lines.
    pub fn is_secret(&self) -> bool {
        let mut any = Settings::new("");
        (self.slot)(&mut any).is_secret()
    }
}

/// Makes [`Settings`] and [`TABLE`] of one list.
macro_rules! settings {
    ($($(#[doc = $about:literal])+ $name:ident: $type:ty = $default:expr, $unit:literal;)+) => {
        /// Holds the settings of one service; [`Settings::new`] gives the defaults.
        #[derive(Clone)]
        pub struct Settings {
            $($(#[doc = $about])+ pub $name: $type,)+
            /// Where the values come from that are not the defaults, by name.
            pub origins: BTreeMap<&'static str, Origin>,
        }

        impl Settings {
            /// Returns the defaults for a data folder.
            pub fn new(data: impl Into<PathBuf>) -> Self {
                let mut settings = Self {
                    $($name: $default,)+
                    origins: BTreeMap::new(),
                };
                settings.data = data.into();
                settings
            }
        }

        /// Every setting there is, in the order in which people are told of them.
        pub const TABLE: &[Setting] = &[
            $(Setting {
                name: stringify!($name),
                about: concat!($($about),+),
                unit: $unit,
                slot: |settings| &mut settings.$name,
                value: |settings| &settings.$name,
            },)+
        ];
    };
}

settings! {
    /// The data folder: the log, the index, and `eye.toml`.
    data: PathBuf = DEFAULT_DATA.into(), "";
    /// Where to listen: `HOST:PORT`, where port 0 picks one, or `unix:PATH`.
    listen: String = "127.0.0.1:8001".to_owned(), "";
    /// A PEM file with the certificate and what it was signed with: TLS is spoken at `listen`. Read again when it changes,
    /// and on SIGHUP.
    tls_certificate: PathBuf = PathBuf::new(), "";
    /// A PEM file with its key.
    tls_key: PathBuf = PathBuf::new(), "";
    /// Proxies whose `X-Forwarded-For` is believed, for the client's address in the log: addresses, networks
    /// (`10.0.0.0/8`), and `unix` for whoever connects to a socket.
    trusted_proxies: Proxies = Proxies::default(), "";
    /// Pages of these origins may read answers of every path, `https://console.example` each, a comma between them; for
    /// `POST /events` every page may.
    cors_origins: Origins = Origins::default(), "";
    /// Where `/metrics` and `/health/*` are answered without a token, `HOST:PORT`; unset: admins get `/metrics` at
    /// `listen`, and nobody else.
    metrics_listen: String = String::new(), "";
    /// A secret that is an admin token for as long as this process runs; at least 20 characters.
    admin_token: Secret = Secret::default(), "";
    /// How much goes to standard error: `warn`, `info`, `debug`, or per part, `eye_index=debug,info`. Commands
    /// other than `serve` read `EYE_LOG` only, and say `warn` without it.
    log: LogFilter = LogFilter::default(), "";
    /// How it is written: `text`, or `json` with an object a line.
    log_format: LogFormat = LogFormat::Text, "";
    /// Which requests get a line in the log: `all`, `errors` (answers of 400 and more), `off`.
    access_log: AccessLog = AccessLog::Errors, "";
    /// The longest `data` of an event.
    event_max_bytes: usize = 256 * KIB, "bytes";
    /// The longest request, unpacked; at most 64 MiB.
    request_max_bytes: usize = 16 * MIB, "bytes";
    /// Events in a request; at most 100,000.
    request_max_events: usize = 10_000, "events";
    /// How deep `data` may nest; at most 128.
    depth_max: usize = 64, "levels";
    /// How far ahead a timestamp may lie; 0 is strict.
    future_tolerance: Duration = Duration::from_secs(5), "seconds";
    /// Of timestamps without an offset: `UTC`, or an offset like `+02:00`.
    default_timezone: Zone = Zone::default(), "seconds east of UTC";
    /// How long a read waits for the index before it says `exact: false`.
    read_wait: Duration = Duration::from_secs(1), "seconds";
    /// How long a query may take.
    query_deadline: Duration = Duration::from_secs(10), "seconds";
    /// Queries at once; others wait their turn within their deadline.
    queries_max: usize = 64, "queries";
    /// Live tails that may be open at once.
    tails_max: usize = 64, "tails";
    /// Bodies being read, unpacked and queued, together.
    memory_for_requests: usize = 128 * MIB, "bytes";
    /// Connections at `listen`; others are answered with 503.
    connections_max: usize = 4096, "connections";
    /// Requests on a connection; it is closed after the last one's answer.
    connection_requests_max: usize = 100_000, "requests";
    /// How long a request's head may take.
    header_timeout: Duration = Duration::from_secs(10), "seconds";
    /// How long a body may take.
    body_timeout: Duration = Duration::from_secs(300), "seconds";
    /// How long a body may stand still while it is being read.
    body_idle_timeout: Duration = Duration::from_secs(30), "seconds";
    /// How long a client may take nothing of an answer.
    answer_idle_timeout: Duration = Duration::from_secs(30), "seconds";
    /// How long a connection is kept without a request.
    keep_alive_timeout: Duration = Duration::from_secs(75), "seconds";
    /// How long stopping may take.
    shutdown_timeout: Duration = Duration::from_secs(20), "seconds";
    /// Records that the index may fall behind since the start, those on their way to the log among them, before sending gets 503; requests over 64 KiB, or of unknown length, from seven eighths of it on.
    max_index_lag: usize = 2_000_000, "records";
    /// When a log file is full; 16 KiB to 1 GiB.
    segment_max_bytes: usize = 128 * MIB, "bytes";
    /// While the disk has less free than this, sending gets 507; 0 keeps no reserve.
    disk_reserve: usize = 512 * MIB, "bytes";
    /// What refused events may take on the disk; the oldest go first, and are counted.
    rejections_max_bytes: usize = 256 * MIB, "bytes";
    /// How long refused events are kept.
    rejections_max_age: Duration = 30 * 24 * HOUR, "seconds";
    /// Within which time what was erased is gone from every file.
    erasure_deadline: Duration = 24 * HOUR, "seconds";
    /// How often every sealed file is read from the disk and checked; 0 for never.
    scrub_interval: Duration = 7 * 24 * HOUR, "seconds";
    /// How fast that reads.
    scrub_rate: usize = 8 * MIB, "bytes a second";
    /// How far indexing steps back behind sending and reading, 0 to 19; at 20 it runs only when nothing else wants to.
    indexer_nice: usize = 5, "nice value";
}

/// Shows everything but secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Settings");
        for setting in TABLE {
            shown.field(setting.name, &(setting.value)(self).text(setting.unit));
        }
        shown.finish()
    }
}

impl Settings {
    /// Returns what the indexes are told of these.
    pub(crate) fn index_config(&self) -> eye_index::IndexConfig {
        eye_index::IndexConfig {
            nice: i32::try_from(self.indexer_nice).unwrap_or(20).min(20),
            ..eye_index::IndexConfig::default()
        }
    }

    /// Returns what no service can work with, if anything.
    fn check(&self) -> Result<(), String> {
        let at_most = |name, value: usize, most: usize| {
            (value > most).then(|| format!("{name} is {value}; at most {most} can be kept"))
        };
        let at_least = |name, value: usize, least: usize| {
            (value < least).then(|| format!("{name} is {value}; at least {least} is needed"))
        };
        let caps = usize::try_from(SEGMENT_MIN_BYTES)
            .ok()
            .zip(usize::try_from(SEGMENT_MAX_BYTES).ok());
        let (segment_least, segment_most) = caps.unwrap_or((0, usize::MAX));
        let wrong = [
            at_most("request_max_bytes", self.request_max_bytes, FRAME_BODY_MAX_BYTES),
            at_most("request_max_events", self.request_max_events, FRAME_RECORDS_MAX),
            at_most("depth_max", self.depth_max, DEPTH_MAX),
            at_most("segment_max_bytes", self.segment_max_bytes, segment_most),
            at_least("segment_max_bytes", self.segment_max_bytes, segment_least),
            at_least("request_max_events", self.request_max_events, 1),
            at_least("queries_max", self.queries_max, 1),
            at_least("connections_max", self.connections_max, 1),
            (self.event_max_bytes > self.request_max_bytes).then(|| {
                format!(
                    "event_max_bytes is {}, but no request may be longer than request_max_bytes, {}",
                    self.event_max_bytes, self.request_max_bytes
                )
            }),
            (self.listen.starts_with("unix:") && !self.tls_certificate.as_os_str().is_empty())
                .then(|| "tls_certificate is set, but no TLS is spoken on a socket of the file system".to_owned()),
            (self.request_max_bytes > self.memory_for_requests).then(|| {
                format!(
                    "request_max_bytes is {}, but all requests together may hold memory_for_requests, {}",
                    self.request_max_bytes, self.memory_for_requests
                )
            }),
        ];
        wrong.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// Returns what `GET /limits` answers: `{name: {"value", "unit", "setting"}}`, every setting that is a number.
    pub fn limits(&self) -> Json {
        let mut limits = Map::new();
        for setting in TABLE.iter().filter(|setting| !setting.unit.is_empty()) {
            let value = (setting.value)(self).json();
            limits.insert(
                setting.name.to_owned(),
                json!({"value": value, "unit": setting.unit, "setting": setting.name}),
            );
        }
        let fixed = [
            ("page_max", 1000, "rows"),
            (
                "label_max_chars",
                eye_log::event::LABEL_MAX_CHARS,
                "characters",
            ),
            (
                "client_id_max_bytes",
                eye_log::event::CLIENT_ID_MAX_BYTES,
                "bytes",
            ),
        ];
        let questions = eye_index::bounds::BOUNDS
            .iter()
            .map(|bound| (bound.name, bound.value, bound.unit));
        for (name, value, unit) in fixed.into_iter().chain(questions) {
            limits.insert(
                name.to_owned(),
                json!({"value": value, "unit": unit, "setting": null}),
            );
        }
        Json::Object(limits)
    }

    /// Returns every setting in force: `[{"name", "value", "unit", "text", "from", "where"}]`; `text` is the value as a
    /// person would write it, `from` is `default`, `flag`, `environment` or `file`. Secrets only say that they are set.
    pub fn in_force(&self) -> Json {
        let rows = TABLE.iter().map(|setting| {
            let value = (setting.value)(self);
            let (from, place) = match self.origins.get(setting.name) {
                None => ("default", None),
                Some(Origin::Flag) => ("flag", Some(format!("--{}", setting.flag()))),
                Some(Origin::Environment) => ("environment", Some(setting.variable())),
                Some(Origin::File { path, line }) => {
                    ("file", Some(format!("{}:{line}", path.display())))
                }
            };
            let unit = (!setting.unit.is_empty()).then_some(setting.unit);
            json!({
                "name": setting.name, "value": value.json(), "unit": unit, "text": value.text(setting.unit),
                "from": from, "where": place,
            })
        });
        Json::Array(rows.collect())
    }
}

#[cfg(test)]
mod tests;
