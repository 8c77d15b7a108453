//! Output modes: the looks `-o` names, and templates.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use jiff::tz::TimeZone;
use serde::Serialize;
use tawny_model::Timestamp;

use super::{
    Highlight, Palette,
    color::Sgr,
    template::{Template, TemplateError, TemplateValues},
};

/// A line as a source gave it, borrowed for the moment it is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) timestamp: Timestamp,
    pub(crate) message: &'a str,
    pub(crate) node: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) container: &'a str,
    pub(crate) labels: &'a BTreeMap<Arc<str>, Arc<str>>,
    pub(crate) annotations: &'a BTreeMap<String, String>,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// Pod, container, message.
    #[default]
    Default,
    /// The message alone.
    Raw,
    /// One JSON object a line, every field.
    Json,
    /// JSON with coloured names; a message that is JSON is embedded as such.
    Extjson,
    /// The same, a field a line.
    Ppextjson,
    /// `time=… namespace=… pod=… container=… msg=…`
    Logfmt,
}

/// How a time is written in front of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TimestampFormat {
    /// RFC 3339 with nine fraction digits.
    #[value(alias = "rfc3339")]
    Default,
    /// Month, day and time of day.
    Short,
}

/// Everything that decides the looks.
#[derive(Debug)]
pub(crate) struct RendererConfig {
    pub(crate) output: Output,
    /// A Go template; it takes the place of `output`.
    pub(crate) template: Option<String>,
    pub(crate) is_colored: bool,
    pub(crate) palette: Palette,
    pub(crate) timestamps: Option<TimestampFormat>,
    pub(crate) time_zone: TimeZone,
    /// Whether lines of several namespaces may come, so that each must name its own.
    pub(crate) shows_namespace: bool,
    pub(crate) highlight: Highlight,
}

/// Turns lines into text. Shared freely: it keeps nothing between lines.
#[derive(Debug)]
pub(crate) struct Renderer {
    config: RendererConfig,
    template: Option<Template>,
}

/// Something that happened to a stream, told on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Started,
    Ended,
}

impl Renderer {
    /// # Errors
    /// When the template does not parse.
    pub(crate) fn new(config: RendererConfig) -> Result<Self, TemplateError> {
        let template = config
            .template
            .as_deref()
            .map(|text| Template::parse(text, config.is_colored))
            .transpose()?;
        Ok(Self { config, template })
    }

    /// Appends the line with its line end.
    ///
    /// # Errors
    /// When a template's function refuses a value, for instance `parseJSON` of what is none.
    pub(crate) fn line(&self, line: &Line<'_>, out: &mut String) -> Result<(), TemplateError> {
        let mut message = String::new();
        self.config.highlight.apply(line.message, &mut message);
        let time = self.time(line.timestamp);
        if let Some(template) = &self.template {
            let (pod_color, container_color) = self.colors(line);
            let values = TemplateValues {
                line,
                message: &message,
                time: &time,
                pod_color,
                container_color,
            };
            out.push_str(&template.render(&values)?);
            // A template decides on its own line ends; a missing one would glue lines together.
            if !out.ends_with('\n') {
                out.push('\n');
            }
            return Ok(());
        }
        match self.config.output {
            Output::Default => {
                if self.config.shows_namespace {
                    self.paint_pod(line, line.namespace, out);
                    out.push(' ');
                }
                self.paint_pod(line, line.pod, out);
                out.push(' ');
                self.paint_container(line, out);
                out.push(' ');
                self.put_time(&time, out);
                out.push_str(&message);
            }
            Output::Raw => {
                self.put_time(&time, out);
                out.push_str(&message);
            }
            Output::Json => out.push_str(&json(line, &time)),
            Output::Extjson => self.ext_json(line, "", ", ", "{", "}", out),
            Output::Ppextjson => self.ext_json(line, "  ", ",\n  ", "{\n", "\n}", out),
            Output::Logfmt => {
                let time = if time.is_empty() {
                    line.timestamp.to_string()
                } else {
                    time
                };
                for (key, value) in [
                    ("time", time.as_str()),
                    ("namespace", line.namespace),
                    ("pod", line.pod),
                    ("container", line.container),
                ] {
                    put_logfmt(key, value, out);
                    out.push(' ');
                }
                put_logfmt("msg", line.message, out);
            }
        }
        out.push('\n');
        Ok(())
    }

