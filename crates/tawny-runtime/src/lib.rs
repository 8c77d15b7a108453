//! Supervisor, clock, retry, metrics and telemetry shared by every task.

pub mod clock;
pub mod duration;
pub mod metrics;
pub mod retry;
pub mod signals;
pub mod supervise;
pub mod telemetry;

pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use prometheus_client::registry::Registry;
pub use retry::Backoff;
pub use signals::{StopSignal, StopSignals};
pub use supervise::{OnExit, Outcome, Overrun, Stage, StopTimeout, Supervisor};
pub use tokio_util::sync::CancellationToken;
