//! Counters of the engine's own protocol.
//!
//! Each worker counts on cache lines of its own, so counting costs no sharing;
//! [`Stats`](crate::Stats) adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter written by one thread and read by any.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds; only the owning thread may.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Keeps the greatest.
    pub(crate) fn raise(&self, n: u64) {
        if n > self.get() {
            self.0.store(n, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Tree levels that are counted apart; higher ones count with the last.
pub(crate) const LEVELS: usize = 4;

/// What a worker may wait for. Never under a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// An answer of the allocator.
    Reservation,
    /// A free frame, to read a node.
    Frame,
    /// Room in the log.
    LogSpace,
    /// A commit's durability.
    Durable,
    /// A block from the device.
    Read,
    /// Lower commits to become visible.
    Visible,
    /// Space that others or a checkpoint bring back.
    Space,
    /// A free frame, to make or copy a node.
    WriteFrame,
    /// A transaction that keeps others from the log while it validates.
    Hold,
}

/// Kinds of [`Wait`], by name.
pub(crate) const WAITS: [&str; 9] = [
    "reservation",
    "frame",
    "log_space",
    "durable",
    "read",
    "visible",
    "space",
    "write_frame",
    "hold",
];

macro_rules! worker_counters {
    ($($(#[$m:meta])* $name:ident,)*) => {
        /// What one worker counts.
        #[derive(Debug, Default)]
        pub(crate) struct WorkerCounters {
            $($(#[$m])* pub(crate) $name: Count,)*
            /// Nodes copied or moved to a new block, by level.
            pub(crate) copies: [Count; LEVELS],
            /// Waits by kind: how many, and nanoseconds.
            pub(crate) waits: [(Count, Count); WAITS.len()],
        }

        impl WorkerCounters {
            /// Names and values, the arrays left out.
            pub(crate) fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

worker_counters! {
    /// Point reads.
    gets,
    /// Steps of scans: leaves read.
    scan_leaves,
    /// Operations applied (puts and deletes).
    ops,
    /// Commits.
    commits,
    /// Blocks received from the allocator's channel.
    taken_from_channel,
    /// Blocks received as answers to requests.
    taken_by_request,
    /// Blocks linked into the tree.
    blocks_used,
    /// Blocks given back unused.
    blocks_returned,
    /// Restarts for space: node or parent had parked waiters.
    restarts_parked,
    /// Restarts for space: an upgrade failed.
    restarts_upgrade,
    /// Restarts for space: stash and channel were empty.
    restarts_empty,
    /// Most restarts for space of one operation in one generation.
    restarts_most,
    /// Upgrades that failed with a reservation in hand: another writer was first.
    lost_races,
    /// Copies that needed no memory copy: the frame moved to its new block.
    moved_in_place,
    /// Restarts because no frame was free.
    restarts_frame,
    /// Restarts because the log was full.
    restarts_log,
    /// Restarts because a transaction had the log's hold.
    restarts_held,
    /// Batches that had to prepare their leaves again.
    restarts_batch,
    /// Leaf and inner splits.
    splits,
    /// Merges of two nodes into one.
    merges,
    /// Entries shared out again between two nodes.
    rebalances,
    /// Roots that gave way to their only child.
    root_collapses,
    /// Nodes read from the device.
    misses,
    /// Nodes read that another thread had installed meanwhile.
    duplicate_reads,
    /// Before-images kept for readers.
    before_images,
}

impl WorkerCounters {
    /// Counts a copy at `level`.
    pub(crate) fn copied(&self, level: u8) {
        self.copies[usize::from(level).min(LEVELS - 1)].add(1);
    }

    /// Runs `f`, which waits, and counts wait and time. `f` has no wait within.
    pub(crate) fn waiting<T>(&self, kind: Wait, f: impl FnOnce() -> T) -> T {
        let start = gaur_iodriver::sync::time::now();
        let out = f();
        let (n, time) = &self.waits[kind as usize];
        let nanos = start.elapsed().as_nanos() as u64;
        n.add(1);
        time.add(nanos);
        crate::waits::note(kind as usize, nanos);
        out
    }
}
