//! Options of format and open.

use gaur_iodriver::sync::time::Duration;
use gaur_iodriver::{DriverChoice, DurableMethod};

use crate::alloc::DiscardRate;
use crate::error::{Error, Result};
use crate::format_discard::DiscardProgress;
use crate::inspect::bytes as in_units;

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it survives the loss of power.
    #[default]
    Sync,
    /// At once. It survives the loss of power at most
    /// [`OpenOptions::buffered_interval`] later; what is recovered is always a
    /// prefix of the commits.
    Buffered,
}

/// How to make a store. `Default` suits most.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Bytes in a block, which is also the size of a node: 4096, 8192 or 16384.
    pub block_size: u32,
    /// Bytes of the log; `None`: a sixteenth of the device, from 4 MiB to 1 GiB.
    pub log_size: Option<u64>,
    /// Overwrite whatever is there.
    pub force: bool,
    /// Make a file of this many bytes.
    pub create_size: Option<u64>,
    /// The file gets its space when it is written, and may be punched again; the store
    /// remembers it. If its file system is full, a write fails and the store stops.
    /// Otherwise a file gets all its space now.
    pub sparse: bool,
    /// Tell the device first that nothing on it is needed; a sparse file gives up its
    /// space. Where that cannot be, the report's notes say so.
    pub discard: bool,
    /// Is told how far that is.
    pub discard_progress: Option<DiscardProgress>,
    /// Which driver to use.
    pub driver: DriverChoice,
    /// How to make writes durable; `None`: measure, and take the faster way.
    pub durable_method: Option<DurableMethod>,
}

impl Default for FormatOptions {
    fn default() -> Self {
        Self {
            block_size: 4096,
            log_size: None,
            force: false,
            create_size: None,
            sparse: false,
            discard: false,
            discard_progress: None,
            driver: DriverChoice::Auto,
            durable_method: None,
        }
    }
}

