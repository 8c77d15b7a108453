//! The command line: one file per subcommand, and one line in the list below.

mod agent;
mod bench;
mod coder;
mod completion;
mod config;
mod demo;
mod events;
mod exit;
mod loadgen;
mod notify;
mod server;
mod sql;
mod tail;
mod up;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tawny_runtime::{StopSignals, telemetry};

use crate::{
    alerts,
    config::{
        Flags, Given, Loaded, Sources,
        env::Env,
        flags::{Group, parse_set},
        load,
    },
    doctor, incidents, search, storage,
};
pub(crate) use exit::{Exit, Failure, OrExit, Outcome};

/// A subcommand: its flags, and what it does.
pub(crate) trait Run: clap::Args {
    /// Whether the command ends by itself, in order, when the process is asked to stop; else it is just ended.
    const STOPS_IN_ORDER: bool = false;

    async fn run(self, context: Context) -> Outcome;
}

/// Declares the subcommands; each line is a variant and the module whose `Args` it takes.
macro_rules! subcommands {
    ($($Variant:ident($module:ident)),* $(,)?) => {
        #[derive(Debug, Subcommand)]
        enum Subcommands {
            $($Variant(Box<$module::Args>),)*
        }

        impl Subcommands {
            fn stops_in_order(&self) -> bool {
                match self {
                    $(Self::$Variant(_) => <$module::Args as Run>::STOPS_IN_ORDER,)*
                }
            }

            async fn run(self, context: Context) -> Outcome {
                match self {
                    $(Self::$Variant(args) => Box::pin(args.run(context)).await,)*
                }
            }
        }
    };
}

subcommands! {
    Demo(demo),
    Up(up),
    Agent(agent),
    Server(server),
    Search(search),
    Events(events),
    Incidents(incidents),
    Alerts(alerts),
    Notify(notify),
    Sql(sql),
    Tail(tail),
    Coder(coder),
    Loadgen(loadgen),
    Storage(storage),
    Bench(bench),
    Doctor(doctor),
    Config(config),
    Completion(completion),
}

/// The memory of a Kubernetes cluster: collects every container's log, keeps it, and finds anything in it.
#[derive(Debug, Parser)]
#[command(
    name = "tawny",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 found or done, 1 nothing found or damage found, 2 wrong use, 3 failed, 4 denied, 130 interrupted."
)]
struct Cli {
    /// Configuration file [default: ~/.config/tawny/config.yaml over /etc/tawny/config.yaml] [env: TAWNY_CONFIG].
    #[arg(long, global = true, value_name = "PATH", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// Sets any key of the configuration, such as `store.path=/data/tawny`; may be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = parse_set, help_heading = GLOBAL)]
    set: Vec<Given>,
    #[command(flatten)]
    log: Flags<LogFlags>,
    #[command(subcommand)]
    command: Subcommands,
}

const GLOBAL: &str = "For every command";

#[derive(Debug)]
struct LogFlags;

impl Group for LogFlags {
    const KEYS: &'static [&'static str] = &["log"];
    const GLOBAL: bool = true;
    const HEADING: Option<&'static str> = Some(GLOBAL);
}

/// What a command is given besides its own flags.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) env: Env,
    config_file: Option<PathBuf>,
    given: Vec<Given>,
}

impl Context {
    /// Reads the configuration with the command's flags on top, and says on stderr what of it has no effect.
    ///
    /// # Errors
    /// `Usage`, with every problem found.
    pub(crate) fn load(&self, flags: Vec<Given>) -> Result<Loaded, Failure> {
        let flags = flags
            .into_iter()
            .chain(self.given.iter().cloned())
            .collect();
        let sources = Sources::of(&self.env, self.config_file.clone(), flags);
        let loaded = load(&sources).or_exit(Exit::Usage)?;
        for warning in &loaded.warnings {
            note(&format!("warning: {warning}"));
        }
        Ok(loaded)
    }

    /// [`Self::load`] for a command that runs for long: starts its log as configured, too.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_and_log(&self, flags: Vec<Given>) -> Result<Loaded, Failure> {
        let loaded = self.load(flags)?;
        let log = &loaded.config.log;
        telemetry::init(&log.level, log.format, self.env.is_color_allowed());
        Ok(loaded)
    }
}

/// Says something to the user on stderr, where it cannot be taken for data.
pub(crate) fn note(text: &str) {
    // Nobody left to tell that stderr is gone.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Runs the process.
pub(crate) fn main() -> ExitCode {
    let arguments = crate::loadgen::double_dashes(std::env::args_os().collect());
    if completion::is_kubectl_plugin_call(&arguments) {
        return completion::answer_kubectl(&arguments);
    }
    let matches = match command(&arguments).try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        // Help and version go to stdout with code 0, mistakes to stderr with code 2.
        Err(error) => {
            drop(error.print());
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Found.into()
            };
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return Exit::Usage.into();
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts wherever threads do");
    let outcome = runtime.block_on(run(cli));
    // A second signal must not wait for a blocking call that is stuck.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_broken_pipe() => Exit::Found.into(),
        Err(failure) => {
            note(&format!("error: {:#}", failure.error));
            failure.exit.into()
        }
    }
}

async fn run(cli: Cli) -> Outcome {
    let Cli {
        config,
        set,
        log,
        command,
    } = cli;
    let context = Context {
        env: Env::of_process(),
        config_file: config,
        given: log.given().into_iter().chain(set).collect(),
    };
    if command.stops_in_order() {
        return command.run(context).await;
    }
    let mut signals = StopSignals::catch()?;
    tokio::select! {
        outcome = command.run(context) => outcome,
        signal = signals.next() => Ok(Exit::Signal(signal)),
    }
}

/// The whole command line, named as it was called: kubectl runs its plugin `tawny` as `kubectl-tawny`.
fn command(arguments: &[OsString]) -> clap::Command {
    let command = Cli::command();
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    match called.and_then(|name| name.to_str()) {
        Some(name) if name.starts_with("kubectl-tawny") => command.bin_name("kubectl tawny"),
        _ => command.bin_name("tawny"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_commands_are_in_each_others_way() {
        Cli::command().debug_assert();
    }
}
