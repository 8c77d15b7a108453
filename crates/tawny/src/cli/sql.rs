//! `tawny sql`: one read-only SQL statement to a server, its rows as a table or as data.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use tawny_sql::{
    Encoder, Format,
    output::{ArrowReader, table},
};
use tawny_wire::api::{SQL_TRUNCATED, SqlRequest};

use super::{Context, Exit, Failure, OrExit as _, Outcome, Run, note};
use crate::{
    client::{self, Answer, Client},
    config::{Flags, flags::Group},
};

/// Asks with SQL: `SELECT namespace, count(*) FROM logs WHERE matches('level>=error') GROUP BY 1`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The table is `logs`; `SELECT *` shows its columns, and any other name is a field of the query language, such as
\"label.app\", or an attribute. matches('…') takes a query as `tawny search` does. Nothing can be written.
The exit code is 0 when there are rows, 1 when there are none.")]
pub(crate) struct Args {
    /// The statement; `-` reads it from standard input.
    #[arg(value_name = "SQL")]
    sql: String,
    #[command(flatten)]
    client: Flags<ClientFlags>,
    /// How rows are shown [default: table on a terminal, else json].
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Most rows; the server has a limit of its own [default: the server's, 10000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    /// An object a line.
    Json,
    Csv,
    /// Arrow's IPC stream.
    Arrow,
}

/// How a server is found.
#[derive(Debug, Clone)]
struct ClientFlags;

impl Group for ClientFlags {
    const KEYS: &'static [&'static str] = &["server"];
}

/// Longest statement read from standard input; servers take less.
const MAX_INPUT_BYTES: u64 = 1 << 20;

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        let loaded = context.load(self.client.given())?;
        let client = Client::new(&loaded.config.general.server).or_exit(Exit::Usage)?;
        let sql = if self.sql == "-" {
            let mut sql = String::new();
            io::stdin().take(MAX_INPUT_BYTES).read_to_string(&mut sql)?;
            sql
        } else {
            self.sql
        };
        let is_terminal = io::stdout().is_terminal();
        let output = self.output.unwrap_or(if is_terminal {
            Output::Table
        } else {
            Output::Json
        });
        if output == Output::Arrow && is_terminal {
            return Err(Failure::new(
                Exit::Usage,
                anyhow::anyhow!("-o arrow is not for a terminal; send it to a file or a program"),
            ));
        }
        let request = SqlRequest {
            sql,
            format: Some(Format::Arrow.name().to_owned()),
            limit: self.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        };
        let progress = Progress::begin();
        let answer = client.post_json("/api/v1/sql", &request).await;
        let answer = answer.map_err(of_client)?;
        let n_rows = show(answer, output, &progress).await?;
        Ok(if n_rows == 0 {
            Exit::NothingFound
        } else {
            Exit::Found
        })
    }
}

fn of_client(error: client::Error) -> Failure {
    Failure::new(error.exit(), error)
}

/// Writes the rows as they come, a table once all are there; answers how many there were.
async fn show(mut answer: Answer, output: Output, progress: &Progress) -> Result<usize, Failure> {
    let mut reader = ArrowReader::default();
    let mut printer = Printer::new(output);
    let mut n_rows = 0;
    while let Some(chunk) = answer.chunk().await.map_err(of_client)? {
        for batch in reader.push(&chunk)? {
            n_rows += batch.num_rows();
            progress.rows(n_rows);
            printer.rows(batch)?;
        }
    }
    let is_truncated = answer.said(SQL_TRUNCATED) == Some("true");
    answer.failed().map_err(of_client)?;
    let Some(schema) = reader.schema() else {
        return Err(anyhow::anyhow!("the server's answer holds no columns").into());
    };
    progress.end();
    printer.finish(&schema)?;
    if is_truncated {
        note(&format!(
            "there are more rows than these {n_rows}; --limit takes more"
        ));
    }
    Ok(n_rows)
}

/// Rows on stdout.
struct Printer {
    output: Output,
    /// Made with the first rows.
    encoder: Option<Encoder>,
    /// Rows of a table, whose columns are as wide as the widest.
    held: Vec<tawny_sql::RecordBatch>,
    out: io::Stdout,
}

impl Printer {
    fn new(output: Output) -> Self {
        Self {
            output,
            encoder: None,
            held: Vec::new(),
            out: io::stdout(),
        }
    }

    fn format(&self) -> Option<Format> {
        match self.output {
            Output::Table => None,
            Output::Json => Some(Format::Json),
            Output::Csv => Some(Format::Csv),
            Output::Arrow => Some(Format::Arrow),
        }
    }

    fn rows(&mut self, batch: tawny_sql::RecordBatch) -> Result<(), Failure> {
        let Some(format) = self.format() else {
            self.held.push(batch);
            return Ok(());
        };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new(format, &batch.schema())?),
        };
        self.out.write_all(&encoder.rows(&batch)?)?;
        Ok(())
    }

    fn finish(mut self, schema: &tawny_sql::SchemaRef) -> Result<(), Failure> {
        match self.format() {
            None => writeln!(self.out, "{}", table(Arc::clone(schema), &self.held)?)?,
            Some(format) => {
                let encoder = match self.encoder.take() {
                    Some(encoder) => encoder,
                    None => Encoder::new(format, schema)?,
                };
                self.out.write_all(&encoder.finish()?)?;
            }
        }
        self.out.flush()?;
        Ok(())
    }
}

/// How long it has taken and how many rows have come: on stderr, where it is a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn begin() -> Self {
        let style =
            ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a fixed template");
        // Hidden by itself where standard error is no terminal.
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    fn rows(&self, n_rows: usize) {
        self.0.set_message(format!("{n_rows} rows"));
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
