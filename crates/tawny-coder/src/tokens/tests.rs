//! The kubelet's rules for variables, one by one.

use serde_json::{Value, json};

use super::*;

fn spec(spec: Value) -> PodSpec {
    serde_json::from_value(spec).unwrap()
}

fn container(rest: Value) -> Value {
    let mut container = json!({"name": "dev"});
    container
        .as_object_mut()
        .unwrap()
        .extend(rest.as_object().unwrap().clone());
    container
}

fn values(pairs: &[(&str, &str)]) -> Fetched {
    Ok(Some(
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Secret::new(*value)))
            .collect(),
    ))
}

fn secret(name: &str) -> Holder {
    Holder::Secret(name.to_owned())
}

fn map(name: &str) -> Holder {
    Holder::ConfigMap(name.to_owned())
}

fn wanted(spec: &PodSpec) -> Vec<Wanted> {
    super::wanted(spec, true)
}

fn denied() -> Fetched {
    Err(Unfetched {
        is_denied: true,
        reason: "not allowed (403)".to_owned(),
    })
}

/// The tokens and problems of a pod whose one container is `rest`.
fn found(rest: Value, fetched: Vec<(Holder, Fetched)>) -> (Vec<String>, Vec<String>) {
    let wanted = wanted(&spec(json!({"containers": [container(rest)]})));
    let resolved = resolve(&wanted, &fetched.into_iter().collect());
    let tokens = resolved.tokens.iter().map(|t| t.expose().to_owned());
    (tokens.collect(), resolved.problems)
}

fn by_secret(optional: Value) -> Value {
    json!({"env": [{"name": "CODER_AGENT_TOKEN", "valueFrom":
        {"secretKeyRef": {"name": "s", "key": "token", "optional": optional}}}]})
}

#[test]
fn token_by_value_needs_nothing_fetched_cl_11() {
    let pod = spec(json!({"containers": [container(
        json!({"env": [{"name": "PATH", "value": "/bin"}, {"name": "CODER_AGENT_TOKEN", "value": "a"}]}),
    )]}));
    let wanted = wanted(&pod);
    assert!(holders(&wanted).is_empty());
    assert_eq!(
        resolve(&wanted, &BTreeMap::new()).tokens,
        [Secret::new("a")]
    );
}

