//! `tawny storage verify`: is everything in the store what was written?

use std::{
    io::{self, Write as _},
    path::Path,
};

use tawny_model::ByteSize;
use tawny_store::lake::storage::{Finding, LakeFiles, Verified};

use super::{StoreFlags, blocking, progress, store};
use crate::{
    cli::{Context, Exit, Outcome},
    config::{Flags, value::Engine},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    flags: Flags<StoreFlags>,
}

pub(super) async fn run(args: Args, context: &Context) -> Outcome {
    let (config, engine) = store(context, args.flags)?;
    let (text, is_whole) = blocking(move |runtime| match engine {
        Engine::Lake => {
            let bar = progress(
                0,
                "{elapsed_precise} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
            );
            let verified = LakeFiles::verify(&config.path, runtime, |done, all| {
                bar.set_length(all);
                bar.set_position(done);
            });
            bar.finish_and_clear();
            let verified = verified?;
            Ok((report(&verified), verified.damage().next().is_none()))
        }
        Engine::Sqlite => sqlite(&config.path),
    })
    .await?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(if is_whole { Exit::Found } else { Exit::Damaged })
}

fn sqlite(path: &Path) -> Result<(String, bool), anyhow::Error> {
    let damage = tawny_store::sqlite::verify(path)?;
    if damage.is_empty() {
        let text = "clean: SQLite finds the tables, the text index and all pages in order\n";
        return Ok((text.to_owned(), true));
    }
    let path = path.display();
    let lines = damage
        .iter()
        .map(|what| format!("damage: {path}: {what}\n"));
    Ok((lines.collect(), false))
}

fn report(verified: &Verified) -> String {
    let mut text: String = verified.findings.iter().map(line).collect();
    let n_damaged = verified.damage().count();
    let verdict = match n_damaged {
        0 => "clean".to_owned(),
        1 => "damaged in 1 place".to_owned(),
        n => format!("damaged in {n} places"),
    };
    text.push_str(&format!(
        "{verdict}: {} segments ({} lines, {} pages), {} commits, {} log records, {} in all\n",
        verified.n_segments,
        verified.n_rows,
        verified.n_pages,
        verified.n_commits,
        verified.n_records,
        ByteSize(verified.n_bytes),
    ));
    if verified.n_waiting > 0 {
        text.push_str(&format!(
            "{} files ({}) were merged or deleted and wait for a server to remove them\n",
            verified.n_waiting,
            ByteSize(verified.waiting_bytes)
        ));
    }
    text
}

fn line(finding: &Finding) -> String {
    let Finding {
        path,
        place,
        what,
        means,
        is_damage,
    } = finding;
    let kind = if *is_damage { "damage" } else { "note" };
    let place = match place.as_str() {
        "" => String::new(),
        place => format!("{place}: "),
    };
    format!("{kind}: {path}: {place}{what}; {means}\n")
}
