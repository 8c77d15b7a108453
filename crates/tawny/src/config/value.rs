//! How one setting is read from text and written back, whatever layer it came from.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use tawny_collect::{SourceKind, detect::Runtime};
use tawny_model::{ByteSize, Secret};
use tawny_runtime::{duration, telemetry};

/// A value as a layer holds it, before its key's type is known to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    Text(String),
    List(Vec<String>),
}

impl Raw {
    /// The value on one line, lists by comma.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
        }
    }
}

/// A type that a setting can have.
pub(crate) trait Setting: Sized {
    /// What stands for a value in help texts.
    const VALUE_NAME: &'static str;

    /// Whether a flag may be given several times and YAML may write a list.
    const IS_LIST: bool = false;

    /// Whether the value is never shown.
    const IS_SECRET: bool = false;

    /// All values there are, where they can be listed.
    fn choices() -> Vec<&'static str> {
        Vec::new()
    }

    /// Reads a value; an error is the rest of the sentence "`key` is x: …".
    fn from_text(text: &str) -> Result<Self, String>;

    fn to_text(&self) -> String;

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => Self::from_text(text),
            Raw::List(_) if Self::IS_LIST => Self::from_text(&raw.text()),
            Raw::List(_) => Err("takes one value, not a list".to_owned()),
        }
    }
}

impl Setting for String {
    const VALUE_NAME: &'static str = "TEXT";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_text(&self) -> String {
        self.clone()
    }
}

/// Shown as `***` wherever settings are.
impl Setting for Secret {
    const VALUE_NAME: &'static str = "SECRET";
    const IS_SECRET: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Setting for PathBuf {
    const VALUE_NAME: &'static str = "PATH";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(Self::from(text))
    }

    fn to_text(&self) -> String {
        self.display().to_string()
    }
}

/// The empty text is no value.
impl<T: Setting> Setting for Option<T> {
    const VALUE_NAME: &'static str = T::VALUE_NAME;
    const IS_SECRET: bool = T::IS_SECRET;

    fn choices() -> Vec<&'static str> {
        T::choices()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::from_text(text).map(Some)
    }

    fn to_text(&self) -> String {
        self.as_ref().map(T::to_text).unwrap_or_default()
    }
}

impl Setting for bool {
    const VALUE_NAME: &'static str = "BOOL";

    fn choices() -> Vec<&'static str> {
        vec!["true", "false"]
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "on" | "1" => Ok(true),
            "false" | "f" | "no" | "off" | "0" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    const VALUE_NAME: &'static str = "N";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("must be a whole number up to {}", Self::MAX))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    const VALUE_NAME: &'static str = "DURATION";

    fn from_text(text: &str) -> Result<Self, String> {
        duration::parse(text).map_err(|_| {
            "is no duration: write a number with ms, s, m, h or d, such as 30s".to_owned()
        })
    }

    fn to_text(&self) -> String {
        duration::display(*self).to_string()
    }
}

impl Setting for ByteSize {
    const VALUE_NAME: &'static str = "SIZE";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "is no size: write a number with B, kB, MB, GB, KiB, MiB or GiB, such as 64MiB"
                .to_owned()
        })
    }

    fn to_text(&self) -> String {
        // The rounded form would not read back as the same size.
        let rounded = self.to_string();
        if rounded.parse() == Ok(*self) {
            rounded
        } else {
            self.as_bytes().to_string()
        }
    }
}

/// A namespace and how long its entries are kept, as `NAME=AGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceAge {
    pub(crate) namespace: String,
    pub(crate) age: Duration,
}

/// As lists of text.
impl Setting for Vec<NamespaceAge> {
    const VALUE_NAME: &'static str = "NAME=AGE";
    const IS_LIST: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        let mut ages = Self::new();
        for item in <Vec<String> as Setting>::from_text(text)? {
            let parts = item.split_once('=');
            let parts = parts.map(|(namespace, age)| (namespace.trim(), age.trim()));
            let Some((namespace, age)) = parts.filter(|(namespace, _)| !namespace.is_empty())
            else {
                return Err(format!("`{item}` must be NAME=AGE, such as dev=1d"));
            };
            if ages.iter().any(|known| known.namespace == namespace) {
                return Err(format!("`{namespace}` is there twice; give it one age"));
            }
            ages.push(NamespaceAge {
                namespace: namespace.to_owned(),
                age: Duration::from_text(age).map_err(|error| format!("`{age}` {error}"))?,
            });
        }
        Ok(ages)
    }

    fn to_text(&self) -> String {
        let items = self.iter();
        let items = items.map(|own| format!("{}={}", own.namespace, own.age.to_text()));
        items.collect::<Vec<_>>().join(",")
    }
}

/// Comma-separated, or a YAML list, or a flag given several times.
impl Setting for Vec<String> {
    const VALUE_NAME: &'static str = "LIST";
    const IS_LIST: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn to_text(&self) -> String {
        self.join(",")
    }
}

impl Setting for telemetry::Filter {
    const VALUE_NAME: &'static str = "LEVEL";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "must be error, warn, info, debug, trace, off or `target=level,…`".to_owned()
        })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Setting for telemetry::Format {
    const VALUE_NAME: &'static str = "FORMAT";

    fn choices() -> Vec<&'static str> {
        Self::ALL.map(Self::name).to_vec()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        named(text, &Self::ALL, |format| format.name())
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// `auto`, or one of the kinds of `T`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auto<T> {
    Auto,
    Set(T),
}

