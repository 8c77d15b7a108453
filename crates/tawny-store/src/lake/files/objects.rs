//! A table in a bucket: whole objects put at once or in parts, ranges fetched together where they lie near.

use std::{fmt, io, ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
    client::{HttpError, HttpErrorKind},
    coalesce_ranges,
    path::Path,
};
use tawny_model::Timestamp;
use tokio::runtime::Handle;

use super::{Kind, Listed, Storage, Traffic, library_error};
use crate::{Error, lake::read_at::ReadAt};

/// Ranges nearer than this are one request: a request costs tens of milliseconds, in which a bucket sends about 1 MiB.
const COALESCE_BYTES: u64 = 512 * 1024;

/// Parts of an upload: S3 wants at least 5 MiB, and 10,000 parts of 16 MiB allow 156 GiB.
const PART_BYTES: usize = 16 * 1024 * 1024;

/// Requests in flight when many small objects are read.
const PARALLEL_GETS: usize = 32;

/// A bucket, or a prefix in one.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    location: Arc<str>,
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, location: &str) -> Self {
        Self {
            store,
            location: location.trim_end_matches('/').into(),
        }
    }

    pub(super) fn place(&self, path: &str) -> String {
        format!("{}/{path}", self.location)
    }

    pub(super) fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    fn error(&self, path: &str, doing: &'static str, error: object_store::Error) -> Error {
        library_error(&self.place(path), doing, error)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Option<Bytes>, Error> {
        let got = match self.store.get(&Path::from(path)).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(path, "cannot be read", error)),
        }
    }

    pub(super) async fn get_all(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        stream::iter(paths)
            .map(|path| self.get(path))
            .buffered(PARALLEL_GETS)
            .try_collect()
            .await
    }

    pub(super) async fn put(&self, path: &str, bytes: Bytes) -> Result<(), Error> {
        let key = Path::from(path);
        steadily(async || self.store.put(&key, bytes.clone().into()).await)
            .await
            .map_err(|error| self.error(path, "cannot be written", error))?;
        Ok(())
    }

    pub(super) async fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool, Error> {
        let key = Path::from(path);
        let put = steadily(async || {
            let (bytes, mode) = (bytes.clone().into(), PutMode::Create.into());
            self.store.put_opts(&key, bytes, mode).await
        })
        .await;
        match put {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(self.error(path, "cannot be written", error)),
        }
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), Error> {
        let key = Path::from(path);
        match steadily(async || self.store.delete(&key).await).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(path, "cannot be deleted", error)),
        }
    }

    pub(super) async fn list(&self, directory: &str) -> Result<Vec<Listed>, Error> {
        let prefix = (!directory.is_empty()).then(|| Path::from(directory));
        let listed = list_all(|| self.store.list(prefix.as_ref())).await;
        let listed = listed.map_err(|error| self.error(directory, "cannot be listed", error))?;
        let listed = listed.into_iter().map(|meta| Listed {
            path: meta.location.to_string(),
            len_bytes: meta.size,
            modified: Timestamp::from_millis(meta.last_modified.timestamp_millis()),
        });
        Ok(listed.collect())
    }
}

/// How often more a request is made whose connection or answer broke off.
const BROKEN_OFF_RETRIES: usize = 2;

/// Asks again where the library does not: it repeats what a server refuses and what breaks off while an object is read,
/// but no listing whose text breaks off, and no conditional writing. Only for what may be done twice.
pub(in crate::lake) async fn steadily<T>(
    ask: impl AsyncFn() -> object_store::Result<T>,
) -> object_store::Result<T> {
    for _ in 0..BROKEN_OFF_RETRIES {
        match ask().await {
            Err(error) if is_broken_off(&error) => {}
            done => return done,
        }
    }
    ask().await
}

fn is_broken_off(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<HttpError>() {
            return matches!(
                error.kind(),
                HttpErrorKind::Interrupted | HttpErrorKind::Decode
            );
        }
        cause = inner.source();
    }
    false
}

