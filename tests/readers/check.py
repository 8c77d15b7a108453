"""Reads a table with other programs and compares what they find: check.py TABLE EXPECTED.json"""

import json
import sys
from datetime import date, datetime, timedelta, timezone

import duckdb
import polars
from deltalake import DeltaTable


def instant(text):
    """A time as the table's expectation writes it, to the microsecond."""
    return datetime.fromisoformat(text[:26]).replace(tzinfo=timezone.utc)


def facts(frame, expected):
    """The same questions of any polars frame."""
    col = polars.col
    return {
        "rows": frame.height,
        "days": frame["date"].n_unique(),
        "first": frame["timestamp"].min().astimezone(timezone.utc),
        "last": frame["timestamp"].max().astimezone(timezone.utc),
        "with_status": frame["attr_http.status"].count(),
        "fatal": frame.filter(col("severity") == 6).height,
        "team_1": frame.filter(col("namespace") == "team-1").height,
        "rows_with_that_message": frame.filter(col("message") == expected["message"]).height,
    }


def by_deltalake(path, expected):
    table = DeltaTable(path)
    found = facts(polars.from_arrow(table.to_pyarrow_table()), expected)
    found["files"] = len(table.file_uris())
    # The statistics in the log are what readers skip files by.
    actions = polars.DataFrame(table.get_add_actions(flatten=True))
    assert actions["num_records"].sum() == expected["rows"], actions
    assert actions["min.timestamp"].min() is not None, actions.columns
    return found


def by_deltalake_filtered(path, expected):
    """Partition and statistics pruning lose no row."""
    table = DeltaTable(path)
    days = sorted({date.fromisoformat(str(day["date"])) for day in table.partitions()})
    frames = [polars.from_arrow(table.to_pyarrow_table(filters=[("date", "=", day)])) for day in days]
    return facts(polars.concat(frames), expected)


def by_polars(path, expected):
    return facts(polars.scan_delta(path).collect(), expected)


def by_polars_filtered(path, expected):
    """Only the last microsecond: the greatest statistics must not cut it off."""
    last = instant(expected["last"])
    found = polars.scan_delta(path).filter(polars.col("timestamp") >= last).collect()
    assert found.height >= 1 and found["timestamp"].max() == last, found
    return {}


def by_duckdb(path, expected):
    files = DeltaTable(path).file_uris()
    row = duckdb.execute(
        """
        SELECT count(*), count(DISTINCT date), epoch_us(min(timestamp)), epoch_us(max(timestamp)), count("attr_http.status"),
               count(*) FILTER (severity = 6), count(*) FILTER (namespace = 'team-1'), count(*) FILTER (message = ?)
        FROM read_parquet(?, hive_partitioning = true, union_by_name = true)
        """,
        [expected["message"], files],
    ).fetchone()
    names = ["rows", "days", "first", "last", "with_status", "fatal", "team_1", "rows_with_that_message"]
    found = dict(zip(names, row))
    for key in ("first", "last"):
        found[key] = datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=found[key])
    return found


def main(path, expected_path):
    with open(expected_path, encoding="utf-8") as file:
        expected = json.load(file)
    right = {**expected, "first": instant(expected["first"]), "last": instant(expected["last"])}
    failed = False
    for reader in (by_deltalake, by_deltalake_filtered, by_polars, by_polars_filtered, by_duckdb):
        found = reader(path, expected)
        wrong = {key: (value, right[key]) for key, value in found.items() if value != right[key]}
        failed |= bool(wrong)
        print(f"{reader.__name__:24} {'ok' if not wrong else f'WRONG (found, expected): {wrong}'}")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
