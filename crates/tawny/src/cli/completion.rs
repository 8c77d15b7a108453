//! `tawny completion`: scripts for shells, and the answer kubectl wants from its plugins.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::ValueEnum;
use clap_complete::Shell;

use super::{Context, Exit, Outcome, Run, command};

/// Prints the completion script of a shell: `source <(tawny completion bash)`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    shell: Shells,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shells {
    Bash,
    Zsh,
    Fish,
}

impl Run for Args {
    async fn run(self, _context: Context) -> Outcome {
        let shell = match self.shell {
            Shells::Bash => Shell::Bash,
            Shells::Zsh => Shell::Zsh,
            Shells::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command(&[]), "tawny", &mut script);
        io::stdout().write_all(&script)?;
        Ok(Exit::Found)
    }
}

/// Whether kubectl asks what may follow in `kubectl tawny …`: it runs `kubectl_complete-tawny` with the words so far.
pub(super) fn is_kubectl_plugin_call(arguments: &[OsString]) -> bool {
    arguments
        .first()
        .and_then(|name| Path::new(name).file_name())
        .is_some_and(|name| name == "kubectl_complete-tawny")
}

/// Answers kubectl: a candidate a line, then what to do with them. Source: cobra's `__complete` protocol.
pub(super) fn answer_kubectl(arguments: &[OsString]) -> ExitCode {
    /// `ShellCompDirectiveNoFileComp`
    const NO_FILES: &str = ":4";
    let words: Vec<&str> = arguments
        .iter()
        .skip(1)
        .filter_map(|word| word.to_str())
        .collect();
    let mut lines = candidates(&command(&[]), &words);
    lines.push(NO_FILES.to_owned());
    match writeln!(io::stdout(), "{}", lines.join("\n")) {
        Ok(()) => Exit::Found.into(),
        Err(_) => Exit::Failed.into(),
    }
}

/// What may stand in place of the last word.
fn candidates(root: &clap::Command, words: &[&str]) -> Vec<String> {
    let (current, before) = words.split_last().unwrap_or((&"", &[]));
    let mut command = root;
    for word in before {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let flags = command
        .get_arguments()
        .chain(root.get_arguments().filter(|arg| arg.is_global_set()))
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")));
    let subcommands = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| sub.get_name().to_owned());
    let value_of = before.last().and_then(|flag| {
        command.get_arguments().find(|arg| {
            arg.get_long()
                .is_some_and(|long| *flag == format!("--{long}"))
        })
    });
    let mut found: Vec<String> = match value_of {
        Some(arg) => arg
            .get_possible_values()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect(),
        None if current.starts_with('-') => flags.collect(),
        None => subcommands.collect(),
    };
    found.retain(|candidate| candidate.starts_with(current));
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_is_offered_subcommands_flags_and_values() {
        let root = command(&[]);
        assert_eq!(candidates(&root, &["conf"]), ["config"]);
        assert_eq!(candidates(&root, &["config", "pr"]), ["print"]);
        assert_eq!(
            candidates(&root, &["config", "print", "--log-f"]),
            ["--log-format"]
        );
        assert_eq!(
            candidates(&root, &["config", "print", "--source", "a"]),
            ["api", "auto"]
        );
        assert!(candidates(&root, &[]).contains(&"config".to_owned()));
    }

    #[test]
    fn only_the_completion_name_asks_for_completion() {
        assert!(is_kubectl_plugin_call(&[
            "/bin/kubectl_complete-tawny".into()
        ]));
        assert!(!is_kubectl_plugin_call(&["kubectl-tawny".into()]));
        assert!(!is_kubectl_plugin_call(&[]));
    }
}
