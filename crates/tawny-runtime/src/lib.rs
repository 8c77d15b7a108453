//! Supervisor, clock, retry, metrics and telemetry shared by every task
