//! Selection as tables: rule, subject, answer.

use super::*;

const SUBJECT: Subject<'_> = Subject {
    namespace: "shop",
    pod: "web-1",
    pod_uid: "u1",
    container: "app",
};

fn config(change: impl FnOnce(&mut SelectionConfig)) -> Selection {
    let mut config = SelectionConfig::default();
    change(&mut config);
    Selection::build(&config, OwnPod::default()).unwrap()
}

fn map(pairs: &[(&str, &str)]) -> StringMap {
    pairs
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn exclusion_of_a_namespace_wins_over_inclusion() {
    for (include, exclude, expected) in [
        (&[][..], &[][..], None),
        (&["shop"], &[], None),
        (&["sh*"], &[], None),
        (&["other"], &[], Some(Why::NamespaceNotIncluded)),
        (&[], &["shop"], Some(Why::NamespaceExcluded)),
        (&["shop"], &["s*p"], Some(Why::NamespaceExcluded)),
        (&[], &["sho", "hop"], None),
        (&[], &["s.op"], None),
    ] {
        let selection = config(|config| {
            config.include_namespaces = strings(include);
            config.exclude_namespaces = strings(exclude);
        });
        let expected = expected.map_or(Verdict::Collect(Why::PathAlone), Verdict::Skip);
        assert_eq!(
            selection.decide(SUBJECT, Facts::Unknown),
            expected,
            "KL-27: {include:?} {exclude:?}"
        );
    }
}

#[test]
fn containers_are_chosen_by_expression() {
    for (include, exclude, expected) in [
        (Some("^app$"), None, None),
        (Some("side"), None, Some(Why::ContainerNotIncluded)),
        (Some("a"), Some("pp"), Some(Why::ContainerExcluded)),
    ] {
        let selection = config(|config| {
            config.include_containers = include.map(str::to_owned);
            config.exclude_containers = exclude.map(str::to_owned);
        });
        let expected = expected.map_or(Verdict::Collect(Why::PathAlone), Verdict::Skip);
        assert_eq!(
            selection.decide(SUBJECT, Facts::Unknown),
            expected,
            "{include:?} {exclude:?}"
        );
    }
    let broken = SelectionConfig {
        include_containers: Some("(".to_owned()),
        ..SelectionConfig::default()
    };
    assert!(Selection::build(&broken, OwnPod::default()).is_err());
}

#[test]
fn marks_of_every_family_are_honoured() {
    let marked = |key| Some(Why::Marked { key });
    for (labels, annotations, namespace_labels, expected) in [
        (&[][..], &[][..], &[][..], None),
        (
            &[("tawny.dev/exclude", "true")],
            &[],
            &[],
            marked("tawny.dev/exclude"),
        ),
        (
            &[],
            &[("tawny.dev/exclude", "true")],
            &[],
            marked("tawny.dev/exclude"),
        ),
        (&[("tawny.dev/exclude", "false")], &[], &[], None),
        (
            &[("vector.dev/exclude", "true")],
            &[],
            &[],
            marked("vector.dev/exclude"),
        ),
        (
            &[],
            &[],
            &[("vector.dev/exclude", "true")],
            marked("vector.dev/exclude"),
        ),
        (
            &[],
            &[],
            &[("tawny.dev/exclude", "true")],
            marked("tawny.dev/exclude"),
        ),
        (&[("kail.ignore", "true")], &[], &[], marked("kail.ignore")),
        (
            &[],
            &[("fluentbit.io/exclude", "True")],
            &[],
            marked("fluentbit.io/exclude"),
        ),
        (
            &[],
            &[("fluentbit.io/exclude-app", "true")],
            &[],
            marked("fluentbit.io/exclude-<container>"),
        ),
        (&[], &[("fluentbit.io/exclude-other", "true")], &[], None),
        (
            &[],
            &[("tawny.dev/exclude-containers", "side, app")],
            &[],
            marked("tawny.dev/exclude-containers"),
        ),
        (
            &[],
            &[("vector.dev/exclude-containers", "app")],
            &[],
            marked("vector.dev/exclude-containers"),
        ),
        (
            &[],
            &[("vector.dev/exclude-containers", "application")],
            &[],
            None,
        ),
        (
            &[("tawny.dev/collect", "false")],
            &[],
            &[],
            marked("tawny.dev/collect"),
        ),
        (&[("tawny.dev/collect", "true")], &[], &[], None),
        (
            &[("tawny.dev/collect", "true")],
            &[("vector.dev/exclude", "true")],
            &[],
            marked("vector.dev/exclude"),
        ),
    ] {
        let facts = PodFacts {
            labels: map(labels),
            annotations: map(annotations),
            namespace_labels: map(namespace_labels),
            ..PodFacts::default()
        };
        let verdict = config(|_| ()).decide(SUBJECT, Facts::Known(&facts));
        let expected = expected.map_or(Verdict::Collect(Why::NoRuleAgainst), Verdict::Skip);
        assert_eq!(
            verdict, expected,
            "§7 row 15: {labels:?} {annotations:?} {namespace_labels:?}"
        );
    }
}

#[test]
fn opt_in_asks_for_a_label() {
    let selection = config(|config| config.opt_in = true);
    for (labels, is_collected) in [
        (&[][..], false),
        (&[("strixlog.io/collect", "true")], true),
        (&[("tawny.dev/collect", "true")], true),
        (&[("strixlog.io/collect", "no")], false),
    ] {
        let facts = PodFacts {
            labels: map(labels),
            ..PodFacts::default()
        };
        assert_eq!(
            selection.decide(SUBJECT, Facts::Known(&facts)).is_collect(),
            is_collected,
            "SX-21: {labels:?}"
        );
    }
    assert_eq!(
        selection.decide(SUBJECT, Facts::Unknown),
        Verdict::Skip(Why::FactsMissing)
    );
}

#[test]
fn selectors_look_at_labels_and_fields() {
    let selection = config(|config| {
        config.label_selector = "app in (web, api)".to_owned();
        config.field_selector = "status.phase!=Succeeded,metadata.name=web-1".to_owned();
    });
    let facts = |app: &str, phase: &str| PodFacts {
        name: "web-1".into(),
        labels: map(&[("app", app)]),
        fields: map(&[("status.phase", phase)]),
        ..PodFacts::default()
    };
    assert!(
        selection
            .decide(SUBJECT, Facts::Known(&facts("api", "Running")))
            .is_collect()
    );
    assert!(matches!(
        selection.decide(SUBJECT, Facts::Known(&facts("db", "Running"))),
        Verdict::Skip(Why::LabelsDoNotMatch { .. })
    ));
    assert!(matches!(
        selection.decide(SUBJECT, Facts::Known(&facts("web", "Succeeded"))),
        Verdict::Skip(Why::FieldsDoNotMatch { .. })
    ));
    assert_eq!(selection.decide(SUBJECT, Facts::Pending), Verdict::Wait);
}

#[test]
fn own_pod_is_never_read() {
    let own = |uid: &str, namespace: &str, name: &str| OwnPod {
        uid: uid.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    for (own, is_own) in [
        (own("u1", "", ""), true),
        (own("", "", "web-1"), true),
        (own("", "shop", "web-1"), true),
        (own("", "other", "web-1"), false),
        (own("", "", ""), false),
        (own("u2", "", "web-2"), false),
    ] {
        let selection = Selection::build(&SelectionConfig::default(), own.clone()).unwrap();
        let verdict = selection.decide(SUBJECT, Facts::Pending);
        assert_eq!(
            verdict == Verdict::Skip(Why::OwnPod),
            is_own,
            "SX-13: {own:?}"
        );
    }
}

#[test]
fn without_facts_only_rules_that_need_them_keep_a_pod_out() {
    assert_eq!(
        config(|_| ()).decide(SUBJECT, Facts::Unknown),
        Verdict::Collect(Why::PathAlone)
    );
    let selection = config(|config| config.label_selector = "app".to_owned());
    assert_eq!(
        selection.decide(SUBJECT, Facts::Unknown),
        Verdict::Skip(Why::FactsMissing)
    );
}
