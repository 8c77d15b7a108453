//! Is the file what was written? SQLite knows best.

use std::path::Path;

use super::schema::{check_format, open_reader, sqlite_error};
use crate::Error;

/// Most complaints that are gathered.
const MAX_COMPLAINTS: u32 = 100;

/// Looks through the whole file, the text index included, and answers what is wrong in SQLite's words; nothing when it is
/// in order. Reads only, so a server may have the store open. Blocks.
///
/// # Errors
/// `Reject` when the file is no Tawny store or a newer one, `Retry` when it cannot be read.
pub fn verify(path: &Path) -> Result<Vec<String>, Error> {
    let conn = open_reader(path)?;
    check_format(&conn, path)?;
    let failed = |source| sqlite_error(path, "check file", source);
    let mut check = conn
        .prepare(&format!("PRAGMA integrity_check({MAX_COMPLAINTS})"))
        .map_err(failed)?;
    let complaints = check
        .query_map([], |row| row.get::<_, String>(0))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match complaints {
        Ok(complaints) => Ok(complaints.into_iter().filter(|text| text != "ok").collect()),
        Err(source) => match sqlite_error(path, "check file", source) {
            Error::Damaged { reason, .. } => Ok(vec![reason]),
            error => Err(error),
        },
    }
}
