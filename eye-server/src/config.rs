//! Every setting of the service, its default, and how it is read from the environment.
//!
//! What must stay true: a setting that bounds a request or a query is in [`Settings::entries`], so that `GET /limits`
//! lists it and `EYE_<NAME>` sets it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::parameters::guess;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// A shorter admin token could be guessed, or is the placeholder of an example.
const ADMIN_TOKEN_MIN_CHARS: usize = 20;
/// The variables that are no entries of [`Settings::entries`].
const OTHER_VARIABLES: [&str; 6] = [
    "EYE_DATA",
    "EYE_LISTEN",
    "EYE_ADMIN_TOKEN",
    "EYE_TOKEN",
    "EYE_LOG",
    "EYE_DEFAULT_TIMEZONE",
];

/// Holds the settings of one service; [`Settings::new`] gives the defaults.
#[derive(Clone)]
pub struct Settings {
    /// The data folder: `log/` and `index/` lie in it.
    pub data: PathBuf,
    /// Where to listen, `HOST:PORT`; port 0 picks one.
    pub listen: String,
    /// A secret that is an admin token for this process, beside those in the store.
    pub admin_token: Option<String>,
    /// The longest `data` of an event, bytes of JSON text.
    pub event_max_bytes: usize,
    /// The longest request after decompression, bytes.
    pub request_max_bytes: usize,
    /// How many events one request may bring.
    pub request_max_events: usize,
    /// How deep `data` may nest.
    pub depth_max: usize,
    /// How far in the future a timestamp may lie.
    pub future_tolerance: Duration,
    /// Where timestamps without an offset are taken to be, seconds east of UTC.
    pub default_timezone: i32,
    /// How long a read waits for the index to reach what was acknowledged before it.
    pub read_wait: Duration,
    /// How long a stopping service takes at most.
    pub shutdown_timeout: Duration,
    /// How long a body may stand still while it is being read.
    pub body_idle_timeout: Duration,
    /// Memory for bodies being read, decompressed and queued, bytes.
    pub memory_for_requests: usize,
    /// How long a query may take.
    pub query_deadline: Duration,
    /// How many queries may run at once; others wait their turn within their deadline.
    pub queries_max: usize,
    /// How many records the index may be behind before sending is refused.
    pub max_index_lag: usize,
    /// When a segment of the log rolls, bytes of its file.
    pub segment_max_bytes: usize,
    /// While the file system has less free than this, sending is answered with 507; bytes, 0 for no reserve.
    pub disk_reserve: usize,
    /// Within which time what was erased is gone from every file.
    pub erasure_deadline: Duration,
    /// How often every sealed file is read from the disk and checked; 0 for never.
    pub scrub_interval: Duration,
    /// How fast it is read, bytes a second.
    pub scrub_rate: usize,
    /// The indexer's nice value, 0 to 19: how far it steps back behind sending and reading. 20: only when nothing
    /// else wants to run.
    pub indexer_nice: usize,
}

/// Shows everything but the secret.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("data", &self.data)
            .field("listen", &self.listen)
            .field("admin_token", &self.admin_token.as_ref().map(|_| "(set)"))
            .field("limits", &self.limits().to_string())
            .finish()
    }
}

