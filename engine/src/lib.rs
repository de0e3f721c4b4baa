//! gaur: a transactional, ordered key-value engine that owns a raw block device.
//!
//! A [`Store`] lies on a raw NVMe namespace, a partition, a loop device or a plain
//! file, with `O_DIRECT` and no file system's help. It holds named [`Tree`]s, which
//! many threads read and write at once. Commits are atomic ([`WriteBatch`]), durable
//! as asked ([`Durability`]), and recovered as a prefix of their order. A
//! [`Transaction`] reads and writes as if it were alone; a [`Snapshot`] is all trees
//! at one commit.
//!
//! Start at [`Store`]; `ARCHITECTURE.md` says how it works inside.

pub mod alloc;
mod bulk;
mod cache;
pub mod check;
mod commit;
mod core;
pub mod error;
mod events;
#[cfg(feature = "experiment-cow")]
pub mod experiment;
mod feed;
pub mod format;
mod format_discard;
mod format_plan;
mod format_store;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod growth;
pub mod inspect;
mod large;
mod lease;
pub mod log;
mod merging;
#[cfg(all(loom, test))]
mod models;
mod node;
mod options;
mod order;
mod overlay;
mod places;
mod pool;
mod progress;
mod read;
mod readers;
mod recovery;
mod refuse;
mod report;
mod saved;
mod scan;
mod shortage;
mod stats;
mod store;
mod throttle;
mod trace;
mod tree;
mod trim;
pub(crate) mod txn;
mod typed;
pub mod waits;
mod walk;
mod worker;
mod writeback;

pub use alloc::DiscardRate;
pub use bulk::{BulkLoader, BulkOptions};
pub use check::{CheckOptions, CheckReport, check, check_device};
pub use commit::batch::{MAX_VALUE, WriteBatch};
pub use error::{
    Conflict, ConflictOn, Damage, Error, MergeRefused, OutOfOrder, Part, Result, WrongType,
};
pub use events::{Event, Events};
pub use feed::{ChangeFeed, FeedCommit, FeedOp, FeedOptions, LargeValue};
pub use format::Csn;
pub use format_discard::DiscardProgress;
pub use format_plan::FormatPlan;
pub use format_store::{FormatReport, MIN_STORE};
pub use gaur_iodriver::{DriverChoice, DurableMethod};
pub use growth::GrowReport;
pub use large::ValueReader;
pub use lease::FreeSpace;
pub use merging::MergeOperator;
pub use node::MAX_KEY;
pub use options::{Durability, FormatOptions, OpenOptions};
pub use order::OrderedKey;
pub use readers::GivenUp;
pub use recovery::RecoveryReport;
pub use report::{StatRow, Stats, Unit};
pub use scan::{Cursor, LeftOut, Scan};
pub use store::{CacheBudget, NamedSnapshot, Snapshot, SnapshotInfo, Store, Swap, Tree};
pub use throttle::ThrottleCause;
pub use tree::RangeSize;
pub use trim::{TrimOptions, TrimReport};
pub use txn::{
    Isolation, Retry, Savepoint, Transacted, Transaction, TransactionOptions, TransactionScan,
};
pub use typed::{ReadFrom, TypedCursor, TypedScan, TypedTree, Value, WriteTo};
pub use worker::MAX_THREADS;
