//! Other engines, behind the same interface as ours. Each is built only if the
//! feature of its name is on.
//!
//! What must hold: a commit that waits for durability is as durable as the engine
//! can make it, no engine compresses, and each is set up as its own documentation
//! advises. What was set, [`Settings`] tells.

#[cfg(feature = "peer-canopydb")]
mod canopydb;
#[cfg(feature = "peer-fjall")]
mod fjall;
#[cfg(feature = "peer-lmdb")]
mod lmdb;
#[cfg(feature = "peer-redb")]
mod redb;
#[cfg(feature = "peer-rocksdb")]
mod rocksdb;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::failure::Failure;

/// An engine of others.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// LMDB, by `heed`.
    Lmdb,
    /// redb.
    Redb,
    /// fjall.
    Fjall,
    /// canopydb.
    Canopydb,
    /// `RocksDB`.
    Rocksdb,
}

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Lmdb,
        Self::Redb,
        Self::Fjall,
        Self::Canopydb,
        Self::Rocksdb,
    ];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lmdb => "lmdb",
            Self::Redb => "redb",
            Self::Fjall => "fjall",
            Self::Canopydb => "canopydb",
            Self::Rocksdb => "rocksdb",
        }
    }

    /// Whether this tool was built with it.
    pub(crate) fn is_built(self) -> bool {
        match self {
            Self::Lmdb => cfg!(feature = "peer-lmdb"),
            Self::Redb => cfg!(feature = "peer-redb"),
            Self::Fjall => cfg!(feature = "peer-fjall"),
            Self::Canopydb => cfg!(feature = "peer-canopydb"),
            Self::Rocksdb => cfg!(feature = "peer-rocksdb"),
        }
    }
}

/// How an engine is opened.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The memory for its cache, in bytes.
    pub(crate) cache: u64,
    /// How soon a commit that does not wait is to be durable.
    pub(crate) interval: Duration,
    /// The store is larger than the memory allowed.
    pub(crate) larger_than_memory: bool,
}

/// Name and value of what was set, for those who read the figures.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// Opens this engine's store in a directory, or makes one there.
#[cfg_attr(not(feature = "peer-lmdb"), allow(unused_variables))]
pub(crate) fn open(
    peer: Peer,
    dir: &Path,
    setup: &Setup,
) -> Result<(Box<dyn Subject>, Settings), Failure> {
    match peer {
        #[cfg(feature = "peer-lmdb")]
        Peer::Lmdb => lmdb::open(dir, setup),
        #[cfg(feature = "peer-redb")]
        Peer::Redb => redb::open(dir, setup),
        #[cfg(feature = "peer-fjall")]
        Peer::Fjall => fjall::open(dir, setup),
        #[cfg(feature = "peer-canopydb")]
        Peer::Canopydb => canopydb::open(dir, setup),
        #[cfg(feature = "peer-rocksdb")]
        Peer::Rocksdb => rocksdb::open(dir, setup),
        #[allow(unreachable_patterns, reason = "unless all are built")]
        other => Err(not_built(other)),
    }
}

/// Refuses an engine that this tool was built without.
pub(crate) fn not_built(peer: Peer) -> Failure {
    let name = peer.name();
    Failure::refused(format!(
        "{name} is not in this build; build with --features peer-{name}, or peers for all but \
         rocksdb: cargo build --release -p gaur-harness --features peers"
    ))
}

/// What an engine said no to.
#[allow(dead_code, reason = "unused if no engine is built")]
fn failed(doing: &str, error: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("cannot {doing}: {error}"))
}