#[test]
fn a_pod_without_the_variable_wants_nothing() {
    let pod =
        spec(json!({"containers": [container(json!({"env": [{"name": "TOKEN", "value": "a"}]}))]}));
    assert!(wanted(&pod).is_empty());
    let empty = json!({"env": [{"name": "CODER_AGENT_TOKEN", "value": ""}]});
    assert!(wanted(&spec(json!({"containers": [container(empty)]}))).is_empty());
    let field = json!({"env": [{"name": "CODER_AGENT_TOKEN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]});
    assert!(wanted(&spec(json!({"containers": [container(field)]}))).is_empty());
}

#[test]
fn each_container_of_every_kind_may_have_a_token_of_its_own_cl_10_cl_13() {
    let with =
        |token: &str| container(json!({"env": [{"name": "CODER_AGENT_TOKEN", "value": token}]}));
    let pod = spec(json!({
        "initContainers": [with("init")],
        "containers": [with("a"), with("b"), with("a")],
        "ephemeralContainers": [with("debug")],
    }));
    let tokens = resolve(&wanted(&pod), &BTreeMap::new()).tokens;
    let tokens: Vec<_> = tokens.iter().map(Secret::expose).collect();
    assert_eq!(tokens, ["init", "a", "b", "debug"]);
}

#[test]
fn token_by_secret_is_looked_up_by_its_key_cl_12() {
    let wanted = wanted(&spec(
        json!({"containers": [container(by_secret(Value::Null))]}),
    ));
    assert_eq!(holders(&wanted), [secret("s")].into());
    let (tokens, problems) = found(
        by_secret(Value::Null),
        vec![(secret("s"), values(&[("token", "t"), ("other", "o")]))],
    );
    assert_eq!((tokens, problems), (vec!["t".to_owned()], vec![]));
}

#[test]
fn only_an_optional_reference_may_lead_nowhere_cl_12() {
    let lacking = || vec![(secret("s"), values(&[("other", "o")]))];
    let missing = || vec![(secret("s"), Ok(None))];
    for fetched in [lacking(), missing(), vec![]] {
        assert_eq!(found(by_secret(json!(true)), fetched), (vec![], vec![]));
    }
    for optional in [Value::Null, json!(false)] {
        let problem = |fetched| found(by_secret(optional.clone()), fetched).1;
        assert_eq!(problem(missing()), ["secret s does not exist"]);
        assert_eq!(problem(lacking()), ["secret s has no key token"]);
    }
}

#[test]
fn a_secret_that_cannot_be_read_is_a_problem_even_when_optional_cl_12() {
    let fetched = vec![(secret("s"), denied())];
    assert_eq!(
        found(by_secret(json!(true)), fetched),
        (vec![], vec!["secret s: not allowed (403)".to_owned()])
    );
}

#[test]
fn token_by_config_map_key_is_found_cl_13() {
    let rest = json!({"env": [{"name": "CODER_AGENT_TOKEN", "valueFrom":
        {"configMapKeyRef": {"name": "m", "key": "k"}}}]});
    assert_eq!(
        found(rest.clone(), vec![(map("m"), values(&[("k", "t")]))]).0,
        ["t"]
    );
    assert_eq!(found(rest, vec![]).1, ["config map m does not exist"]);
}

#[test]
fn all_variables_of_a_secret_or_config_map_are_searched_with_their_prefix_cl_13() {
    let from = |source: Value| json!({"envFrom": [source]});
    let secret_ref = json!({"secretRef": {"name": "s"}});
    let prefixed = json!({"prefix": "CODER_", "configMapRef": {"name": "m"}});
    assert_eq!(
        found(
            from(secret_ref.clone()),
            vec![(secret("s"), values(&[("CODER_AGENT_TOKEN", "t")]))]
        )
        .0,
        ["t"]
    );
    assert_eq!(
        found(
            from(prefixed.clone()),
            vec![(map("m"), values(&[("AGENT_TOKEN", "t")]))]
        )
        .0,
        ["t"]
    );
    // The prefix makes CODER_CODER_AGENT_TOKEN of this one.
    let (tokens, problems) = found(
        from(prefixed),
        vec![(map("m"), values(&[("CODER_AGENT_TOKEN", "t")]))],
    );
    assert_eq!((tokens, problems), (vec![], vec![]));
    assert_eq!(
        found(from(secret_ref), vec![]).1,
        ["secret s does not exist"]
    );
    for prefix in ["OTHER_", "CODER_AGENT_TOKEN"] {
        let other = json!({"prefix": prefix, "secretRef": {"name": "s"}});
        assert!(wanted(&spec(json!({"containers": [container(from(other))]}))).is_empty());
    }
}

#[test]
fn a_shared_holder_that_may_not_be_read_is_passed_over_and_one_that_fails_is_not() {
    let shared = json!({"envFrom": [{"configMapRef": {"name": "m"}}]});
    assert_eq!(
        found(shared.clone(), vec![(map("m"), denied())]),
        (vec![], vec![])
    );
    let failed = Unfetched {
        is_denied: false,
        reason: "timed out".to_owned(),
    };
    assert_eq!(
        found(shared, vec![(map("m"), Err(failed))]).1,
        ["config map m: timed out"]
    );
}

#[test]
fn shared_variables_are_followed_by_choice_and_name_no_token() {
    let both = json!({"env": [{"name": "CODER_AGENT_TOKEN", "value": "t"}], "envFrom": [{"secretRef": {"name": "s"}}]});
    let shared = json!({"envFrom": [{"secretRef": {"name": "s"}}]});
    let look = |rest: &Value, follows| {
        super::wanted(
            &spec(json!({"containers": [container(rest.clone())]})),
            follows,
        )
    };
    assert!(look(&shared, false).is_empty());
    assert!(!look(&shared, true)[0].is_named());
    assert!(look(&both, true)[0].is_named());
    assert!(holders(&look(&both, false)).is_empty());
}

#[test]
fn own_variables_win_over_shared_ones_and_later_over_earlier() {
    let rest = json!({
        "env": [{"name": "CODER_AGENT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "own", "key": "k", "optional": true}}}],
        "envFrom": [{"secretRef": {"name": "first"}}, {"configMapRef": {"name": "second"}}],
    });
    let first = (secret("first"), values(&[("CODER_AGENT_TOKEN", "1")]));
    let second = (map("second"), values(&[("CODER_AGENT_TOKEN", "2")]));
    let own = (secret("own"), values(&[("k", "own")]));
    let without = (map("second"), values(&[]));
    assert_eq!(
        found(rest.clone(), vec![first.clone(), second.clone(), own]).0,
        ["own"]
    );
    assert_eq!(found(rest.clone(), vec![first.clone(), second]).0, ["2"]);
    assert_eq!(found(rest, vec![first, without]).0, ["1"]);
}

#[test]
fn values_are_taken_from_the_objects_and_never_printed() {
    let object: SecretObject =
        serde_json::from_value(json!({"data": {"token": "dA==", "binary": "/w=="}})).unwrap();
    let values = values_of_secret(object);
    assert_eq!(values.keys().collect::<Vec<_>>(), ["token"]);
    assert_eq!(values["token"].expose(), "t");
    let object: ConfigMap = serde_json::from_value(json!({"data": {"k": "hush"}})).unwrap();
    let fetched: Fetched = Ok(Some(values_of_config_map(object)));
    assert!(!format!("{fetched:?}").contains("hush"));
    let pod = spec(
        json!({"containers": [container(json!({"env": [{"name": "CODER_AGENT_TOKEN", "value": "hush"}]}))]}),
    );
    assert!(!format!("{:?}", wanted(&pod)).contains("hush"));
}
