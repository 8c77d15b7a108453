//! Go templates with stern's fields and functions, so that its users' templates work unchanged.

use std::collections::HashMap;

use gtmpl::{Context, FuncError, Value};
use tawny_model::Timestamp;

use super::{
    color::Sgr,
    output::{Line, json},
};

/// A parsed template.
pub(crate) struct Template {
    inner: gtmpl::Template,
    is_colored: bool,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template")
            .field("is_colored", &self.is_colored)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TemplateError {
    #[error("template does not parse: {0}")]
    Parse(String),
    #[error("template: {0}")]
    Render(String),
}

/// What a template sees of a line.
pub(super) struct TemplateValues<'a> {
    pub(super) line: &'a Line<'a>,
    pub(super) message: &'a str,
    pub(super) time: &'a str,
    pub(super) pod_color: &'a Sgr,
    pub(super) container_color: &'a Sgr,
}

impl Template {
    pub(super) fn parse(text: &str, is_colored: bool) -> Result<Self, TemplateError> {
        let mut inner = gtmpl::Template::default();
        inner.add_funcs(&FUNCTIONS);
        inner.add_funcs(if is_colored { &COLORED } else { &PLAIN });
        inner
            .parse(text)
            .map_err(|error| TemplateError::Parse(error.to_string()))?;
        Ok(Self { inner, is_colored })
    }

    pub(super) fn render(&self, values: &TemplateValues<'_>) -> Result<String, TemplateError> {
        let line = values.line;
        let text = |text: &str| Value::String(text.to_owned());
        let fields: HashMap<String, Value> = [
            ("Message", text(values.message)),
            ("Timestamp", text(values.time)),
            ("NodeName", text(line.node)),
            ("Namespace", text(line.namespace)),
            ("PodName", text(line.pod)),
            ("ContainerName", text(line.container)),
            (
                "Labels",
                Value::Map(
                    line.labels
                        .iter()
                        .map(|(key, value)| (key.to_string(), text(value)))
                        .collect(),
                ),
            ),
            (
                "Annotations",
                Value::Map(
                    line.annotations
                        .iter()
                        .map(|(key, value)| (key.clone(), text(value)))
                        .collect(),
                ),
            ),
            ("PodColor", text(values.pod_color.as_str())),
            ("ContainerColor", text(values.container_color.as_str())),
            // `{{json .}}` prints the line as `-o json` does, not this map with its colours.
            (WHOLE_LINE, Value::String(json(line, values.time))),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        self.inner
            .render(&Context::from(Value::Map(fields)))
            .map_err(|error| TemplateError::Render(error.to_string()))
    }
}

/// Key no template can write, since a field name has no space.
const WHOLE_LINE: &str = "whole line";

type Function = fn(&[Value]) -> Result<Value, FuncError>;

const FUNCTIONS: [(&str, Function); 9] = [
    ("json", to_json),
    ("parseJSON", parse_json),
    ("tryParseJSON", try_parse_json),
    ("extractJSONParts", extract_json_parts),
    ("tryExtractJSONParts", try_extract_json_parts),
    ("prettyJSON", pretty_json),
    ("toRFC3339Nano", to_rfc3339_nano),
    ("toTimestamp", to_timestamp),
    ("toUTC", to_rfc3339_nano),
];

/// The colour functions, twice: a template function can hold no state, and colour is decided once.
const COLORED: [(&str, Function); 12] = [
    ("color", |args| paint(&arg_text(args, 0)?, args, 1)),
    ("colorCustom", |args| {
        let codes = args
            .iter()
            .skip(1)
            .map(plain_text)
            .collect::<Vec<_>>()
            .join(";");
        paint(&codes, args, 0)
    }),
    ("levelColor", |args| {
        paint(level_code(&arg_text(args, 0)?), args, 0)
    }),
    ("bunyanLevelColor", |args| {
        paint(bunyan_code(&arg_text(args, 0)?), args, 0)
    }),
    ("colorBlack", |args| paint("30", args, 0)),
    ("colorRed", |args| paint("31", args, 0)),
    ("colorGreen", |args| paint("32", args, 0)),
    ("colorYellow", |args| paint("33", args, 0)),
    ("colorBlue", |args| paint("34", args, 0)),
    ("colorMagenta", |args| paint("35", args, 0)),
    ("colorCyan", |args| paint("36", args, 0)),
    ("colorWhite", |args| paint("37", args, 0)),
];

const PLAIN: [(&str, Function); 12] = [
    ("color", |args| arg_text(args, 1).map(Value::String)),
    ("colorCustom", first_text),
    ("levelColor", first_text),
    ("bunyanLevelColor", first_text),
    ("colorBlack", first_text),
    ("colorRed", first_text),
    ("colorGreen", first_text),
    ("colorYellow", first_text),
    ("colorBlue", first_text),
    ("colorMagenta", first_text),
    ("colorCyan", first_text),
    ("colorWhite", first_text),
];

fn first_text(args: &[Value]) -> Result<Value, FuncError> {
    arg_text(args, 0).map(Value::String)
}

fn paint(code: &str, args: &[Value], text_idx: usize) -> Result<Value, FuncError> {
    let text = arg_text(args, text_idx)?;
    Ok(Value::String(if code.is_empty() {
        text
    } else {
        format!("\x1b[{code}m{text}\x1b[0m")
    }))
}

fn level_code(level: &str) -> &'static str {
    match level.to_ascii_lowercase().as_str() {
        "debug" => "35",
        "info" => "34",
        "warn" | "warning" => "33",
        "error" | "dpanic" | "panic" => "31",
        "fatal" | "critical" => "36",
        _ => "",
    }
}

