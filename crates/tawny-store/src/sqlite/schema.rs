//! The file: its tables, what marks it as ours, and how it is opened. The layout is `docs/formats/sqlite-v1.md`.

use std::{fs, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tawny_model::ByteSize;

use super::SqliteConfig;
use crate::{Error, ownership::Ownership};

/// `TAWN` in the header of every file of ours (SQLite's `application_id`).
pub(super) const APPLICATION_ID: i32 = 0x5441_574e;

/// The layout this code writes (SQLite's `user_version`); a change of it needs a migration and a fixture.
pub(super) const FORMAT: u32 = 1;

/// Larger than SQLite's 4 KiB: an FTS5 leaf fills a page, and bigger leaves make fewer, faster merges.
const PAGE_BYTES: u32 = 8_192;

const TABLES: &str = include_str!("schema.sql");

/// Takes the file, creating its directory where missing.
///
/// SQLite's own locks do not tell two Tawny processes apart from one that merely reads; a lock file beside it does.
pub(super) fn own(path: &Path) -> Result<Ownership, Error> {
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(directory)
            .map_err(|source| Error::file(directory, "create directory", source))?;
    }
    if path.is_dir() {
        return Err(Error::NotAStore {
            path: path.to_owned(),
            reason: "it is a directory".to_owned(),
        });
    }
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    Ownership::take(path, Path::new(&lock_path))
}

/// Opens the writing connection; creates the tables in an empty file.
pub(super) fn open_writer(config: &SqliteConfig) -> Result<Connection, Error> {
    let path = config.path.as_path();
    let error = |doing| move |source| sqlite_error(path, doing, source);
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(error("open file"))?;
    conn.busy_timeout(BUSY_TIMEOUT)
        .map_err(error("set busy timeout"))?;
    if conn.is_readonly("main").map_err(error("open file"))? {
        return Err(Error::ReadOnly {
            path: path.to_owned(),
            reason: "no permission to write the file".to_owned(),
        });
    }
    let is_new = check_format(&conn, path)?;
    if is_new {
        // Both take effect only before the first table.
        conn.pragma_update(None, "page_size", PAGE_BYTES)
            .and_then(|()| conn.pragma_update(None, "auto_vacuum", "INCREMENTAL"))
            .map_err(error("set page size"))?;
    }
    conn.pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| conn.pragma_update(None, "synchronous", "FULL"))
        .and_then(|()| conn.pragma_update(None, "wal_autocheckpoint", WAL_PAGES))
        .and_then(|()| {
            conn.pragma_update(
                None,
                "journal_size_limit",
                WAL_PAGES * i64::from(PAGE_BYTES),
            )
        })
        .and_then(|()| conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB))
        .and_then(|()| conn.pragma_update(None, "temp_store", "MEMORY"))
        .map_err(error("set up file"))?;
    if is_new {
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE;\n{TABLES}\nPRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {FORMAT};\nCOMMIT;"
        ))
        .map_err(error("create tables"))?;
    }
    limit_pages(&conn, config.max_file_bytes, 0).map_err(error("set size limit"))?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// Pages by which deletion may pass the size limit: it needs a few before it frees any.
pub(super) const DELETION_PAGES: i64 = 256;

/// Bounds the file, in SQLite's own way: a page beyond the limit is answered as a full disk is.
pub(super) fn limit_pages(
    conn: &Connection,
    max_bytes: Option<ByteSize>,
    n_extra: i64,
) -> rusqlite::Result<()> {
    let Some(max_bytes) = max_bytes else {
        return Ok(());
    };
    let page_bytes: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let n_pages = i64::try_from(max_bytes.as_bytes()).unwrap_or(i64::MAX) / page_bytes.max(1);
    // The pragma answers with the limit in force, which is no less than the file already has.
    conn.pragma_update_and_check(None, "max_page_count", n_pages.max(1) + n_extra, |_| Ok(()))
}

/// A connection that can only read.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let open = || {
        let conn = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        conn.set_prepared_statement_cache_capacity(32);
        Ok(conn)
    };
    open().map_err(|source| sqlite_error(path, "open file for reading", source))
}

/// Whether the file is empty; refuses what is not ours or too new before anything is changed.
pub(super) fn check_format(conn: &Connection, path: &Path) -> Result<bool, Error> {
    let read = || -> rusqlite::Result<(i32, u32, i64)> {
        Ok((
            conn.pragma_query_value(None, "application_id", |row| row.get(0))?,
            conn.pragma_query_value(None, "user_version", |row| row.get(0))?,
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        ))
    };
    let (application_id, format, n_tables) =
        read().map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::locked(path),
            _ => sqlite_error(path, "read header", source),
        })?;
    if n_tables == 0 && application_id == 0 {
        return Ok(true);
    }
    if application_id != APPLICATION_ID {
        return Err(Error::NotAStore {
            path: path.to_owned(),
            reason: "it is a database of another program".to_owned(),
        });
    }
    if format > FORMAT {
        return Err(Error::Newer {
            path: path.to_owned(),
            found: format,
            supported: FORMAT,
        });
    }
    Ok(false)
}

/// How long to wait for a lock that only a foreign tool, such as the `sqlite3` shell, can hold.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// 1,024 pages of 8 KiB = 8 MiB of log before it is folded in; four times as much made writing no faster.
const WAL_PAGES: i64 = 1_024;

/// Holds the upper tree levels and the leaves that merges read.
const WRITER_CACHE_KIB: i64 = 32 * 1024;

/// Per reader; the page cache of the system holds the rest.
const READER_CACHE_KIB: i64 = 8 * 1024;

/// Puts SQLite's error in the store's words.
pub(super) fn sqlite_error(path: &Path, doing: &'static str, source: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::DiskFull { path },
        Some(ErrorCode::NotADatabase) => Error::NotAStore {
            path,
            reason: "it is no SQLite database".to_owned(),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Error::ReadOnly {
            path,
            reason: source.to_string(),
        },
        Some(ErrorCode::DatabaseCorrupt) => Error::Damaged {
            path,
            reason: source.to_string(),
        },
        Some(_) => Error::Io {
            path,
            doing,
            source: Box::new(source),
        },
        // Not SQLite's error but a value that is not what we wrote.
        None => Error::Damaged {
            path,
            reason: format!("{doing}: {source}"),
        },
    }
}
