//! What a body says it is.

use axum::http::{HeaderMap, header};

use crate::error::{Code, Problem};

/// How a body of events is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// One object or an array.
    Json,
    /// One object a line.
    Ndjson,
    /// No type, or `curl -d`'s: JSON if it begins like it.
    Unnamed,
}

impl MediaType {
    /// Reads `Content-Type`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Ok(Self::Unnamed);
        };
        let text = value.to_str().unwrap_or("?");
        let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
        let charset = parameters
            .split(';')
            .filter_map(|parameter| parameter.trim().split_once('='))
            .find_map(|(name, value)| {
                name.trim()
                    .eq_ignore_ascii_case("charset")
                    .then(|| value.trim().trim_matches('"').to_ascii_lowercase())
            });
        if charset.is_some_and(|charset| !matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"))
        {
            return Err(unsupported(text));
        }
        match kind.trim().to_ascii_lowercase().as_str() {
            "application/json" | "text/plain" => Ok(Self::Json),
            "application/x-ndjson" => Ok(Self::Ndjson),
            "" | "application/x-www-form-urlencoded" => Ok(Self::Unnamed),
            _ => Err(unsupported(text)),
        }
    }
}

fn unsupported(text: &str) -> Problem {
    Problem::new(
        Code::UnsupportedType,
        format!("A body of type {text:?} cannot be read."),
    )
    .detail("Send application/json, application/x-ndjson or text/plain (read as JSON), in UTF-8.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderValue;

    use super::*;

    fn of(text: &'static str) -> Option<MediaType> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
        MediaType::of(&headers).ok()
    }

    #[test]
    fn types_are_told_apart() {
        assert_eq!(of("application/json"), Some(MediaType::Json));
        assert_eq!(of("Application/JSON; charset=UTF-8"), Some(MediaType::Json));
        assert_eq!(of("text/plain;charset=\"utf-8\""), Some(MediaType::Json));
        assert_eq!(of("application/x-ndjson"), Some(MediaType::Ndjson));
        assert_eq!(
            of("application/x-www-form-urlencoded"),
            Some(MediaType::Unnamed)
        );
        assert_eq!(
            MediaType::of(&HeaderMap::new()).unwrap(),
            MediaType::Unnamed
        );
        for other in [
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/json; charset=latin1",
            "json",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
