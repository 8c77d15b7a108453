//! Rows of a block by column, and the pages they become.

use rustc_hash::FxHashMap;
use tawny_model::Stream;
use zstd::bulk::Compressor;

use super::{
    CLUSTER, CONTAINER, IMAGE, LABELS, N_STREAM, NAMESPACE, NODE, POD, POD_UID, RESTART, WORKLOAD,
    encode::{self, Width},
    index::Page,
    thrift::{self, DATA_PAGE, DICTIONARY_PAGE, PageHeader},
};

/// Pages of one column of the row group in hand, as they will lie in the file.
#[derive(Debug, Default)]
pub(super) struct ChunkBuffer {
    pub(super) bytes: Vec<u8>,
    /// Offsets count from the chunk's start, its dictionary left out.
    pub(super) pages: Vec<Page>,
    pub(super) n_values: u64,
    /// Headers included, as `total_uncompressed_size` wants it.
    pub(super) uncompressed_bytes: u64,
}

/// Compresses pages; holds the memory that takes.
pub(super) struct Packer {
    zstd: Compressor<'static>,
    packed: Vec<u8>,
    /// The page being made, before it is compressed.
    pub(super) raw: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    pub(super) fn new(zstd_level: i32) -> std::io::Result<Self> {
        Ok(Self {
            zstd: Compressor::new(zstd_level)?,
            packed: Vec::new(),
            raw: Vec::new(),
        })
    }

    /// Appends `raw` as a page to the chunk, and forgets it.
    pub(super) fn page(
        &mut self,
        chunk: &mut ChunkBuffer,
        encoding: i32,
        n_values: usize,
    ) -> std::io::Result<()> {
        let offset = chunk.bytes.len();
        let n_header = self.append(&mut chunk.bytes, DATA_PAGE, encoding, n_values)?;
        chunk.pages.push(page_of(&chunk.bytes, offset));
        chunk.n_values += n_values as u64;
        chunk.uncompressed_bytes += (self.raw.len() + n_header) as u64;
        self.raw.clear();
        Ok(())
    }

    /// A dictionary page of these values, with how many bytes it is uncompressed.
    pub(super) fn dictionary(
        &mut self,
        values: &[u8],
        n_values: usize,
    ) -> std::io::Result<(Vec<u8>, u64)> {
        self.raw.clear();
        self.raw.extend_from_slice(values);
        let mut to = Vec::new();
        let n_header = self.append(&mut to, DICTIONARY_PAGE, thrift::PLAIN, n_values)?;
        self.raw.clear();
        Ok((to, (values.len() + n_header) as u64))
    }

    fn append(
        &mut self,
        to: &mut Vec<u8>,
        page_type: i32,
        encoding: i32,
        n_values: usize,
    ) -> std::io::Result<usize> {
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        self.zstd.compress_to_buffer(&self.raw, &mut self.packed)?;
        let too_large = |_| std::io::Error::other("a page of over 2 GiB");
        let header = PageHeader {
            page_type,
            uncompressed_bytes: i32::try_from(self.raw.len()).map_err(too_large)?,
            compressed_bytes: i32::try_from(self.packed.len()).map_err(too_large)?,
            n_values: i32::try_from(n_values).map_err(too_large)?,
            encoding,
        };
        let before = to.len();
        thrift::put_page(to, header, &self.packed);
        Ok(to.len() - before - self.packed.len())
    }
}

pub(super) fn page_of(bytes: &[u8], offset: usize) -> Page {
    let page = &bytes[offset..];
    Page {
        offset: offset as u64,
        len_bytes: u32::try_from(page.len()).expect("a page is below 2 GiB"),
        crc32c: crc32c::crc32c(page),
    }
}

/// Texts of a column, end to end.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    lengths: Vec<i64>,
}

impl Texts {
    pub(super) fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.lengths
            .push(i64::try_from(text.len()).expect("a text fits memory"));
    }

    /// Appends as `DELTA_LENGTH_BYTE_ARRAY`, and forgets them.
    pub(super) fn encode(&mut self, to: &mut Vec<u8>) {
        encode::delta_binary_packed(to, Width::Int32, &self.lengths);
        to.extend_from_slice(&self.bytes);
        self.clear();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
        // What one odd block needed is given back.
        self.bytes.shrink_to(8 << 20);
    }
}

/// Texts that some rows have.
#[derive(Debug, Default)]
pub(super) struct SparseTexts {
    /// Rows of the block that have one, in order.
    rows: Vec<u32>,
    texts: Texts,
}

impl SparseTexts {
    pub(super) fn last_row(&self) -> Option<u32> {
        self.rows.last().copied()
    }

    pub(super) fn push(&mut self, row: u32, text: &str) {
        self.rows.push(row);
        self.texts.push(text);
    }

