//! Reading parts of an immutable file, wherever it lies.

use std::{fmt, ops::Range};

use bytes::Bytes;

use crate::Error;

/// An immutable file that is read by ranges: a local file or an object in a bucket. Calls block.
pub(crate) trait ReadAt: fmt::Debug + Send + Sync {
    /// Where it lies, for errors: a path or a URL.
    fn place(&self) -> String;

    fn len_bytes(&self) -> u64;

    /// The bytes of each range, in order; near ranges may be fetched in one request.
    ///
    /// # Errors
    /// `Retry` when the storage fails, `Quarantine` when the file is shorter than asked or gone.
    fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error>;
}