/// Bunyan's numbers: 20 debug, 30 info, 40 warn, 50 error, 60 fatal.
fn bunyan_code(level: &str) -> &'static str {
    match level {
        "20" => "35",
        "30" => "34",
        "40" => "33",
        "50" => "31",
        "60" => "36",
        _ => "",
    }
}

fn failed(reason: impl Into<String>) -> FuncError {
    FuncError::Generic(reason.into())
}

fn arg(args: &[Value], idx: usize) -> Result<&Value, FuncError> {
    args.get(idx)
        .ok_or_else(|| FuncError::AtLeastXArgs("function".to_owned(), idx + 1))
}

fn arg_text(args: &[Value], idx: usize) -> Result<String, FuncError> {
    arg(args, idx).map(plain_text)
}

fn plain_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Nil | Value::NoValue => String::new(),
        other => other.to_string(),
    }
}

fn to_json(args: &[Value]) -> Result<Value, FuncError> {
    let value = arg(args, 0)?;
    if let Value::Map(map) = value
        && let Some(Value::String(line)) = map.get(WHOLE_LINE)
    {
        return Ok(Value::String(line.clone()));
    }
    Ok(Value::String(from_template(value).to_string()))
}

fn parse_json(args: &[Value]) -> Result<Value, FuncError> {
    let text = arg_text(args, 0)?;
    serde_json::from_str(&text)
        .map(to_template)
        .map_err(|error| failed(format!("parseJSON: {error}")))
}

fn try_parse_json(args: &[Value]) -> Result<Value, FuncError> {
    let text = arg_text(args, 0)?;
    Ok(serde_json::from_str(&text).map_or(Value::Nil, to_template))
}

/// The values of the keys named behind the text, `None` where the text is no JSON object.
fn json_parts(args: &[Value]) -> Option<String> {
    let object: serde_json::Value = serde_json::from_str(&plain_text(args.first()?)).ok()?;
    let object = object.as_object()?;
    let parts = args
        .iter()
        .skip(1)
        .filter_map(|key| object.get(&plain_text(key)));
    Some(
        parts
            .map(|part| plain_text(&to_template(part.clone())))
            .collect::<Vec<_>>()
            .join(", "),
    )
}

fn extract_json_parts(args: &[Value]) -> Result<Value, FuncError> {
    json_parts(args)
        .map(Value::String)
        .ok_or_else(|| failed("extractJSONParts: the text is no JSON object"))
}

