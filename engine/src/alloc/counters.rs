//! What is counted. All counters only grow, from the start of the allocator.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$m:meta])* $name:ident,)*) => {
        /// Counters as they run.
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: AtomicU64,)* }

        /// Counters at one time. Each only grows.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$m])* pub $name: u64,)* }

        impl Counters {
            pub(super) fn snapshot(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// Every counter with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Runs taken from the channel.
    channel_runs,
    /// Blocks in them.
    channel_blocks,
    /// Times the channel was found empty.
    channel_dry,
    /// Runs put into the channel.
    refill_runs,
    /// Times the thread put anything into the channel.
    refills,
    /// Times the channel was emptied again because space was short.
    take_backs,
    /// Requests received.
    requests,
    /// Requests answered with blocks.
    requests_served,
    /// Requests that could not be answered at once.
    requests_deferred,
    /// Blocks given to requests.
    request_blocks,
    /// Requests refused: full, or after a generation.
    requests_refused,
    /// Blocks given back, kept ones included.
    given_back_blocks,
    /// Map blocks read.
    map_reads,
    /// Map blocks written.
    map_writes,
    /// Index blocks read.
    index_reads,
    /// Index blocks written.
    index_writes,
    /// Map blocks that could not be read or did not verify.
    map_read_failures,
    /// Groups whose map was rebuilt from the trees.
    groups_rebuilt,
    /// Groups dropped from memory.
    evictions,
    /// Groups loaded before they were needed.
    loads_ahead,
    /// Requests and checkpoints that waited for a map block to be read.
    map_waits,
    /// Discards sent to the device.
    discard_requests,
    /// Blocks in them.
    discard_blocks,
    /// Discards that failed; harmless.
    discard_failures,
    /// Blocks freed without a discard: parts of a unit, more than may wait, space
    /// was short, or the store was closed.
    discard_skipped_blocks,
    /// Generations frozen.
    freezes,
    /// Times the thread woke.
    turns,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

macro_rules! gauges {
    ($($(#[$m:meta])* $name:ident,)*) => {
        /// Where the blocks are, as the thread last said.
        #[derive(Debug, Default)]
        pub(super) struct Gauges { $(pub(super) $name: AtomicU64,)* }

        /// Where the blocks are now. Taken while the thread works, so the parts may
        /// differ by what moved meanwhile.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats { $($(#[$m])* pub $name: u64,)* }

        impl Gauges {
            pub(super) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            pub(super) fn store(&self, s: Stats) {
                $(self.$name.store(s.$name, Ordering::Relaxed);)*
            }
        }
    };
}

gauges! {
    /// Blocks that can be handed out, the reserve included, the channel not.
    free,
    /// Blocks that can hold data, used or not.
    data,
    /// Blocks waiting in the channel.
    channel,
    /// Blocks freed by a generation that is not released.
    pending,
    /// Blocks kept for readers.
    kept,
    /// Blocks being discarded.
    discarding,
    /// Those of them whose discard has not been sent.
    discard_waiting,
    /// Blocks free in the map of the newest frozen generation.
    map_free,
    /// Groups in memory.
    loaded_groups,
    /// Bytes of their maps.
    map_bytes,
    /// The most that was, since the start.
    map_bytes_most,
    /// Groups whose map block is damaged or lost.
    damaged_groups,
    /// Requests waiting for an answer.
    waiting,
}