impl<T> Auto<T> {
    pub(crate) fn set(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// A type with a fixed set of named values.
pub(crate) trait Named: Copy + 'static {
    const VALUE_NAME: &'static str;
    const VALUES: &'static [Self];

    fn value_name(self) -> &'static str;
}

impl Named for Runtime {
    const VALUE_NAME: &'static str = "RUNTIME";
    const VALUES: &'static [Self] = &Self::ALL;

    fn value_name(self) -> &'static str {
        self.name()
    }
}

impl Named for SourceKind {
    const VALUE_NAME: &'static str = "SOURCE";
    const VALUES: &'static [Self] = &[Self::Files, Self::Api, Self::Docker];

    fn value_name(self) -> &'static str {
        self.name()
    }
}

/// Which engine keeps the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Lake,
    Sqlite,
}

impl Named for Engine {
    const VALUE_NAME: &'static str = "ENGINE";
    const VALUES: &'static [Self] = &[Self::Lake, Self::Sqlite];

    fn value_name(self) -> &'static str {
        match self {
            Self::Lake => "lake",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Whether something is done, where `auto` decides by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Named for Switch {
    const VALUE_NAME: &'static str = "SWITCH";
    const VALUES: &'static [Self] = &[Self::On, Self::Off];

    fn value_name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl<T: Named> Setting for Auto<T> {
    const VALUE_NAME: &'static str = T::VALUE_NAME;

    fn choices() -> Vec<&'static str> {
        [AUTO]
            .into_iter()
            .chain(T::VALUES.iter().map(|value| value.value_name()))
            .collect()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text == AUTO {
            return Ok(Self::Auto);
        }
        named(text, T::VALUES, Named::value_name)
            .map(Self::Set)
            .map_err(|rule| rule.replace("one of", "one of auto,"))
    }

    fn to_text(&self) -> String {
        match self {
            Self::Auto => AUTO.to_owned(),
            Self::Set(value) => value.value_name().to_owned(),
        }
    }
}

const AUTO: &str = "auto";

fn named<T: Copy>(text: &str, values: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    values
        .iter()
        .copied()
        .find(|value| name(*value) == text)
        .ok_or_else(|| {
            let names: Vec<&str> = values.iter().map(|value| name(*value)).collect();
            format!("must be one of {}", names.join(", "))
        })
}

/// Where to listen: `8080` (on the addresses the command chooses), `:8080` (on all) or `127.0.0.1:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen {
    host: Option<IpAddr>,
    port: u16,
}

impl Listen {
    pub(crate) const fn port(port: u16) -> Self {
        Self { host: None, port }
    }

    /// The address to bind; `default_host` where only a port was given.
    pub(crate) fn address(self, default_host: IpAddr) -> std::net::SocketAddr {
        (self.host.unwrap_or(default_host), self.port).into()
    }
}

/// Every address, IPv4 and IPv6: a socket bound to `[::]` takes both.
pub(crate) const ALL_ADDRESSES: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            None => write!(f, "{}", self.port),
            Some(ALL_ADDRESSES) => write!(f, ":{}", self.port),
            Some(host) => std::net::SocketAddr::from((host, self.port)).fmt(f),
        }
    }
}

impl Setting for Listen {
    const VALUE_NAME: &'static str = "ADDR";

    fn from_text(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok();
        let listen = if let Some(port) = port(text) {
            Some(Self::port(port))
        } else if let Some(port) = text.strip_prefix(':').and_then(port) {
            Some(Self {
                host: Some(ALL_ADDRESSES),
                port,
            })
        } else {
            text.replacen("localhost:", "127.0.0.1:", 1)
                .parse::<std::net::SocketAddr>()
                .ok()
                .map(|address| Self {
                    host: Some(address.ip()),
                    port: address.port(),
                })
        };
        listen.ok_or_else(|| "must be a port, `:port` or `ip:port`, such as 127.0.0.1:8080".into())
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_read_in_each_form() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        for (text, address, shown) in [
            ("8080", "127.0.0.1:8080", "8080"),
            (":8080", "[::]:8080", ":8080"),
            ("0.0.0.0:0", "0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:80", "[::1]:80", "[::1]:80"),
            ("localhost:80", "127.0.0.1:80", "127.0.0.1:80"),
        ] {
            let listen = Listen::from_text(text).unwrap();
            assert_eq!(listen.address(loopback).to_string(), address, "{text}");
            assert_eq!(listen.to_text(), shown, "{text}");
        }
        for text in ["", "http", "70000", "host:", "example.com:80"] {
            assert!(Listen::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_read_back_as_what_was_written() {
        fn check<T: Setting>(text: &str) {
            let value = T::from_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(value.to_text(), text);
        }
        check::<bool>("true");
        check::<u32>("17");
        check::<Duration>("1h30m");
        check::<ByteSize>("64MiB");
        check::<ByteSize>("1537");
        check::<Vec<String>>("a,b");
        check::<Option<PathBuf>>("");
        check::<Auto<Runtime>>("auto");
        check::<Auto<SourceKind>>("docker");
        check::<telemetry::Format>("json");
        check::<telemetry::Filter>("info,tawny=debug");
    }

    #[test]
    fn wrong_values_say_what_is_right() {
        assert_eq!(
            Auto::<Runtime>::from_text("nomad").unwrap_err(),
            "must be one of auto, kubernetes, docker, podman"
        );
        assert_eq!(
            bool::from_raw(&Raw::List(vec![])).unwrap_err(),
            "takes one value, not a list"
        );
        assert!(u32::from_text("-1").is_err());
    }
}
