use super::*;

const RULES: &str = include_str!("../../../../../testdata/alerts/example.yaml");
const TESTS: &str = include_str!("../../../../../testdata/alerts/example.tests.yaml");

fn read_example(path: &str) -> Result<String, String> {
    match path {
        "example.yaml" => Ok(RULES.to_owned()),
        _ => Err("no such file".to_owned()),
    }
}

fn problems(text: &str) -> Vec<String> {
    let Err(Error::BadAlerts { problems }) = run("t.yaml", text, read_example) else {
        panic!("should be refused");
    };
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn example_rules_do_what_their_tests_say() {
    let report = run("example.tests.yaml", TESTS, read_example).unwrap();
    assert!(report.is_passed(), "{report}");
    assert!(
        report.to_string().ends_with("10 passed, 0 failed"),
        "{report}"
    );
}

#[test]
fn every_example_rule_fires_in_some_test() {
    let report = run("example.tests.yaml", TESTS, read_example).unwrap();
    let rules = crate::alert::Rules::load([("example.yaml", RULES)]).unwrap();
    for rule in rules.iter() {
        let fires = |(_, change): &(Duration, AlertChange)| change.alert.rule == rule.name;
        let fires = report
            .tests
            .iter()
            .any(|test| test.happened.iter().any(fires));
        assert!(fires, "{}", rule.name);
    }
}

#[test]
fn a_failed_test_says_what_was_expected_and_what_happened() {
    let text = "
tests:
  - name: too eager
    rules:
      - {name: boom, query: boom, window: 1m, threshold: '>= 2', group_by: [namespace]}
      - {name: any, query: level>=error, window: 1m}
    entries:
      - {at: 5s, message: boom, level: error, namespace: shop, repeat: 3, every: 1s}
    expect:
      - {at: 4s, rule: boom, is: firing}
      - {at: 6s, rule: boom, is: quiet, times: 2, group: {namespace: shop}}
  - name: fine
    rules: [{name: boom, query: boom, window: 1m}]
    expect:
      - {at: 1h, rule: boom, is: quiet}
";
    let report = run("t.yaml", text, read_example).unwrap();
    assert!(!report.is_passed());
    assert_eq!(
        report.to_string(),
        "\
FAIL  too eager
      t.yaml:10:9: tests[0].expect[0]: at 4s `boom` should fire and is quiet
      t.yaml:11:9: tests[0].expect[1]: at 6s `boom` should be quiet and fires
      t.yaml:11:9: tests[0].expect[1]: by 6s `boom` should have fired 2 times, it fired 1 times
      t.yaml:3:5: tests[0]: `any` fires, and no expectation names it
      after 5s       any: 1 line of `level>=error` in 1m
      after 6s       boom: 2 lines of `boom` in 1m (≥ 2) in namespace shop
ok    fine
1 passed, 1 failed"
    );
}

#[test]
fn every_mistake_of_a_test_file_is_told_with_its_place() {
    let text = "
rules: example.yaml
tests:
  - name: a
    entrys: []
    entries:
      - {message: x, level: loud, output: printer, workload: api, repeat: 0}
      - {at: soon}
    expect:
      - {at: 5m, rule: panics, is: firing}
      - {at: 5m, rule: panic, is: loud, group: {node: n}}
      - {rule: panic}
  - rules: nowhere.yaml
";
    assert_eq!(
        problems(text),
        [
            "t.yaml:5:5: tests[0].entrys: unknown key; did you mean `entries`?",
            "t.yaml:7:62: tests[0].entries[0].workload: must be a kind and a name, such as Deployment/api",
            "t.yaml:7:29: tests[0].entries[0].level: `loud` is no level; write one such as info, warn or error",
            "t.yaml:7:43: tests[0].entries[0].output: must be stdout or stderr",
            "t.yaml:7:75: tests[0].entries[0].repeat: must be a whole number from 1 to 100000",
            "t.yaml:7:9: tests[0].entries[0]: has no time; add one from the start of the test, such as `at: 30s`",
            "t.yaml:8:9: tests[0].entries[1]: has no message",
            "t.yaml:8:14: tests[0].entries[1].at: `soon` is no length of time; write one such as 90s, 5m or 1h30m",
            "t.yaml:10:24: tests[0].expect[0].rule: there is no rule `panics`; did you mean `panic`?",
            "t.yaml:11:35: tests[0].expect[1].is: `loud` is no state; write firing or quiet",
            "t.yaml:11:55: tests[0].expect[1].group.node: `panic` does not group by `node`",
            "t.yaml:12:9: tests[0].expect[2]: has no `at`",
            "t.yaml:12:9: tests[0].expect[2]: expects nothing; add `is: firing`, `is: quiet` or `times: 1`",
            "t.yaml:13:5: tests[1]: has no name; add one that says what is tried",
            "t.yaml:13:12: tests[1].rules: cannot read `nowhere.yaml`: no such file",
            "t.yaml:13:5: tests[1]: expects nothing; add `expect:` with what fires when",
        ]
    );
}

#[test]
fn a_bad_rule_file_is_told_once_and_under_its_own_name() {
    let text = "rules: bad.yaml\ntests: [{name: a, rules: bad.yaml, expect: []}]";
    let Err(Error::BadAlerts { problems }) = run("t.yaml", text, |_| Ok("rules: 5".to_owned()))
    else {
        panic!("should be refused");
    };
    let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems, ["bad.yaml:1:8: rules: must be a list"]);
}

#[test]
fn a_file_without_tests_is_refused() {
    assert_eq!(
        problems("{}"),
        ["t.yaml:1:1: has no tests; add some below `tests:`"]
    );
}
