//! Findings, and how they are written.

use std::fmt::Write as _;

use serde::Serialize;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Ok,
    /// Works, with something given up.
    Note,
    Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    grade: Grade,
    topic: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// Everything that was looked at, in that order.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn ok(&mut self, topic: &'static str, text: impl Into<String>) {
        self.push(Grade::Ok, topic, text.into(), None);
    }

    pub(super) fn note(
        &mut self,
        topic: &'static str,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Grade::Note, topic, text.into(), Some(fix.into()));
    }

    pub(super) fn problem(
        &mut self,
        topic: &'static str,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Grade::Problem, topic, text.into(), Some(fix.into()));
    }

    /// A failure whose text ends with its own way out.
    pub(super) fn failure(&mut self, topic: &'static str, text: impl Into<String>) {
        self.push(Grade::Problem, topic, text.into(), None);
    }

    fn push(&mut self, grade: Grade, topic: &'static str, text: String, fix: Option<String>) {
        self.findings.push(Finding {
            grade,
            topic,
            text,
            fix,
        });
    }

    pub(super) fn has_problem(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.grade == Grade::Problem)
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let mark = match finding.grade {
                Grade::Ok => "ok  ",
                Grade::Note => "note",
                Grade::Problem => "FAIL",
            };
            writeln!(text, "{mark}  {:<14} {}", finding.topic, finding.text)
                .expect("a String takes any text");
            if let Some(fix) = &finding.fix {
                writeln!(text, "{:>20} {fix}", "fix:").expect("a String takes any text");
            }
        }
        text
    }

    pub(super) fn to_json(&self) -> String {
        let findings =
            serde_json::to_value(&self.findings).expect("findings are texts, which all serialise");
        format!("{findings:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_written_with_their_fix() {
        let mut report = Report::default();
        report.ok("runtime", "docker");
        assert!(!report.has_problem());
        report.note("node", "no name", "set NODE_NAME");
        assert!(!report.has_problem());
        report.problem("access", "may not get pods/log", "add a rule");
        assert!(report.has_problem());
        assert_eq!(
            report.to_text(),
            "ok    runtime        docker\n\
             note  node           no name\n                fix: set NODE_NAME\n\
             FAIL  access         may not get pods/log\n                fix: add a rule\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json[2]["grade"], "problem");
        assert_eq!(json[0].get("fix"), None);
    }
}
