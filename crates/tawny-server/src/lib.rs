//! gRPC and HTTP faces of the store
