//! `tawny bench`: its answers, never its times.

use crate::program::Home;

#[test]
fn store_benchmark_finds_every_answer_right() {
    let home = Home::new();
    let ran = home
        .run(&[
            "bench", "store", "--lines", "20000", "--seed", "7", "--settle", "0s", "--mixed",
            "100ms", "--dir", "bench",
        ])
        .exits(0);
    let rows: Vec<&str> = ran.out.lines().collect();
    for (row, found) in [
        ("unique word (needle)", "1"),
        ("needle in an attribute", "1"),
        ("rare phrase, 200 hits", "200"),
        ("one pod, 100 newest", "7"),
        ("substring inside a word, anywhere", "37"),
        ("count by namespace, all lines", "20"),
        ("top 10 pods by errors", "10"),
        ("word that is nowhere", "0"),
    ] {
        let row = rows
            .iter()
            .find(|line| line.starts_with(&format!("| {row} |")));
        let cells: Vec<&str> = row
            .unwrap_or_else(|| panic!("{}", ran.out))
            .split('|')
            .collect();
        assert_eq!(
            cells.get(7).map(|cell| cell.trim()),
            Some(found),
            "{cells:?}"
        );
    }
    assert_eq!(
        std::fs::read_dir(home.path("bench")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}