fn try_extract_json_parts(args: &[Value]) -> Result<Value, FuncError> {
    json_parts(args).map_or_else(|| first_text(args), |parts| Ok(Value::String(parts)))
}

fn pretty_json(args: &[Value]) -> Result<Value, FuncError> {
    let value = arg(args, 0)?;
    let object = match value {
        Value::String(text) => match serde_json::from_str(text) {
            Ok(object) => object,
            Err(_) => return Ok(value.clone()),
        },
        other => from_template(other),
    };
    serde_json::to_string_pretty(&object)
        .map(Value::String)
        .map_err(|error| failed(error.to_string()))
}

fn to_rfc3339_nano(args: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::String(instant(arg(args, 0)?)?.to_string()))
}

fn to_timestamp(args: &[Value]) -> Result<Value, FuncError> {
    let instant = instant(arg(args, 0)?)?;
    let layout = strftime_of(&arg_text(args, 1)?);
    let zone = match args.get(2).map(plain_text).filter(|name| !name.is_empty()) {
        Some(name) => jiff::tz::TimeZone::get(&name).map_err(|error| failed(error.to_string()))?,
        None => jiff::tz::TimeZone::UTC,
    };
    Ok(Value::String(
        instant.to_zoned(zone).strftime(&layout).to_string(),
    ))
}

/// Reads a time as loggers write it: RFC 3339 text, or seconds since the epoch with or without a fraction.
fn instant(value: &Value) -> Result<jiff::Timestamp, FuncError> {
    let text = plain_text(value);
    let nanos = Timestamp::parse_rfc3339(text.as_bytes())
        .map(|time| i128::from(time.as_nanos()))
        .or_else(|| seconds(&text));
    nanos
        .and_then(|nanos| jiff::Timestamp::from_nanosecond(nanos).ok())
        .ok_or_else(|| {
            failed(format!(
                "`{text}` is no time: expected RFC 3339 or seconds since 1970"
            ))
        })
}

fn seconds(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let fraction_ns: i64 = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<9}").get(..9)?.parse().ok()?
    };
    Some(i128::from(whole) * 1_000_000_000 + i128::from(fraction_ns))
}

/// Go layouts name the parts of one fixed instant. Source: package `time` of the Go standard library.
const LAYOUT_PARTS: [(&str, &str); 26] = [
    ("2006", "%Y"),
    ("January", "%B"),
    ("Monday", "%A"),
    ("Z07:00", "%:z"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    (".000000000", ".%9f"),
    (".000000", ".%6f"),
    (".000", ".%3f"),
    (".999999999", "%.f"),
    (".999999", "%.6f"),
    (".999", "%.3f"),
    ("Jan", "%b"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("01", "%m"),
    ("02", "%d"),
    ("15", "%H"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("PM", "%p"),
    ("_2", "%e"),
    ("2", "%-d"),
    ("%", "%%"),
];

fn strftime_of(layout: &str) -> String {
    let mut format = String::new();
    let mut rest = layout;
    'parts: while let Some(first) = rest.chars().next() {
        for (go, strftime) in LAYOUT_PARTS {
            if let Some(behind) = rest.strip_prefix(go) {
                format.push_str(strftime);
                rest = behind;
                continue 'parts;
            }
        }
        format.push(first);
        rest = rest.strip_prefix(first).unwrap_or_default();
    }
    format
}

fn to_template(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(value),
        // As text: gtmpl would print 1e21 for what was written 1000000000000000000000.
        serde_json::Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::String(number.to_string()), Value::from),
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => {
            Value::Array(items.into_iter().map(to_template).collect())
        }
        serde_json::Value::Object(object) => Value::Map(
            object
                .into_iter()
                .map(|(key, value)| (key, to_template(value)))
                .collect(),
        ),
    }
}

fn from_template(value: &Value) -> serde_json::Value {
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.clone().into(),
        Value::Number(number) => {
            serde_json::from_str(&number.to_string()).unwrap_or(serde_json::Value::Null)
        }
        Value::Array(items) => items.iter().map(from_template).collect(),
        Value::Map(map) | Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), from_template(value)))
            .collect(),
    }
}
