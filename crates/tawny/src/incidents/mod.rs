//! `tawny incidents`: what went wrong in the cluster, told by a server.

mod show;
mod table;

use std::io::{self, Write as _};

use clap::{Subcommand, ValueEnum};
use jiff::tz::TimeZone;
use tawny_runtime::{Clock as _, SystemClock};
use tawny_wire::api::incidents::{
    Incident, IncidentChange, IncidentDetail, IncidentsResponse, MuteRequest,
};

use crate::{
    cli::{Context, Exit, Failure, OrExit as _, Outcome, Run, note},
    client::Client,
    config::Flags,
    render::ColorChoice,
    search::{ClientFlags, of_client, parse_time},
};

/// Shows what died in the cluster, why, how often, and its last lines.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All that is known of one incident: what happened, the last lines, the events around it.
    Show(Show),
    /// Tells of incidents as they open, recur and resolve.
    Follow(Follow),
    /// Resolves incidents by hand; the next occurrence reopens them.
    Resolve(Resolve),
    /// Tells nobody of incidents for a while.
    Mute(Mute),
    /// Writes the report of an incident for people, programs or spreadsheets.
    Export(Export),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only those whose workload or pod has this in its name.
    name: Option<String>,
    /// Only those of this namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only this severe or worse.
    #[arg(long, value_enum)]
    severity: Option<Severity>,
    /// Only this kind of trouble, such as `crash`, `out_of_memory`, `image_pull`.
    #[arg(long)]
    class: Option<String>,
    /// Only those on this node.
    #[arg(long)]
    node: Option<String>,
    /// Resolved ones as well.
    #[arg(short, long)]
    all: bool,
    /// Those as well that are part of another, or were there before watching began.
    #[arg(long)]
    quiet_too: bool,
    /// Only what happened since then: `2h`, `yesterday`, `10:00`.
    #[arg(long)]
    since: Option<String>,
    /// Most incidents shown.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    looks: Looks,
    #[command(flatten)]
    client: Flags<ClientFlags>,
}

#[derive(Debug, clap::Args)]
struct Looks {
    /// `table` for people, `json` with an incident a line for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Time zone of the times shown: `Local`, or an IANA name.
    #[arg(long, default_value = "Local")]
    timezone: String,
    /// When to colour.
    #[arg(long, value_enum, default_value_t)]
    color: ColorChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Its id, or the beginning of it.
    id: String,
    /// Which occurrence: 1 is the newest.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    occurrence: u32,
    #[command(flatten)]
    looks: Looks,
    #[command(flatten)]
    client: Flags<ClientFlags>,
}

#[derive(Debug, clap::Args)]
struct Follow {
    #[command(flatten)]
    looks: Looks,
    #[command(flatten)]
    client: Flags<ClientFlags>,
}

#[derive(Debug, clap::Args)]
struct Resolve {
    /// Their ids, or the beginnings of them.
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    client: Flags<ClientFlags>,
}

#[derive(Debug, clap::Args)]
struct Mute {
    /// Their ids, or the beginnings of them.
    #[arg(required = true)]
    ids: Vec<String>,
    /// For how long; `0s` lifts it.
    #[arg(long, default_value = "2h")]
    r#for: String,
    #[command(flatten)]
    client: Flags<ClientFlags>,
}

#[derive(Debug, clap::Args)]
struct Export {
    /// Its id, or the beginning of it.
    id: String,
    /// `default` is text, `json` has everything, `csv` the measurements.
    #[arg(long, value_parser = ["default", "json", "csv"], default_value = "default")]
    format: String,
    #[command(flatten)]
    client: Flags<ClientFlags>,
}

const PATH: &str = "/api/v1/incidents";

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        match self.command {
            None => list(self.list, &context).await,
            Some(Command::Show(args)) => show(args, &context).await,
            Some(Command::Follow(args)) => follow(args, &context).await,
            Some(Command::Resolve(args)) => {
                let client = client(args.client, &context)?;
                for id in &args.ids {
                    let path = format!("{PATH}/{}/resolve", segment(id));
                    let incident = client.post::<Incident>(&path, &()).await;
                    let incident = incident.map_err(of_client)?;
                    note(&format!("{} is {}", incident.id, incident.state));
                }
                Ok(Exit::Found)
            }
            Some(Command::Mute(args)) => mute(args, &context).await,
            Some(Command::Export(args)) => export(args, &context).await,
        }
    }
}

fn client(flags: Flags<ClientFlags>, context: &Context) -> Result<Client, Failure> {
    let loaded = context.load(flags.given())?;
    Client::new(&loaded.config.general.server).or_exit(Exit::Usage)
}

