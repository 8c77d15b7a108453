//! Alert rules on log content (KL-98): what lines say often enough, or no longer say, becomes an alert.
//!
//! [`Rules`] are read from YAML, [`Watch`] sees every line once as it is admitted and says what fires and what is
//! over, [`sentence`] tells it, [`mod@test`] tries rules on lines a file describes.
//!
//! Lines count at their own time, so that a line means the same however late it is delivered:
//!
//! | the line's time | counts |
//! |---|---|
//! | within the window | at its own time |
//! | before the window, as after a start that catches up | not at all; it is counted as late |
//! | after now, by a wrong clock | now |

mod episode;
mod group;
mod rules;
mod sieve;
mod span;
mod state;
mod tell;
mod template;
pub mod test;
mod threshold;
mod watch;
mod window;
mod yaml;

pub use episode::{Alert, AlertChange, AlertChangeKind, AlertLine, Ended};
pub use rules::{
    DEFAULT_FORGET_AFTER, DEFAULT_MAX_GROUPS, DEFAULT_RESOLVE_AFTER, Rule, Rules, WINDOWS,
};
pub use span::{parse_span, short};
pub use state::State;
pub use tell::sentence;
pub use threshold::Threshold;
pub use watch::{GROUP_BYTES, Tallies, Watch};
pub use yaml::Problem;
