//! Telling people: from notices of incidents and alerts to messages in chats, webhooks, Alertmanager, files and stdout.
//!
//! `settings` says who is told of what, `desk` decides when (groups, repeats, digests), `message` words it, and
//! `deliver` brings it there. Nothing here makes the teller wait, and no secret leaves unmasked.

mod deliver;
pub mod desk;
mod error;
#[cfg(test)]
mod fake;
pub mod glob;
pub mod mask;
pub mod message;
pub mod metrics;
pub mod notice;
mod notifier;
pub mod settings;
#[cfg(test)]
mod testing;

pub use deliver::Writer;
pub use error::Error;
pub use metrics::NotifyMetrics;
pub use notice::{Kind, Link, Notice, Outgoing};
pub use notifier::{GRACE, Handle, Notifier};
pub use settings::Settings;