/// [`steadily`], spelled out: a closure would keep the listing from moving between threads.
async fn list_all(
    list: impl Fn() -> BoxStream<'static, object_store::Result<ObjectMeta>>,
) -> object_store::Result<Vec<ObjectMeta>> {
    for _ in 0..BROKEN_OFF_RETRIES {
        match list().try_collect().await {
            Err(error) if is_broken_off(&error) => {}
            done => return done,
        }
    }
    list().try_collect().await
}

/// An object, for reading.
#[derive(Debug)]
pub(super) struct ObjectFile {
    objects: Objects,
    path: String,
    len_bytes: u64,
    runtime: Handle,
    traffic: Arc<Traffic>,
}

impl ObjectFile {
    pub(super) fn new(
        objects: Objects,
        path: &str,
        len_bytes: u64,
        runtime: Handle,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            objects,
            path: path.to_owned(),
            len_bytes,
            runtime,
            traffic,
        }
    }

    async fn fetch(&self, path: &Path, range: Range<u64>) -> Result<Bytes, Error> {
        self.traffic.add(range.end - range.start);
        let error = match self.objects.store.get_range(path, range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => return Ok(bytes),
            Ok(_) => return Err(self.damaged(format!("it ends before byte {}", range.end))),
            Err(error) => error,
        };
        // Stores answer in many ways to a range that is not there, so ask.
        match self.objects.store.head(path).await {
            Ok(meta) if meta.size < range.end => Err(self.damaged(format!(
                "{} bytes are left of {}",
                meta.size, self.len_bytes
            ))),
            Err(object_store::Error::NotFound { .. }) => Err(self.damaged("it is gone".to_owned())),
            _ => Err(self.objects.error(&self.path, "cannot be read", error)),
        }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged {
            path: PathBuf::from(self.place()),
            reason,
        }
    }
}

impl ReadAt for ObjectFile {
    fn place(&self) -> String {
        self.objects.place(&self.path)
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        for range in ranges {
            super::checked_len(range, self.len_bytes).map_err(|reason| self.damaged(reason))?;
        }
        // Some stores refuse to fetch nothing.
        let fetched: Vec<Range<u64>> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
        let path = Path::from(self.path.as_str());
        let mut parts = self
            .runtime
            .block_on(coalesce_ranges(
                &fetched,
                |range| self.fetch(&path, range),
                COALESCE_BYTES,
            ))?
            .into_iter();
        let part = |range: &Range<u64>| {
            let fetched = (!range.is_empty()).then(|| parts.next()).flatten();
            fetched.unwrap_or_default()
        };
        Ok(ranges.iter().map(part).collect())
    }
}

/// An object on its way: put at once when small, in parts when big.
pub(super) struct ObjectUpload {
    objects: Objects,
    path: String,
    runtime: Handle,
    waiting: BytesMut,
    parts: Option<Box<dyn MultipartUpload>>,
}

impl fmt::Debug for ObjectUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectUpload")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ObjectUpload {
    pub(super) fn start(objects: Objects, path: &str, runtime: Handle) -> Self {
        Self {
            objects,
            path: path.to_owned(),
            runtime,
            waiting: BytesMut::new(),
            parts: None,
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() >= PART_BYTES {
            let part = self.waiting.split_to(PART_BYTES).freeze();
            self.send(part).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn send(&mut self, part: Bytes) -> object_store::Result<()> {
        let path = Path::from(self.path.as_str());
        let runtime = self.runtime.clone();
        let upload = match &mut self.parts {
            Some(upload) => upload,
            none => none.insert(runtime.block_on(self.objects.store.put_multipart(&path))?),
        };
        runtime.block_on(upload.put_part(part.into()))
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        let last = std::mem::take(&mut self.waiting).freeze();
        if self.parts.is_none() {
            return self.runtime.block_on(self.objects.put(&self.path, last));
        }
        let sent = if last.is_empty() {
            Ok(())
        } else {
            self.send(last)
        };
        // Still in `parts` when a step fails: dropping then aborts it.
        let completed = sent.and_then(|()| match &mut self.parts {
            Some(upload) => self.runtime.block_on(upload.complete()).map(|_| ()),
            None => Ok(()),
        });
        completed.map_err(|error| self.objects.error(&self.path, "cannot be written", error))?;
        self.parts = None;
        Ok(())
    }
}

impl Drop for ObjectUpload {
    fn drop(&mut self) {
        if let Some(mut upload) = self.parts.take() {
            // Parts that cannot be deleted now wait for the bucket's life-cycle rule.
            let _aborted_or_left = self.runtime.block_on(upload.abort());
        }
    }
}

/// The storage as the Delta library sees it: what it writes passes through [`Storage`], durable and whole.
#[derive(Debug)]
pub(super) struct Durable {
    inner: Arc<dyn ObjectStore>,
    storage: Storage,
}

impl Durable {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, storage: Storage) -> Self {
        Self { inner, storage }
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.storage.place(""))
    }
}

