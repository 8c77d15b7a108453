//! One golden case or more per row of the detector table.

mod cluster;
mod deaths;
mod pods;
