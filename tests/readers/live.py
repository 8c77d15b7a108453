"""Counts the rows of tables again and again while they are written and compacted: live.py DIRECTORY SECONDS

DIRECTORY/tables.json, once it is there, says which; DIRECTORY/stop ends the writing.
"""

import json
import pathlib
import sys
import time

import duckdb
import polars
from deltalake import DeltaTable


def by_deltalake(table):
    found = DeltaTable(table["url"], storage_options=table["options"]).to_pyarrow_table(columns=["message"])
    return found.num_rows, len(set(found["message"].to_pylist()))


def by_polars(table):
    found = polars.scan_delta(table["url"], storage_options=table["options"] or None).select("message").collect()
    return found.height, found["message"].n_unique()


def by_duckdb(table):
    files = DeltaTable(table["url"]).file_uris()
    return duckdb.execute(
        "SELECT count(*), count(DISTINCT message) FROM read_parquet(?, union_by_name = true)", [files]
    ).fetchone()


def progress(table):
    return json.loads(pathlib.Path(table["progress"]).read_text())


def main(directory, seconds):
    directory = pathlib.Path(directory)
    waiting = time.monotonic() + 300
    while not (directory / "tables.json").exists():
        if time.monotonic() > waiting or (directory / "failed").exists():
            return "no table came to be"
        time.sleep(0.1)
    tables = json.loads((directory / "tables.json").read_text())
    failed, counts, end = False, {}, time.monotonic() + float(seconds)
    while time.monotonic() < end or min(len(counted) for counted in counts.values()) < 5:
        if (directory / "failed").exists():
            return "writing failed"
        for table in tables:
            # duckdb's own way to a bucket is an extension that would have to be downloaded.
            for reader in (by_deltalake, by_polars, *(() if table["options"] else (by_duckdb,))):
                least = progress(table)["committed"]
                rows, distinct = reader(table)
                most = progress(table)["written"]
                counted = counts.setdefault((reader.__name__, table["url"]), [])
                if not least <= rows <= most or rows != distinct or counted and rows < counted[-1]:
                    print(f"WRONG: {rows} rows, {distinct} of them distinct, of {least} to {most} after {counted}")
                    failed = True
                counted.append(rows)
    (directory / "stop").touch()
    for (reader, url), counted in counts.items():
        verdict = "WRONG" if failed else "ok" if counted[-1] > counted[0] else "WRONG: it never grew"
        failed |= counted[-1] <= counted[0]
        place = "bucket" if "://" in url else "directory"
        print(f"{reader:13} {place:10} {verdict} ({len(counted)} times, {counted[0]} to {counted[-1]} rows)")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
