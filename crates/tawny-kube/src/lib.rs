//! Kubernetes client, pod watch, metadata by UID, access review
