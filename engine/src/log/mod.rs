//! The log: commits in order, made durable in groups.
//!
//! What must hold:
//! - A record gets the next CSN and its place in the log in one short critical
//!   section, [`Log::try_append`], which never waits. So the order of CSNs is the
//!   order of bytes on the device.
//! - Space is accounted exactly in that section: a record is accepted only if it,
//!   all before it and every skip lie before the head's next lap. What is taken
//!   and not truncated is never written again.
//! - One thread writes. Several log blocks may be in flight, but they are
//!   acknowledged strictly in order, so what is durable is always a prefix.
//! - A log block is written once, on fresh blocks, and carries the checksum of the
//!   one before it. [`LogReader`] follows that chain, and tells the log's end from
//!   damage by what later blocks and the superblock say was durable.
//! - After the first failed write or flush nothing is appended or acknowledged any
//!   more ([`crate::Error::OutcomeUnknown`] for whoever waits).
//!
//! The parts: `ring` maps positions to places, `pending` holds what is
//! appended and not yet written, `writer` is the log thread, `block` makes and
//! judges log blocks, `window` reads ahead, `reader` is recovery, `walk` is for
//! the curious, `past` and `history` are for change feeds, `ops` is what a record says.

mod append;
mod block;
mod config;
mod history;
#[cfg(all(loom, test))]
mod models;
mod ops;
mod past;
mod pending;
mod reader;
mod ring;
mod shared;
mod stats;
mod wait;
mod walk;
mod window;
mod writer;

#[cfg(test)]
mod tests;

pub use append::{Cut, Hold, Log, LogUsage, Record, Refused};
pub use config::{LogConfig, LogHead, LogTail};
pub(crate) use history::{FIRST_RECORD, History, Reach, Watch};
pub use ops::{Extents, LogOp, Ops, OpsBuilder, Runs, record_check};
pub(crate) use past::{LogPlace, Past};
pub use reader::{LogReader, ReadRecord};
pub use stats::LogStats;
pub use walk::{BlockFacts, LogWalk};
