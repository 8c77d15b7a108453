//! The LogStore trait, its conformance suite and its engines
