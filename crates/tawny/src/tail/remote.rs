//! `tawny tail --server`: the same options over what a server stores, said as a `tawny search --follow`.

use clap::ValueEnum;

use super::TailArgs;
use crate::render::{ColorChoice, TimestampFormat};

/// The command line of `search` that shows what these options ask for.
///
/// # Errors
/// The option that only makes sense against a cluster.
pub(crate) fn search_words(args: &TailArgs, server: &str) -> Result<Vec<String>, &'static str> {
    let cluster_only = [
        ("--previous", args.previous),
        ("--condition", args.condition.is_some()),
        ("--field-selector", args.field_selector.is_some()),
        ("--template-file", args.template_file.is_some()),
    ];
    if let Some((name, _)) = cluster_only.iter().find(|(_, is_given)| *is_given) {
        return Err(name);
    }
    let mut query: Vec<String> = args
        .query
        .iter()
        .map(|query| format!("({query})"))
        .collect();
    query.extend(args.filter.iter().map(|filter| format!("({filter})")));
    if args.container.as_str() != ".*" {
        query.push(format!("container:{}", regex(args.container.as_str())));
    }
    query.extend(
        args.exclude_container
            .iter()
            .map(|pattern| format!("-container:{}", regex(pattern.as_str()))),
    );
    query.extend(
        args.exclude_pod
            .iter()
            .map(|pattern| format!("-pod:{}", regex(pattern.as_str()))),
    );
    if !args.include.is_empty() {
        let any: Vec<String> = args
            .include
            .iter()
            .map(|pattern| regex(pattern.as_str()))
            .collect();
        query.push(format!("({})", any.join(" OR ")));
    }
    query.extend(
        args.exclude
            .iter()
            .map(|pattern| format!("-{}", regex(pattern.as_str()))),
    );

    let mut words = vec!["search".to_owned(), format!("--server={server}")];
    if !args.no_follow {
        words.push("--follow".to_owned());
    }
    if args.tail >= 0 {
        words.push(format!("--limit={}", args.tail));
    } else {
        words.push(format!(
            "--since={}",
            tawny_runtime::duration::display(args.since)
                .to_string()
                .replace(' ', "")
        ));
    }
    words.extend(
        args.namespace
            .iter()
            .map(|namespace| format!("--namespace={namespace}")),
    );
    words.extend(args.node.iter().map(|node| format!("--node={node}")));
    words.extend(
        args.selector
            .iter()
            .map(|selector| format!("--selector={selector}")),
    );
    words.extend(args.level.iter().map(|level| format!("--level={level}")));
    words.extend(
        args.template
            .iter()
            .map(|template| format!("--template={template}")),
    );
    words.extend(
        args.highlight
            .iter()
            .map(|pattern| format!("--highlight={pattern}")),
    );
    words.push(format!("--output={}", name(&args.output)));
    words.push(format!("--color={}", name::<ColorChoice>(&args.color)));
    words.push(format!("--timezone={}", args.timezone));
    words.push(match args.timestamps {
        Some(format) => format!("--timestamps={}", name::<TimestampFormat>(&format)),
        None => "--timestamps=none".to_owned(),
    });
    words.push("--".to_owned());
    words.extend(query);
    Ok(words)
}

fn name<T: ValueEnum>(value: &T) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |possible| possible.get_name().to_owned())
}

/// A regular expression as the query language writes it.
fn regex(pattern: &str) -> String {
    format!("/{}/", pattern.replace('/', "\\/"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        tail: TailArgs,
    }

    fn words(line: &str) -> Result<String, &'static str> {
        let tail = Cli::parse_from(format!("tail {line}").split_whitespace()).tail;
        search_words(&tail, "http://s").map(|words| words.join(" "))
    }

    #[test]
    fn options_mean_the_same_against_a_server() {
        assert_eq!(
            words("timeout -n a,b -c ^app -e a/b --tail 5 --level warn").unwrap(),
            "search --server=http://s --follow --limit=5 --namespace=a --namespace=b --level=warn --output=default \
             --color=auto --timezone=Local --timestamps=none -- (timeout) container:/^app/ -/a\\/b/"
        );
        assert_eq!(
            words("--no-follow --since 90m -t -i x -i y").unwrap(),
            "search --server=http://s --since=1h30m --output=default --color=auto --timezone=Local \
             --timestamps=default -- (/x/ OR /y/)"
        );
    }

    #[test]
    fn what_only_a_cluster_knows_is_refused() {
        assert_eq!(words("x --previous"), Err("--previous"));
    }

    #[test]
    fn the_query_that_is_built_parses() {
        let tail = Cli::parse_from(["tail", "a OR b", "-i", "x/y", "-e", "z"]).tail;
        let words = search_words(&tail, "http://s").unwrap();
        let query = words
            .split(|word| word == "--")
            .next_back()
            .unwrap()
            .join(" ");
        tawny_query::Query::parse(&query).unwrap();
    }
}
