//! What a setting can be, as people write it and as JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tracing_subscriber::EnvFilter;

use super::given::environment;
use super::{KIB, MIB};

/// A shorter admin token could be guessed, or is the placeholder of an example.
const SECRET_MIN_CHARS: usize = 20;

/// The longest origin: a host's name has at most 253 characters.
const ORIGIN_MAX_CHARS: usize = 270;

/// The value of a setting.
pub(crate) trait Value {
    /// Takes over what a person wrote. The error says what it is and what to write, and repeats no secret.
    fn read(&mut self, text: &str) -> Result<(), String>;
    /// Returns it as a person would write it; `unit` tells bytes from other numbers.
    fn text(&self, unit: &str) -> String;
    /// Returns it for programs: a number of its unit, a text, or null.
    fn json(&self) -> Json;
    /// Returns whether it is to be kept out of sight.
    fn is_secret(&self) -> bool {
        false
    }
    /// Makes a path that was read from a file what it means there.
    fn place(&mut self, _beside: &dyn Fn(&Path) -> PathBuf) {}
}

pub(super) fn wrong(text: &str, instead: &str) -> String {
    format!("is {text:?}; write {instead}")
}

/// Whole numbers; for bytes with `KiB`, `MiB` or `GiB`.
impl Value for usize {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let factor = match text[digits..].trim() {
            "" => Some(1),
            "KiB" | "k" | "K" => Some(KIB),
            "MiB" | "M" => Some(MIB),
            "GiB" | "G" => Some(1024 * MIB),
            _ => None,
        };
        let number = text[..digits].parse::<usize>().ok();
        *self = number
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .ok_or_else(|| wrong(text, "a whole number, for bytes also 256KiB or 16MiB"))?;
        Ok(())
    }

    fn text(&self, unit: &str) -> String {
        let parts = [(1024 * MIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        let whole = parts
            .into_iter()
            .find(|(factor, _)| *self > 0 && self.is_multiple_of(*factor));
        match whole.filter(|_| unit.starts_with("bytes")) {
            Some((factor, name)) => format!("{}{name}", self / factor),
            None => self.to_string(),
        }
    }

    fn json(&self) -> Json {
        json!(self)
    }
}

/// Seconds, or a number with `ms`, `s`, `m` or `h`.
impl Value for Duration {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let digits = text
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let factor = match text[digits..].trim() {
            "ms" => Some(0.001),
            "" | "s" => Some(1.0),
            "m" => Some(60.0),
            "h" => Some(3600.0),
            _ => None,
        };
        let number = text[..digits].parse::<f64>().ok();
        *self = number
            .zip(factor)
            .and_then(|(number, factor)| Duration::try_from_secs_f64(number * factor).ok())
            .ok_or_else(|| wrong(text, "seconds, or a number with ms, s, m or h"))?;
        Ok(())
    }

    fn text(&self, _unit: &str) -> String {
        let seconds = self.as_secs();
        match (self.subsec_nanos(), seconds) {
            (0, 1..) if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
            (0, 1..) if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
            (0, _) => format!("{seconds}s"),
            _ => format!("{}ms", self.as_secs_f64() * 1000.0),
        }
    }

    fn json(&self) -> Json {
        if self.subsec_nanos() == 0 {
            json!(self.as_secs())
        } else {
            json!(self.as_secs_f64())
        }
    }
}

impl Value for String {
    fn read(&mut self, text: &str) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }

    fn text(&self, _unit: &str) -> String {
        self.clone()
    }

    fn json(&self) -> Json {
        json!(self)
    }
}

impl Value for PathBuf {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = text.into();
        Ok(())
    }

    fn text(&self, _unit: &str) -> String {
        self.display().to_string()
    }

    fn json(&self) -> Json {
        let text = self.display().to_string();
        json!((!text.is_empty()).then_some(text))
    }

    fn place(&mut self, beside: &dyn Fn(&Path) -> PathBuf) {
        *self = beside(self);
    }
}

/// A text that is never shown, or none.
#[derive(Clone, Default)]
pub struct Secret(Option<String>);

