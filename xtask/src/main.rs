//! Chores of this repository: `cargo run -p xtask -- tidy|codegen`.

mod codegen;
mod tidy;

use std::{path::Path, process::ExitCode};

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies below the repository's root");
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => Ok(report(&tidy::check(root)?)),
        Some("codegen") => codegen::run(root).map(|()| ExitCode::SUCCESS),
        _ => anyhow::bail!("usage: cargo run -p xtask -- tidy|codegen"),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "what a chore has to say goes to the person who ran it"
)]
fn report(problems: &[tidy::Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    ExitCode::from(u8::from(!problems.is_empty()))
}
