//! Watches a cluster: records its events, finds what went wrong, and freezes what is known of it.
//!
//! `watch` reads the Kubernetes API and asks `tawny-incident` about each change, `world` holds what is known meanwhile,
//! `keep` holds the incidents, `capture` finds the last lines of what died, `vitals` measures node and containers.

mod archive;
pub mod bundle;
mod capture;
mod error;
mod health;
mod keep;
mod metrics;
mod record;
pub mod vitals;
mod watch;
mod world;

pub use archive::{Archive, ArchiveError};
pub use bundle::{Bundle, BundleName, LinesFrom};
pub use capture::Vitals;
pub use error::Error;
pub use health::{Indicator, WatchHealth, WatchState};
pub use keep::{Incidents, KeepLimits, Told, Wanted};
pub use metrics::WatchMetrics;
pub use record::{EVENT_CONTAINER, EVENT_SOURCE};
pub use watch::{ClusterWatch, WatchSettings};
