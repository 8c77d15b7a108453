//! `tawny sql` against a real server.

use crate::program::Home;

#[test]
fn sql_answers_as_table_json_and_csv_and_says_so_by_its_exit_code() {
    let home = Home::new();
    let server = home.server();
    let sql = |args: &[&str]| {
        let mut all = vec!["sql", "--server", &server.http];
        all.extend(args);
        home.run(&all)
    };
    sql(&["SELECT * FROM logs"]).exits(1);
    server.load(&home, 2_500);
    let count = "SELECT count(*) AS n FROM logs";
    assert_eq!(sql(&[count]).exits(0).out, "{\"n\":2500}\n");
    assert_eq!(sql(&[count, "-o", "csv"]).exits(0).out, "n\n2500\n");
    assert_eq!(
        sql(&[count, "-o", "table"]).exits(0).out,
        "+------+\n| n    |\n+------+\n| 2500 |\n+------+\n"
    );
    let rows = sql(&["SELECT id FROM logs", "--limit", "1200"])
        .exits(0)
        .says("there are more rows than these 1200");
    assert_eq!(rows.out.lines().count(), 1_200);
    assert_eq!(
        sql(&["SELECT * FROM logs"]).exits(0).out.lines().count(),
        2_500
    );
    sql(&["SELECT * FROM logs WHERE matches('nosuchwordanywhere')"]).exits(1);
    sql(&["DELETE FROM logs"])
        .exits(2)
        .says("SQL is read-only here: DELETE FROM is refused");
    sql(&["SELECT FROM"]).exits(2);
}

#[test]
fn server_that_is_not_there_fails_sql_with_a_remedy() {
    let home = Home::new();
    home.run(&["sql", "SELECT 1", "--server", "http://127.0.0.1:1"])
        .exits(3)
        .says("is `tawny server` or `tawny up` running there?");
}
