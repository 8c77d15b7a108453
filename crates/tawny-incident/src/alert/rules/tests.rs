use super::*;

fn problems<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Vec<String> {
    let error = Rules::load(files).unwrap_err();
    assert_eq!(error.remedy(), tawny_model::Remedy::Reject);
    let Error::BadAlerts { problems } = &error else {
        panic!("{error}");
    };
    let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(error.to_string(), told.join("\n"));
    told
}

/// The problems of one rule with this in it, without their place.
fn of_rule(rest: &str) -> Vec<String> {
    let text = format!("rules:\n  - {{name: a, query: x, window: 5m, {rest}}}\n");
    match Rules::load([("r", text.as_str())]) {
        Ok(_) => Vec::new(),
        Err(Error::BadAlerts { problems }) => problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.key, problem.message))
            .collect(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_rule_says_everything_and_little_is_enough() {
    let text = r#"
rules:
  - name: all
    query: namespace:shop timeout
    window: 5m
    threshold: ">= 10"
    group_by: [ns, workload, label.app, trace_id]
    severity: critical
    for: 1m
    resolve_after: 90s
    max_groups: 7
    labels: {team: "{namespace}"}
    annotations: {last: "{line}"}
    summary: "{count} in {{ .label.app }}"
    enabled: false
  - name: little
    query: ""
    window: 1s
  - name: share
    query: level>=error
    of: namespace:shop
    min_lines: 20
    window: 1d
    threshold: 2.5%
  - name: missing
    query: heartbeat
    window: 2h
    threshold: absent
    group_by: pod
"#;
    let rules = Rules::load([("r.yaml", text)]).unwrap();
    assert_eq!(rules.len(), 4);
    let all = rules.get("all").unwrap();
    assert_eq!((&*all.file, all.line), ("r.yaml", 3));
    assert_eq!(all.query.text(), "namespace:shop timeout");
    assert_eq!(all.window, Duration::from_mins(5));
    assert_eq!(all.threshold, Threshold::AtLeast(10));
    let fields: Vec<String> = all.group_by.iter().map(Field::to_string).collect();
    assert_eq!(fields, ["namespace", "workload", "label.app", "trace_id"]);
    assert_eq!(all.severity, Severity::Critical);
    assert_eq!(
        (all.hold, all.resolve_after),
        (Duration::from_mins(1), Duration::from_secs(90))
    );
    assert_eq!((all.max_groups, all.enabled), (7, false));
    let little = rules.get("little").unwrap();
    assert_eq!(little.threshold, Threshold::AtLeast(1));
    assert_eq!((little.severity, little.enabled), (Severity::Medium, true));
    assert_eq!(little.resolve_after, DEFAULT_RESOLVE_AFTER);
    assert_eq!(little.max_groups, DEFAULT_MAX_GROUPS);
    let share = rules.get("share").unwrap();
    assert_eq!(
        (share.threshold, share.min_lines),
        (Threshold::Share(250), 20)
    );
    let missing = rules.get("missing").unwrap();
    assert_eq!(missing.threshold, Threshold::Below(1));
    assert_eq!(
        (&missing.group_by[..], missing.forget_after),
        (&[Field::Pod][..], DAY)
    );
}

#[test]
fn everything_wrong_with_all_files_is_told_at_once_with_its_place() {
    let first = "\
rules:
  - name: one
    query: 'pod:'
    window: 5 minutes please
    treshold: '>= 3'
  - name: two
    query: timeout
    window: 2d
    severity: bad
    group_by: [namespace, namespce]
    summary: 'in {pod}'
";
    let second = "\
# A comment, and a rule of a name that is taken.
rules:

  - {name: two, query: x, window: 5m}
groups: []
";
    assert_eq!(
        problems([
            ("a.yaml", first),
            ("b.yaml", second),
            ("c.yaml", "rules: [\n  a: b: c")
        ]),
        [
            "a.yaml:5:5: rules[0].treshold: unknown key; did you mean `threshold`?",
            "a.yaml:3:12: rules[0].query: column 5: expected a value after \"pod:\", found the end; a field is written name:value without spaces; to find it as text, quote it\n    pod:\n        ^",
            "a.yaml:4:13: rules[0].window: `5 minutes please` is no length of time; write one such as 90s, 5m or 1h30m",
            "a.yaml:8:13: rules[1].window: 2d is out of range; write 1s to 1d",
            "a.yaml:10:27: rules[1].group_by[1]: `namespce` looks like `namespace`; write attr.namespce if an attribute is called so",
            "a.yaml:9:15: rules[1].severity: `bad` is no severity; write low, medium, high or critical",
            "a.yaml:11:14: rules[1].summary: `{pod}` is unknown; known are namespace, rule, severity, count, of, window, threshold, query, line; the name of a field has to be in group_by",
            "b.yaml:5:1: groups: unknown key; known are rules",
            "b.yaml:4:12: rules[0].name: `two` is the name of the rule at a.yaml:6 already",
            "c.yaml:2:7: is no YAML: did not find expected ',' or ']' at line 2 column 7, while parsing a flow sequence at line 1 column 8",
        ]
    );
}

#[test]
fn what_a_rule_must_have_is_asked_for() {
    assert_eq!(
        problems([("r", "rules:\n- {}\n- 5\n")]),
        [
            "r:2:3: rules[0]: has no name; add one such as `name: api-errors`",
            "r:2:3: rules[0]: has no query; add one such as `query: level>=error`",
            "r:2:3: rules[0]: has no window; add one such as `window: 5m`",
            &format!(
                "r:3:3: rules[1]: must be a mapping with the keys {}",
                RULE_KEYS.join(", ")
            ),
        ]
    );
    for text in ["5", "- a", "rules: a"] {
        assert_eq!(problems([("r", text)]).len(), 1, "{text}");
    }
}

#[test]
fn values_out_of_place_are_refused_with_what_to_write() {
    for (rest, said) in [
        (
            "threshold: '>= 0'",
            "rules[0].threshold: `>= 0` is always reached",
        ),
        ("threshold: [1]", "rules[0].threshold: must be a text"),
        (
            "threshold: 5%",
            "rules[0].threshold: is a share: say of which lines",
        ),
        ("of: y", "rules[0].of: needs a threshold that is a share"),
        (
            "of: y, threshold: 5",
            "rules[0].of: goes with a threshold that is a share",
        ),
        (
            "min_lines: 5",
            "rules[0].min_lines: is the least number of lines of `of`",
        ),
        (
            "for: 2d",
            "rules[0].for: 2d is out of range; write 0s to 1d",
        ),
        ("for: 5", "rules[0].for: `5` is no length of time"),
        (
            "resolve_after: -1m",
            "rules[0].resolve_after: `-1m` is no length of time",
        ),
        (
            "forget_after: 1h",
            "rules[0].forget_after: is for rules that watch for too few",
        ),
        (
            "threshold: absent, for: 1m, forget_after: 10m",
            "rules[0].forget_after: 10m is out of range; write 11m",
        ),
        (
            "max_groups: 0",
            "rules[0].max_groups: must be a whole number from 1 to 100000",
        ),
        (
            "enabled: perhaps",
            "rules[0].enabled: must be true or false",
        ),
        (
            "labels: [a]",
            "rules[0].labels: must be a mapping of names to texts",
        ),
        (
            "labels: {a: '{nope}'}",
            "rules[0].labels.a: `{nope}` is unknown",
        ),
        (
            "annotations: {a: [b]}",
            "rules[0].annotations.a: must be a text",
        ),
        (
            "group_by: [pod, pod_name]",
            "rules[0].group_by[1]: `pod` is in the list already",
        ),
        (
            "group_by: ['']",
            "rules[0].group_by[0]: must be the name of a field",
        ),
        (
            "group_by: [a, b, c, d, e, f, g, h, i, j]",
            "rules[0].group_by[8]: has more than 8 fields",
        ),
    ] {
        let problems = of_rule(rest);
        assert!(
            matches!(&problems[..], [one] if one.starts_with(said)),
            "{rest}: {problems:?}"
        );
    }
    assert_eq!(of_rule("group_by: [attr.namespce, code]"), [""; 0]);
}

#[test]
fn names_are_short_plain_and_unique() {
    for name in ["''", "' a'", "\"a\\nb\"", &"x".repeat(101)] {
        let text = format!("rules: [{{name: {name}, query: x, window: 5m}}]");
        let problems = problems([("r", text.as_str())]);
        assert!(
            problems[0].contains("must be 1 to 100 characters"),
            "{problems:?}"
        );
    }
    let ok = format!(
        "rules: [{{name: {}, query: x, window: 5m}}]",
        "ö".repeat(100)
    );
    assert_eq!(Rules::load([("r", ok.as_str())]).unwrap().len(), 1);
}

#[test]
fn a_file_without_rules_has_none() {
    for text in ["", "# nothing yet\n", "rules: []", "rules:"] {
        assert!(Rules::load([("r", text)]).unwrap().is_empty(), "{text:?}");
    }
}

#[test]
fn a_rule_that_counts_something_else_means_something_else() {
    let meaning = |rest: &str| {
        let text = format!("rules: [{{name: a, {rest}}}]");
        Rules::load([("r", text.as_str())])
            .unwrap()
            .get("a")
            .unwrap()
            .meaning()
    };
    let base = meaning("query: x, window: 5m");
    assert_eq!(
        base,
        meaning("query: ' x ', window: 300s, severity: high, for: 3m, labels: {a: b}")
    );
    for other in [
        "query: y, window: 5m",
        "query: x, window: 6m",
        "query: x, window: 5m, threshold: 2",
        "query: x, window: 5m, group_by: [pod]",
        "query: x, window: 5m, of: y, threshold: 1%",
    ] {
        assert_ne!(base, meaning(other), "{other}");
    }
}
