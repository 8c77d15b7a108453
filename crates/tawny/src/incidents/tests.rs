use tawny_model::Timestamp;
use tawny_wire::api::incidents::{IncidentEvent, IncidentLine, OccurrenceName};

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_763_740_800 + secs)
}

fn style(width: Option<usize>) -> Style {
    Style {
        now: at(180),
        zone: TimeZone::UTC,
        is_colored: false,
        width,
    }
}

fn incident() -> Incident {
    Incident {
        id: "89abcdef01234567-1763740800".to_owned(),
        state: "recurring".to_owned(),
        severity: "high".to_owned(),
        class: "crash".to_owned(),
        sentence:
            "Container web of Deployment shop/api ended with exit code 2, 3 times since 12:00."
                .to_owned(),
        cluster: String::new(),
        namespace: "shop".to_owned(),
        workload: "Deployment/api".to_owned(),
        pod: "api-1".to_owned(),
        pod_uid: "u1".to_owned(),
        container: "web".to_owned(),
        node: "n1".to_owned(),
        count: 3,
        first_at: at(0),
        last_at: at(60),
        resolved_at: None,
        regressions: 0,
        quiet: None,
        parent: None,
        muted_until: None,
    }
}

#[test]
fn a_table_is_cut_at_the_edge_of_a_terminal_only() {
    let wide = table::table(&[incident()], &style(None));
    assert_eq!(
        wide,
        "ID          SEVERITY  STATE      COUNT  LAST    WHAT\n\
         89abcdef01  high      recurring  3      2m ago  Container web of Deployment shop/api ended with exit code 2, 3 times since 12:00.\n"
    );
    let narrow = table::table(&[incident()], &style(Some(70)));
    let line = narrow.lines().nth(1).unwrap();
    assert!(line.ends_with('…') && line.chars().count() == 70, "{line}");
    assert_eq!(table::table(&[], &style(None)), "");
}

#[test]
fn what_is_muted_or_quiet_says_so() {
    let muted = Incident {
        muted_until: Some(at(500)),
        ..incident()
    };
    let child = Incident {
        quiet: Some("child".to_owned()),
        ..incident()
    };
    let text = table::table(&[muted, child], &style(None));
    assert!(
        text.contains("recurring (muted)") && text.contains("recurring (child)"),
        "{text}"
    );
}

#[test]
fn a_change_is_a_line_with_the_last_words_below() {
    let change = IncidentChange {
        change: "recurred".to_owned(),
        id: None,
        incident: Some(incident()),
        last_line: Some("panic: no route\n".to_owned()),
    };
    assert_eq!(
        table::change(&change, &style(None)),
        "2025-11-21 16:01:00  recurred    89abcdef01  Container web of Deployment shop/api ended with exit code 2, 3 times since 12:00.\n    \
         last line: panic: no route\n"
    );
    let missed = IncidentChange {
        change: "missed".to_owned(),
        id: None,
        incident: None,
        last_line: None,
    };
    assert!(table::change(&missed, &style(None)).starts_with("some changes were missed"));
}

#[test]
fn a_page_tells_what_happened_in_order_and_cleans_what_a_program_wrote() {
    let line = |secs, message: &str| IncidentLine {
        timestamp: at(secs),
        message: message.to_owned(),
    };
    let event = |secs, reason: &str, count| IncidentEvent {
        timestamp: at(secs),
        object: "Pod/api-1".to_owned(),
        reason: reason.to_owned(),
        message: "m".to_owned(),
        count,
    };
    let name = |n: i64| OccurrenceName {
        name: format!("o{n}"),
        at: at(n),
    };
    let detail = IncidentDetail {
        incident: incident(),
        facts: vec![("exit code".to_owned(), "2".to_owned())],
        hints: vec!["Read the panic.".to_owned()],
        occurrences: vec![name(0), name(60)],
        shown: Some("o60".to_owned()),
        lines_from: Some("store".to_owned()),
        last_lines: vec![line(59, "\x1b[31mpanic\x1b[0m: no\u{7} route")],
        previous_lines: vec![line(1, "before")],
        events: vec![event(58, "Pulled", 1), event(61, "BackOff", 4)],
        node_conditions: Vec::new(),
        memory: Some(tawny_wire::api::incidents::MemorySeries {
            limit: Some(64 << 20),
            samples: vec![8 << 20, 32 << 20, 64 << 20],
        }),
        query: Some("pod_uid:u1 container:web restart:2".to_owned()),
    };
    let page = show::page(&detail, &style(None));
    let order = [
        "HIGH  recurring",
        "exit code 2",
        "What to look at",
        "- Read the panic.",
        "▁▄█  peak 64MiB of 64MiB",
        "Timeline",
        "Pod/api-1  Pulled: m\n",
        "◆ it happened",
        "BackOff: m (x4)",
        "The run before ended with",
        "Last lines (collected)",
        "  16:00:59.000  panic: no route\n",
        "2 occurrences are kept",
        "tawny search 'pod_uid:u1 container:web restart:2'",
    ];
    let mut rest = page.as_str();
    for part in order {
        let Some((_, behind)) = rest.split_once(part) else {
            panic!("`{part}` is not where it should be in:\n{page}");
        };
        rest = behind;
    }
    assert!(!page.contains('\u{1b}'), "{page:?}");
}
