use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::Severity;

fn alert(threshold: Threshold, count: u64, group: &[(&str, &str)]) -> Alert {
    Alert {
        id: String::new(),
        key: String::new(),
        rule: "checkout".into(),
        severity: Severity::High,
        group: group
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect(),
        count,
        of: None,
        query: "timeout".to_owned(),
        window: Duration::from_mins(5),
        threshold,
        since: Timestamp::from_secs(100),
        fired_at: Timestamp::from_secs(100),
        lines: Vec::new(),
        summary: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

fn told(kind: AlertChangeKind, alert: Alert) -> String {
    let at = Timestamp::from_secs(100 + 720);
    sentence(&AlertChange { at, kind, alert })
}

#[test]
fn an_alert_reads_like_a_sentence() {
    use AlertChangeKind::{Fired, Resolved, Worse};
    let shop = [("namespace", "shop")];
    for (kind, alert, expected) in [
        (
            Fired,
            alert(Threshold::AtLeast(10), 12, &shop),
            "checkout: 12 lines of `timeout` in 5m (≥ 10) in namespace shop",
        ),
        (
            Fired,
            alert(Threshold::AtLeast(1), 1, &[]),
            "checkout: 1 line of `timeout` in 5m",
        ),
        (
            Fired,
            alert(
                Threshold::AtLeast(2),
                3,
                &[("pod", "a"), ("status", "500"), ("node", "")],
            ),
            "checkout: 3 lines of `timeout` in 5m (≥ 2) in pod a, no node with status 500",
        ),
        (
            Worse,
            alert(Threshold::AtLeast(10), 120, &shop),
            "checkout: by now 120 lines of `timeout` in 5m (≥ 10) in namespace shop",
        ),
        (
            Fired,
            alert(Threshold::Below(1), 0, &shop),
            "checkout: no line of `timeout` in 5m in namespace shop",
        ),
        (
            Fired,
            alert(Threshold::Below(5), 0, &[]),
            "checkout: no line of `timeout` in 5m (< 5)",
        ),
        (
            Fired,
            alert(Threshold::Below(5), 1, &[]),
            "checkout: only 1 line of `timeout` in 5m (< 5)",
        ),
        (
            Fired,
            Alert {
                of: Some(80),
                ..alert(Threshold::Share(500), 12, &shop)
            },
            "checkout: 15.0% of 80 lines are `timeout` in 5m (≥ 5%) in namespace shop",
        ),
        (
            Resolved(Ended::Calm),
            alert(Threshold::AtLeast(10), 57, &shop),
            "checkout: over after 12m in namespace shop; at most 57 lines of `timeout` in 5m",
        ),
        (
            Resolved(Ended::Calm),
            alert(Threshold::Below(1), 0, &[]),
            "checkout: over after 12m; lines of `timeout` come again",
        ),
        (
            Resolved(Ended::Forgotten),
            alert(Threshold::Below(1), 0, &[]),
            "checkout: over after 12m; no line came for so long that nobody waits any more",
        ),
        (
            Resolved(Ended::RuleChanged),
            alert(Threshold::AtLeast(1), 1, &[]),
            "checkout: over after 12m; its rule is gone or was changed",
        ),
    ] {
        assert_eq!(told(kind, alert), expected);
    }
}

#[test]
fn a_long_or_odd_query_stays_one_short_line() {
    let mut odd = alert(Threshold::AtLeast(1), 2, &[]);
    odd.query = format!("a\n b {}", "ö".repeat(100));
    let text = told(AlertChangeKind::Fired, odd.clone());
    assert!(
        text.contains(&format!("`a b {}…`", "ö".repeat(76))),
        "{text}"
    );
    odd.query.clear();
    assert_eq!(
        told(AlertChangeKind::Fired, odd),
        "checkout: 2 lines of any text in 5m"
    );
}
