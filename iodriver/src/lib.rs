//! Block I/O for gaur: one contract ([`Device`], [`Queue`]) and the drivers that
//! keep it. This crate knows bytes and offsets, nothing of nodes.

pub mod buf;
pub mod contract;
pub mod error;
pub mod sync;

pub use buf::IoBuf;
pub use contract::{Completion, Device, Geometry, Op, Queue, Request, Waker};
pub use error::{IoError, IoErrorKind};
