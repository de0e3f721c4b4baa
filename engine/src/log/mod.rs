//! The log: commits in order, made durable in groups.
