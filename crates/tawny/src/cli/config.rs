//! `tawny config`: what is in force and why, and whether it is right.

use std::io::{self, Write as _};

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, json};

use super::{Context, Exit, Outcome, Run};
use crate::config::{Flags, Loaded, flags::Group, reference};

/// Shows or checks the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints every setting in force, with where its value came from.
    Print {
        /// `yaml` can be used as a configuration file.
        #[arg(short, long, default_value = "yaml")]
        output: Form,
        #[command(flatten)]
        flags: Flags<AnyFlags>,
    },
    /// Checks the configuration: exit code 0 when it is right, 2 when it is not.
    Check {
        #[command(flatten)]
        flags: Flags<AnyFlags>,
    },
    /// Prints the reference of all settings as Markdown.
    #[command(hide = true)]
    Reference,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Yaml,
    Json,
}

/// All flags but the ones every command has, and `--server`, which stands for two keys.
#[derive(Debug)]
struct AnyFlags;

impl Group for AnyFlags {
    const KEYS: &'static [&'static str] = &[
        "runtime",
        "cluster",
        "shutdown_timeout",
        "http",
        "grpc",
        "store",
        "limits",
        "kubernetes",
        "engine",
        "collect",
    ];
}

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        let text = match self.action {
            Action::Reference => reference::markdown(),
            Action::Check { flags } => {
                context.load(flags.given())?;
                String::new()
            }
            Action::Print { output, flags } => {
                let loaded = context.load(flags.given())?;
                match output {
                    Form::Yaml => yaml(&loaded),
                    Form::Json => json(&loaded),
                }
            }
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(Exit::Found)
    }
}

fn yaml(loaded: &Loaded) -> String {
    let mut lines = Vec::new();
    let mut section = "";
    for effective in loaded.effective() {
        let key = effective.key;
        if key.section() != section {
            section = key.section();
            lines.push(format!("{section}:"));
        }
        let (indent, name) = match key.path.split_once('.') {
            Some((_, name)) => ("  ", name),
            None => ("", key.path),
        };
        let value = if key.is_list {
            let items: Vec<String> = items(&effective.value).map(quoted).collect();
            format!("[{}]", items.join(", "))
        } else {
            quoted(&effective.value)
        };
        lines.push(format!("{indent}{name}: {value} # {}", effective.origin));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn json(loaded: &Loaded) -> String {
    let settings: Map<String, serde_json::Value> = loaded
        .effective()
        .map(|effective| {
            let value = if effective.key.is_list {
                json!(items(&effective.value).collect::<Vec<_>>())
            } else {
                json!(effective.value)
            };
            let shown = json!({"value": value, "origin": effective.origin.to_string()});
            (effective.key.path.to_owned(), shown)
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Object(settings))
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|item| !item.is_empty())
}

/// Text as YAML reads it back: JSON strings are YAML strings.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