async fn list(args: List, context: &Context) -> Outcome {
    let client = client(args.client, context)?;
    let style = args.looks.style(context)?;
    let mut parameters = vec![("limit", args.limit.to_string())];
    if !args.all {
        parameters.push(("state", "open".to_owned()));
    }
    if !args.quiet_too {
        parameters.push(("quiet", "false".to_owned()));
    }
    if let Some(since) = &args.since {
        let since = parse_time(since, style.now, &style.zone)
            .map_err(|rule| anyhow::anyhow!("--since {since:?} {rule}"))
            .or_exit(Exit::Usage)?;
        parameters.push(("from", since.to_string()));
    }
    let severity = args.severity.and_then(|it| it.to_possible_value());
    let given = [
        ("severity", severity.map(|it| it.get_name().to_owned())),
        ("namespace", args.namespace),
        ("name", args.name),
        ("node", args.node),
        ("class", args.class),
    ];
    let given = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    parameters.extend(given);
    let found: IncidentsResponse = client
        .get_json(PATH, &parameters)
        .await
        .map_err(of_client)?;
    let text = match args.looks.output {
        Output::Json => lines_of(&found.incidents)?,
        Output::Table => table::table(&found.incidents, &style),
    };
    io::stdout().write_all(text.as_bytes())?;
    if found.incidents.is_empty() {
        note(if args.all {
            "no incidents"
        } else {
            "no open incidents; --all shows resolved ones"
        });
        return Ok(Exit::NothingFound);
    }
    Ok(Exit::Found)
}

fn lines_of(incidents: &[Incident]) -> Result<String, Failure> {
    let mut text = String::new();
    for incident in incidents {
        text.push_str(&serde_json::to_string(incident)?);
        text.push('\n');
    }
    Ok(text)
}

async fn show(args: Show, context: &Context) -> Outcome {
    let client = client(args.client, context)?;
    let style = args.looks.style(context)?;
    let path = format!("{PATH}/{}", segment(&args.id));
    let mut detail: IncidentDetail = client.get_json(&path, &[]).await.map_err(of_client)?;
    if args.occurrence > 1 {
        let back = usize::try_from(args.occurrence).unwrap_or(usize::MAX);
        let n_kept = detail.occurrences.len();
        let Some(name) = n_kept
            .checked_sub(back)
            .and_then(|idx| detail.occurrences.get(idx))
        else {
            let error = anyhow::anyhow!("--occurrence {back}: {n_kept} are kept of this incident");
            return Err(Failure::new(Exit::Usage, error));
        };
        let parameters = [("occurrence", name.name.clone())];
        detail = client
            .get_json(&path, &parameters)
            .await
            .map_err(of_client)?;
    }
    let text = match args.looks.output {
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&detail)?),
        Output::Table => show::page(&detail, &style),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Found)
}

async fn follow(args: Follow, context: &Context) -> Outcome {
    let client = client(args.client, context)?;
    let style = args.looks.style(context)?;
    let path = format!("{PATH}/stream");
    let mut answer = client.get(&path, &[]).await.map_err(of_client)?;
    let mut held = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(of_client)? {
        held.extend_from_slice(&chunk);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            if line.len() <= 1 {
                continue;
            }
            let text = match args.looks.output {
                Output::Json => String::from_utf8_lossy(&line).into_owned(),
                Output::Table => {
                    let change: IncidentChange = serde_json::from_slice(&line)?;
                    table::change(&change, &style)
                }
            };
            let mut out = io::stdout();
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
    }
    Err(Failure::new(
        Exit::Failed,
        anyhow::anyhow!("{} ended the stream; run it again", client.base()),
    ))
}

async fn mute(args: Mute, context: &Context) -> Outcome {
    let client = client(args.client, context)?;
    let request = MuteRequest { r#for: args.r#for };
    for id in &args.ids {
        let path = format!("{PATH}/{}/mute", segment(id));
        let incident: Incident = client.post(&path, &request).await.map_err(of_client)?;
        note(&match incident.muted_until {
            Some(until) => format!("{} is muted until {until}", incident.id),
            None => format!("{} is not muted", incident.id),
        });
    }
    Ok(Exit::Found)
}

async fn export(args: Export, context: &Context) -> Outcome {
    let client = client(args.client, context)?;
    let path = format!("{PATH}/{}/report", segment(&args.id));
    let parameters = [("format", args.format)];
    let mut answer = client.get(&path, &parameters).await.map_err(of_client)?;
    let mut out = io::stdout();
    while let Some(chunk) = answer.chunk().await.map_err(of_client)? {
        out.write_all(&chunk)?;
    }
    Ok(Exit::Found)
}

/// An id as a part of a path.
fn segment(id: &str) -> String {
    let mut text = String::new();
    crate::client::percent_encode(id, &mut text);
    text
}

/// How things are shown.
struct Style {
    now: tawny_model::Timestamp,
    zone: TimeZone,
    is_colored: bool,
    /// Columns of the terminal; `None` where there is none, and lines are not cut.
    width: Option<usize>,
}

impl Looks {
    fn style(&self, context: &Context) -> Result<Style, Failure> {
        let zone = match self.timezone.as_str() {
            "Local" => TimeZone::system(),
            name => TimeZone::get(name)
                .map_err(|_| {
                    anyhow::anyhow!(
                        "--timezone {name:?} is no IANA time zone, such as Europe/Berlin"
                    )
                })
                .or_exit(Exit::Usage)?,
        };
        let env = &context.env;
        Ok(Style {
            now: SystemClock.now(),
            zone,
            is_colored: (self.color).resolve(!env.is_color_allowed(), env.is_color_forced()),
            width: terminal_size::terminal_size_of(io::stdout())
                .map(|(width, _)| usize::from(width.0)),
        })
    }
}

#[cfg(test)]
mod tests;
