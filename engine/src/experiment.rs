//! What `gaur experiment cow` compares. Only in builds with the feature
//! `experiment-cow`, which are for that and nothing else: one of the modes waits for
//! I/O under latches.

pub use crate::cache::latch_times::{LatchTimes, Times, latch_times};
use crate::error::Result;
use crate::store::Store;

/// How a node that must be copied gets its new block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CowMode {
    /// In one stage: a writer without a block in its stash reserves some, I/O included,
    /// under the latches of node and parent. There is no allocator thread.
    Inline,
    /// In two stages: it releases everything, reserves, and searches again. There is no
    /// allocator thread: the writer does the I/O.
    TwoStage,
    /// In two stages, with the allocator thread: the engine as it is used.
    #[default]
    TwoStageThread,
}

/// What is changed for the sake of the experiment, when a store is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Experiment {
    /// How nodes get their blocks.
    pub mode: CowMode,
    /// Each group gives so many blocks for nodes, then the next has its turn, as in a
    /// store whose groups are nearly full. `None`: as ever.
    pub blocks_per_group: Option<u32>,
}

impl Store {
    /// Reads all blocks of the free-space map. They stay in memory as far as
    /// [`OpenOptions::map_memory`](crate::OpenOptions::map_memory) allows.
    ///
    /// # Errors
    /// If the allocator stopped.
    pub fn load_map(&self) -> Result<()> {
        self.core().forest.pool.allocator().load_all().wait()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use gaur_iodriver::{Delayed, Device, SimDisk, SimOptions};

    use super::*;
    use crate::{CheckOptions, Durability, FormatOptions, OpenOptions};

    /// Every mode keeps every record and accounts for every block, with a map that must
    /// be read again and again, and checkpoints beside it.
    #[test]
    fn all_modes_are_stores() {
        let disk = SimDisk::new(SimOptions {
            capacity: 4 << 30,
            ..SimOptions::default()
        });
        let device: Arc<dyn Device> = disk.device();
        let format = FormatOptions {
            log_size: Some(16 << 20),
            ..FormatOptions::default()
        };
        Store::format_device(device.clone(), &format).unwrap();
        let slow = Delayed::new(device.clone(), Duration::from_micros(200));
        let mut round = 0_u64;
        for mode in [
            CowMode::TwoStageThread,
            CowMode::TwoStage,
            CowMode::Inline,
            CowMode::TwoStage,
        ] {
            let options = OpenOptions {
                cache_bytes: 16 << 20,
                map_memory: 0,
                checkpoint_interval: Duration::from_millis(20),
                experiment: Experiment {
                    mode,
                    blocks_per_group: Some(5),
                },
                ..OpenOptions::default()
            };
            let store = Store::open_device(slow.clone(), &options).unwrap();
            store.load_map().unwrap();
            let tree = store.tree("t").unwrap();
            round += 1;
            let before = latch_times();
            std::thread::scope(|s| {
                for w in 0..8_u64 {
                    let tree = tree.clone();
                    s.spawn(move || {
                        for i in 0..600_u64 {
                            let key = (i * 8 + w).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                            let value = [round as u8; 60];
                            tree.put_with(&key.to_be_bytes(), &value, Durability::Buffered)
                                .unwrap();
                        }
                    });
                }
            });
            let times = latch_times().since(&before);
            assert!(times.held.count() >= 4800 && times.held.at(1.0) > 0);
            let seen = tree.iter().unwrap().map(|r| r.unwrap().1);
            let all: Vec<_> = seen.collect();
            assert_eq!(all.len(), 4800);
            assert!(all.iter().all(|v| v[..] == [round as u8; 60]), "{mode:?}");
            let stats = store.stats();
            let get = |name| stats.get("reservations", name).unwrap();
            assert_eq!(
                get("taken_from_channel") + get("taken_by_request"),
                get("blocks_used") + get("blocks_returned") + get("blocks_stashed"),
                "{mode:?}"
            );
            let by_channel = get("taken_from_channel") > 0;
            assert_eq!(by_channel, mode == CowMode::TwoStageThread);
            // What the first round used must be read by the later ones.
            let reads = stats.get("allocator", "map_reads").unwrap();
            assert!(round == 1 || reads > 20, "{mode:?}: {reads}");
            drop(tree);
            store.close().unwrap();
            let report = crate::check_device(device.clone(), &CheckOptions::default()).unwrap();
            assert!(
                report.problems.is_empty(),
                "{mode:?}: {:?}",
                report.problems
            );
        }
    }
}
