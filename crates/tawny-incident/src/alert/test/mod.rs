//! Tries rules on lines that a file describes: what fires when, without a cluster and without waiting.

mod file;

use std::{fmt, time::Duration};

use tawny_model::Timestamp;

use self::file::{Case, Expectation, load};
use super::{
    episode::{AlertChange, AlertChangeKind},
    span::short,
    tell::sentence,
    watch::Watch,
    yaml::Problem,
};
use crate::Error;

/// When every test begins: midnight of the first of January 2026, a round number in every window.
const START: Timestamp = Timestamp::from_secs(1_767_225_600);

/// What became of the tests of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub tests: Vec<Outcome>,
}

/// What became of one test.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub name: String,
    /// Expectations that were not met, each with its place; empty for a test that passed.
    pub failures: Vec<Problem>,
    /// What happened, and how long after the start.
    pub happened: Vec<(Duration, AlertChange)>,
}

impl Report {
    pub fn is_passed(&self) -> bool {
        self.tests.iter().all(|test| test.failures.is_empty())
    }
}

/// A line for each test; for one that failed what was expected and what happened instead; at the end the sum.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for test in &self.tests {
            if test.failures.is_empty() {
                writeln!(f, "ok    {}", test.name)?;
                continue;
            }
            writeln!(f, "FAIL  {}", test.name)?;
            for failure in &test.failures {
                writeln!(f, "      {failure}")?;
            }
            if test.happened.is_empty() {
                writeln!(f, "      nothing fired")?;
            }
            for (after, change) in &test.happened {
                writeln!(f, "      after {:<8} {}", short(*after), sentence(change))?;
            }
        }
        let n_failed = self
            .tests
            .iter()
            .filter(|test| !test.failures.is_empty())
            .count();
        write!(
            f,
            "{} passed, {n_failed} failed",
            self.tests.len() - n_failed
        )
    }
}

/// Runs the tests of a file, given by name and text; `read` gives the text of the rule files it names.
///
/// # Errors
/// `Reject`: [`Error::BadAlerts`] with every problem of the file and of the rule files.
pub fn run(
    file: &str,
    text: &str,
    read: impl FnMut(&str) -> Result<String, String>,
) -> Result<Report, Error> {
    let cases = load(file, text, read)?;
    let tests = cases.iter().map(run_case).collect();
    Ok(Report { tests })
}

fn run_case(case: &Case) -> Outcome {
    let mut watch = Watch::new(&case.rules, START);
    let mut history: Vec<AlertChange> = Vec::new();
    let mut failures = Vec::new();
    let mut lines = case.lines.iter().peekable();
    for expectation in &case.expectations {
        while let Some(line) = lines.next_if(|line| line.arrives <= expectation.at) {
            let now = START.saturating_add(line.arrives);
            history.extend(watch.tick(now));
            history.extend(watch.admit_entry(&line.entry(START), now));
        }
        history.extend(watch.tick(START.saturating_add(expectation.at)));
        failures.extend(expectation.check(&history));
    }
    for line in lines {
        let now = START.saturating_add(line.arrives);
        history.extend(watch.tick(now));
        history.extend(watch.admit_entry(&line.entry(START), now));
    }
    let unexpected = |change: &&AlertChange| {
        change.kind == AlertChangeKind::Fired
            && !case
                .expectations
                .iter()
                .any(|known| *known.rule == *change.alert.rule)
    };
    failures.extend(history.iter().filter(unexpected).map(|change| Problem {
        message: format!("`{}` fires, and no expectation names it", change.alert.rule),
        ..case.place.clone()
    }));
    Outcome {
        name: case.name.clone(),
        failures,
        happened: history
            .into_iter()
            .map(|change| (change.at.saturating_since(START), change))
            .collect(),
    }
}

impl Expectation {
    /// What is not as expected, given all that happened so far.
    fn check(&self, history: &[AlertChange]) -> Vec<Problem> {
        let mut n_fired = 0;
        let mut n_firing = 0;
        for change in history.iter().filter(|change| self.is_about(change)) {
            match change.kind {
                AlertChangeKind::Fired => {
                    n_fired += 1;
                    n_firing += 1;
                }
                AlertChangeKind::Resolved(_) => n_firing -= 1,
                AlertChangeKind::Worse => {}
            }
        }
        let fires = n_firing > 0;
        let mut failures = Vec::new();
        let mut fail = |message: String| {
            failures.push(Problem {
                message,
                ..self.place.clone()
            });
        };
        let at = short(self.at);
        let rule = &self.rule;
        match self.fires {
            Some(true) if !fires => fail(format!("at {at} `{rule}` should fire and is quiet")),
            Some(false) if fires => fail(format!("at {at} `{rule}` should be quiet and fires")),
            _ => {}
        }
        if let Some(times) = self.times.filter(|times| *times != n_fired) {
            fail(format!(
                "by {at} `{rule}` should have fired {times} times, it fired {n_fired} times"
            ));
        }
        failures
    }

    fn is_about(&self, change: &AlertChange) -> bool {
        let has = |(name, wanted): &(String, String)| {
            let group = &change.alert.group;
            group
                .iter()
                .any(|(known, value)| known == name && **value == **wanted)
        };
        *change.alert.rule == *self.rule && self.group.iter().all(has)
    }
}

#[cfg(test)]
mod tests;
