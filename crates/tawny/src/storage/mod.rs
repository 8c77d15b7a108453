//! `tawny storage`: what is in a stored lake, whether it is whole, its entries for other programs, and its files merged.
//!
//! All but `compact` only look: on a store that is stopped, or beside the server that has it open.

mod compact;
mod export;
mod inspect;
mod verify;

use indicatif::{ProgressBar, ProgressStyle};
use tawny_model::Timestamp;
use tawny_query::Query;
use tawny_runtime::{Clock as _, SystemClock};
use tawny_store::Filter;
use tokio::runtime::Handle;

use crate::{
    cli::{Context, Exit, Failure, OrExit as _, Outcome, Run},
    config::{Flags, flags::Group, keys::StoreConfig, value::Engine},
    search, serve,
};

/// Looks into the files of a store, checks them, copies entries out, merges segments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// What is in the store or in one of its segments, and which blocks a query would open.
    Inspect(Box<inspect::Args>),
    /// Checks every byte of the store; exit code 1 when something is damaged.
    Verify(Box<verify::Args>),
    /// Copies entries out, as lines of JSON or as one Parquet file.
    Export(Box<export::Args>),
    /// Merges the segments of each day into one; no server may have the store open.
    Compact(Box<compact::Args>),
}

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        match self.what {
            What::Inspect(args) => inspect::run(*args, &context).await,
            What::Verify(args) => verify::run(*args, &context).await,
            What::Export(args) => export::run(*args, &context).await,
            What::Compact(args) => compact::run(*args, &context).await,
        }
    }
}

/// Which store.
#[derive(Debug)]
struct StoreFlags;

impl Group for StoreFlags {
    const KEYS: &'static [&'static str] = &["store.path", "store.engine"];
    const HEADING: Option<&'static str> = Some("Store");
}

/// The store that is meant, which must be there.
fn store(context: &Context, flags: Flags<StoreFlags>) -> Result<(StoreConfig, Engine), Failure> {
    let config = context.load(flags.given())?.config.store;
    if let Some(url) = serve::bucket_url(&config) {
        return Err(Failure::new(
            Exit::Usage,
            anyhow::anyhow!("this works on directories only, not on the bucket {url}"),
        ));
    }
    if !config.path.exists() {
        return Err(Failure::new(
            Exit::Failed,
            anyhow::anyhow!(
                "there is no store at {}; name it with --db (store.path)",
                config.path.display()
            ),
        ));
    }
    let engine = serve::engine(&config);
    Ok((config, engine))
}

/// [`store`] for a command that only lakes have.
fn lake(
    context: &Context,
    flags: Flags<StoreFlags>,
    command: &str,
) -> Result<StoreConfig, Failure> {
    match store(context, flags)? {
        (config, Engine::Lake) => Ok(config),
        (config, Engine::Sqlite) => Err(Failure::new(
            Exit::Usage,
            anyhow::anyhow!(
                "`{}` is a SQLite store, which has nothing to {command}; search it with `tawny search`, or open it with \
                 sqlite3 (docs/formats/sqlite-v1.md)",
                config.path.display()
            ),
        )),
    }
}

/// Runs what blocks beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce(Handle) -> Result<T, anyhow::Error> + Send + 'static,
) -> Result<T, anyhow::Error> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || work(runtime)).await?
}

/// Which entries.
#[derive(Debug, clap::Args)]
struct Which {
    /// Entries that match this, such as `level>=warn namespace:shop`; nothing means all.
    #[arg(long, value_name = "QUERY")]
    query: Option<String>,
    /// Not older than this: 2h, 3d, or a time as --from takes it.
    #[arg(long, value_name = "AGO", conflicts_with = "from")]
    since: Option<String>,
    /// From this time on: RFC 3339, `2025-01-02 10:00`, 10:00, yesterday.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time.
    #[arg(long, visible_alias = "until", value_name = "TIME")]
    to: Option<String>,
}

impl Which {
    fn is_given(&self) -> bool {
        self.query.is_some() || self.since.is_some() || self.from.is_some() || self.to.is_some()
    }

    /// # Errors
    /// `Usage` for a query or a time that does not parse.
    fn filter(&self) -> Result<Filter, Failure> {
        let zone = jiff::tz::TimeZone::system();
        let moment = |flag: &str, text: &Option<String>, open: Timestamp| {
            let text = text.as_ref().map(|text| {
                search::parse_time(text, SystemClock.now(), &zone)
                    .map_err(|rule| anyhow::anyhow!("{flag} {text:?} {rule}"))
            });
            text.unwrap_or(Ok(open)).or_exit(Exit::Usage)
        };
        let query = match &self.query {
            Some(text) => search::parse_query(text)?,
            None => Query::all(),
        };
        let (flag, from) = match &self.since {
            Some(_) => ("--since", &self.since),
            None => ("--from", &self.from),
        };
        Ok(Filter {
            query,
            from: moment(flag, from, Timestamp::MIN)?,
            to: moment("--to", &self.to, Timestamp::MAX)?,
        })
    }
}

/// Hidden by itself where standard error is no terminal.
fn progress(n: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(n);
    bar.set_style(ProgressStyle::with_template(template).expect("the template is fixed and valid"));
    bar
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Look {
    #[default]
    Table,
    Json,
}

/// Columns lined up, the first to the left and numbers to the right.
fn lined_up(head: &[&str], rows: &[Vec<String>], left: &[usize]) -> String {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in [&head].into_iter().chain(rows) {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| {
            if left.contains(&column) {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["größe".to_owned(), "1000".to_owned()],
        ];
        let text = lined_up(&["NAME", "N"], &rows, &[0]);
        assert_eq!(text, "NAME      N\na         1\ngröße  1000\n");
    }
}
