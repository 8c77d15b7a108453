//! What predicates become, read off the plans of statements.

use crate::run::tests::{Engine, plan_of, store_of};

/// What is put to the store, and what is left to do above it.
async fn pushed(predicate: &str) -> (String, bool) {
    let (_dir, store) = store_of(Engine::Sqlite, Vec::new()).await;
    let plan = plan_of(store, &format!("SELECT id FROM logs WHERE {predicate}")).await;
    let scan = plan
        .lines()
        .find(|line| line.contains("LogsExec"))
        .unwrap_or("none");
    let (_, after) = scan.split_once("query=[").unwrap_or(("", scan));
    (after.trim_end().to_owned(), plan.contains("FilterExec"))
}

#[tokio::test]
async fn predicates_become_queries() {
    for (predicate, query) in [
        ("namespace = '500'", r#"namespace:500]"#),
        ("severity = 'error'", "level:error]"),
        (
            "severity IN ('error', 'fatal')",
            "level:error OR level:fatal]",
        ),
        ("severity_number >= 5", "level:error OR level:fatal]"),
        (
            "severity_number BETWEEN 4 AND 5",
            "(level:warn OR level:error OR level:fatal) (level:unknown OR level:trace OR level:debug OR level:info OR level:warn OR level:error)]",
        ),
        ("restart = 1", "restart==1]"),
        ("output <> 'stdout'", "output:stderr]"),
        ("status IS NOT NULL", "status:*]"),
        ("status IS NULL", "-status:*]"),
        ("status = '500'", "status:500]"),
        ("status <> '500'", "status:* -status:500]"),
        (
            r#""label.app" = 'web'"#,
            r#"label.app:web label.app:/\A(?:web)\z/]"#,
        ),
        (
            "message LIKE '%refused%'",
            r#"*refused* /(?s)\A.*refused.*\z/]"#,
        ),
        ("message ~ 'time(d )?out'", "/time(d )?out/]"),
        ("matches('timeout level>=warn')", "timeout level>=warn]"),
        ("NOT matches('timeout')", "-timeout]"),
        (
            "matches('timeout') OR namespace = '1'",
            "timeout OR namespace:1]",
        ),
        (
            "timestamp >= '2026-01-31T12:00:00.000000001Z'",
            "*], from=2026-01-31T12:00:00.000000001Z",
        ),
        (
            "timestamp < '2026-01-31T12:00:00Z' AND status = '1'",
            "status:1], to=2026-01-31T12:00:00.000000000Z",
        ),
    ] {
        assert_eq!(
            pushed(predicate).await,
            (query.to_owned(), false),
            "{predicate}"
        );
    }
}

#[tokio::test]
async fn what_is_not_said_exactly_is_looked_at_again() {
    for (predicate, query) in [
        ("CAST(duration_ms AS DOUBLE) > 500", "duration_ms:*]"),
        ("status > '4'", "status:*]"),
        ("length(message) > 10", "*]"),
        ("length(message) > 10 AND restart = 1", "restart==1]"),
        ("status = '500' OR length(message) > 10", "*]"),
        ("message ILIKE '%Refused%'", r#"/(?s)\A.*Refused.*\z/i]"#),
    ] {
        assert_eq!(
            pushed(predicate).await,
            (query.to_owned(), true),
            "{predicate}"
        );
    }
}
