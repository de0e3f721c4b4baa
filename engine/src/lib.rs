//! gaur: a transactional, ordered key-value engine that owns a raw block device.

pub mod alloc;
pub mod error;
pub mod format;
pub mod log;

pub use error::{Damage, Error, Result};
