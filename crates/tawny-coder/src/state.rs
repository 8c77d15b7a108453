//! The file that remembers what has been told from one run to the next.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use tokio::{fs, io::AsyncWriteExt as _};

use crate::{Error, registry::Snapshot};

/// Reads what the run before left; `None` when there is no file.
///
/// # Errors
/// `Reject` when the file cannot be read or is not one of ours: to begin anew would repeat lines, so a person decides.
pub(crate) async fn load(path: &Path) -> Result<Option<Snapshot>, Error> {
    let refuse = |reason: String| Error::State {
        path: path.to_owned(),
        reason,
    };
    let bytes = match fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error.to_string())),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| refuse(error.to_string()))
}

/// Replaces the file at once, so that a crash leaves the old or the new one, whole.
pub(crate) async fn save(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let bytes = serde_json::to_vec(snapshot).map_err(io::Error::other)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = fs::File::create(&beside).await?;
    file.write_all(&bytes).await?;
    file.sync_all().await?;
    fs::rename(&beside, path).await
}

#[cfg(test)]
mod tests {
    use tawny_model::Timestamp;

    use super::*;
    use crate::registry::Registry;

    #[tokio::test]
    async fn what_is_saved_is_loaded_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coder.json");
        assert_eq!(load(&path).await.unwrap(), None);
        for secs in [1, 2] {
            let snapshot = Registry::new(Timestamp::MIN).snapshot(Timestamp::from_secs(secs));
            save(&path, &snapshot).await.unwrap();
            assert_eq!(load(&path).await.unwrap(), Some(snapshot));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_ours_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coder.json");
        for text in ["", "{}", "{\"version\": 9}"] {
            std::fs::write(&path, text).unwrap();
            let error = load(&path).await.unwrap_err().to_string();
            assert!(error.ends_with("remove it to begin anew"), "{error}");
        }
        assert!(load(dir.path()).await.is_err());
    }
}
