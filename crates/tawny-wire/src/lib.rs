//! Bytes to model and back: CRI, docker json-file, log messages, gRPC and HTTP types
