//! The gRPC services and their messages, generated from `proto/` by `cargo run -p xtask -- codegen`.

/// Every service's descriptors, for reflection: an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");

/// `kubelogs.storage.v1`: the storage service of kubelogs, field by field (KL-3 to KL-9).
pub mod kubelogs {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::missing_errors_doc,
        unused_qualifications,
        missing_docs,
        reason = "generated code answers to its generator"
    )]
    include!("generated/kubelogs.storage.v1.rs");
}

/// `tawny.v1`: how an agent hands batches to a server.
pub mod tawny {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::missing_errors_doc,
        unused_qualifications,
        missing_docs,
        reason = "generated code answers to its generator"
    )]
    include!("generated/tawny.v1.rs");
}
