//! Supervisor, clock, retry, metrics and telemetry shared by every task.

pub mod clock;
pub mod retry;
pub mod supervise;

pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use prometheus_client::registry::Registry;
pub use retry::Backoff;
pub use supervise::{OnExit, Outcome, Stage, StopTimeout, Supervisor};
pub use tokio_util::sync::CancellationToken;
