//! `tawny doctor`: what can be read here, what is missing, and how to mend it.

mod cluster;
mod node;
mod report;
mod server;

use std::io::{self, Write as _};

use clap::ValueEnum;
use tawny_collect::{
    SourceKind,
    detect::{self, Runtime},
};

use crate::{
    cli::{Context, Exit, Outcome, Run},
    config::{Flags, Loaded, env::Env, flags::Group},
    serve,
};
pub(crate) use node::NODE_NAME_REMEDY;
use report::Report;

/// Tells what can be read here, what is missing, and how to mend it; exit code 3 when something must be mended.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How the findings are written.
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    output: Form,
    #[command(flatten)]
    flags: Flags<DoctorFlags>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Debug)]
struct DoctorFlags;

impl Group for DoctorFlags {
    const KEYS: &'static [&'static str] = &[
        "runtime",
        "server",
        "kubernetes",
        "engine",
        "store",
        "collect",
    ];
}

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        let loaded = context.load(self.flags.given())?;
        let mut report = Report::default();
        examine(&loaded, &context.env, &mut report).await;
        let text = match self.output {
            Form::Text => report.to_text(),
            Form::Json => report.to_json(),
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(if report.has_problem() {
            Exit::Failed
        } else {
            Exit::Found
        })
    }
}

async fn examine(loaded: &Loaded, env: &Env, report: &mut Report) {
    let config = &loaded.config;
    match loaded.files.as_slice() {
        [] => report.ok("configuration", "defaults, environment and flags; no file"),
        files => {
            let files: Vec<String> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            report.ok("configuration", files.join(", "));
        }
    }
    let probes = loaded.probes(env);
    match detect::detect(loaded.explicit_runtime().as_ref(), &probes) {
        Ok(detected) => {
            report.ok(
                "runtime",
                format!("{}: {}", detected.runtime, detected.because),
            );
            match detected.runtime {
                Runtime::Kubernetes => {
                    let asked = config.collect.source.set();
                    let source =
                        detect::choose_kubernetes_source(asked, &config.collect.pod_logs_root);
                    let why = match asked {
                        Some(_) => "as configured",
                        None if source == SourceKind::Files => "the log files can be listed",
                        None => "the log files cannot be listed",
                    };
                    report.ok("source", format!("{source}: {why}"));
                    node::examine_files(config, source, probes.is_in_pod(), report);
                    cluster::examine(loaded, env, report).await;
                }
                Runtime::Docker => node::examine_socket(&config.engine.docker_socket, report).await,
                Runtime::Podman => {
                    for socket in probes.podman_sockets.iter().filter(|path| path.exists()) {
                        node::examine_socket(socket, report).await;
                    }
                }
            }
        }
        Err(error) => report.problem(
            "runtime",
            error.to_string(),
            "run where a kubeconfig, a service account or an engine's socket is, or name one",
        ),
    }
    node::examine_inotify(report);
    let is_bucket = serve::bucket_url(&config.store).is_some();
    let local = if is_bucket {
        &config.store.wal
    } else {
        &config.store.path
    };
    node::examine_store(local, report);
    server::examine(loaded, report).await;
}
