//! Entries on stdout, in the looks that were asked for.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Stdout, Write as _},
};

use jiff::tz::TimeZone;
use tawny_model::LogEntry;
use tawny_wire::api;

use super::args::Args;
use crate::{
    cli::{Exit, Failure, OrExit as _},
    config::env::Env,
    render::{Highlight, Line, Output, Palette, Renderer, RendererConfig},
};

/// Writes entries; what is written is complete lines.
#[derive(Debug)]
pub(super) struct Printer {
    renderer: Renderer,
    /// With every field a stored entry has, which is more than a line of a live pod has.
    is_json: bool,
    out: BufWriter<Stdout>,
    text: String,
}

impl Printer {
    /// # Errors
    /// `Usage` for a template or pattern that does not parse.
    pub(super) fn new(args: &Args, env: &Env, time_zone: TimeZone) -> Result<Self, Failure> {
        let looks = &args.looks;
        let is_colored = looks
            .color
            .resolve(!env.is_color_allowed(), env.is_color_forced());
        let highlight = if is_colored {
            Highlight::new(&looks.highlight).or_exit(Exit::Usage)?
        } else {
            Highlight::default()
        };
        let is_one_namespace = args.namespace.len() == 1
            && !args.namespace.iter().any(|name| name.contains(['*', '?']));
        let renderer = Renderer::new(RendererConfig {
            output: looks.output,
            template: looks.template.clone(),
            is_colored,
            palette: Palette::new(false),
            timestamps: looks.times(),
            time_zone,
            shows_namespace: !is_one_namespace,
            highlight,
        })
        .or_exit(Exit::Usage)?;
        Ok(Self {
            renderer,
            is_json: looks.output == Output::Json && looks.template.is_none(),
            out: BufWriter::new(io::stdout()),
            text: String::new(),
        })
    }

    pub(super) fn entries<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a LogEntry>,
    ) -> Result<(), Failure> {
        for entry in entries {
            self.entry(entry)?;
        }
        Ok(())
    }

    pub(super) fn entry(&mut self, entry: &LogEntry) -> Result<(), Failure> {
        self.text.clear();
        if self.is_json {
            self.text = serde_json::to_string(&api::Entry::from(entry))?;
            self.text.push('\n');
        } else {
            let stream = &*entry.stream;
            let line = Line {
                timestamp: entry.timestamp,
                message: &entry.message,
                node: &stream.node,
                namespace: &stream.namespace,
                pod: &stream.pod,
                container: stream.container(),
                labels: &stream.labels,
                // Annotations are not stored.
                annotations: const { &BTreeMap::new() },
            };
            self.renderer.line(&line, &mut self.text)?;
        }
        self.out.write_all(self.text.as_bytes())?;
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