/// A setting that is a number, as something to read and to write.
enum Slot<'a> {
    Count(&'a mut usize),
    Time(&'a mut Duration),
}

impl Settings {
    /// Returns the defaults for a data folder.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            listen: "127.0.0.1:8001".to_owned(),
            admin_token: None,
            event_max_bytes: 256 * KIB,
            request_max_bytes: 16 * MIB,
            request_max_events: 10_000,
            depth_max: 64,
            future_tolerance: Duration::from_secs(5),
            default_timezone: 0,
            read_wait: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(20),
            body_idle_timeout: Duration::from_secs(30),
            memory_for_requests: 128 * MIB,
            query_deadline: Duration::from_secs(10),
            queries_max: 64,
            max_index_lag: 2_000_000,
            segment_max_bytes: 128 * MIB,
            disk_reserve: 512 * MIB,
            erasure_deadline: Duration::from_secs(24 * 3600),
            scrub_interval: Duration::from_secs(7 * 24 * 3600),
            scrub_rate: 8 * MIB,
            indexer_nice: 5,
        }
    }

    /// Returns the defaults for a data folder, overridden by `EYE_LISTEN`, `EYE_ADMIN_TOKEN` and `EYE_<SETTING>` in
    /// the environment; the error names the variable and what it should look like.
    pub fn load(data: impl Into<PathBuf>) -> Result<Self, String> {
        let mut settings = Self::new(data);
        settings.read_from(|name| std::env::var(name).ok())?;
        Ok(settings)
    }

    /// Overrides settings by what `variable` knows under their environment names. Empty values count as unset.
    fn read_from(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if let Some(listen) = variable("EYE_LISTEN") {
            self.listen = listen.trim().to_owned();
        }
        if let Some(token) = variable("EYE_ADMIN_TOKEN") {
            let token = token.trim();
            if token.chars().count() < ADMIN_TOKEN_MIN_CHARS {
                // Its value stays out of the message, which ends up in logs.
                return Err(format!(
                    "EYE_ADMIN_TOKEN has {} characters; an admin token needs at least {ADMIN_TOKEN_MIN_CHARS} that nobody \
                     can guess. Unset it, and a new store makes one and prints it",
                    token.chars().count()
                ));
            }
            self.admin_token = Some(token.to_owned());
        }
        if let Some(zone) = variable("EYE_DEFAULT_TIMEZONE") {
            self.default_timezone = timezone(&zone).ok_or_else(|| {
                format!("EYE_DEFAULT_TIMEZONE is {zone:?}; write UTC, or an offset like +02:00")
            })?;
        }
        for (name, _, slot) in self.entries() {
            let variable_name = format!("EYE_{}", name.to_uppercase());
            let Some(value) = variable(&variable_name) else {
                continue;
            };
            match slot {
                Slot::Count(count) => {
                    *count = count_of(&value).ok_or_else(|| {
                        format!("{variable_name} is {value:?}; write a whole number, for bytes also 256KiB or 16MiB")
                    })?;
                }
                Slot::Time(time) => {
                    *time = time_of(&value).ok_or_else(|| {
                        format!("{variable_name} is {value:?}; write seconds, or a number with ms, s, m or h")
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Returns a warning for every variable among `names` that begins with `EYE_` and sets nothing, with the setting
    /// that was probably meant.
    pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut any = Self::new("");
        let settings = any
            .entries()
            .map(|(name, _, _)| format!("EYE_{}", name.to_uppercase()));
        let known: Vec<&str> = settings
            .iter()
            .map(String::as_str)
            .chain(OTHER_VARIABLES)
            .collect();
        let unknown = names
            .into_iter()
            .filter(|name| name.starts_with("EYE_") && !known.contains(&name.as_str()));
        unknown
            .map(|name| {
                format!(
                    "{name} is no setting and does nothing.{}",
                    guess(&name, &known)
                )
            })
            .collect()
    }

    /// Every number among the settings: its name, its unit, its place.
    fn entries(&mut self) -> [(&'static str, &'static str, Slot<'_>); 18] {
        [
            (
                "event_max_bytes",
                "bytes",
                Slot::Count(&mut self.event_max_bytes),
            ),
            (
                "request_max_bytes",
                "bytes",
                Slot::Count(&mut self.request_max_bytes),
            ),
            (
                "request_max_events",
                "events",
                Slot::Count(&mut self.request_max_events),
            ),
            ("depth_max", "levels", Slot::Count(&mut self.depth_max)),
            (
                "future_tolerance",
                "seconds",
                Slot::Time(&mut self.future_tolerance),
            ),
            ("read_wait", "seconds", Slot::Time(&mut self.read_wait)),
            (
                "shutdown_timeout",
                "seconds",
                Slot::Time(&mut self.shutdown_timeout),
            ),
            (
                "body_idle_timeout",
                "seconds",
                Slot::Time(&mut self.body_idle_timeout),
            ),
            (
                "memory_for_requests",
                "bytes",
                Slot::Count(&mut self.memory_for_requests),
            ),
            (
                "query_deadline",
                "seconds",
                Slot::Time(&mut self.query_deadline),
            ),
            ("queries_max", "queries", Slot::Count(&mut self.queries_max)),
            (
                "max_index_lag",
                "records",
                Slot::Count(&mut self.max_index_lag),
            ),
            (
                "segment_max_bytes",
                "bytes",
                Slot::Count(&mut self.segment_max_bytes),
            ),
            ("disk_reserve", "bytes", Slot::Count(&mut self.disk_reserve)),
            (
                "erasure_deadline",
                "seconds",
                Slot::Time(&mut self.erasure_deadline),
            ),
            (
                "scrub_interval",
                "seconds",
                Slot::Time(&mut self.scrub_interval),
            ),
            (
                "scrub_rate",
                "bytes a second",
                Slot::Count(&mut self.scrub_rate),
            ),
            (
                "indexer_nice",
                "nice value",
                Slot::Count(&mut self.indexer_nice),
            ),
        ]
    }

    /// Returns what `GET /limits` answers: `{name: {"value", "unit", "setting"}}`.
    pub fn limits(&self) -> Value {
        let mut copy = self.clone();
        let mut limits = Map::new();
        for (name, unit, slot) in copy.entries() {
            let value = match slot {
                Slot::Count(count) => json!(count),
                Slot::Time(time) if time.subsec_nanos() == 0 => json!(time.as_secs()),
                Slot::Time(time) => json!(time.as_secs_f64()),
            };
            limits.insert(
                name.to_owned(),
                json!({"value": value, "unit": unit, "setting": name}),
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
        for (name, value, unit) in fixed {
            limits.insert(
                name.to_owned(),
                json!({"value": value, "unit": unit, "setting": null}),
            );
        }
        limits.insert(
            "default_timezone".to_owned(),
            json!({"value": self.default_timezone, "unit": "seconds east of UTC", "setting": "default_timezone"}),
        );
        Value::Object(limits)
    }
}

/// Reads `UTC`, `Z` or `+02:00` as seconds east of UTC.
fn timezone(text: &str) -> Option<i32> {
    let text = text.trim();
    if matches!(text, "UTC" | "utc" | "Z" | "z") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
    (hours < 24 && minutes < 60).then(|| sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60))
}

fn count_of(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let factor = match text[digits..].trim() {
        "" => 1,
        "KiB" | "k" | "K" => KIB,
        "MiB" | "M" => MIB,
        "GiB" | "G" => 1024 * MIB,
        _ => return None,
    };
    text[..digits].parse::<usize>().ok()?.checked_mul(factor)
}

fn time_of(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let factor = match text[digits..].trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(text[..digits].parse::<f64>().ok()? * factor).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let mut settings = Settings::new("x");
        settings.read_from(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).into())
        })?;
        Ok(settings)
    }

    #[test]
    fn the_environment_overrides_defaults() {
        let settings = with(&[
            ("EYE_EVENT_MAX_BYTES", "1MiB"),
            ("EYE_READ_WAIT", "250ms"),
            ("EYE_DEFAULT_TIMEZONE", "-03:30"),
            ("EYE_LISTEN", ""),
        ])
        .unwrap();
        assert_eq!(settings.event_max_bytes, 1 << 20);
        assert_eq!(settings.read_wait, Duration::from_millis(250));
        assert_eq!(settings.default_timezone, -12_600);
        assert_eq!(settings.listen, "127.0.0.1:8001");
    }

    #[test]
    fn a_wrong_value_is_named() {
        assert!(
            with(&[("EYE_DEPTH_MAX", "deep")])
                .unwrap_err()
                .contains("EYE_DEPTH_MAX")
        );
        assert!(
            with(&[("EYE_DEFAULT_TIMEZONE", "Berlin")])
                .unwrap_err()
                .contains("+02:00")
        );
    }

    #[test]
    fn an_admin_token_that_could_be_guessed_is_refused_and_not_repeated() {
        let refused = with(&[("EYE_ADMIN_TOKEN", "change-me")]).unwrap_err();
        assert!(refused.contains("at least 20"), "{refused}");
        assert!(!refused.contains("change-me"), "{refused}");
        assert!(with(&[("EYE_ADMIN_TOKEN", "eye_a_01234567890123")]).is_ok());
    }

    #[test]
    fn a_mistyped_variable_is_noticed() {
        let names = ["EYE_DISK_RESERV", "EYE_LISTEN", "EYE_READ_WAIT", "PATH"];
        let warnings = Settings::unknown_variables(names.map(str::to_owned));
        assert_eq!(
            warnings,
            ["EYE_DISK_RESERV is no setting and does nothing. Did you mean \"EYE_DISK_RESERVE\"?"]
        );
    }

    #[test]
    fn the_secret_is_not_shown() {
        let settings = Settings {
            admin_token: Some("verysecret".into()),
            ..Settings::new("x")
        };
        assert!(!format!("{settings:?}").contains("verysecret"));
    }

    #[test]
    fn every_limit_has_value_unit_and_setting() {
        for (name, limit) in Settings::new("x").limits().as_object().unwrap() {
            assert!(
                limit.get("value").is_some()
                    && limit.get("unit").is_some()
                    && limit.get("setting").is_some(),
                "{name}"
            );
        }
    }
}