impl Secret {
    /// Returns the secret, if there is one.
    pub fn reveal(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self(Some(secret.to_owned()))
    }
}

impl Value for Secret {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let chars = text.chars().count();
        if chars < SECRET_MIN_CHARS {
            // Its value stays out of the message, which ends up in logs.
            return Err(format!(
                "has {chars} characters; an admin token needs at least {SECRET_MIN_CHARS} that nobody can guess. Unset \
                 it, and a new store makes one and prints it"
            ));
        }
        self.0 = Some(text.to_owned());
        Ok(())
    }

    fn text(&self, _unit: &str) -> String {
        self.0
            .as_ref()
            .map(|_| "(set)".to_owned())
            .unwrap_or_default()
    }

    fn json(&self) -> Json {
        json!(self.0.as_ref().map(|_| "(set)"))
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// Seconds east of UTC, written `UTC` or `+02:00`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Zone(pub i32);

/// Origins as browsers send them, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(pub Vec<String>);

impl Value for Origins {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        self.0 = parts
            .map(|part| {
                origin(part).ok_or_else(|| {
                    wrong(
                        part,
                        "an origin without a path, like https://console.example",
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn text(&self, _unit: &str) -> String {
        self.0.join(",")
    }

    fn json(&self) -> Json {
        json!(self.0)
    }
}

/// Returns an origin as browsers send it, in lower case: scheme, host and perhaps a port, nothing behind.
pub(crate) fn origin(text: &str) -> Option<String> {
    let uri: axum::http::Uri = text.parse().ok()?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return None;
    };
    let bare = text.len() <= ORIGIN_MAX_CHARS && uri.path() == "/" && uri.query().is_none();
    (bare && !text.ends_with('/') && !authority.as_str().contains('@'))
        .then(|| text.to_ascii_lowercase())
}

impl Value for Zone {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let offset = || {
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
            (hours < 24 && minutes < 60)
                .then(|| sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60))
        };
        self.0 = offset().ok_or_else(|| wrong(text, "UTC, or an offset like +02:00"))?;
        Ok(())
    }

    fn text(&self, _unit: &str) -> String {
        let minutes = self.0.unsigned_abs() / 60;
        match self.0 {
            0 => "UTC".to_owned(),
            east => {
                let sign = if east < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }

    fn json(&self) -> Json {
        json!(self.0)
    }
}

/// What is logged, as `tracing` filters are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// Returns what a command says that is no service: what `EYE_LOG` asks for, or warnings.
    pub fn of_a_command() -> Result<Self, String> {
        let mut filter = Self("warn".to_owned());
        if let Some(text) = environment("EYE_LOG") {
            filter.read(&text).map_err(|why| format!("EYE_LOG {why}"))?;
        }
        Ok(filter)
    }

    /// Returns the filter for a subscriber.
    pub(crate) fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl Value for LogFilter {
    fn read(&mut self, text: &str) -> Result<(), String> {
        EnvFilter::try_new(text).map_err(|_| {
            wrong(
                text,
                "error, warn, info, debug, or per part, eye_index=debug,info",
            )
        })?;
        text.clone_into(&mut self.0);
        Ok(())
    }

    fn text(&self, _unit: &str) -> String {
        self.0.clone()
    }

    fn json(&self) -> Json {
        json!(self.0)
    }
}

/// Makes an enum a setting with a word for each variant.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl Value for $type {
            fn read(&mut self, text: &str) -> Result<(), String> {
                *self = match text {
                    $($word => Self::$variant,)+
                    _ => return Err(wrong(text, &[$($word),+].join(" or "))),
                };
                Ok(())
            }

            fn text(&self, _unit: &str) -> String {
                match self {
                    $(Self::$variant => $word.to_owned(),)+
                }
            }

            fn json(&self) -> Json {
                json!(self.text(""))
            }
        }
    };
}

/// Which requests get a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// Every one.
    All,
    /// Those that were refused or failed.
    Errors,
    /// None.
    Off,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text, with colours on a terminal.
    Text,
    /// A JSON object a line.
    Json,
}

words!(LogFormat { Text = "text", Json = "json" });
words!(AccessLog { All = "all", Errors = "errors", Off = "off" });
