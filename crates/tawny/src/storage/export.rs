//! `tawny storage export`: entries for other programs.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use indicatif::ProgressBar;
use tawny_model::LogEntry;
use tawny_store::{
    Filter,
    lake::storage::{LakeFiles, ParquetExport},
};
use tawny_wire::api;
use tokio::runtime::Handle;

use super::{StoreFlags, Which, blocking, lake, progress};
use crate::{
    cli::{Context, Exit, Outcome, note},
    config::Flags,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Lines of JSON as `search -o json` shows them, or a plain Parquet file [default: what the name of the file says].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file to write, there once all of it is; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    which: Which,
    /// Leave out what is damaged, and say what that was, instead of ending there.
    #[arg(long)]
    skip_damaged: bool,
    #[command(flatten)]
    flags: Flags<StoreFlags>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Ndjson,
    Parquet,
}

pub(super) async fn run(args: Args, context: &Context) -> Outcome {
    let Args {
        format,
        output,
        which,
        skip_damaged,
        flags,
    } = args;
    let config = lake(context, flags, "export")?;
    let filter = which.filter()?;
    let is_named_parquet = output.extension().is_some_and(|ending| ending == "parquet");
    let format = format.unwrap_or(if is_named_parquet {
        Format::Parquet
    } else {
        Format::Ndjson
    });
    let copied = blocking(move |runtime| {
        let copy = Copy {
            root: &config.path,
            filter: &filter,
            skip_damaged,
            format,
        };
        if output.as_os_str() == "-" {
            return copy
                .to(BufWriter::new(io::stdout()), runtime)
                .map(|(_, copied)| copied);
        }
        // Under another name until it is whole; with the rights any new file has.
        let directory = output.parent().filter(|parent| *parent != Path::new(""));
        let staged = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory.unwrap_or_else(|| Path::new(".")))?;
        let (file, copied) = copy.to(BufWriter::new(staged), runtime)?;
        let staged = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let file: File = staged.persist(&output)?;
        file.sync_all()?;
        Ok(copied)
    })
    .await?;
    for (error, n_rows) in &copied.damaged {
        note(&format!("left out {n_rows} entries: {error}"));
    }
    Ok(match copied {
        Copied { damaged, .. } if !damaged.is_empty() => Exit::Damaged,
        Copied { n_entries: 0, .. } => Exit::NothingFound,
        Copied { .. } => Exit::Found,
    })
}

struct Copy<'a> {
    root: &'a Path,
    filter: &'a Filter,
    skip_damaged: bool,
    format: Format,
}

#[derive(Debug, Default)]
struct Copied {
    n_entries: u64,
    /// What was left out, and how many entries that may be.
    damaged: Vec<(tawny_store::Error, u64)>,
}

impl Copy<'_> {
    fn to<W: Write + Send>(
        &self,
        mut out: W,
        runtime: Handle,
    ) -> Result<(W, Copied), anyhow::Error> {
        match self.format {
            Format::Ndjson => {
                let copied = self.each(runtime, |entry| {
                    // As an error of its own kind, so that a reader that has gone is told from a failure.
                    serde_json::to_writer(&mut out, &api::Entry::from(entry))
                        .map_err(io::Error::from)?;
                    out.write_all(b"\n")?;
                    Ok(())
                })?;
                out.flush()?;
                Ok((out, copied))
            }
            Format::Parquet => {
                let mut export = ParquetExport::new(out)?;
                let copied = self.each(runtime, |entry| Ok(export.push(entry)?))?;
                let mut out = export.finish()?;
                out.flush()?;
                Ok((out, copied))
            }
        }
    }

    fn each(
        &self,
        runtime: Handle,
        mut put: impl FnMut(&LogEntry) -> Result<(), anyhow::Error>,
    ) -> Result<Copied, anyhow::Error> {
        let entries = LakeFiles::entries(self.root, runtime)?;
        let bar: ProgressBar = progress(
            entries.n_rows(),
            "{elapsed_precise} {wide_bar} {pos}/{len} entries {per_sec} eta {eta}",
        );
        let mut copied = Copied::default();
        let mut damaged = Vec::new();
        let walked = entries.for_each(
            self.filter,
            |entry| {
                copied.n_entries += 1;
                put(&entry)
            },
            |error, n_rows| {
                if self.skip_damaged {
                    damaged.push((error, n_rows));
                    return Ok(());
                }
                Err(anyhow::Error::from(error).context(
                    "--skip-damaged copies the rest; `tawny storage verify` names all damage",
                ))
            },
            |n_passed| bar.inc(n_passed),
        );
        bar.finish_and_clear();
        walked?;
        copied.damaged = damaged;
        Ok(copied)
    }
}
