//! House rules a compiler does not know: layers, purity, file length, open work, links in the docs.
//!
//! Every check is a function from text to problems, so each can be shown to fail; one test runs them all on this
//! repository.

mod log_messages;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// A crate depends only on crates of a lower layer, never on its own (design §2). xtask is no part of the product.
const LAYERS: &[(&str, u8)] = &[
    ("tawny-model", 0),
    ("tawny-query", 1),
    ("tawny-wire", 1),
    ("tawny-runtime", 1),
    ("tawny-store", 2),
    ("tawny-kube", 2),
    ("tawny-coder", 3),
    ("tawny-collect", 3),
    ("tawny-incident", 2),
    ("tawny-notify", 3),
    ("tawny-watch", 3),
    ("tawny-sql", 3),
    ("tawny-server", 4),
    ("tawny", 5),
];

/// Crates without a runtime, file, network, clock or environment. `tawny-wire` may name tonic, for the service traits
/// generated from `proto/`; nothing in it opens a connection.
const PURE: &[&str] = &["tawny-incident", "tawny-model", "tawny-query", "tawny-wire"];

/// Dependencies that bring a runtime or the outside world with them; a name also stands for its `name-…` family.
const IMPURE: &[&str] = &[
    "async-std",
    "axum",
    "hyper",
    "inotify",
    "k8s-openapi",
    "kube",
    "mio",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tower",
];

/// Paths of the standard library a pure crate stays away from.
const IMPURE_STD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "SystemTime::now",
    "Instant::now",
];

/// Heavy dependencies and the crates that may name them: what they are fenced in stays replaceable.
const FENCED: &[(&str, &[&str])] = &[
    ("anyhow", &["tawny", "xtask"]),
    ("arrow", &["tawny-store", "tawny-sql"]),
    // The demo answers as a Kubernetes API.
    ("axum", &["tawny-server", "tawny"]),
    ("clap", &["tawny"]),
    ("datafusion", &["tawny-sql"]),
    ("deltalake-core", &["tawny-store"]),
    ("inotify", &["tawny-collect"]),
    ("object_store", &["tawny-store"]),
    ("parquet", &["tawny-store"]),
    ("rusqlite", &["tawny-store"]),
];

/// Most lines of one source file above its inline test module.
const MAX_PRODUCTION_LINES: usize = 600;

/// Files longer than [`MAX_PRODUCTION_LINES`], with the length they may have. Entries only shrink or go.
const LONG_FILES: &[(&str, usize)] = &[];

/// Words that mark open work. Spelt in halves so that this file passes its own check.
const OPEN_WORK: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// One broken rule: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    at: String,
    rule: String,
}

impl Problem {
    fn new(at: impl Into<String>, rule: impl Into<String>) -> Self {
        let (at, rule) = (at.into(), rule.into());
        Self { at, rule }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.rule)
    }
}

/// Runs every check on the repository at `root`; an empty answer is a tidy house.
///
/// # Errors
/// `cargo metadata` fails, or a file cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()?;
    let mut problems: Vec<Problem> = metadata.packages.iter().flat_map(dependencies).collect();

    let mut files = BTreeMap::new();
    read_tree(root, root, &mut files)?;
    for (path, text) in &files {
        if path.ends_with(".rs") && !path.contains("/generated/") {
            problems.extend(length(path, text, LONG_FILES));
            problems.extend(opening(path, text));
            problems.extend(purity(path, text));
            problems.extend(log_messages::check(path, production(text)));
        }
        problems.extend(open_work(path, text));
        if path.ends_with(".md") {
            problems.extend(links(path, text, &files, &|path| root.join(path).exists()));
        }
    }
    problems.extend(stale_exceptions(LONG_FILES, &files));
    problems.extend(origins(&root.join("testdata"))?);
    Ok(problems)
}

/// The rules of layers, purity and fences over one crate's normal and build dependencies.
fn dependencies(package: &Package) -> Vec<Problem> {
    let names = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.as_str());
    edges(&package.name, names)
}

