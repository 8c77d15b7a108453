-- Layout 1, described in docs/formats/sqlite-v1.md.

-- One row per run of a container; `end` and the mark are null where lines came without a position.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    cluster TEXT NOT NULL,
    pod_uid TEXT NOT NULL,
    container TEXT NOT NULL,
    restart INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    pod TEXT NOT NULL,
    node TEXT NOT NULL,
    image TEXT NOT NULL,
    workload_kind TEXT,
    workload_name TEXT,
    labels TEXT NOT NULL, -- JSON object
    "end" INTEGER,
    mark_ns INTEGER,
    mark_lines INTEGER,
    written_ns INTEGER NOT NULL, -- by our clock, in steps of an hour
    UNIQUE (cluster, pod_uid, container, restart)
);

-- Time of an entry in nanoseconds: (id >> 12) * 1000 + ns.
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    stream_id INTEGER NOT NULL,
    ns INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    output INTEGER NOT NULL,
    message TEXT NOT NULL,
    attributes TEXT -- JSON object, null where there are none
);

-- The words of each entry, and marks for its stream and severity; rowid is logs.id.
CREATE VIRTUAL TABLE words USING fts5 (
    text,
    content = '',
    contentless_delete = 1,
    detail = none,
    tokenize = "ascii tokenchars '_'"
);
INSERT INTO words (words, rank) VALUES ('hashsize', 16777216);
INSERT INTO words (words, rank) VALUES ('deletemerge', 40);

-- Entries per minute, stream and severity: counts without a text filter never touch the entries.
CREATE TABLE rollup (
    minute INTEGER NOT NULL, -- since the epoch
    stream_id INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (minute, stream_id, severity)
) WITHOUT ROWID;

-- How far, in microseconds, an id may lie after or before the time of its entry.
CREATE TABLE drift (
    after_us INTEGER NOT NULL,
    before_us INTEGER NOT NULL
);
INSERT INTO drift VALUES (0, 0);

-- For people with a SQLite shell; Tawny itself does not read it.
CREATE VIEW entries AS
SELECT logs.id, (logs.id >> 12) * 1000 + logs.ns AS timestamp_ns,
    strftime('%Y-%m-%dT%H:%M:%fZ', (logs.id >> 12) / 1e6, 'unixepoch') AS time,
    streams.namespace, streams.pod, streams.container, streams.restart, streams.node,
    logs.severity, iif(logs.output = 0, 'stdout', 'stderr') AS output, logs.message, logs.attributes
FROM logs JOIN streams ON streams.id = logs.stream_id;
