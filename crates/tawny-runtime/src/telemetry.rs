//! The process's own log: to stderr, because stdout is data.

use std::{fmt, io::IsTerminal as _, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Format {
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is logged: a level, or directives such as `info,tawny_kube=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

/// The text is no log filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no log level: use error, warn, info, debug, trace, off or `target=level,…`")]
pub struct FilterError {
    pub text: String,
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        // EnvFilter takes a bare word for a target's name, so `inof` would pass and silence everything.
        let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        let known = text.split(',').all(|part| match part.rsplit_once('=') {
            Some((_, level)) => is_level(level),
            None => is_level(part),
        });
        if known && EnvFilter::try_new(text).is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(FilterError {
                text: text.to_owned(),
            })
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Libraries that log each failure which they also return: it is told once here, with what to do about it.
///
/// And those of the table's log, which tell each of their steps.
const QUIET_TARGETS: &str = "kube_runtime=error,kube_client=error,kube_client::client::builder=off,buoyant_kernel=warn,buoyant_kernel_engine=warn,deltalake_core=warn";

/// Starts logging. The first call of a process wins; later ones change nothing.
///
/// Colour is used on a terminal only, and never when `is_color_allowed` is false.
pub fn init(filter: &Filter, format: Format, is_color_allowed: bool) {
    // What the user says of a target comes later and wins.
    let filter = EnvFilter::try_new(format!("{QUIET_TARGETS},{filter}"))
        .expect("Filter is checked when it is made");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error means that logging runs already: tests in one process.
    drop(match format {
        Format::Text => builder
            .with_ansi(is_color_allowed && std::io::stderr().is_terminal())
            .try_init(),
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked_when_they_are_made() {
        for text in [
            "info",
            "WARN",
            "off",
            "info,tawny_kube=debug",
            "hyper=error",
        ] {
            assert!(text.parse::<Filter>().is_ok(), "{text}");
        }
        for text in ["", "inof", "info,tawny=loud", "info,,"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