fn edges<'a>(name: &str, dependencies: impl Iterator<Item = &'a str>) -> Vec<Problem> {
    let layer_of = |name: &str| LAYERS.iter().find(|(n, _)| *n == name).map(|&(_, l)| l);
    let own = layer_of(name);
    let mut problems = Vec::new();
    if own.is_none() && name != "xtask" {
        problems.push(Problem::new(name, "has no layer; give it one in LAYERS"));
    }
    for dependency in dependencies {
        if let (Some(own), Some(theirs)) = (own, layer_of(dependency))
            && theirs >= own
        {
            let rule =
                format!("is of layer {own} and must not depend on {dependency}, of layer {theirs}");
            problems.push(Problem::new(name, rule));
        }
        let impure = |i: &str| {
            dependency
                .strip_prefix(i)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        if PURE.contains(&name) && IMPURE.iter().any(|i| impure(i)) {
            problems.push(Problem::new(
                name,
                format!("is pure and must not depend on {dependency}"),
            ));
        }
        if let Some((_, inside)) = FENCED.iter().find(|(fenced, _)| *fenced == dependency)
            && !inside.contains(&name)
        {
            let rule = format!(
                "must not depend on {dependency}, which is fenced in {}",
                inside.join(", ")
            );
            problems.push(Problem::new(name, rule));
        }
    }
    problems
}

/// The part of a source file above its inline test module.
fn production(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {")
        .and_then(|end| text.get(..end))
        .unwrap_or(text)
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path.contains("/benches/")
        || path.contains("/conformance/")
        || path.contains("fuzz_targets/")
}

fn length(path: &str, text: &str, exceptions: &[(&str, usize)]) -> Option<Problem> {
    if is_test_file(path) {
        return None;
    }
    let most = exceptions
        .iter()
        .find(|(p, _)| *p == path)
        .map_or(MAX_PRODUCTION_LINES, |&(_, lines)| lines);
    let lines = production(text).lines().count();
    (lines > most).then(|| {
        Problem::new(
            path,
            format!("{lines} production lines; at most {most}: split it by what it does"),
        )
    })
}

/// An exception that is no longer needed, or larger than needed, has to go: the list only shrinks.
fn stale_exceptions(
    exceptions: &[(&str, usize)],
    files: &BTreeMap<String, String>,
) -> Vec<Problem> {
    let needed = |path: &str| {
        files
            .get(path)
            .map_or(0, |text| production(text).lines().count())
    };
    exceptions
        .iter()
        .filter(|(path, lines)| needed(path) < *lines || *lines <= MAX_PRODUCTION_LINES)
        .map(|(path, _)| {
            Problem::new(
                *path,
                format!(
                    "is {} lines now: lower or remove its entry in LONG_FILES",
                    needed(path)
                ),
            )
        })
        .collect()
}

fn opening(path: &str, text: &str) -> Option<Problem> {
    (!is_test_file(path) && !text.starts_with("//!")).then(|| {
        Problem::new(
            path,
            "opens without `//!` lines that say what it holds and why it exists",
        )
    })
}

fn purity(path: &str, text: &str) -> Vec<Problem> {
    if is_test_file(path)
        || !PURE
            .iter()
            .any(|name| path.starts_with(&format!("crates/{name}/src/")))
    {
        return Vec::new();
    }
    numbered(production(text))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .flat_map(|(number, line)| {
            IMPURE_STD
                .iter()
                .filter(|name| line.contains(**name))
                .map(move |name| (number, name))
        })
        .map(|(number, name)| {
            Problem::new(
                format!("{path}:{number}"),
                format!("`{name}` in a pure crate"),
            )
        })
        .collect()
}

fn open_work(path: &str, text: &str) -> Vec<Problem> {
    numbered(text)
        .filter(|(_, line)| {
            OPEN_WORK.iter().any(|word| line.contains(word)) && !line.contains("/issues/")
        })
        .map(|(number, _)| {
            Problem::new(
                format!("{path}:{number}"),
                "open work without a link to its issue",
            )
        })
        .collect()
}

/// Relative links of a Markdown file: the target exists, and so does the heading its fragment names.
fn links(
    path: &str,
    text: &str,
    files: &BTreeMap<String, String>,
    exists: &dyn Fn(&Path) -> bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut fenced = false;
    for (number, line) in numbered(text) {
        fenced ^= line.trim_start().starts_with("```");
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        for target in targets
            .filter(|target| !fenced && !target.contains("://") && !target.starts_with("mailto:"))
        {
            let (file, fragment) = target
                .split_once('#')
                .map_or((target, None), |(file, f)| (file, Some(f)));
            let resolved = if file.is_empty() {
                PathBuf::from(path)
            } else {
                resolve(path, file)
            };
            if !exists(&resolved) {
                problems.push(Problem::new(
                    format!("{path}:{number}"),
                    format!("links to `{target}`, which is not there"),
                ));
                continue;
            }
            let page = files.get(resolved.to_string_lossy().as_ref());
            if let (Some(fragment), Some(page)) = (fragment, page)
                && !headings(page).any(|heading| heading == fragment)
            {
                problems.push(Problem::new(
                    format!("{path}:{number}"),
                    format!("links to `{target}`, a heading that is not there"),
                ));
            }
        }
    }
    problems
}

/// Every folder of test data says in a README where its contents come from.
fn origins(testdata: &Path) -> io::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for folder in fs::read_dir(testdata)? {
        let folder = folder?.path();
        if folder.is_dir() && !folder.join("README.md").exists() {
            let rule = "has no README.md that says where its contents come from";
            problems.push(Problem::new(folder.to_string_lossy(), rule));
        }
    }
    Ok(problems)
}

/// `link` as seen from the folder of `path`, with `..` taken out.
fn resolve(path: &str, link: &str) -> PathBuf {
    let mut resolved = PathBuf::from(path);
    resolved.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(resolved.pop()),
            "." | "" => {}
            part => resolved.push(part),
        }
    }
    resolved
}

