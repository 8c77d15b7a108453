//! Sources, the parsing pipeline and sinks
