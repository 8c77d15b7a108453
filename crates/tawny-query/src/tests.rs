//! The page for users against the code.

use crate::{Field, parse};

const PAGE: &str = include_str!("../../../docs/query-language.md");

/// Cells of every table row below a header row, and the header's first two cells.
fn rows() -> Vec<([String; 2], [String; 2])> {
    let mut header: Option<[String; 2]> = None;
    let mut rows = Vec::new();
    for line in PAGE.lines() {
        let cells = line.strip_prefix("| ").and_then(|line| {
            let (first, second) = line.strip_suffix(" |")?.split_once(" | ")?;
            Some([first.to_owned(), second.to_owned()])
        });
        match (cells, &header) {
            (None, _) if line.starts_with("|-") => {}
            (None, _) => header = None,
            (Some(cells), None) => header = Some(cells),
            (Some(cells), Some(header)) => rows.push((header.clone(), cells)),
        }
    }
    rows
}

fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_example_of_the_page_parses_or_fails_as_it_says() {
    let (mut n_examples, mut n_errors, mut n_aliases) = (0, 0, 0);
    for (header, [first, second]) in rows() {
        let example = code(&first)[0];
        match header[1].as_str() {
            "Get" => {
                let error = parse(example).expect_err(example);
                assert_eq!(error.to_string(), second.replace("\\*", "*"), "{example}");
                n_errors += 1;
            }
            "Also written" => {
                let field = Field::named(example);
                for alias in code(&second) {
                    assert_eq!(Field::named(alias), field, "{alias}");
                    n_aliases += 1;
                }
            }
            _ => {
                if let Err(error) = parse(example) {
                    panic!("{example}: {error}");
                }
                n_examples += 1;
            }
        }
    }
    assert!(
        n_examples > 35 && n_errors >= 6 && n_aliases > 40,
        "{n_examples} {n_errors} {n_aliases}"
    );
}

#[test]
fn examples_in_the_text_of_the_page_mean_what_it_says() {
    for (text, same) in [
        ("10.0.0.1", "\"10 0 0 1\""),
        ("user@host", "\"user host\""),
        ("foo-bar", "\"foo bar\""),
        ("12:30:01", "\"12 30 01\""),
        ("/api/v1/users", "\"api v1 users\""),
        ("http://example.com/x", "\"http example com x\""),
        ("std::fmt", "\"std fmt\""),
        ("main/*", "main"),
        ("a b OR c", "(a b) OR c"),
        ("and or not", "\"and\" \"or\" \"not\""),
        ("\"NOT\"", "not"),
        ("\"-x\"", "x"),
        ("10.0.0.1:80", "\"10 0 0 1 80\""),
        ("localhost:80", "attr.localhost:80"),
        ("\"localhost:80\"", "\"localhost 80\""),
        ("namespace!=prod", "-namespace:prod"),
    ] {
        assert!(
            PAGE.contains(&format!("`{text}`")) || text == "and or not",
            "{text}"
        );
        let (read, same) = (parse(text).unwrap(), parse(same).unwrap());
        assert_eq!(read.expr(), same.expr(), "{text}");
    }
}