/// The fragments under which a Markdown page's headings can be linked to.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let mut fenced = false;
    text.lines()
        .filter(move |line| {
            fenced ^= line.starts_with("```");
            !fenced && line.starts_with('#')
        })
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter_map(|c| match c {
                    ' ' => Some('-'),
                    c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                    _ => None,
                })
                .collect()
        })
}

/// Lines with their numbers, counted from one.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

/// Reads every text file below `dir` that a rule may speak about, keyed by its path from `root`.
fn read_tree(root: &Path, dir: &Path, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    const READ: &[&str] = &["rs", "md", "proto", "py", "sh", "toml", "yaml", "yml"];
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !matches!(
                name.as_ref(),
                "target" | "testdata" | "node_modules" | "__pycache__"
            ) && !name.starts_with('.')
            {
                read_tree(root, &path, files)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| READ.iter().any(|read| extension == *read))
        {
            let key = path
                .strip_prefix(root)
                .expect("every path read lies below the root");
            files.insert(
                key.to_string_lossy().into_owned(),
                fs::read_to_string(&path)?,
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(problems: impl IntoIterator<Item = Problem>) -> Vec<String> {
        problems
            .into_iter()
            .map(|problem| problem.to_string())
            .collect()
    }

    #[test]
    fn repository_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let problems = rules(check(root).unwrap());
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn crate_may_not_depend_on_its_own_layer_or_a_higher_one() {
        assert_eq!(
            edges("tawny-store", ["tawny-model", "tawny-runtime"].into_iter()),
            []
        );
        assert_eq!(
            rules(edges("tawny-store", ["tawny-kube", "tawny"].into_iter())),
            [
                "tawny-store: is of layer 2 and must not depend on tawny-kube, of layer 2",
                "tawny-store: is of layer 2 and must not depend on tawny, of layer 5",
            ]
        );
        assert_eq!(
            rules(edges("tawny-new", std::iter::empty())),
            ["tawny-new: has no layer; give it one in LAYERS"]
        );
    }

    #[test]
    fn pure_crate_may_not_bring_a_runtime_and_heavy_crates_stay_fenced() {
        assert_eq!(
            edges("tawny-wire", ["tonic", "prost", "towering"].into_iter()),
            []
        );
        assert_eq!(
            rules(edges("tawny-query", ["tokio-util", "rusqlite"].into_iter())),
            [
                "tawny-query: is pure and must not depend on tokio-util",
                "tawny-query: is pure and must not depend on rusqlite",
                "tawny-query: must not depend on rusqlite, which is fenced in tawny-store",
            ]
        );
        let source =
            "//! Docs of std::fs.\nuse std::fs;\n#[cfg(test)]\nmod tests {\n use std::env; }";
        assert_eq!(
            rules(purity("crates/tawny-query/src/a.rs", source)),
            ["crates/tawny-query/src/a.rs:2: `std::fs` in a pure crate"]
        );
        assert_eq!(purity("crates/tawny-store/src/a.rs", source), []);
    }

    #[test]
    fn only_lines_above_the_inline_tests_count() {
        let long = "x\n".repeat(MAX_PRODUCTION_LINES);
        let tested = format!("{long}#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(length("crates/a/src/a.rs", &tested, &[]), None);
        assert!(length("crates/a/src/a.rs", &format!("{long}x\n"), &[]).is_some());
        assert_eq!(
            length(
                "crates/a/src/a.rs",
                &format!("{long}x\n"),
                &[("crates/a/src/a.rs", 601)]
            ),
            None
        );
        assert_eq!(
            length("crates/a/src/a/tests.rs", &format!("{long}x\n"), &[]),
            None
        );
    }

    #[test]
    fn exceptions_only_shrink() {
        let files = BTreeMap::from([("a.rs".to_owned(), "x\n".repeat(700))]);
        assert_eq!(stale_exceptions(&[("a.rs", 700)], &files), []);
        for stale in [("a.rs", 701), ("gone.rs", 700)] {
            assert_eq!(stale_exceptions(&[stale], &files).len(), 1, "{stale:?}");
        }
    }

    #[test]
    fn source_file_opens_with_its_purpose() {
        assert_eq!(opening("crates/a/src/a.rs", "//! Holds a.\n"), None);
        assert!(opening("crates/a/src/a.rs", "use std::fmt;\n").is_some());
    }

    #[test]
    fn open_work_names_its_issue() {
        let word = OPEN_WORK[0];
        assert_eq!(
            open_work(
                "a.rs",
                &format!("// {word}: see https://example.org/issues/7")
            ),
            []
        );
        assert_eq!(
            rules(open_work("a.rs", &format!("x\n// {word}: later"))),
            ["a.rs:2: open work without a link to its issue"]
        );
    }

    #[test]
    fn folder_of_test_data_says_where_it_comes_from() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let unexplained = rules(origins(&data).unwrap());
        assert!(
            unexplained
                .iter()
                .any(|problem| problem.contains("tidy: has no README.md")),
            "{unexplained:?}"
        );
    }

    #[test]
    fn link_leads_to_a_file_and_a_heading() {
        let page = "# Query language\n```\n# no heading\n[a](nowhere)\n```\n";
        let files = BTreeMap::from([("docs/query.md".to_owned(), page.to_owned())]);
        let exists = |path: &Path| files.contains_key(path.to_string_lossy().as_ref());
        let links = |text: &str| rules(links("docs/sub/a.md", text, &files, &exists));
        assert_eq!(
            links("[q](../query.md#query-language) [w](https://example.org)"),
            [""; 0]
        );
        assert_eq!(
            links("[q](query.md)"),
            ["docs/sub/a.md:1: links to `query.md`, which is not there"]
        );
        assert_eq!(
            links("[q](../query.md#no-heading)"),
            ["docs/sub/a.md:1: links to `../query.md#no-heading`, a heading that is not there"]
        );
        assert_eq!(super::links("docs/query.md", page, &files, &exists), []);
    }
}
