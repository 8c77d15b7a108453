//! `tawny alerts`: rules on log content, checked, listed and tried out; evaluated live by a server.

mod live;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use tawny_incident::alert::{self, Rule, Rules};

use crate::{
    cli::{Context, Exit, Failure, OrExit as _, Outcome, Run, note},
    config::keys::Config,
};

pub(crate) use live::spawn;

/// Checks, lists and tries out alert rules on log content.
#[derive(Debug, clap::Args)]
#[group(id = "alerts")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads rules and tells every mistake in them.
    Check {
        /// Files of rules, or directories of them; without any, those of `alerts.paths`.
        files: Vec<PathBuf>,
    },
    /// Runs tests of rules: lines that a file describes, and what they must fire.
    Test {
        /// Files of tests.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Shows rules, a line each.
    List {
        /// Files of rules, or directories of them; without any, those of `alerts.paths`.
        files: Vec<PathBuf>,
    },
}

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        match self.command {
            Command::Check { files } => {
                let rules = chosen(&files, &context)?;
                let plural = if rules.len() == 1 { "" } else { "s" };
                note(&format!("{} rule{plural}, no mistakes", rules.len()));
                Ok(Exit::Found)
            }
            Command::List { files } => {
                let rules = chosen(&files, &context)?;
                let mut text = String::new();
                for rule in rules.iter() {
                    text.push_str(&line(rule));
                }
                io::stdout().write_all(text.as_bytes())?;
                Ok(if rules.is_empty() {
                    Exit::NothingFound
                } else {
                    Exit::Found
                })
            }
            Command::Test { files } => test(&files),
        }
    }
}

fn line(rule: &Rule) -> String {
    let off = if rule.enabled { "" } else { "  (off)" };
    let group: Vec<String> = rule.group_by.iter().map(ToString::to_string).collect();
    let by = if group.is_empty() {
        String::new()
    } else {
        format!(" by {}", group.join(", "))
    };
    format!(
        "{}  {}  {} in {}{by}  {}{off}\n",
        rule.name,
        rule.severity,
        rule.threshold,
        alert::short(rule.window),
        rule.query,
    )
}

fn chosen(files: &[PathBuf], context: &Context) -> Result<Rules, Failure> {
    if !files.is_empty() {
        return load(files);
    }
    let loaded = context.load(Vec::new())?;
    if loaded.config.alerts.paths.is_empty() {
        let error = anyhow::anyhow!("name files of rules, or set `alerts.paths`");
        return Err(Failure::new(Exit::Usage, error));
    }
    rules(&loaded.config)
}

/// The rules of the configuration; none when it names no files.
pub(crate) fn rules(config: &Config) -> Result<Rules, Failure> {
    let paths: Vec<PathBuf> = config.alerts.paths.iter().map(PathBuf::from).collect();
    load(&paths)
}

/// Reads files, and of directories those that end in `.yaml` or `.yml`.
fn load(paths: &[PathBuf]) -> Result<Rules, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut within: Vec<PathBuf> = fs::read_dir(path)
                .and_then(|dir| dir.map(|file| file.map(|it| it.path())).collect())
                .map_err(|error| unreadable(path, &error))?;
            within.retain(|path| {
                path.extension()
                    .is_some_and(|it| it == "yaml" || it == "yml")
            });
            within.sort();
            files.extend(within);
        } else {
            files.push(path.clone());
        }
    }
    let mut texts = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        texts.push((path.display().to_string(), text));
    }
    let named = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    Rules::load(named).or_exit(Exit::Usage)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Usage,
        anyhow::anyhow!("cannot read {}: {error}", path.display()),
    )
}

fn test(files: &[PathBuf]) -> Outcome {
    let mut is_passed = true;
    for path in files {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let beside = path.parent().unwrap_or_else(|| Path::new(""));
        let read = |name: &str| {
            let path = beside.join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let report = alert::test::run(&path.display().to_string(), &text, read);
        let report = report.or_exit(Exit::Usage)?;
        io::stdout().write_all(format!("{report}\n").as_bytes())?;
        is_passed &= report.is_passed();
    }
    Ok(if is_passed {
        Exit::Found
    } else {
        Exit::Damaged
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_a_directory_are_read_in_order_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        for (name, rule) in [("b.yaml", "two"), ("a.yml", "one"), ("c.txt", "three")] {
            let text = format!(
                "rules:\n- {{name: {rule}, query: 'panic', window: 5m, threshold: '>= 3', group_by: [namespace]}}\n"
            );
            fs::write(dir.path().join(name), text).unwrap();
        }
        let rules = load(&[dir.path().to_owned()]).unwrap();
        let lines: Vec<String> = rules.iter().map(|rule| line(rule)).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("one  "), "{lines:?}");
        assert!(
            lines[1].contains("≥ 3 in 5m by namespace  panic"),
            "{lines:?}"
        );
        let missing = load(&[dir.path().join("none.yaml")]).unwrap_err();
        assert_eq!(missing.exit, Exit::Usage);
    }
}