impl Storage {
    /// Writes on behalf of the Delta library, which is async.
    async fn put_async(
        self,
        location: Path,
        payload: PutPayload,
        mode: PutMode,
    ) -> object_store::Result<PutResult> {
        let path = location.to_string();
        self.reach("put", &path).map_err(generic)?;
        let written = match &self.kind {
            Kind::Local(local) => {
                let (local, to) = (Arc::clone(local), path.clone());
                let write = move || {
                    let parts: Vec<Bytes> = payload.into_iter().collect();
                    match mode {
                        PutMode::Create => local.put_new(&to, &parts),
                        PutMode::Overwrite | PutMode::Update(_) => {
                            local.put(&to, &parts).map(|()| true)
                        }
                    }
                };
                tokio::task::spawn_blocking(write)
                    .await
                    .map_err(generic)?
                    .map_err(generic)?
            }
            Kind::Objects(objects) => {
                let put = objects.store.put_opts(&location, payload, mode.into());
                let put = put.await?;
                self.reach("after put", &path).map_err(generic)?;
                return Ok(put);
            }
        };
        self.reach("after put", &path).map_err(generic)?;
        if written {
            Ok(PutResult {
                e_tag: None,
                version: None,
            })
        } else {
            Err(object_store::Error::AlreadyExists {
                path,
                source: "another writer was faster".into(),
            })
        }
    }
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic {
        store: "tawny",
        source: Box::new(error),
    }
}

#[async_trait]
impl ObjectStore for Durable {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        let storage = self.storage.clone();
        storage
            .put_async(location.clone(), payload, opts.mode)
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Gathered {
            storage: self.storage.clone(),
            location: location.clone(),
            parts: Vec::new(),
        }))
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let storage = self.storage.clone();
        let locations = locations.map(move |location| {
            let location = location?;
            storage
                .reach("delete", location.as_ref())
                .map_err(generic)?;
            Ok(location)
        });
        self.inner.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned());
        sorted(move || inner.list(prefix.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (inner, prefix, offset) = (Arc::clone(&self.inner), prefix.cloned(), offset.clone());
        sorted(move || inner.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        _from: &Path,
        _to: &Path,
        _options: CopyOptions,
    ) -> object_store::Result<()> {
        Err(object_store::Error::NotImplemented {
            operation: "copy".to_owned(),
            implementer: self.to_string(),
        })
    }
}

/// In the order of paths, as the library expects of everything but `file:`.
fn sorted(
    list: impl Fn() -> BoxStream<'static, object_store::Result<ObjectMeta>> + Send + Sync + 'static,
) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
    let sorted = async move {
        let mut files = list_all(list).await?;
        files.sort_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, object_store::Error>(stream::iter(files.into_iter().map(Ok)))
    };
    stream::once(sorted).try_flatten().boxed()
}

/// The parts of a big checkpoint, which is written at once when complete: a few tens of MiB at most.
#[derive(Debug)]
struct Gathered {
    storage: Storage,
    location: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Gathered {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data);
        let done: BoxFuture<'static, object_store::Result<()>> = Box::pin(async { Ok(()) });
        done
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let payload = std::mem::take(&mut self.parts).into_iter().collect();
        let storage = self.storage.clone();
        storage
            .put_async(self.location.clone(), payload, PutMode::Overwrite)
            .await
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.parts.clear();
        Ok(())
    }
}
