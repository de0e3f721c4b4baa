//! Counters of the log, and their snapshot.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Classes in [`LogStats::records_per_block`]: 1, 2-3, 4-7 … 2^15 and more.
const RECORD_CLASSES: usize = 16;

macro_rules! counters {
    ($($(#[$m:meta])* $f:ident,)*) => {
        /// The running counters.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $f: AtomicU64,)*
            pub(super) records_per_block: [AtomicU64; RECORD_CLASSES],
        }

        /// What the log did since it was started.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct LogStats {
            $($(#[$m])* pub $f: u64,)*
            /// Log blocks by the number of records in them: class i counts those
            /// with 2^i to 2^(i+1) - 1 records.
            pub records_per_block: [u64; RECORD_CLASSES],
        }

        impl LogStats {
            /// Names and values, the classes left out.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($f), self.$f),)*]
            }
        }

        impl Counters {
            /// The counters now; each is right by itself.
            pub(super) fn snapshot(&self) -> LogStats {
                LogStats {
                    $($f: self.$f.load(Relaxed),)*
                    records_per_block: std::array::from_fn(|i| self.records_per_block[i].load(Relaxed)),
                }
            }
        }
    };
}

counters! {
    /// Records appended.
    records,
    /// Bytes of operations appended.
    payload_bytes,
    /// Times the log thread took what was appended.
    batches,
    /// Log blocks with records written.
    log_blocks,
    /// Skips written.
    skips,
    /// Bytes written, headers and padding included.
    written_bytes,
    /// Most records in one log block.
    max_records_per_block,
    /// Flushes issued before log blocks that name extents.
    flushes,
    /// Waits for durability that were not over at once.
    durable_waits,
    /// Nanoseconds in them.
    durable_wait_nanos,
    /// Waits for space that were not over at once.
    space_waits,
    /// Nanoseconds in them.
    space_wait_nanos,
    /// Appends refused since the log was full.
    full_log,
    /// Appends refused since too much was waiting in memory for the device.
    full_memory,
    /// Times the log thread was woken by a caller.
    wakes,
    /// Times somebody kept others from appending.
    holds,
}

impl Counters {
    /// Counts a log block of `bytes` with `records` records.
    pub(super) fn block(&self, records: u32, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Relaxed);
        if records == 0 {
            self.skips.fetch_add(1, Relaxed);
            return;
        }
        self.log_blocks.fetch_add(1, Relaxed);
        self.max_records_per_block
            .fetch_max(u64::from(records), Relaxed);
        let class = (records.ilog2() as usize).min(RECORD_CLASSES - 1);
        self.records_per_block[class].fetch_add(1, Relaxed);
    }

    /// Adds one and returns nothing.
    pub(super) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// Adds a time in nanoseconds.
    pub(super) fn time(counter: &AtomicU64, time: Duration) {
        counter.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}