    pub(super) fn encode(&mut self, to: &mut Vec<u8>, n_rows: usize) {
        put_levels(to, &self.rows, n_rows);
        self.texts.encode(to);
        self.rows.clear();
    }
}

/// Definition levels of a column that these rows have.
pub(super) fn put_levels(to: &mut Vec<u8>, rows: &[u32], n_rows: usize) {
    let mut runs: Vec<(bool, usize)> = Vec::new();
    let mut at = 0;
    for row in rows {
        let row = *row as usize;
        if row > at {
            runs.push((false, row - at));
        }
        match runs.last_mut() {
            Some((true, n)) if row == at => *n += 1,
            _ => runs.push((true, 1)),
        }
        at = row + 1;
    }
    if at < n_rows {
        runs.push((false, n_rows - at));
    }
    encode::levels(to, runs);
}

/// A column that says the same for every row of a stream: a dictionary by row group, and runs.
#[derive(Debug, Default)]
pub(super) struct StreamColumn {
    /// Values as `PLAIN` writes them.
    dictionary: Vec<u8>,
    numbers: FxHashMap<Vec<u8>, u32>,
    /// Value of the stream in hand.
    now: Option<u32>,
    runs: Vec<(Option<u32>, usize)>,
}

impl StreamColumn {
    fn set(&mut self, plain: Option<Vec<u8>>) {
        self.now = plain.map(|plain| {
            let next = u32::try_from(self.numbers.len()).expect("no more values than rows");
            *self.numbers.entry(plain).or_insert_with_key(|plain| {
                self.dictionary.extend_from_slice(plain);
                next
            })
        });
    }

    /// Some more rows of the stream in hand.
    pub(super) fn rows(&mut self, n: usize) {
        match self.runs.last_mut() {
            Some((value, run)) if *value == self.now => *run += n,
            _ => self.runs.push((self.now, n)),
        }
    }

    /// Appends the block's values and forgets them.
    pub(super) fn encode(&mut self, to: &mut Vec<u8>, is_optional: bool) {
        if is_optional {
            encode::levels(to, self.runs.iter().map(|(value, n)| (value.is_some(), *n)));
        }
        let runs: Vec<(u32, usize)> = self
            .runs
            .drain(..)
            .filter_map(|(value, n)| Some((value?, n)))
            .collect();
        let max = u32::try_from(self.numbers.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(1);
        encode::codes(to, encode::width_of(max), &runs);
    }

    /// The dictionary of the row group with its number of values, which is then forgotten.
    pub(super) fn take_dictionary(&mut self) -> (Vec<u8>, usize) {
        let n_values = self.numbers.len();
        self.numbers.clear();
        (std::mem::take(&mut self.dictionary), n_values)
    }

    /// Least and greatest value of the row group, as `PLAIN` writes texts.
    pub(super) fn bounds(&self) -> Option<(&[u8], &[u8])> {
        // The length in front is no part of the value.
        let values = || self.numbers.keys().filter_map(|plain| plain.get(4..));
        Some((values().min()?, values().max()?))
    }
}

/// What a stream says in each of its columns.
pub(super) fn set_stream(columns: &mut [StreamColumn; N_STREAM], stream: &Stream) {
    let text = |text: &str| {
        let len_bytes = u32::try_from(text.len()).expect("descriptions are limited");
        let mut plain = len_bytes.to_le_bytes().to_vec();
        plain.extend_from_slice(text.as_bytes());
        Some(plain)
    };
    columns[CLUSTER].set(text(&stream.id.cluster));
    columns[NAMESPACE].set(text(&stream.namespace));
    columns[POD].set(text(&stream.pod));
    columns[POD_UID].set(text(&stream.id.pod_uid));
    columns[CONTAINER].set(text(&stream.id.container));
    // More restarts than Parquet's signed number tells do not happen; the stream table has them exactly.
    let restart = i32::try_from(stream.id.restart).unwrap_or(i32::MAX);
    columns[RESTART].set(Some(restart.to_le_bytes().to_vec()));
    columns[NODE].set(text(&stream.node));
    columns[IMAGE].set(text(&stream.image));
    let workload = stream.workload.as_ref();
    columns[WORKLOAD].set(workload.and_then(|workload| text(&workload.to_string())));
    let labels = serde_json::to_string(&stream.labels).expect("a map of texts is JSON");
    columns[LABELS].set(text(&labels));
}

/// Numbers below `n_values` in a dictionary that says each is itself, which therefore no reader of ours needs.
pub(super) fn identity_dictionary(n_values: u16) -> Vec<u8> {
    (0..i32::from(n_values))
        .flat_map(i32::to_le_bytes)
        .collect()
}
