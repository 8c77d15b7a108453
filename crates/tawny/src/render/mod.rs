//! How a line is shown on a terminal: stern's looks and names, so that its users and their templates feel at home.

mod color;
mod highlight;
mod output;
mod template;

pub(crate) use color::{ColorChoice, Palette, Sgr};
pub(crate) use highlight::Highlight;
pub(crate) use output::{Line, Marker, Output, Renderer, RendererConfig, TimestampFormat};