/// How to open a store. `Default` suits most.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Memory for nodes, in bytes; at least 1 MiB. May be changed while the store is
    /// open: [`Store::set_cache_bytes`](crate::Store::set_cache_bytes).
    pub cache_bytes: u64,
    /// The most that the cache can be enlarged to while the store is open, in bytes;
    /// at least `cache_bytes`. It takes address space, not memory. `None`: four times
    /// `cache_bytes`. Where the system does not give that much address space, the
    /// cache stays at `cache_bytes`.
    pub max_cache_bytes: Option<u64>,
    /// Look only; the device is not written to at all. What is seen is what
    /// recovery would leave: the log's changes are held in memory beside the trees.
    pub read_only: bool,
    /// Read-only: the most memory, in bytes, for what the log of a store that was
    /// not closed changes. It is used as needed, beside `cache_bytes`, and never
    /// much above the log's size. Too little is
    /// [`Error::ReplayMemory`](crate::Error::ReplayMemory) from open.
    pub replay_memory: u64,
    /// Read-only: open although the log or the tree of trees is damaged, and leave
    /// out what cannot be read of them: commits from the damage on, trees that
    /// nothing names. [`RecoveryReport::left_out`](crate::RecoveryReport::left_out)
    /// tells.
    pub salvage: bool,
    /// Which driver to use.
    pub driver: DriverChoice,
    /// How to make writes durable; `None`: as the store says.
    pub durable_method: Option<DurableMethod>,
    /// A checkpoint begins at least this often while there are commits.
    pub checkpoint_interval: Duration,
    /// Buffered commits are durable at most this late.
    pub buffered_interval: Duration,
    /// Tell the device what is free again, in the background. Blocks are free when
    /// their discard has ended, or at once if space is short. Has no effect where the
    /// device cannot discard, nor on a file that was not formatted as sparse;
    /// [`Store::notes`](crate::Store::notes) says so.
    pub discard: bool,
    /// Let a file grow by itself up to this many bytes, in steps of an eighth, at
    /// least 64 MiB, before it is full. Where the file system has no more, the
    /// store goes on at the size it has. `None`: only [`Store::grow`] makes it
    /// larger. Has no effect on a block device.
    ///
    /// [`Store::grow`]: crate::Store::grow
    pub grow_to: Option<u64>,
    /// Take in what is new when somebody else made the device or file larger:
    /// looked for every [`OpenOptions::checkpoint_interval`], and before a commit
    /// is refused as full.
    pub follow_size: bool,
    /// How fast; by default 1 GiB and 1000 discards a second.
    pub discard_rate: DiscardRate,
    /// Memory for blocks of the space map, in bytes. What was handed out since the
    /// last checkpoint is kept in memory even above this. Beside it the index of the
    /// map takes about 60 bytes for each group (126 MiB with blocks of 4 KiB).
    pub map_memory: usize,
    /// Memory, in bytes, for what is overwritten while snapshots, scans and cursors need
    /// it, which is until the next checkpoint, and transactions, which is until they end.
    /// Beyond that the oldest of them are given up: they get [`Error::ViewTooOld`], and the
    /// writers go on.
    pub version_memory: usize,
    /// Of the oldest snapshot, transaction, scan or cursor is told when it is open for
    /// longer than this: [`Event::SlowReader`](crate::Event::SlowReader).
    pub slow_reader: Duration,
    /// Snapshots, transactions, scans and cursors that are open for longer than this, and at
    /// whose commit the store is no more, are given up: they get [`Error::ViewTooOld`],
    /// and hold no memory and no space any more. `None`: only for want of memory or space.
    pub max_reader_age: Option<Duration>,
    /// For experiments: each I/O of the allocator takes this much longer.
    pub allocator_delay: Option<Duration>,
    /// For experiments: each large value goes to another group of the store, so that
    /// the map is used as in a store whose groups are nearly full.
    pub allocator_spread: bool,
    /// For `gaur experiment cow`.
    #[cfg(feature = "experiment-cow")]
    pub experiment: crate::experiment::Experiment,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            max_cache_bytes: None,
            read_only: false,
            replay_memory: REPLAY_MEMORY,
            salvage: false,
            driver: DriverChoice::Auto,
            durable_method: None,
            checkpoint_interval: Duration::from_secs(10),
            buffered_interval: Duration::from_millis(50),
            discard: false,
            grow_to: None,
            follow_size: true,
            discard_rate: DiscardRate::default(),
            map_memory: 16 << 20,
            version_memory: 64 << 20,
            slow_reader: Duration::from_secs(60),
            max_reader_age: None,
            allocator_delay: None,
            allocator_spread: false,
            #[cfg(feature = "experiment-cow")]
            experiment: crate::experiment::Experiment::default(),
        }
    }
}

/// Memory for what a log changes, by default: no log is larger unless it was made so.
pub(crate) const REPLAY_MEMORY: u64 = 1 << 30;

/// The smallest cache, in bytes.
const MIN_CACHE: u64 = 1 << 20;

/// Refuses a cache that is too small.
pub(crate) fn check_cache(bytes: u64) -> Result<()> {
    if bytes < MIN_CACHE {
        return Err(Error::BadOption {
            name: "cache_bytes",
            detail: format!("{}; at least {}", in_units(bytes), in_units(MIN_CACHE)),
        });
    }
    Ok(())
}

impl OpenOptions {
    pub(crate) fn check(&self) -> Result<()> {
        check_cache(self.cache_bytes)?;
        if let Some(most) = self.max_cache_bytes.filter(|most| *most < self.cache_bytes) {
            return Err(Error::BadOption {
                name: "max_cache_bytes",
                detail: format!(
                    "{}; at least cache_bytes, {}",
                    in_units(most),
                    in_units(self.cache_bytes)
                ),
            });
        }
        if self.salvage && !self.read_only {
            return Err(Error::BadOption {
                name: "salvage",
                detail: "is for reading only; what it leaves out would be lost".into(),
            });
        }
        Ok(())
    }

    pub(crate) fn most_cache_bytes(&self) -> u64 {
        self.max_cache_bytes
            .unwrap_or(self.cache_bytes.saturating_mul(4))
    }
}

impl FormatOptions {
    pub(crate) fn check(&self) -> Result<()> {
        if ![4096, 8192, 16384].contains(&self.block_size) {
            return Err(Error::BadOption {
                name: "block_size",
                detail: format!("{} B; 4096, 8192 or 16384", self.block_size),
            });
        }
        Ok(())
    }
}
