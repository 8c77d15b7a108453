//! Rust from `proto/`, written where it is compiled and committed, so that a build needs neither protoc nor a script.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use prost::Message as _;

/// Where the generated files lie, from the repository's root.
const OUT_DIR: &str = "crates/tawny-wire/src/proto/generated";

const PROTOS: [&str; 2] = ["kubelogs/storage/v1/storage.proto", "tawny/v1/ingest.proto"];

/// Descriptors of every service, for gRPC reflection.
const DESCRIPTOR_SET: &str = "descriptors.bin";

/// Writes every generated file anew.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let out_dir = root.join(OUT_DIR);
    fs::create_dir_all(&out_dir)?;
    for (name, content) in generate(root)? {
        let path = out_dir.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// What the files should hold now, by file name.
fn generate(root: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut descriptors = protox::compile(PROTOS, [root.join("proto")])?;
    let scratch = tempfile::tempdir()?;
    tonic_prost_build::configure()
        // A client is built over a channel the caller made; connecting is no business of a pure crate.
        .build_transport(false)
        .btree_map(".")
        .bytes(".")
        .emit_rerun_if_changed(false)
        .out_dir(scratch.path())
        .compile_fds(descriptors.clone())?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(scratch.path())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("prost names files after packages")?
            .to_owned();
        files.insert(name, fs::read(&path)?);
    }
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    files.insert(DESCRIPTOR_SET.to_owned(), descriptors.encode_to_vec());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_code_is_what_the_protos_generate() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let wanted = generate(root).unwrap();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(root.join(OUT_DIR)).unwrap() {
            let entry = entry.unwrap();
            found.insert(
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            );
        }
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            wanted.keys().collect::<Vec<_>>()
        );
        for (name, content) in wanted {
            assert!(
                found[&name] == content,
                "{name} is stale: run `cargo run -p xtask -- codegen`"
            );
        }
    }
}