    /// The line that tells that a stream started or ended, in stern's form.
    pub(crate) fn marker(
        &self,
        marker: Marker,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> String {
        let (sign, sign_color) = match marker {
            Marker::Started => ("+", "92;1"),
            Marker::Ended => ("-", "91;1"),
        };
        let (pod_color, container_color) = self.config.palette.pick(pod, container);
        let pod = if self.config.shows_namespace {
            format!("{namespace} {pod}")
        } else {
            pod.to_owned()
        };
        if self.config.is_colored {
            let (pod, container) = (pod_color.paint(&pod), container_color.paint(container));
            format!("\x1b[{sign_color}m{sign}\x1b[0m {pod} › {container}")
        } else {
            format!("{sign} {pod} › {container}")
        }
    }

    fn time(&self, timestamp: Timestamp) -> String {
        let Some(format) = self.config.timestamps else {
            return String::new();
        };
        let Ok(instant) = jiff::Timestamp::from_nanosecond(i128::from(timestamp.as_nanos())) else {
            return timestamp.to_string();
        };
        let zoned = instant.to_zoned(self.config.time_zone.clone());
        match format {
            TimestampFormat::Default => {
                let is_utc = zoned.offset().is_zero();
                zoned
                    .strftime(if is_utc {
                        "%Y-%m-%dT%H:%M:%S.%9fZ"
                    } else {
                        "%Y-%m-%dT%H:%M:%S.%9f%:z"
                    })
                    .to_string()
            }
            TimestampFormat::Short => zoned.strftime("%m-%d %H:%M:%S").to_string(),
        }
    }

    fn put_time(&self, time: &str, out: &mut String) {
        if !time.is_empty() {
            out.push_str(time);
            out.push(' ');
        }
    }

    fn colors(&self, line: &Line<'_>) -> (&Sgr, &Sgr) {
        self.config.palette.pick(line.pod, line.container)
    }

    fn paint_pod(&self, line: &Line<'_>, text: &str, out: &mut String) {
        self.paint(self.colors(line).0, text, out);
    }

    fn paint_container(&self, line: &Line<'_>, out: &mut String) {
        self.paint(self.colors(line).1, line.container, out);
    }

    fn paint(&self, color: &Sgr, text: &str, out: &mut String) {
        if self.config.is_colored {
            write!(out, "{}", color.paint(text)).expect("a String takes any text");
        } else {
            out.push_str(text);
        }
    }

    fn ext_json(
        &self,
        line: &Line<'_>,
        indent: &str,
        separator: &str,
        open: &str,
        close: &str,
        out: &mut String,
    ) {
        out.push_str(open);
        out.push_str(indent);
        if self.config.shows_namespace {
            out.push_str("\"namespace\": \"");
            self.paint_pod(line, line.namespace, out);
            out.push('"');
            out.push_str(separator);
        }
        out.push_str("\"pod\": \"");
        self.paint_pod(line, line.pod, out);
        out.push('"');
        out.push_str(separator);
        out.push_str("\"container\": \"");
        self.paint_container(line, out);
        out.push('"');
        out.push_str(separator);
        out.push_str("\"message\": ");
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(line.message)
            .is_ok_and(|raw| raw.get().starts_with('{'));
        if is_json {
            out.push_str(line.message.trim());
        } else {
            out.push_str(&serde_json::to_string(line.message).expect("a str is always JSON"));
        }
        out.push_str(close);
    }
}

/// Field names as stern writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonLine<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    timestamp: &'a str,
    node_name: &'a str,
    namespace: &'a str,
    pod_name: &'a str,
    container_name: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<Arc<str>, Arc<str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

pub(super) fn json(line: &Line<'_>, time: &str) -> String {
    let object = JsonLine {
        message: line.message,
        timestamp: time,
        node_name: line.node,
        namespace: line.namespace,
        pod_name: line.pod,
        container_name: line.container,
        labels: line.labels,
        annotations: line.annotations,
    };
    serde_json::to_string(&object).expect("string keys and values are always JSON")
}

fn put_logfmt(key: &str, value: &str, out: &mut String) {
    out.push_str(key);
    out.push('=');
    let needs_quotes = value.is_empty()
        || value
            .chars()
            .any(|c| c <= ' ' || c == '"' || c == '=' || c == '\u{7f}');
    if needs_quotes {
        write!(out, "{value:?}").expect("a String takes any text");
    } else {
        out.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn show(config: RendererConfig, message: &str) -> String {
        let labels = BTreeMap::from([("app".into(), "web".into())]);
        let line = Line {
            timestamp: Timestamp::from_nanos(1_475_713_029_669_794_202),
            message,
            node: "n1",
            namespace: "prod",
            pod: "web-1",
            container: "main",
            labels: &labels,
            annotations: &BTreeMap::new(),
        };
        let mut out = String::new();
        Renderer::new(config)
            .unwrap()
            .line(&line, &mut out)
            .unwrap();
        out
    }

    fn plain(output: Output) -> RendererConfig {
        RendererConfig {
            output,
            template: None,
            is_colored: false,
            palette: Palette::new(false),
            timestamps: None,
            time_zone: TimeZone::UTC,
            shows_namespace: false,
            highlight: Highlight::default(),
        }
    }

    fn template(text: &str) -> RendererConfig {
        RendererConfig {
            template: Some(text.to_owned()),
            ..plain(Output::Default)
        }
    }

    #[test]
    fn modes_look_as_stern_users_know_them() {
        assert_eq!(show(plain(Output::Default), "hi"), "web-1 main hi\n");
        assert_eq!(
            show(
                RendererConfig {
                    shows_namespace: true,
                    ..plain(Output::Default)
                },
                "hi"
            ),
            "prod web-1 main hi\n"
        );
        assert_eq!(show(plain(Output::Raw), "hi"), "hi\n");
        assert_eq!(
            show(plain(Output::Json), "h\"i"),
            "{\"message\":\"h\\\"i\",\"nodeName\":\"n1\",\"namespace\":\"prod\",\"podName\":\"web-1\",\"containerName\":\"main\",\"labels\":{\"app\":\"web\"}}\n"
        );
        assert_eq!(
            show(plain(Output::Extjson), "{\"a\": 1}"),
            "{\"pod\": \"web-1\", \"container\": \"main\", \"message\": {\"a\": 1}}\n"
        );
        assert_eq!(
            show(plain(Output::Ppextjson), "x"),
            "{\n  \"pod\": \"web-1\",\n  \"container\": \"main\",\n  \"message\": \"x\"\n}\n"
        );
        assert_eq!(
            show(plain(Output::Logfmt), "a b"),
            "time=2016-10-06T00:17:09.669794202Z namespace=prod pod=web-1 container=main msg=\"a b\"\n"
        );
    }

    #[test]
    fn times_are_shown_in_the_zone_asked_for() {
        let config = |format, zone: &str| RendererConfig {
            timestamps: Some(format),
            time_zone: TimeZone::get(zone).unwrap(),
            ..plain(Output::Raw)
        };
        assert_eq!(
            show(config(TimestampFormat::Default, "UTC"), "x"),
            "2016-10-06T00:17:09.669794202Z x\n"
        );
        assert_eq!(
            show(config(TimestampFormat::Default, "Europe/Berlin"), "x"),
            "2016-10-06T02:17:09.669794202+02:00 x\n"
        );
        assert_eq!(
            show(config(TimestampFormat::Short, "UTC"), "x"),
            "10-06 00:17:09 x\n"
        );
    }

    #[test]
    fn colour_and_highlight_are_only_there_when_asked_for() {
        let config = RendererConfig {
            is_colored: true,
            highlight: Highlight::new(&[Regex::new("h").unwrap()]).unwrap(),
            ..plain(Output::Default)
        };
        let shown = show(config, "hi");
        assert!(
            shown.starts_with("\x1b[9")
                && shown.contains("web-1\x1b[0m")
                && shown.contains("\x1b[1;31mh\x1b[0mi"),
            "{shown:?}"
        );
        assert!(!show(plain(Output::Default), "hi").contains('\x1b'));
    }

    #[test]
    fn templates_of_stern_work_unchanged() {
        for (text, message, expected) in [
            (
                "{{printf \"%s (%s/%s/%s/%s)\\n\" .Message .NodeName .Namespace .PodName .ContainerName}}",
                "m",
                "m (n1/prod/web-1/main)\n",
            ),
            (
                "{{color .PodColor .PodName}}: {{.Message}}",
                "m",
                "web-1: m\n",
            ),
            (
                "{{with $d := .Message | parseJSON}}{{$d.level}} {{$d.msg}}{{end}}",
                "{\"level\":\"info\",\"msg\":\"x\"}",
                "info x\n",
            ),
            (
                "{{with $msg := .Message | tryParseJSON}}[{{levelColor $msg.level}}]{{else}}{{.Message}}{{end}}",
                "no json",
                "no json\n",
            ),
            ("{{tryExtractJSONParts .Message \"a\" \"b\"}}", "x", "x\n"),
            (
                "{{extractJSONParts .Message \"a\" \"b\"}}",
                "{\"a\":1,\"b\":\"y\"}",
                "1, y\n",
            ),
            (
                "{{.Labels.app}} {{index .Labels \"app\"}}",
                "m",
                "web web\n",
            ),
            ("{{prettyJSON .Message}}", "{\"a\":1}", "{\n  \"a\": 1\n}\n"),
            (
                "{{toRFC3339Nano 1475713029.5}} {{toTimestamp \"2016-10-06T00:17:09Z\" \"15:04:05\"}}",
                "m",
                "2016-10-06T00:17:09.5Z 00:17:09\n",
            ),
            ("{{colorRed \"a\"}}{{colorCustom \"b\" 3 96}}", "m", "ab\n"),
            (
                "{{if eq .PodName \"web-1\"}}yes{{else}}no{{end}}",
                "m",
                "yes\n",
            ),
        ] {
            assert_eq!(show(template(text), message), expected, "{text}");
        }
    }

    #[test]
    fn template_errors_are_told() {
        assert!(Renderer::new(template("{{.Message")).is_err());
        let renderer = Renderer::new(template("{{parseJSON .Message}}")).unwrap();
        let line = Line {
            timestamp: Timestamp::default(),
            message: "x",
            node: "",
            namespace: "",
            pod: "",
            container: "",
            labels: &BTreeMap::new(),
            annotations: &BTreeMap::new(),
        };
        assert!(renderer.line(&line, &mut String::new()).is_err());
    }

    #[test]
    fn markers_name_the_stream() {
        let renderer = Renderer::new(plain(Output::Default)).unwrap();
        assert_eq!(
            renderer.marker(Marker::Started, "prod", "web-1", "main"),
            "+ web-1 › main"
        );
        let renderer = Renderer::new(RendererConfig {
            shows_namespace: true,
            ..plain(Output::Default)
        })
        .unwrap();
        assert_eq!(
            renderer.marker(Marker::Ended, "prod", "web-1", "main"),
            "- prod web-1 › main"
        );
    }
}
